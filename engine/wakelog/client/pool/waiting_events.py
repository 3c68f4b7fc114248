"""Which events of a pool wait, of those that match: for what operators do to all of them (P4)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from wakelog.application import Application
from wakelog.client.pool.reading import Located
from wakelog.log.batches import read_item
from wakelog.pools.accept import slot_of
from wakelog.pools.items import Slices, item_name
from wakelog.pools.state import READY, Lane, loaded
from wakelog.ports.pools import ExceptionKey, ExceptionRow, PoolFilter, PoolLook

__all__ = ["PAGE", "WaitingFilter", "unread_events", "waiting_events"]

PAGE = 1_000
"""Events that are read, and changed in one transaction."""
_WAITING = (*READY, "delayed", "retrying")

_Range = tuple[int, int, int]


class WaitingFilter(NamedTuple):
    """Which of the events that wait are meant; all without any."""

    partition_key: str | None = None
    priority: int | None = None
    """Those that have it now."""
    other_than: int | None = None
    """Those that have another one."""

    def has_priority(self, priority: int) -> bool:
        """Whether those of this priority are meant."""
        return priority != self.other_than and self.priority in (None, priority)

    def has_lane(self, lane: Lane) -> bool:
        """Whether some of a lane may be meant."""
        key = self.partition_key
        return self.has_priority(lane.priority) and (key is None or lane.slot == slot_of(key))


async def waiting_events(
    app: Application, job: str, filter: WaitingFilter
) -> AsyncIterator[list[Located]]:
    """The events that wait when this is called and match, up to `PAGE` at a time.

    Some of those that are answered may have been taken, cancelled or moved meanwhile. Those that
    wait out of turn come first: what is moved out of a lane is not met a second time.
    """
    seen = await app.pools.look(PoolLook(job, app.clock.now_us()))
    lanes = [lane for lane in loaded(seen.state).lanes if filter.has_lane(lane)]
    key = filter.partition_key
    async for rows in _exceptions(app, job, PoolFilter(why=_WAITING, key=key, limit=PAGE)):
        chosen = [row for row in rows if filter.has_priority(row.priority)]
        if chosen:
            yield await _located(app, job, _places(chosen), key)
    for ranges in _pages(lanes):
        located = await _located(app, job, ranges, key)
        if left := await _in_lanes(app, job, located):
            yield left


async def unread_events(app: Application, job: str) -> AsyncIterator[list[Located]]:
    """The events that wait for code, up to `PAGE` at a time (K4)."""
    async for rows in _exceptions(app, job, PoolFilter(why=("unread",), limit=PAGE)):
        yield await _located(app, job, _places(rows), None)


async def _exceptions(
    app: Application, job: str, filter: PoolFilter
) -> AsyncIterator[Sequence[ExceptionRow]]:
    while rows := await app.threads.browse(app.store.pool_exceptions, job, filter):
        yield rows
        if len(rows) < filter.limit:
            return
        filter = filter._replace(after=ExceptionKey(rows[-1].lane, rows[-1].off))


def _places(rows: Sequence[ExceptionRow]) -> list[_Range]:
    return [(row.lane, row.off - 1, row.off) for row in rows]


def _pages(lanes: Sequence[Lane]) -> Iterator[list[_Range]]:
    """All places of the lanes that were not taken, `PAGE` at a time."""
    page: list[_Range] = []
    room = PAGE
    for lane in lanes:
        at = lane.taken
        while at < lane.received:
            upto = min(at + room, lane.received)
            page.append((lane.number, at, upto))
            room -= upto - at
            at = upto
            if not room:
                yield page
                page, room = [], PAGE
    if page:
        yield page


async def _in_lanes(app: Application, job: str, located: list[Located]) -> list[Located]:
    """Those that were not cancelled or moved out of their lanes."""
    keys = [ExceptionKey(each.lane, each.off) for each in located]
    seen = await app.pools.look(PoolLook(job, app.clock.now_us(), keys=keys))
    gone = {*seen.skips}
    return [each for each, key in zip(located, keys, strict=True) if key not in gone]


async def _located(
    app: Application, job: str, ranges: list[_Range], key: str | None
) -> list[Located]:
    """The items of these ranges, each by its id; only those of a partition key, if one is given."""
    slices = Slices(job, await app.threads.browse(app.store.pool_slices, job, ranges))
    found: list[Located] = []
    for lane, after, upto in ranges:
        for off, _, line in slices.lines(lane, after, upto):
            item = read_item(line)
            if key is None or (item is not None and item.key == key):
                id = None if item is None else item.id
                found.append(Located(id or item_name(lane, off), lane, off))
    return found
