"""The steps of a pool's events: recorded in the stream of the partition that works on them (I4)."""

from __future__ import annotations

import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from wakelog.core.calls import HandlerCall
from wakelog.core.events import StepCompleted
from wakelog.definitions.steps import Check, Step
from wakelog.errors import LeaseLostError
from wakelog.log.records import whole
from wakelog.pools.items import TakenItem
from wakelog.runtime.pool_history import item_history
from wakelog.runtime.unit_records import NO_ORIGIN
from wakelog.worker.step_recorder import StepRecorder

if TYPE_CHECKING:
    from wakelog.worker.pool.held_partition import HeldPartition

__all__ = ["PoolSteps"]


_MAKING = threading.Lock()
"""Held while a recorder is made: threads of one handler may call their first steps at once."""


class PoolSteps:
    """The steps of one attempt to work on an item. What records them is made for the first one: few
    handlers have steps."""

    __slots__ = ("_call", "_closed", "_held", "_item", "_recorder")

    def __init__(self, call: HandlerCall, held: HeldPartition, item: TakenItem) -> None:
        self._call = call
        self._held = held
        self._item = item
        self._recorder: _ItemSteps | None = None
        self._closed = False

    def run(self, step: Step, check: Check) -> Coroutine[Any, Any, Any]:
        """For an `async def`: see `StepRecorder.run`."""
        return self._made().run(step, check)

    def run_blocking(self, step: Step, check: Check) -> Any:
        """For a handler in a thread: see `StepRecorder.run_blocking`."""
        return self._made().run_blocking(step, check)

    def close(self) -> None:
        """The handler has ended: no step is tried again."""
        self._closed = True
        if self._recorder is not None:
            self._recorder.close()

    def _made(self) -> _ItemSteps:
        with _MAKING:
            recorder = self._recorder
            if recorder is None:
                recorder = self._recorder = _ItemSteps(self._call, self._held, self._item)
        if self._closed:  # meanwhile
            recorder.close()
        return recorder


class _ItemSteps(StepRecorder):
    def __init__(self, call: HandlerCall, held: HeldPartition, item: TakenItem) -> None:
        super().__init__(held.app, held.definition, call, NO_ORIGIN, held.loop)
        self._held = held
        self._item = item

    def _named(self) -> str:
        return f"{self._definition.job}:{self._item.name}"

    def _is_first_attempt(self) -> bool:
        return self._item.row is None

    async def _read_all(self) -> dict[str, str]:
        job, item = self._definition.job, self._item
        found: dict[str, str] = {}
        for recorded in await item_history(self._app.store, self._app.threads, job, item):
            event = recorded.event
            if isinstance(event, StepCompleted):
                whole(recorded)
                if event.result is not None:
                    found[event.step] = event.result
        return found

    async def _check_lease(self, step: Step) -> None:
        stream, token = self._held.key
        stored = await self._patiently(step, lambda: self._app.lease_tokens.read(stream))
        if self._held.is_lost or stored != token:
            self._lost = LeaseLostError(stream, 1)
            raise self._lost

    def _append(self, name: str, text: str) -> Coroutine[Any, Any, Any]:
        return self._held.record_step(self._item, name, text)
