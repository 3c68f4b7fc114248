"""The instances that a worker is working on: one task for each, on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from wakelog.application import Application
from wakelog.core.commands import HandlerName
from wakelog.ids import InstanceId
from wakelog.worker.claims import Claimed
from wakelog.worker.leases import LeaseKey

__all__ = ["BegunWork"]


class BegunWork:
    """What was begun and has not ended. Used on the event loop; any thread may take its length."""

    def __init__(self, app: Application, on_ended: Callable[[Claimed], None]) -> None:
        """`on_ended` is called when a task has ended, or was stopped before it began."""
        self._app = app
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[Claimed, asyncio.Task[None]] = {}
        self._latest: dict[str, Claimed] = {}
        """The last one that was begun of each stream."""

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Claimed]:
        return iter(tuple(self._tasks))

    def begin(self, claimed: Claimed, work: Callable[[Claimed], Coroutine[Any, Any, None]]) -> None:
        """Begin `work`, once an earlier one on the same instance has ended: its lease was taken
        over, and two handlers of one instance never run side by side in a process (U2)."""
        older = self._latest.get(claimed.stream)
        running = work(claimed) if older is None else self._after(older, claimed, work)
        task = self._loop.create_task(running)
        self._app.handler_runner.own(task)
        self._tasks[claimed] = task
        self._latest[claimed.stream] = claimed
        task.add_done_callback(lambda _: self._ended(claimed))

    async def _after(
        self,
        older: Claimed,
        claimed: Claimed,
        work: Callable[[Claimed], Coroutine[Any, Any, None]],
    ) -> None:
        task = self._tasks.get(older)
        if task is not None:
            self.stop_if_possible(older)
            await asyncio.wait([task])
        await work(claimed)

    async def ended(self, timeout_s: float) -> None:
        """Wait until all have ended, for so long at most."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout_s)

    async def stop_all(self, timeout_s: float) -> None:
        """Stop those that can be stopped, and wait for their end, for so long at most."""
        stopped = [task for each, task in [*self._tasks.items()] if self.stop_if_possible(each)]
        if stopped:
            await asyncio.wait(stopped, timeout=timeout_s)

    def under(self, key: LeaseKey) -> Claimed | None:
        """What is worked on under this lease."""
        return next((each for each in self._tasks if each.key == key), None)

    def stop_stream(self, stream: str) -> None:
        """Stop working on an instance."""
        for claimed in [each for each in self._tasks if each.stream == stream]:
            self._stop(claimed)

    def stop_if_possible(self, claimed: Claimed) -> bool:
        """A handler in a thread cannot be stopped: its task waits for its end, and drops its
        outcome. Return whether it could be."""
        can_stop = claimed.stage != "begun" or self._is_async(claimed)
        if can_stop:
            self._stop(claimed)
        return can_stop

    def _stop(self, claimed: Claimed) -> None:
        """Cancel its task, or let it end by itself if its beginning is being recorded."""
        claimed.is_stopped = True
        if claimed.stage != "recorded":
            self._app.handler_runner.stop(self._tasks[claimed])

    def _is_async(self, claimed: Claimed) -> bool:
        """Whether none of its handlers may be running in a thread."""
        handlers = self._app.registry.of(InstanceId.parse(claimed.stream)).handlers
        first: HandlerName = "execute" if claimed.is_run else "on_event"
        names: tuple[HandlerName, ...] = (first, "on_error", "on_idle")
        return all(handlers[name].is_async for name in names if name in handlers)

    def _ended(self, claimed: Claimed) -> None:
        del self._tasks[claimed]
        if self._latest.get(claimed.stream) is claimed:
            del self._latest[claimed.stream]
        self._on_ended(claimed)
