"""The floor on PostgreSQL: a bare loop that writes the rows that the engine has written.

It starts on a copy of the engine's schema from before the timed part, tables and indexes as the
engine's migrations make them, and writes batches of the engine's mean size: columns as arrays,
`unnest`, prepared statements, all of a batch in one pipeline and one commit.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple, get_type_hints

from msgspec.structs import astuple

from tests.bench.written import CHANGING, STATUS, Batch, Written, batched, commits, units
from wakelog.ports.records import StoredEvent
from wakelog.ports.rows import StatusRow
from wakelog_adapters.postgres.connections import connect, rows_of
from wakelog_adapters.postgres.schema import PostgresSchema
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["append_s", "appended", "copy", "rate", "recorded"]

_STORED = ("stored_events", "status", "alarms", "leases", "snapshots")
_EVENT_TYPES = ("text", "bigint", "text", "bytea")
_TYPES = {str: "text", bool: "boolean", int: "bigint"}
_STATUS_TYPES = (
    *(
        next(name for type_, name in _TYPES.items() if hint in (type_, type_ | None))
        for hint in get_type_hints(StatusRow).values()
    ),
    "text",  # the head
)
_ALARM_TYPES = ("text", "text", "bigint", "text")
_LEASE_TYPES = ("text", "text", "text", "bigint", "bigint", "boolean")
_SNAPSHOT_TYPES = ("text", "bigint", "bytea")


class _Sql(NamedTuple):
    """The statements, for tables in a schema; each takes a list for each column."""

    event: bytes
    status: bytes
    alarm: bytes
    no_alarm: bytes
    lease: bytes
    no_lease: bytes
    snapshot: bytes


def _sql(schema: str) -> _Sql:
    def insert(into: str, types: Sequence[str], then: str = "") -> bytes:
        lists = ", ".join(f"%b::{type}[]" for type in types)
        return f"INSERT INTO {schema}.{into} SELECT * FROM unnest({lists}) {then}".encode()

    def delete(from_: str) -> bytes:
        return f"DELETE FROM {schema}.{from_} WHERE stream = ANY (%b::text[])".encode()

    def update(columns: Sequence[str]) -> str:
        sets = ", ".join(f"{column} = excluded.{column}" for column in columns)
        return f"ON CONFLICT (stream) DO UPDATE SET {sets}"

    columns = ", ".join(STATUS)
    events = "stored_events (originator_id, originator_version, topic, state)"
    return _Sql(
        event=insert(events, _EVENT_TYPES),
        status=insert(f"status ({columns})", _STATUS_TYPES, update(CHANGING)),
        alarm=insert("alarms", _ALARM_TYPES, update(("due_us", "action"))),
        no_alarm=delete("alarms"),
        lease=insert("leases", _LEASE_TYPES, update(("owner", "until_us", "token", "run"))),
        no_lease=delete("leases"),
        snapshot=insert("snapshots", _SNAPSHOT_TYPES),
    )


def _statements(batch: Batch, sql: _Sql) -> Sequence[tuple[bytes, Sequence[list[Any]]]]:
    """What to execute, with the columns for each."""
    all_ = (
        *((sql.event, batch.events), (sql.status, batch.status), (sql.alarm, batch.alarms)),
        (sql.no_alarm, [(stream,) for stream in batch.no_alarms]),
        (sql.lease, batch.leases),
        (sql.no_lease, [(stream,) for stream in batch.no_leases]),
        (sql.snapshot, batch.snapshots),
    )
    return [
        (statement, [list(column) for column in zip(*rows, strict=True)])
        for statement, rows in all_
        if rows
    ]


def copy(place: StoreLocation, into: str) -> int:
    """Copy the engine's schema as it is now to a new one; answer the newest position."""
    with closing(connect(place)) as connection:
        PostgresSchema(dataclasses.replace(place, schema=into)).prepare(connection)
        for table in _STORED:
            rows = f"SELECT * FROM {place.schema}.{table}"
            connection.execute(f"INSERT INTO {into}.{table} {rows}".encode())
        newest = f"SELECT coalesce(max(notification_id), 0) FROM {place.schema}.stored_events"
        position: int = rows_of(connection, newest.encode())[0][0]
        sequence = f"{into}.stored_events_notification_id_seq"
        connection.execute("SELECT setval(%s, %s)", (sequence, position + 1))
        return position


def recorded(place: StoreLocation, after: int) -> list[Written]:
    """The units of work that the engine appended behind position `after`, in order."""
    snapshot_rows = f"SELECT stream, version, state FROM {place.schema}.snapshots"
    log = (
        "SELECT notification_id, originator_id, originator_version, topic, state "
        f"FROM {place.schema}.stored_events ORDER BY notification_id"
    )
    with closing(connect(place)) as connection:
        snapshots = {
            (stream, version): (stream, version, state)
            for stream, version, state in rows_of(connection, snapshot_rows.encode())
        }
        events = ((row[0], StoredEvent(*row[1:])) for row in rows_of(connection, log.encode()))
        return units(events, snapshots, after)


def rate(place: StoreLocation, units: Sequence[Written], size: int) -> float:
    """Write the units in batches of `size`, and claims as they were; answer units a second."""
    sql = _sql(place.schema)
    prepared = [_statements(batch, sql) for batch in batched(units, size)]
    with closing(connect(place)) as connection:
        # As the engine's own function has it: the tables are not analysed yet.
        connection.execute("SET enable_seqscan = off")
        began = time.perf_counter()
        for statements in prepared:
            with connection.pipeline(), connection.transaction():
                for statement, columns in statements:
                    connection.execute(statement, columns, prepare=True)
        elapsed_s = time.perf_counter() - began
    return len(units) / elapsed_s


def appended(place: StoreLocation, after: int) -> list[list[StoredEvent]]:
    """The events that the engine appended behind position `after`, by commit, in order."""
    log = (
        "SELECT originator_id, originator_version, topic, state "
        f"FROM {place.schema}.stored_events WHERE notification_id > {after} "
        "ORDER BY notification_id"
    )
    with closing(connect(place)) as connection:
        return commits(StoredEvent(*row) for row in rows_of(connection, log.encode()))


def append_s(place: StoreLocation, appended: Sequence[Sequence[StoredEvent]]) -> float:
    """Append these events, in as many commits; answer how many seconds that takes."""
    statement = _sql(place.schema).event
    prepared = [
        [list(column) for column in zip(*map(astuple, commit), strict=True)] for commit in appended
    ]
    with closing(connect(place)) as connection:
        began = time.perf_counter()
        for columns in prepared:
            with connection.pipeline(), connection.transaction():
                connection.execute(statement, columns, prepare=True)
        return time.perf_counter() - began
