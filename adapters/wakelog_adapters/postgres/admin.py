"""The admin of a PostgreSQL store: its schema, and checks of its server."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

from wakelog.clock import Clock
from wakelog_adapters.postgres.connections import Connection, connect, is_pooled, rows_of
from wakelog_adapters.postgres.errors import translated
from wakelog_adapters.postgres.schema import PostgresSchema
from wakelog_adapters.postgres.url import StoreLocation, parse
from wakelog_adapters.sql.admin import SqlStoreAdmin
from wakelog_adapters.sql.findings import Finding, duration, ok, problem, warning

__all__ = ["PostgresAdmin", "open_admin"]

OLDEST = 14
"""The oldest version of the server that PostgreSQL's makers still support."""
_CLOCK_US = 1_000_000
"""How far apart clocks may be before it is reported: alarms are late, or early, by as much."""
_BAD_CLOCK_US = 30_000_000
_DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
}
"""With any other value the server may lose acknowledged requests, or the whole database."""
_AS_DURABLE = {"synchronous_commit": ("remote_apply",)}
_NO_STANDBY = ("local", "remote_write")
"""Values of synchronous_commit that lose nothing unless a standby takes over."""


_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"
_SCHEMA_FORBIDDEN = b"""SELECT FROM pg_namespace
    WHERE nspname = %s AND NOT has_schema_privilege(oid, 'USAGE')"""
_MAY = b"""SELECT
        bool_or(c.relname = 'leases' AND has_table_privilege(c.oid, 'INSERT')),
        bool_or(c.relname = 'stored_events' AND has_table_privilege(c.oid, 'INSERT')),
        bool_or(c.relname = 'stored_events' AND has_table_privilege(c.oid, 'SELECT'))
            AND NOT bool_or(has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE'))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relkind = 'r'"""
"""Whether this user takes leases, whether it appends, and whether it only reads."""
_LACKING = b"""SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
        (SELECT %s::jsonb) AS role (tables),
        LATERAL jsonb_array_elements_text(CASE
            WHEN c.relkind = 'S' THEN role.tables -> 'SEQUENCES'
            ELSE coalesce(role.tables -> c.relname::text, role.tables -> 'TABLES')
            END) AS r (needed),
        LATERAL split_part(r.needed, ' ', 1) AS what, LATERAL split_part(r.needed, ' ', 2) AS part
    WHERE n.nspname = %s AND c.relkind IN ('r', 'S')
    AND NOT CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, what)
        WHEN part <> '' THEN has_column_privilege(c.oid, part, what)
        ELSE has_table_privilege(c.oid, what) END
    GROUP BY c.relname ORDER BY c.relname"""
"""Tables and sequences for which this user lacks a right that it needs."""
_WORKER = {
    "TABLES": ["SELECT", "INSERT", "UPDATE", "DELETE"],
    "SEQUENCES": ["USAGE"],
    "migrations": ["SELECT"],
    "stored_events": ["SELECT", "INSERT"],
}
_CLIENT = {
    "TABLES": ["SELECT"],
    "SEQUENCES": ["USAGE"],
    **dict.fromkeys(
        ("stored_events", "inbox", "pool_segments", "pool_ids", "pool_skips", "pool_trail"),
        _WORKER["stored_events"],
    ),
    **{key: ["SELECT", "INSERT", "UPDATE"] for key in ("status", "snapshots", "received")},
    **{key: ["SELECT", "INSERT", "DELETE"] for key in ("abandoned_appends", "pool_states")},
    **dict.fromkeys(("alarms", "kept_replies", "outbox", "pool_exceptions"), _WORKER["TABLES"]),
    "leases": ["SELECT", "DELETE", "UPDATE run"],
    "ordering": ["SELECT", "UPDATE"],
    "job_pauses": ["SELECT", "UPDATE reason"],
}
_READER: dict[str, list[str]] = {"TABLES": ["SELECT"], "SEQUENCES": []}
"""What the roles of docs/deploying.md may do, with tables by name; a right may be to one column."""


def open_admin(url: str) -> PostgresAdmin:
    """Found through the `wakelog.store_admins` entry point. Raises `ValidationError`."""
    return PostgresAdmin(parse(url))


class PostgresAdmin(SqlStoreAdmin[Connection]):
    """Connects outside any pool."""

    def __init__(self, location: StoreLocation) -> None:
        super().__init__(PostgresSchema(location))
        self._location = location

    def lease_now_us(self, connection: Connection, now_us: int) -> int:
        return _server_us(connection) if self._location.server_clock else now_us

    def check_database(
        self, connection: Connection, clock: Clock
    ) -> Generator[Finding, None, bool]:
        yield _server(connection)
        yield _pooler(connection, self._location)
        yield from _settings(connection)
        yield _clock(connection, clock)
        rights = _rights(connection, self._location)
        yield rights
        return rights.level == "ok"

    @contextmanager
    def connected(self, *, to_migrate: bool = False) -> Generator[Connection]:
        with (
            closing(connect(self._location)) as connection,
            translated(self._location.label),
            connection.taking_long(),
        ):
            yield connection


