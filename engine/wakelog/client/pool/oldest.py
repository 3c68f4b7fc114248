"""How long the oldest pending event of a pool has waited (P7)."""

from __future__ import annotations

from wakelog.application import Application
from wakelog.pools.items import Slices
from wakelog.pools.state import READY, Lane, PoolState
from wakelog.ports.pools import PoolSeen

__all__ = ["OLDEST_LIMIT", "oldest_pending_us"]

OLDEST_LIMIT = 20
"""How many events that wait out of turn are looked at, of each priority and key slot."""
_PENDING = frozenset(READY) - {"unread"}


async def oldest_pending_us(
    app: Application, job: str, state: PoolState, seen: PoolSeen
) -> int | None:
    """When the oldest pending event was accepted; None if none is pending.

    `seen` is a look with `OLDEST_LIMIT` items of each group. The log is read only for events that
    wait out of turn, or behind cancelled ones that were accepted with others.
    """
    found: list[int] = []
    elsewhere: list[tuple[int, int, int]] = []
    for lane in state.lanes:
        if lane.waiting > 0:
            off = _first_of(lane, seen)
            at_us = [
                row.at_us for row in seen.firsts if row.lane == lane.number and off <= row.upto
            ]
            found += at_us
            if not at_us:
                elsewhere.append((lane.number, off - 1, off))
    out_of_turn = [row for row in seen.due if row.why in _PENDING]
    if out_of_turn:
        row = min(out_of_turn, key=lambda each: each.seq)
        elsewhere.append((row.lane, row.off - 1, row.off))
    if elsewhere:
        read = await app.threads.browse(app.store.pool_slices, job, elsewhere)
        slices = Slices(job, read)
        for lane_number, _, off in elsewhere:
            found += [segment.at_us for _, segment, _ in slices.found(lane_number, off)]
    return min(found, default=None)


def _first_of(lane: Lane, seen: PoolSeen) -> int:
    """The place of the first event of a lane that was not cancelled or moved, as far as the look
    shows those."""
    skipped = {off for number, off in seen.skips if number == lane.number}
    off = lane.taken + 1
    while off in skipped:
        off += 1
    return off
