"""Decided events become a unit of work, ready to be appended."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from msgspec import Struct

from wakelog.core.events import Event
from wakelog.core.instance import Instance
from wakelog.log.payloads import Salts
from wakelog.log.rebuild import Head, snapshot
from wakelog.log.records import Meta, encode
from wakelog.ports.messages import Received, sent_in
from wakelog.ports.units import KeptReply, Lease, Unit

__all__ = ["NO_ORIGIN", "SNAPSHOT_SHARE", "Origin", "UnitRecords"]

SNAPSHOT_SHARE = 16
"""How many of the events that an instance holds each new event pays for in its snapshots, at most.
"""


class Origin(Struct, frozen=True):
    """Where a request comes from, for the record."""

    actor: str | None = None
    correlation: str | None = None
    cause: str | None = None
    """`stream@version` of the event that led to it."""
    trace: str | None = None
    """The W3C `traceparent` of what led to it."""


NO_ORIGIN = Origin()


class UnitRecords:
    """Makes units, each with a commit id of its own. Any thread may ask."""

    def __init__(self, entropy: random.Random, snapshot_every: int) -> None:
        self._snapshot_every = snapshot_every
        self._salts = Salts(entropy)
        self._commit_prefix = f"{entropy.getrandbits(64):016x}"
        self._commit_numbers = itertools.count(1)

    def unit(
        self,
        stream: str,
        before: Head,
        events: Sequence[Event],
        after: Instance,
        now_us: int,
        origin: Origin = NO_ORIGIN,
        *,
        kept_reply: KeptReply | None = None,
        lease_token: int | None = None,
        take: Lease | None = None,
        ends_lease: bool = False,
        inbox: Sequence[int] = (),
        is_whole: bool = True,
        received: Received | None = None,
    ) -> Unit:
        """The unit of these events, which lead from `before` to `after`; with a snapshot if the
        next one is due, and `after` is the whole instance (a parked one is not). With `take` it
        starts a run; it deletes the rows `inbox`.

        It is decided at `now_us` and recorded then, or at the time of the event before if that is
        later: a history never goes back (U9).
        """
        commit = f"{self._commit_prefix}{next(self._commit_numbers):x}"
        at_us = max(now_us, after.recorded_us)
        clock_us = None if at_us == now_us else now_us
        meta = Meta(
            at_us,
            commit,
            origin.cause,
            origin.correlation,
            origin.actor,
            clock_us,
            origin.trace,
        )
        base = before.instance.version
        records, hash = encode(stream, base, before.hash, events, meta, self._salts)
        is_due = is_whole and _crosses(base, after, self._snapshot_every)
        return Unit(  # by position: by name it takes 0.5 us more
            stream,
            base,
            before.hash,
            records,
            after,
            hash,
            commit,
            kept_reply,
            snapshot(Head(after, hash)) if is_due else None,
            take,
            lease_token,
            ends_lease,
            take is not None,  # unless_paused
            now_us,
            sent_in(events, base),
            received,
            inbox,
        )


def _crosses(base: int, after: Instance, every: int) -> bool:
    """Whether a multiple of the interval of snapshots lies between. The more an instance holds, the
    longer that is: a snapshot has all of it, and its cost for each event must not grow with it."""
    if base // every == after.version // every:
        return False
    held = after.unfinished + len(after.dead)
    every <<= (held // (SNAPSHOT_SHARE * every)).bit_length()
    return base // every != after.version // every
