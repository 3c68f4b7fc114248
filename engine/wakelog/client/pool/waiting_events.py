"""Which events of a pool wait, of those that match: for what operators do to all of them (P4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from wakelog.application import Application
from wakelog.client.pool.reading import Located
from wakelog.log.batches import read_item
from wakelog.pools.accept import slot_of
from wakelog.pools.items import Slices, item_name
from wakelog.pools.state import READY, Lane, loaded
from wakelog.ports.pools import ExceptionKey, PoolFilter, PoolLook

__all__ = ["PAGE", "WaitingFilter", "waiting_events"]

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
    key, after = filter.partition_key, ExceptionKey(0, 0)
    while True:
        asked = PoolFilter(why=_WAITING, key=key, after=after, limit=PAGE)
        rows = await app.threads.browse(app.store.pool_exceptions, job, asked)
        chosen = [(r.lane, r.off - 1, r.off) for r in rows if filter.has_priority(r.priority)]
        if chosen:
            yield await _located(app, job, chosen, key)
        if len(rows) < PAGE:
            break
        after = ExceptionKey(rows[-1].lane, rows[-1].off)
    for lane in lanes:
        for at in range(lane.taken, lane.received, PAGE):
            here = lane.number, at, min(at + PAGE, lane.received)
            located = await _located(app, job, [here], key)
            if left := await _in_lane(app, job, located):
                yield left


async def _in_lane(app: Application, job: str, located: list[Located]) -> list[Located]:
    """Those that were not cancelled or moved out of their lane."""
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
