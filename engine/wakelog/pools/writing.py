"""What one call of a pool writes: events in their streams, and the rows that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from msgspec import Struct

from wakelog.core.events import Event
from wakelog.log.payloads import Salts
from wakelog.log.records import Meta, encode
from wakelog.pools.state import Head, Lane, PoolState, dumped, loaded
from wakelog.ports.messages import Sent, sent_in
from wakelog.ports.pools import (
    ExceptionKey,
    ExceptionRow,
    IdRow,
    PoolSeen,
    PoolWrites,
    SegmentRow,
    TakenRow,
    TrailRow,
)
from wakelog.ports.records import StoredEvent

__all__ = ["CallMeta", "Writing"]


class CallMeta(Struct, frozen=True):
    """What surrounds the events of a call."""

    now_us: int
    commit: str
    actor: str | None = None
    correlation: str | None = None
    trace: str | None = None


class Writing:
    """Collects what a plan writes, and keeps the document in step with it."""

    def __init__(self, job: str, seen: PoolSeen, meta: CallMeta, salts: Salts) -> None:
        self.job = job
        self.state: PoolState = loaded(seen.state)
        self.meta = meta
        self._salts = salts
        self.events: list[StoredEvent] = []
        self.sent: list[tuple[str, Sent]] = []
        self.segments: list[SegmentRow] = []
        self.taken: list[TakenRow] = []
        self.ids: list[IdRow] = []
        self.skips: list[ExceptionKey] = []
        self.trail: list[TrailRow] = []
        self.leases: list[tuple[str, str, int, int]] = []
        self.dropped: list[str] = []
        self.inbox: list[int] = []
        """Rows of the inbox of which items were made."""
        self.read: list[tuple[int, int, int]] = []
        """Ranges of lanes to be read after it."""
        self.must_write = False
        """The document says when something is due, and that was not so: it is written again."""
        self.is_told = False
        """Workers are told at once, though there may be nothing to take: something that they have
        taken is to be given back."""
        self._put: dict[ExceptionKey, ExceptionRow] = {}
        self._gone: dict[ExceptionKey, None] = {}

    @cached_property
    def lanes(self) -> dict[tuple[int, int, str | None], Lane]:
        """The lanes in which items wait, by priority, key slot and key of fair sharing."""
        return {(lane.priority, lane.slot, lane.fair): lane for lane in self.state.lanes}

    def append(
        self, stream: str, head: Head, events: Sequence[Event], meta: CallMeta | None = None
    ) -> int:
        """Add events to a stream and move its head; the version of the first one. Recorded times
        never go back within a stream."""
        meta = meta or self.meta
        at_us = max(meta.now_us, head.at_us)
        around = Meta(
            at_us,
            meta.commit,
            correlation=meta.correlation,
            actor=meta.actor,
            clock_us=None if at_us == meta.now_us else meta.now_us,
            trace=meta.trace,
        )
        first = head.version + 1
        self.sent += [(stream, each) for each in sent_in(events, head.version)]
        records, head.hash = encode(stream, head.version, head.hash, events, around, self._salts)
        head.version += len(records)
        head.at_us = at_us
        self.events += records
        return first

    def put(self, row: ExceptionRow) -> None:
        """Add an item to the table of exceptions, in place of a row of the same item."""
        state = self.state
        if row.due_us is not None:
            group = state.group_for(row.slot, row.priority)
            row = row._replace(due_us=max(row.due_us, group.floor_us))
            due_us = row.due_us or 0
            group.next_us = min(group.next_us, due_us) if group.count else due_us
            group.count += 1
        state.count(row.why, 1)
        self._put[ExceptionKey(row.lane, row.off)] = row

    def is_kept(self, row: ExceptionRow) -> bool:
        """Whether a row that is stored stays as it is, as far as this call has gone."""
        key = ExceptionKey(row.lane, row.off)
        return key not in self._gone and key not in self._put

    def due_of(self, slot: int, priority: int) -> list[int]:
        """When those are due that this call has added to a group."""
        rows = [row for row in self._put.values() if (row.slot, row.priority) == (slot, priority)]
        return [row.due_us for row in rows if row.due_us is not None]

    def remove(self, row: ExceptionRow) -> None:
        """Take an item out of the table of exceptions, as it is stored."""
        state = self.state
        if row.due_us is not None:
            state.group_for(row.slot, row.priority).count -= 1
        state.count(row.why, -1)
        key = ExceptionKey(row.lane, row.off)
        if self._put.pop(key, None) is None:
            self._gone[key] = None

    def writes(self, due_us: int | None) -> PoolWrites:
        """All of it; nothing if nothing has changed."""
        rows = self.segments or self._put or self._gone or self.leases or self.dropped
        if not (self.events or rows or self.must_write):
            return PoolWrites(inbox=self.inbox)
        self.state.tidy()
        return PoolWrites(
            events=self.events,
            state=dumped(self.state),
            segments=self.segments,
            taken=self.taken,
            ids=self.ids,
            put=list(self._put.values()),
            gone=list(self._gone),
            skips=self.skips,
            trail=self.trail,
            leases=self.leases,
            dropped=self.dropped,
            inbox=self.inbox,
            read=self.read,
            due_us=self.meta.now_us if self.is_told else due_us,
            sent=self.sent,
            commit=self.meta.commit,
        )
