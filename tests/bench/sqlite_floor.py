"""The floor on SQLite: a bare loop that writes the rows that the engine has written.

It starts on a copy of the engine's file from before the timed part, with the engine's settings, and
writes batches of the engine's mean size: prepared tuples, `executemany`, one commit a batch.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import astuple

from tests.bench.written import CHANGING, STATUS, Batch, Written, batched, commits, units
from wakelog.ports.records import StoredEvent
from wakelog_adapters.sqlite.connections import connect
from wakelog_adapters.sqlite.url import StoreLocation

__all__ = ["append_s", "appended", "copy", "rate", "recorded"]


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
        status=f"INSERT INTO {prefix}status ({', '.join(STATUS)}) "
        f"VALUES ({', '.join('?' for _ in STATUS)}) "
        "ON CONFLICT (stream) DO UPDATE SET "
        + ", ".join(f"{column} = excluded.{column}" for column in CHANGING),
        alarm=f"INSERT INTO {prefix}alarms VALUES (?, ?, ?, ?) ON CONFLICT (stream) "
        "DO UPDATE SET due_us = excluded.due_us, action = excluded.action",
        no_alarm=f"DELETE FROM {prefix}alarms WHERE stream = ?",
        lease=f"INSERT OR REPLACE INTO {prefix}leases VALUES (?, ?, ?, ?, ?, ?)",
        no_lease=f"DELETE FROM {prefix}leases WHERE stream = ?",
        snapshot=f"INSERT INTO {prefix}snapshots VALUES (?, ?, ?)",
    )


def _statements(batch: Batch, sql: _Sql) -> Sequence[tuple[str, Sequence[tuple[Any, ...]]]]:
    """What to execute, with the rows for each."""
    all_ = (
        *((sql.event, batch.events), (sql.status, batch.status), (sql.alarm, batch.alarms)),
        (sql.no_alarm, [(stream,) for stream in batch.no_alarms]),
        (sql.lease, batch.leases),
        (sql.no_lease, [(stream,) for stream in batch.no_leases]),
        (sql.snapshot, batch.snapshots),
    )
    return [(statement, rows) for statement, rows in all_ if rows]


def copy(place: StoreLocation, into: Path) -> int:
    """Copy the engine's file as it is now; answer its newest position."""
    with contextlib.closing(sqlite3.connect(place.path)) as source:
        with contextlib.closing(sqlite3.connect(into)) as target:
            source.backup(target)
        newest = f"SELECT ifnull(max(rowid), 0) FROM {place.prefix}stored_events"
        position: int = source.execute(newest).fetchone()[0]
        return position


def recorded(place: StoreLocation, after: int) -> list[Written]:
    """The units of work that the engine appended behind position `after`, in order."""
    snapshot_rows = f"SELECT stream, version, state FROM {place.prefix}snapshots"
    log = f"SELECT rowid, * FROM {place.prefix}stored_events ORDER BY rowid"
    with contextlib.closing(sqlite3.connect(place.path)) as connection:
        snapshots = {(row[0], row[1]): row for row in connection.execute(snapshot_rows)}
        events = ((row[0], StoredEvent(*row[1:])) for row in connection.execute(log))
        return units(events, snapshots, after)


def rate(place: StoreLocation, units: Sequence[Written], size: int) -> float:
    """Write the units in batches of `size`, and claims as they were; answer units a second."""
    sql = _sql(place.prefix)
    prepared = [_statements(batch, sql) for batch in batched(units, size)]
    connection = connect(place)
    try:
        began = time.perf_counter()
        for statements in prepared:
            connection.execute("BEGIN IMMEDIATE")
            for statement, rows in statements:
                connection.executemany(statement, rows)
            connection.execute("COMMIT")
        elapsed_s = time.perf_counter() - began
    finally:
        connection.close()
    return len(units) / elapsed_s


def appended(place: StoreLocation, after: int) -> list[list[StoredEvent]]:
    """The events that the engine appended behind position `after`, by commit, in order."""
    log = f"SELECT * FROM {place.prefix}stored_events WHERE rowid > ? ORDER BY rowid"
    with contextlib.closing(sqlite3.connect(place.path)) as connection:
        return commits(StoredEvent(*row) for row in connection.execute(log, (after,)))


def append_s(place: StoreLocation, appended: Sequence[Sequence[StoredEvent]]) -> float:
    """Append these events, in as many commits; answer how many seconds that takes."""
    statement = _sql(place.prefix).event
    prepared = [[astuple(event) for event in commit] for commit in appended]
    connection = connect(place)
    try:
        began = time.perf_counter()
        for rows in prepared:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, rows)
            connection.execute("COMMIT")
        return time.perf_counter() - began
    finally:
        connection.close()
