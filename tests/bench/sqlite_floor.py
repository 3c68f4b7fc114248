"""The floor on SQLite: a bare loop that writes the rows that the engine has written.

The rows are made from the engine's own log, one unit of work at a time: the events as they lie
there, the status and alarm rows as the views show them after the unit, leases and snapshots. The
loop starts on a copy of the engine's file from before the timed part, with the engine's settings,
and writes batches of the engine's mean size: prepared tuples, `executemany`, one commit a batch.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wakelog.core.evolve import evolve
from wakelog.core.instance import Instance
from wakelog.ids import InstanceId
from wakelog.log import decode
from wakelog.ports import StatusRow, StoredEvent
from wakelog_adapters.sqlite.connections import connect
from wakelog_adapters.sqlite.url import Place
from wakelog_projections import alarms, status

__all__ = ["Written", "batches", "copy", "rate", "recorded"]

LEASE_US = 30_000_000
"""The length of the leases in the copied rows: any number of this size will do."""

_Rows = list[Any]
_CHANGING = [c for c in StatusRow._fields if c not in ("stream", "kind", "name", "id")]


class _Sql(NamedTuple):
    """The statements, for tables whose names begin with a prefix."""

    event: str
    status: str
    alarm: str
    no_alarm: str
    lease: str
    no_lease: str
    snapshot: str


def _sql(prefix: str) -> _Sql:
    return _Sql(
        event=f"INSERT INTO {prefix}stored_events VALUES (?, ?, ?, ?)",
        status=f"INSERT INTO {prefix}status ({', '.join(StatusRow._fields)}) "
        f"VALUES ({', '.join('?' for _ in StatusRow._fields)}) "
        "ON CONFLICT (stream) DO UPDATE SET "
        + ", ".join(f"{column} = excluded.{column}" for column in _CHANGING),
        alarm=f"INSERT INTO {prefix}alarms VALUES (?, ?, ?, ?) ON CONFLICT (stream) "
        "DO UPDATE SET due_us = excluded.due_us, action = excluded.action",
        no_alarm=f"DELETE FROM {prefix}alarms WHERE stream = ?",
        lease=f"INSERT OR REPLACE INTO {prefix}leases VALUES (?, ?, ?, ?, ?, ?)",
        no_lease=f"DELETE FROM {prefix}leases WHERE stream = ?",
        snapshot=f"INSERT INTO {prefix}snapshots VALUES (?, ?, ?)",
    )


class Written(NamedTuple):
    """The rows of one unit of work."""

    stream: str
    events: Sequence[StoredEvent]
    status: StatusRow
    alarm: alarms.AlarmRow | None
    lease: tuple[Any, ...] | None
    """Taken with it."""
    drops_lease: bool
    snapshot: tuple[str, int, bytes] | None

    @property
    def claim(self) -> int | None:
        """When it was claimed, for a unit that claims: all of one claim share the moment."""
        return self.status.updated_us if self.lease else None


class _Batch:
    """The rows of one commit; of view rows only the last of each stream, as the engine writes."""

    def __init__(self, units: Sequence[Written]) -> None:
        self.events: _Rows = []
        self.status: dict[str, StatusRow] = {}
        self.alarms: dict[str, alarms.AlarmRow | None] = {}
        self.leases: _Rows = []
        self.dropped: _Rows = []
        self.snapshots: _Rows = []
        for unit in units:
            self._add(unit)

    def _add(self, unit: Written) -> None:
        self.events += unit.events
        self.status[unit.stream] = unit.status
        self.alarms[unit.stream] = unit.alarm
        if unit.lease is not None:
            self.leases.append(unit.lease)
        if unit.drops_lease:
            self.dropped.append((unit.stream,))
        if unit.snapshot is not None:
            self.snapshots.append(unit.snapshot)

    def statements(self, sql: _Sql) -> Sequence[tuple[str, _Rows]]:
        """What to execute, with the rows for each."""
        set_ = [row for row in self.alarms.values() if row is not None]
        gone = [(stream,) for stream, row in self.alarms.items() if row is None]
        all_ = (
            (sql.event, self.events),
            (sql.status, list(self.status.values())),
            *((sql.alarm, set_), (sql.no_alarm, gone)),
            *((sql.lease, self.leases), (sql.no_lease, self.dropped)),
            (sql.snapshot, self.snapshots),
        )
        return [(statement, rows) for statement, rows in all_ if rows]


def copy(place: Place, into: Path) -> int:
    """Copy the engine's file as it is now; answer its newest position."""
    with contextlib.closing(sqlite3.connect(place.path)) as source:
        with contextlib.closing(sqlite3.connect(into)) as target:
            source.backup(target)
        newest = f"SELECT ifnull(max(rowid), 0) FROM {place.prefix}stored_events"
        position: int = source.execute(newest).fetchone()[0]
        return position


def recorded(place: Place, after: int) -> list[Written]:
    """The units of work that the engine appended behind position `after`, in order."""
    with contextlib.closing(sqlite3.connect(place.path)) as connection:
        snapshots = {
            (stream, version): (stream, version, state)
            for stream, version, state in connection.execute(
                f"SELECT stream, version, state FROM {place.prefix}snapshots"
            )
        }
        return [
            _written(unit, before, after_, hash, snapshots)
            for position, unit, before, after_, hash in _units(connection, place.prefix)
            if position > after
        ]


_Unit = tuple[int, Sequence[StoredEvent], Instance, Instance, str]


def _units(connection: sqlite3.Connection, prefix: str) -> Iterator[_Unit]:
    """Each unit of the log: its last position, events, and the instance before and after."""
    heads: dict[str, Instance] = {}
    events: list[StoredEvent] = []
    commit = ""
    last: _Unit | None = None
    log = f"SELECT rowid, * FROM {prefix}stored_events ORDER BY rowid"
    for position, *fields in connection.execute(log):
        stored = StoredEvent(*fields)
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
    snapshots: dict[tuple[str, int], tuple[str, int, bytes]],
) -> Written:
    stream, run = str(after.id), after.run
    lease = None
    if run is not None and run != before.run:
        until_us = run.started_us + LEASE_US
        lease = (stream, after.id.job, run.worker, until_us, run.token, 1)
    return Written(
        stream,
        events,
        status.row(after, hash),
        alarms.row(after),
        lease,
        drops_lease=before.run is not None and run is None,
        snapshot=snapshots.get((stream, after.version)),
    )


def rate(place: Place, units: Sequence[Written], size: int) -> float:
    """Write the units in batches of `size`, and claims as they were; answer units a second."""
    prepared = [_Batch(batch).statements(_sql(place.prefix)) for batch in batches(units, size)]
    connection = connect(place)
    try:
        began = time.perf_counter()
        for statements in prepared:
            connection.execute("BEGIN IMMEDIATE")
            for sql, rows in statements:
                connection.executemany(sql, rows)
            connection.execute("COMMIT")
        elapsed_s = time.perf_counter() - began
    finally:
        connection.close()
    return len(units) / elapsed_s


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
