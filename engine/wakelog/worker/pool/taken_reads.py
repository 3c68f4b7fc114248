"""What a worker reads of what its partitions have taken; it waits for a store that is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from wakelog.application import Application
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.errors import StoreUnavailableError
from wakelog.pools.items import Slices, TakenItem

__all__ = ["PAUSE_S", "TakenReads"]

_LOG = logging.getLogger("wakelog.worker")
R = TypeVar("R")

PAUSE_S = 0.5
"""How soon a call is made again that the store could not answer."""


class TakenReads:
    """The reads of one pool. Used on the event loop."""

    def __init__(self, app: Application, definition: WorkerPool[object]) -> None:
        self._app = app
        self._definition = definition
        self._job = definition.job

    async def outside(self, items: Sequence[TakenItem]) -> dict[str, int]:
        """The keys of which items wait elsewhere, which these must not overtake (P5)."""
        keys = list(dict.fromkeys(item.key for item in items if item.key is not None))
        if not self._definition.ordered or not keys:
            return {}
        return dict(await self._patiently(self._app.store.pool_blocked, self._job, keys))

    async def slices(self, ranges: Sequence[tuple[int, int, int]]) -> Slices:
        """The parts of the log that takes need."""
        read = await self._patiently(self._app.store.pool_slices, self._job, ranges)
        return Slices(self._job, read)

    async def _patiently(self, read: Callable[..., R], *args: object) -> R:
        while True:
            try:
                return await self._app.threads.read(read, *args)
            except StoreUnavailableError as error:
                _LOG.warning("what %s has taken cannot be read yet: %s", self._job, error)
            await asyncio.sleep(PAUSE_S)
