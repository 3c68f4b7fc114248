"""The rows of one append: what a group of units changes in the log, the views and the tables.

The same for every database, which adds only how its rows travel. Of views and leases only the
state after the last unit of each stream is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wakelog.core.events import MessageSent
from wakelog.core.instance import next_wake
from wakelog.ids import job_of
from wakelog.log.rebuild import kept_head
from wakelog.log.status_row import status_row
from wakelog.ports.conflicts import has_gap
from wakelog.ports.messages import LEFT_US, Received, Sent
from wakelog.ports.records import Newest, StoredEvent, StoredSnapshot
from wakelog.ports.rows import StatusRow
from wakelog.ports.units import KeptReply, Lease, Unit
from wakelog_projections.inline.alarms import AlarmRow, alarm_row

__all__ = ["SOON_US", "AppendRows", "OutboxRow", "ReplyRow", "TakenLease", "outbox_row"]

SOON_US = 10_000_000
"""The status row of an instance whose alarm is due so soon keeps its head, for the claim: if it is
due later the head would mostly be replaced, or in memory, by then."""


class TakenLease(NamedTuple):
    """A lease to take."""

    stream: str
    job: str
    lease: Lease
    taken_us: int
    """When: the recorded time of the unit that takes it."""


class ReplyRow(NamedTuple):
    """A reply to keep."""

    stream: str
    reply: KeptReply
    now_us: int
    """When: it may replace one that has expired by then, and no other."""


class OutboxRow(NamedTuple):
    """A message to put into the outbox."""

    sender: str
    target: str
    version: int
    job: str
    """Of the target."""
    sent_us: int
    due_us: int
    """Until then it is left to the process that sends it."""


def outbox_row(sender: str, sent: Sent, now_us: int) -> OutboxRow:
    """The row of a message that a stream sends now."""
    version, target = sent
    return OutboxRow(sender, target, version, job_of(target), now_us, now_us + LEFT_US)


class _LeaseMove(NamedTuple):
    """What the units of one stream together do to its lease."""

    required: int | None
    """The token that must be there before them."""
    decided: bool
    """Whether they take or drop it; else it stays as it is."""
    taken: TakenLease | None


_UNTOUCHED = _LeaseMove(None, False, None)


class AppendRows:
    """The rows of the units of one append. Raises `ValueError` if the units do not fit together."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.events: list[StoredEvent] = []
        self.bases: dict[str, Newest] = {}
        """The newest event that each stream must have; version 0: it must have no status row."""
        self.status_rows: list[StatusRow] = []
        self.heads: dict[str, str] = {}
        """The heads that the status rows of these streams keep."""
        self.absent: list[str] = []
        """Streams without a status row: only a reply is kept, there never was an instance."""
        self.alarm_rows: list[AlarmRow] = []
        self.unset_alarms: list[str] = []
        """Streams that have no alarm."""
        self.required_leases: list[tuple[str, int]] = []
        """The streams whose lease must be there, and its token."""
        self.taken_leases: list[TakenLease] = []
        self.dropped_leases: list[str] = []
        self.kept_replies: list[ReplyRow] = []
        self.snapshots: list[tuple[str, StoredSnapshot]] = []
        self.sent: list[OutboxRow] = []
        self.received: list[tuple[str, Received]] = []
        """Streams, and what each takes of the outbox."""
        self.started_jobs: list[str] = []
        """Jobs of which a run starts: none of them may be paused."""
        self.inbox: list[int] = []
        """The rows of the inbox that must be there, and are deleted."""
        self.next_due_us: int | None = None
        """The earliest alarm among the units."""
        self._last: dict[str, Unit] = {}
        self._moves: dict[str, _LeaseMove] = {}
        self._keys: set[tuple[str, str]] = set()
        for unit in units:
            self._add(unit)
        for stream, unit in self._last.items():
            self._set_views(stream, unit)
        for stream, move in self._moves.items():
            self._set_lease(stream, move)

    @property
    def emits(self) -> bool:
        """Whether messages are among the events."""
        return any(event.topic == MessageSent.TOPIC for event in self.events)

    def _add(self, unit: Unit) -> None:
        stream, base = unit.stream, unit.base_version
        if has_gap(unit):
            raise ValueError(f"the versions of a unit of {stream} have a gap")
        before = self._last.get(stream)
        if before is None:
            self.bases[stream] = Newest(base, unit.base_hash)
        elif (before.after.version, before.hash) != (base, unit.base_hash):
            raise ValueError(f"two units of {stream} do not follow each other")
        self._last[stream] = unit
        self.events += unit.events
        if unit.lease_token is not None or unit.take is not None or unit.ends_lease:
            self._move_lease(unit)
        if unit.unless_paused and (job := unit.after.id.job) not in self.started_jobs:
            self.started_jobs.append(job)
        if unit.kept_reply is not None:
            self._keep(unit, unit.kept_reply)
        if unit.snapshot is not None:
            self.snapshots.append((stream, unit.snapshot))
        if unit.sent:
            self.sent += [outbox_row(stream, each, unit.now_us) for each in unit.sent]
        if unit.received is not None:
            self._receive(stream, unit.received)
        if unit.inbox:
            self._consume(unit)

    def _consume(self, unit: Unit) -> None:
        if not set(self.inbox).isdisjoint(unit.inbox):
            raise ValueError(f"another unit is made of what the one of {unit.stream} is made of")
        self.inbox += unit.inbox

    def _move_lease(self, unit: Unit) -> None:
        stream, token = unit.stream, unit.lease_token
        required, decided, taken = self._moves.get(stream, _UNTOUCHED)
        if token is not None:
            if not decided and required in (None, token):
                required = token
            elif taken is None or taken.lease.token != token:
                raise ValueError(f"two units of {stream} cannot hold the same lease")
        if unit.take is not None:
            after = unit.after
            decided, taken = True, TakenLease(stream, after.id.job, unit.take, unit.now_us)
        elif unit.ends_lease:
            decided, taken = True, None
        self._moves[stream] = _LeaseMove(required, decided, taken)

    def _keep(self, unit: Unit, reply: KeptReply) -> None:
        key = unit.stream, reply.key
        if key in self._keys:
            raise ValueError(f"two units of {unit.stream} have the same key")
        self._keys.add(key)
        self.kept_replies.append(ReplyRow(unit.stream, reply, unit.now_us))

    def _receive(self, stream: str, received: Received) -> None:
        if any(each == stream and of.sender == received.sender for each, of in self.received):
            raise ValueError(f"two units of {stream} take messages of {received.sender}")
        self.received.append((stream, received))

    def _set_views(self, stream: str, unit: Unit) -> None:
        after = unit.after
        wake = next_wake(after)
        if after.version:
            self.status_rows.append(status_row(after, unit.hash, wake, stream))
        else:
            self.absent.append(stream)
        alarm = alarm_row(stream, after.id.job, wake)
        if alarm is None:
            self.unset_alarms.append(stream)
            return
        self.alarm_rows.append(alarm)
        if alarm.due_us - unit.now_us <= SOON_US:
            head = kept_head(after, unit.hash)
            if head is not None:
                self.heads[stream] = head
        if self.next_due_us is None or alarm.due_us < self.next_due_us:
            self.next_due_us = alarm.due_us

    def _set_lease(self, stream: str, move: _LeaseMove) -> None:
        if move.required is not None:
            self.required_leases.append((stream, move.required))
        if move.taken is not None:
            self.taken_leases.append(move.taken)
        elif move.decided:
            self.dropped_leases.append(stream)
