"""Reads out of the log what the partitions of a pool have taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from wakelog.application import Application
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.errors import IntegrityError, StoreUnavailableError
from wakelog.pools.items import Slices, TakenItem, items_of
from wakelog.pools.settle import ranges_of
from wakelog.pools.state import Take

if TYPE_CHECKING:
    from wakelog.worker.pool.held_partition import HeldPartition

__all__ = ["PAUSE_S", "TakenReads", "leaving"]

_LOG = logging.getLogger("wakelog.worker")
R = TypeVar("R")

PAUSE_S = 0.5
"""How soon a call is made again that the store could not answer."""
TRIES = 3
"""How often something is read that the store refuses: that does not pass by itself."""


@contextmanager
def leaving(held: HeldPartition, drop: Callable[[HeldPartition], None]) -> Generator[None]:
    """Leave a partition whose take cannot be read: its lease is given up with a heartbeat, its
    items wait with their attempts untouched, and a worker tries again then."""
    try:
        yield
    except (StoreUnavailableError, IntegrityError) as error:
        _LOG.error("what %s has taken cannot be read, and waits: %s", held.key[0], error)
        held.is_lost = True
        drop(held)


class TakenReads:
    """What one worker reads for one pool. Used on the event loop."""

    def __init__(self, app: Application, definition: WorkerPool[object]) -> None:
        self._app = app
        self._definition = definition
        self._job = definition.job

    async def slices(self, takes: Sequence[Take]) -> Slices:
        """The parts of the log that takes need; none of them if the store refuses one: then `items`
        reads those of each take alone."""
        ranges = [each for take in takes for each in ranges_of(take)]
        try:
            return await self._read(ranges) if ranges else Slices(self._job, ())
        except StoreUnavailableError:
            return Slices(self._job, ())

    async def items(self, take: Take, slices: Slices) -> list[TakenItem]:
        """The items of a take. Raises `StoreUnavailableError` if the store refuses them or they are
        damaged, and `IntegrityError` if they are not in the log."""
        if slices.is_empty and (ranges := ranges_of(take)):
            slices = await self._read(ranges)
        return items_of(take, slices)

    async def outside(self, items: Sequence[TakenItem]) -> dict[str, int]:
        """The keys of which items wait elsewhere, which these must not overtake (P5)."""
        keys = list(dict.fromkeys(item.key for item in items if item.key is not None))
        if not self._definition.ordered or not keys:
            return {}
        return dict(await self._patiently(self._app.store.pool_blocked, self._job, keys))

    async def _read(self, ranges: Sequence[tuple[int, int, int]]) -> Slices:
        found = await self._patiently(self._app.store.pool_slices, self._job, ranges)
        return Slices(self._job, found)

    async def _patiently(self, read: Callable[..., R], *args: object) -> R:
        """What is to be read for what was taken, however long the store is away. Raises
        `StoreUnavailableError` for what it refuses, or cannot read, `TRIES` times."""
        tries = 0
        while True:
            try:
                return await self._app.threads.read(read, *args)
            except StoreUnavailableError as error:
                tries += error.reason in ("refused", "damaged")
                if tries == TRIES:
                    raise
                _LOG.warning("what %s has taken cannot be read yet: %s", self._job, error)
            await asyncio.sleep(PAUSE_S)
