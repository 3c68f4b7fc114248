"""The steps of a pool's events: recorded in the stream of the partition that works on them (I4)."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from wakelog.application import Application
from wakelog.core.calls import HandlerCall
from wakelog.core.events import StepCompleted
from wakelog.definitions.definition import Definition
from wakelog.definitions.steps import Step
from wakelog.errors import LeaseLostError
from wakelog.log.records import whole
from wakelog.pools.items import TakenItem
from wakelog.runtime.pool_history import item_history
from wakelog.runtime.unit_records import NO_ORIGIN
from wakelog.worker.step_recorder import StepRecorder

if TYPE_CHECKING:
    from wakelog.worker.pool.held_partition import HeldPartition

__all__ = ["PoolSteps"]


class PoolSteps(StepRecorder):
    """The steps of one attempt to work on an item."""

    def __init__(
        self,
        app: Application,
        definition: Definition,
        call: HandlerCall,
        held: HeldPartition,
        item: TakenItem,
    ) -> None:
        super().__init__(app, definition, call, NO_ORIGIN)
        self._held = held
        self._item = item

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
