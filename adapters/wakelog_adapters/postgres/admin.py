"""The care of a PostgreSQL store: its schema, and what there is to know of its server."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from wakelog.clock import Clock
from wakelog_adapters.postgres import schema
from wakelog_adapters.postgres.connections import Connection, connect, is_pooled, rows_of
from wakelog_adapters.postgres.errors import translated
from wakelog_adapters.postgres.url import StoreLocation, parse
from wakelog_adapters.sql.findings import Finding, length, of_schema, ok, problem, warning
from wakelog_adapters.sql.health import Ward, examine_work
from wakelog_adapters.sql.migrations import Migration, SchemaVersion

__all__ = ["PostgresAdmin", "open_admin"]

_OLDEST = 14
"""The oldest version of the server that is still looked after by those who make it."""
_CLOCK_US = 1_000_000
"""How far clocks may be apart without a word: an alarm is late, or early for others, by as much."""
_BAD_CLOCK_US = 30_000_000
_DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
}
"""What loses acknowledged requests, or the whole database, when it is another value."""
_AS_DURABLE = {"synchronous_commit": ("remote_apply",)}
_NO_STANDBY = ("local", "remote_write")
"""Values of synchronous_commit that lose nothing unless a standby takes over."""


_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"
_NO_ENTRY = b"""SELECT FROM pg_namespace
    WHERE nspname = %s AND NOT has_schema_privilege(oid, 'USAGE')"""
_LACKING = b"""SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
        LATERAL unnest(CASE
            WHEN c.relkind = 'S' THEN '{USAGE}'
            WHEN c.relname = 'migrations' THEN '{SELECT}'
            WHEN c.relname = 'stored_events' THEN '{SELECT,INSERT}'
            ELSE '{SELECT,INSERT,UPDATE,DELETE}' END::text[]) AS r (needed)
    WHERE n.nspname = %s AND c.relkind IN ('r', 'S')
    AND NOT CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, r.needed)
        ELSE has_table_privilege(c.oid, r.needed) END
    GROUP BY c.relname ORDER BY c.relname"""
"""Tables and sequences that this user has not all the rights to that it needs."""


def open_admin(url: str) -> PostgresAdmin:
    """Found through the `wakelog.store_admins` entry point. Raises `ValidationError`."""
    return PostgresAdmin(parse(url))


class PostgresAdmin:
    """Connects for each question, outside any pool."""

    def __init__(self, place: StoreLocation) -> None:
        self._place = place

    @property
    def migrations(self) -> Sequence[Migration]:
        return schema.migrations()

    def schema_version(self) -> SchemaVersion:
        with self._connected() as connection:
            return schema.schema_version(connection, self._place)

    def script(self, steps: Sequence[Migration]) -> str:
        return schema.script(self._place, steps)

    def migrate(self) -> Sequence[Migration]:
        with self._connected() as connection:
            stands = schema.schema_version(connection, self._place)
            stands.check()
            return schema.migrate(connection, self._place) if stands.missing else ()

    def examine(self, clock: Clock) -> Iterator[Finding]:
        with self._connected() as connection:
            yield _server(connection)
            yield _pooler(connection, self._place)
            yield from _settings(connection)
            yield _clock(connection, clock)
            rights = _rights(connection, self._place)
            yield rights
            if rights.level == "problem":
                return
            stands = schema.schema_version(connection, self._place)
            yield of_schema(stands)
            if stands.number and not stands.is_too_new:
                yield from examine_work(self._ward(connection, clock))

    def _ward(self, connection: Connection, clock: Clock) -> Ward:
        def ask(sql: str) -> Sequence[Sequence[Any]]:
            return rows_of(connection, sql.replace("{t}", f"{self._place.schema}.").encode())

        now_us = clock.now_us()
        return Ward(ask, now_us, _server_us(connection) if self._place.server_clock else now_us)

    @contextmanager
    def _connected(self) -> Generator[Connection]:
        connection = connect(self._place)
        try:
            with translated(self._place.label):
                yield connection
        finally:
            connection.close()


def _one(connection: Connection, sql: str) -> Any:
    return rows_of(connection, sql.encode())[0][0]


def _server_us(connection: Connection) -> int:
    us: int = _one(connection, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    return us


def _server(connection: Connection) -> Finding:
    version = connection.info.server_version // 10_000
    name = f"PostgreSQL {_one(connection, 'SHOW server_version')}"
    if version < _OLDEST:
        return problem("server", f"{name} is too old", f"upgrade it to {_OLDEST} or newer")
    if _one(connection, "SHOW transaction_read_only") == "on":
        advice = "connect to the primary, or take back default_transaction_read_only"
        return problem("server", f"{name} lets this user only read", advice)
    return ok("server", f"{name}, encoded in {_one(connection, 'SHOW server_encoding')}")


def _pooler(connection: Connection, place: StoreLocation) -> Finding:
    """What stands between, and what the URL says of it."""
    if not is_pooled(connection):
        if place.pooled:
            advice = "leave pooler=transaction out of the URL: workers would hear of alarms at once"
            return warning("pooler", "no pooler stands between, though the URL says so", advice)
        return ok("pooler", "no pooler stands between")
    if place.pooled:
        text = "a pooler stands between, as the URL says: alarms are looked for 5 times a second"
        return ok("pooler", text)
    if place.pooled is None:
        text = "a pooler stands between: alarms are looked for 5 times a second"
        advice = "say in the URL what it is: pooler=transaction, or pooler=session to hear of them"
        return warning("pooler", text, advice)
    if _is_shared(connection, place):
        text = "a pooler gives each transaction another session, though the URL says pooler=session"
        return problem("pooler", text, "say pooler=transaction, or leave it out")
    return ok("pooler", "a pooler stands between, and keeps a session for each client")


def _is_shared(connection: Connection, place: StoreLocation) -> bool:
    """Whether another client works in the session that was just ours. One that a pooler keeps
    for us is never given to another; a pooler that keeps none gives the last one first."""
    other = connect(place)
    try:
        pids = {_one(each, "SELECT pg_backend_pid()") for each in (connection, other)}
    finally:
        other.close()
    return len(pids) == 1


def _settings(connection: Connection) -> Iterator[Finding]:
    for name, wanted in _DURABLE.items():
        value = _one(connection, f"SHOW {name}")
        if value == wanted or value in _AS_DURABLE.get(name, ()):
            yield ok(name, f"{name} is {value}")
        elif name == "synchronous_commit" and value in _NO_STANDBY:
            text = f"{name} is {value}: a standby that takes over may lack what was acknowledged"
            yield warning(name, text, f"set {name} to on if a standby may take over")
        else:
            advice = f"set {name} = {wanted}, for the server, the database and the role"
            text = f"{name} is {value}: a crash of the server loses what was acknowledged"
            yield problem(name, text, advice)


def _rights(connection: Connection, place: StoreLocation) -> Finding:
    """Whether this user may do what is done all the time; making the schema may be another's."""
    where = (place.schema,)
    if rows_of(connection, _NO_ENTRY, where):
        advice = f"let its owner GRANT USAGE ON SCHEMA {place.schema}, and rights to what is in it"
        return problem("rights", f"this user may not use the schema {place.schema}", advice)
    lacking = [name for (name,) in rows_of(connection, _LACKING, where)]
    if lacking:
        text = f"this user may not do all it has to with {', '.join(lacking)}"
        advice = f"let their owner GRANT {_RIGHTS} ON ALL TABLES, and USAGE ON ALL SEQUENCES"
        return problem("rights", text, f"{advice}, IN SCHEMA {place.schema}")
    return ok("rights", "this user may do all it has to")


def _clock(connection: Connection, clock: Clock) -> Finding:
    """As exactly as one question and its answer allow."""
    before_us = clock.now_us()
    server_us = _server_us(connection)
    after_us = clock.now_us()
    apart_us = max(before_us - server_us, server_us - after_us, 0)
    if apart_us < _CLOCK_US:
        return ok("clock", f"this machine's clock and the server's are {length(apart_us)} apart")
    which = "behind" if server_us > after_us else "ahead of"
    text = f"this machine's clock is {length(apart_us)} {which} the server's"
    advice = "synchronize the clocks: an alarm fires by the clock of the worker that fires it"
    return (warning if apart_us < _BAD_CLOCK_US else problem)("clock", text, advice)
