"""What an engine has written, as rows for a floor: one unit of work at a time.

The rows are made from the engine's own log: the events as they lie there, the status and alarm rows
as the views show them after the unit, leases and snapshots.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import astuple

from wakelog.core.evolve import evolve
from wakelog.core.instance import Instance, next_wake
from wakelog.ids import InstanceId
from wakelog.log.rebuild import kept_head
from wakelog.log.records import decode
from wakelog.log.status_row import status_row
from wakelog.ports.records import StoredEvent
from wakelog.ports.rows import StatusRow
from wakelog_projections.inline.alarms import AlarmRow, alarm_row
from wakelog_projections.inline.append_rows import SOON_US

__all__ = [
    "CHANGING",
    "STATUS",
    "Batch",
    "Snapshot",
    "Written",
    "batched",
    "batches",
    "commits",
    "units",
]

STATUS = (*StatusRow.__struct_fields__, "head")
"""The columns of a status row."""
_CONSTANT = ("stream", "kind", "name", "id")
CHANGING = tuple(column for column in STATUS if column not in _CONSTANT)
"""Those that an append may change."""
LEASE_US = 30_000_000
"""The length of the leases in the copied rows: any number of this size will do."""

Snapshot = tuple[str, int, bytes]
"""Stream, version, state."""
_Rows = list[tuple[Any, ...]]


class Written(NamedTuple):
    """The rows of one unit of work."""

    stream: str
    events: Sequence[StoredEvent]
    status: StatusRow
    head: str | None
    """What the status row keeps of it."""
    alarm: AlarmRow | None
    lease: tuple[Any, ...] | None
    """Taken with it."""
    drops_lease: bool
    snapshot: Snapshot | None

    @property
    def claim(self) -> int | None:
        """When it was claimed, for a unit that claims: all of one claim share the moment."""
        return self.status.updated_us if self.lease else None


class Batch:
    """The rows of one commit; of view rows only the last of each stream, as the engine writes."""

    def __init__(self, units: Sequence[Written]) -> None:
        self.events: _Rows = []
        self.snapshots: _Rows = []
        status: dict[str, tuple[Any, ...]] = {}
        alarm: dict[str, AlarmRow | None] = {}
        lease: dict[str, tuple[Any, ...] | None] = {}
        for unit in units:
            self.events += map(astuple, unit.events)
            status[unit.stream] = (*astuple(unit.status), unit.head)
            alarm[unit.stream] = unit.alarm
            if unit.lease is not None or unit.drops_lease:
                lease[unit.stream] = unit.lease
            if unit.snapshot is not None:
                self.snapshots.append(unit.snapshot)
        self.status: _Rows = [*status.values()]
        self.alarms: _Rows = [astuple(row) for row in alarm.values() if row is not None]
        self.no_alarms = [stream for stream, row in alarm.items() if row is None]
        self.leases: _Rows = [row for row in lease.values() if row is not None]
        self.no_leases = [stream for stream, row in lease.items() if row is None]


def units(
    log: Iterable[tuple[int, StoredEvent]],
    snapshots: Mapping[tuple[str, int], Snapshot],
    after: int,
) -> list[Written]:
    """The units of work behind position `after`, in order; `log` is the whole, with positions."""
    return [
        _written(unit, before, after_, hash, snapshots)
        for position, unit, before, after_, hash in _units(log)
        if position > after
    ]


_Unit = tuple[int, Sequence[StoredEvent], Instance, Instance, str]


def _units(log: Iterable[tuple[int, StoredEvent]]) -> Iterator[_Unit]:
    """Each unit of the log: its last position, events, and the instance before and after."""
    heads: dict[str, Instance] = {}
    events: list[StoredEvent] = []
    commit = ""
    last: _Unit | None = None
    for position, stored in log:
        said = decode(stored)
        if last is not None and said.commit != commit:
            yield last
            last, events = None, []
        stream, commit = stored.stream, said.commit
        start = heads.get(stream) or Instance(InstanceId.parse(stream))
        before = last[2] if last is not None else start
        heads[stream] = after = evolve(start, said.event, said.at_us)
        events.append(stored)
        last = (position, events, before, after, said.hash)
    if last is not None:
        yield last


def _written(
    events: Sequence[StoredEvent],
    before: Instance,
    after: Instance,
    hash: str,
    snapshots: Mapping[tuple[str, int], Snapshot],
) -> Written:
    stream, run, wake = str(after.id), after.run, next_wake(after)
    now_us = after.recorded_us
    lease = None
    if run is not None and run != before.run:
        until_us = run.started_us + LEASE_US
        lease = (stream, after.id.job, run.worker, until_us, run.token, True)
    return Written(
        stream,
        events,
        status_row(after, hash, wake, stream),
        None if wake is None or wake.due_us - now_us > SOON_US else kept_head(after, hash),
        alarm_row(stream, after.id.job, wake),
        lease,
        drops_lease=before.run is not None and run is None,
        snapshot=snapshots.get((stream, after.version)),
    )


def batches(units: Sequence[Written], size: int) -> Iterator[Sequence[Written]]:
    """The units in their order, `size` to a commit; those claimed at one moment in one."""
    batch: list[Written] = []
    for unit in units:
        ended = unit.claim != batch[-1].claim if batch else False
        full = unit.claim is None and len(batch) >= size
        if ended or full:
            yield batch
            batch = []
        batch.append(unit)
    if batch:
        yield batch


def batched(units: Sequence[Written], size: int) -> list[Batch]:
    """The rows of each commit, for units in batches of `size`."""
    return [Batch(batch) for batch in batches(units, size)]


def commits(log: Iterable[StoredEvent]) -> list[list[StoredEvent]]:
    """The events of a log, by the commit that each says it is of."""
    by_commit = itertools.groupby(log, lambda stored: decode(stored).commit)
    return [list(events) for _, events in by_commit]
