"""The history of one item of a pool, put together from the streams that have a part in it.

Its acceptance lies in the pool's stream, its takes and their outcomes in those of partitions; what
operators did to it is found by its trail.
"""

from __future__ import annotations

from typing import Protocol

from wakelog.core.events import Event
from wakelog.core.pool.events import (
    EventsReceived,
    RunsExecuted,
    RunsLost,
    RunsReturned,
    RunsStarted,
)
from wakelog.log.records import Recorded, decode
from wakelog.pools.items import item_name
from wakelog.pools.state import job_stream, partition_stream
from wakelog.ports.store import Store
from wakelog.runtime.store_threads import StoreThreads

__all__ = ["concerns", "item_history", "read_history"]

PAGE = 100
"""Events of a partition that are read at a time, from a take on to the next one."""


class HasPlace(Protocol):
    """An item."""

    @property
    def lane(self) -> int: ...
    @property
    def off(self) -> int: ...


async def item_history(
    store: Store, threads: StoreThreads, job: str, item: HasPlace
) -> list[Recorded]:
    """Everything that was recorded about an item, in order. Raises what reading the log raises."""
    return await threads.browse(read_history, store, job, item.lane, item.off)


def read_history(store: Store, job: str, lane: int, off: int) -> list[Recorded]:
    """The same. Blocks.

    The order is that of the log, also if clocks differ: acceptance, its first take, and what the
    trail has. Between a take and its outcome nothing else can be recorded about an item.
    """
    found: list[Recorded] = []
    pool = job_stream(job)
    for segment, _ in store.pool_slices(job, [(lane, off - 1, off)]):
        found += _one(store, pool, segment.version)
    taken = store.pool_taken(job, lane, off) if lane else None
    if taken is not None:
        found += _of_take(store, partition_stream(job, taken.partition), taken.version, lane, off)
    for row in store.pool_trail(job, lane, off):
        if row.stream == pool:
            found += _one(store, pool, row.version)
        else:
            found += _of_take(store, row.stream, row.version, lane, off)
    return found


def _one(store: Store, stream: str, version: int) -> list[Recorded]:
    return [decode(stored) for stored in store.events(stream, after=version - 1, upto=version)]


def _of_take(store: Store, stream: str, version: int, lane: int, off: int) -> list[Recorded]:
    """What a take and its outcomes say about an item: of the events up to the next take."""
    found: list[Recorded] = []
    after = version - 1
    while True:
        page = store.events(stream, after=after, limit=PAGE)
        for stored in page:
            recorded = decode(stored)
            if isinstance(recorded.event, RunsStarted) and recorded.version != version:
                return found
            if concerns(recorded.event, lane, off):
                found.append(recorded)
        if len(page) < PAGE:
            return found
        after = page[-1].version


def concerns(event: Event, lane: int, off: int) -> bool:
    """Whether an event says something about an item."""
    match event:
        case EventsReceived():
            return any(n == lane and first <= off < first + k for n, first, k, *_ in event.lanes)
        case RunsStarted():
            in_range = any(n == lane and a < off <= upto for n, a, upto in event.ranges)
            if in_range and (lane, off) not in event.without:
                return True
            return any(each[:2] == (lane, off) for each in event.items)
        case RunsExecuted():
            opening = f"[{lane},{off},".encode()
            return any(line.startswith(opening) for line in event.lines.split(b"\n"))
        case RunsLost() | RunsReturned():
            return (lane, off) in event.items
        case _:
            return event.item == item_name(lane, off)
