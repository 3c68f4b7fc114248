"""The instances that a worker is working on: at most one task for each, on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterator

from wakelog.application import Application
from wakelog.core.commands import HandlerName
from wakelog.ids import InstanceId
from wakelog.worker.claims import Claimed
from wakelog.worker.leases import LeaseKey
from wakelog.worker.runs import Appending, Step, error_of

__all__ = ["BegunWork"]

_LOG = logging.getLogger("wakelog.worker")


class BegunWork:
    """What was begun and has not ended. Used on the event loop; any thread may take its length.

    While something of it is being appended it has no task.
    """

    def __init__(
        self,
        app: Application,
        begin: Callable[[Claimed], Appending | Step],
        guarded: Callable[[Claimed, Step], Step],
        on_ended: Callable[[Claimed], None],
    ) -> None:
        """`begin` makes the first step, `guarded` a step that raises nothing. Of what is
        stopped the next step gives back what it holds. `on_ended` is called when the last one has
        ended."""
        self._app = app
        self._begin = begin
        self._guarded = guarded
        self._on_ended = on_ended
        self._tasks: dict[Claimed, asyncio.Task[Appending | None] | None] = {}
        self._latest: dict[str, Claimed] = {}
        """The last one that was begun of each stream."""
        self._ends: set[asyncio.Event] = set()
        """Set whenever one has ended."""
        self._is_abandoned = False

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Claimed]:
        return iter(tuple(self._tasks))

    def begin(self, claimed: Claimed) -> None:
        """Begin it, once an earlier one on the same instance has ended: its lease was taken over,
        and two handlers of one instance never run side by side in a process (U2)."""
        older = self._latest.get(claimed.stream)
        self._tasks[claimed] = None
        self._latest[claimed.stream] = claimed
        if older is None:
            self._go_on(claimed, self._begin(claimed))
        else:
            self._go_on(claimed, self._after(older, claimed))

    async def _after(self, older: Claimed, claimed: Claimed) -> Appending | None:
        self.stop_if_possible(older)
        try:
            await self._wait_for({older}, None)
        except asyncio.CancelledError:
            if not claimed.is_stopped:
                raise
        step = self._begin(claimed)
        return step if isinstance(step, Appending) else await step

    def _go_on(self, claimed: Claimed, step: Appending | Step | None) -> None:
        if step is None:
            self._end(claimed)
        elif self._is_abandoned:
            if not isinstance(step, Appending):
                step.close()
            stream = claimed.stream
            _LOG.info("%s ended too late to be recorded", stream, extra={"instance": stream})
            self._end(claimed)
        elif not isinstance(step, Appending):
            task = self._tasks[claimed] = self._app.handler_runner.start(
                self._guarded(claimed, step)
            )
            task.add_done_callback(functools.partial(self._stepped, claimed, step))
        elif step.appending.done():
            self._go_on(claimed, step.then(error_of(step.appending)))
        else:
            step.appending.add_done_callback(
                lambda appending: self._go_on(claimed, step.then(error_of(appending)))
            )

    def _stepped(self, claimed: Claimed, step: Step, task: asyncio.Task[Appending | None]) -> None:
        self._tasks[claimed] = None
        if not task.cancelled():
            self._go_on(claimed, task.result())
        elif claimed.is_stopped and inspect.getcoroutinestate(step) == inspect.CORO_CREATED:
            self._go_on(claimed, step)  # it had not begun: it gives back what it holds
        else:
            step.close()  # it may not have begun
            self._end(claimed)

    def _end(self, claimed: Claimed) -> None:
        del self._tasks[claimed]
        if self._latest.get(claimed.stream) is claimed:
            del self._latest[claimed.stream]
        for event in self._ends:
            event.set()
        self._on_ended(claimed)

    async def close(self, grace_s: float, last_s: float) -> None:
        """Wait until all have ended, within the grace; then stop those that can be stopped, and
        wait for their end, `last_s` at most. Log what has not ended: handlers that cannot be
        stopped, and outcomes that cannot be recorded."""
        await self._wait_for(set(self._tasks), grace_s)
        stopped = {claimed for claimed in self if self.stop_if_possible(claimed)}
        await self._wait_for(stopped, last_s)
        for claimed in self:
            _LOG.warning(
                "a handler of %s does not end: it is abandoned, and its run is recovered when its "
                "lease ends",
                claimed.stream,
                extra={"instance": claimed.stream},
            )

    async def _wait_for(self, awaited: set[Claimed], timeout_s: float | None) -> None:
        """Wait until these have ended, for so long at most; None: as long as it takes."""
        ended = asyncio.Event()
        self._ends.add(ended)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    while awaited & self._tasks.keys():
                        ended.clear()
                        await ended.wait()
        finally:
            self._ends.discard(ended)

    def abandon(self) -> None:
        """Cancel what has not ended, and begin no other step: nothing more can be recorded."""
        self._is_abandoned = True
        for task in tuple(self._tasks.values()):
            if task is not None and not task.get_loop().is_closed():
                self._app.handler_runner.stop(task)

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
        """Cancel its task, or let it end by itself if something of it is being recorded."""
        claimed.is_stopped = True
        task = self._tasks.get(claimed)
        if task is not None and claimed.stage != "recorded":
            self._app.handler_runner.stop(task)

    def _is_async(self, claimed: Claimed) -> bool:
        """Whether none of its handlers may be running in a thread."""
        handlers = self._app.registry.of(InstanceId.parse(claimed.stream)).handlers
        first: HandlerName = "execute" if claimed.is_run else "on_event"
        names: tuple[HandlerName, ...] = (first, "on_error", "on_idle")
        return all(handlers[name].is_async for name in names if name in handlers)