def _value(connection: Connection, sql: str) -> Any:
    return rows_of(connection, sql.encode())[0][0]


def _server_us(connection: Connection) -> int:
    us: int = _value(connection, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    return us


def _server(connection: Connection) -> Finding:
    version = connection.info.server_version // 10_000
    name = f"PostgreSQL {_value(connection, 'SHOW server_version')}"
    if version < OLDEST:
        return problem("server", f"{name} is too old", f"upgrade it to {OLDEST} or newer")
    if _value(connection, "SHOW transaction_read_only") == "on":
        advice = "connect to the primary, or reset default_transaction_read_only"
        return problem("server", f"{name} is read-only for this user", advice)
    return ok("server", f"{name}, encoded in {_value(connection, 'SHOW server_encoding')}")


def _pooler(connection: Connection, location: StoreLocation) -> Finding:
    """Whether there is a pooler, and whether the URL is right about it."""
    polling = "workers poll for alarms 5 times a second"
    if not is_pooled(connection):
        if location.pooled:
            advice = "leave pooler=transaction out of the URL: workers are notified of alarms then"
            return warning("pooler", "there is no pooler, though the URL says so", advice)
        return ok("pooler", "there is no pooler")
    if location.pooled:
        return ok("pooler", f"there is a pooler, as the URL says: {polling}")
    if location.pooled is None:
        advice = "add its mode to the URL: pooler=transaction, or pooler=session (notifies workers)"
        return warning("pooler", f"there is a pooler: {polling}", advice)
    if _is_shared(connection, location):
        text = "the pooler gives each transaction another session, but the URL has pooler=session"
        return problem("pooler", text, "use pooler=transaction, or leave it out")
    return ok("pooler", "there is a pooler, which keeps a session for each client")


def _is_shared(connection: Connection, location: StoreLocation) -> bool:
    """Whether another client gets the session that this one just had. A pooler that keeps it for
    this one never gives it away; one that keeps none gives the last one first."""
    with closing(connect(location)) as other:
        pids = {_value(each, "SELECT pg_backend_pid()") for each in (connection, other)}
    return len(pids) == 1


def _settings(connection: Connection) -> Iterator[Finding]:
    for name, wanted in _DURABLE.items():
        value = _value(connection, f"SHOW {name}")
        if value == wanted or value in _AS_DURABLE.get(name, ()):
            yield ok(name, f"{name} is {value}")
        elif name == "synchronous_commit" and value in _NO_STANDBY:
            text = f"{name} is {value}: a standby that takes over may lack what was acknowledged"
            yield warning(name, text, f"set {name} to on if a standby may take over")
        else:
            advice = f"set {name} = {wanted}, for the server, the database and the role"
            text = f"{name} is {value}: a crash of the server loses what was acknowledged"
            yield problem(name, text, advice)


def _rights(connection: Connection, location: StoreLocation) -> Finding:
    """The rights that every process needs; making the schema may be another user's task."""
    schema = location.schema
    if rows_of(connection, _SCHEMA_FORBIDDEN, (schema,)):
        advice = f"let its owner GRANT USAGE ON SCHEMA {schema}, and rights to what is in it"
        return problem("rights", f"this user may not use the schema {schema}", advice)
    role, needs = _role(connection, schema)
    lacking = [name for (name,) in rows_of(connection, _LACKING, (json.dumps(needs), schema))]
    if lacking and role:
        text = f"this user lacks rights of a {role} to {', '.join(lacking)}"
        return problem("rights", text, "run the script for roles in docs/deploying.md again")
    if lacking:
        text = f"this user lacks rights to {', '.join(lacking)}"
        advice = f"let their owner GRANT {_RIGHTS} ON ALL TABLES, and USAGE ON ALL SEQUENCES"
        return problem("rights", text, f"{advice}, IN SCHEMA {schema}")
    if role:
        return ok("rights", f"this user has the rights of a {role}, and not those of a worker")
    return ok("rights", "this user has all the rights that it needs")


def _role(connection: Connection, schema: str) -> tuple[str, dict[str, list[str]]]:
    """Which role of fewer rights than a worker's the user has, if any, and what that needs."""
    [(takes_leases, appends, only_reads)] = rows_of(connection, _MAY, (schema,))
    if appends and not takes_leases:
        return "client", _CLIENT
    return ("reader", _READER) if only_reads else ("", _WORKER)


def _clock(connection: Connection, clock: Clock) -> Finding:
    """As exact as one query allows."""
    before_us = clock.now_us()
    server_us = _server_us(connection)
    after_us = clock.now_us()
    apart_us = max(before_us - server_us, server_us - after_us, 0)
    if apart_us < _CLOCK_US:
        text = f"this machine's clock and the server's are {duration(apart_us)} apart"
        return ok("clock", text)
    which = "behind" if server_us > after_us else "ahead of"
    text = f"this machine's clock is {duration(apart_us)} {which} the server's"
    advice = "synchronize the clocks: an alarm fires by the clock of the worker that fires it"
    return (warning if apart_us < _BAD_CLOCK_US else problem)("clock", text, advice)
