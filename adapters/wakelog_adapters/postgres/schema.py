"""The schema of a PostgreSQL store: what its URL names, `wakelog` unless given."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from wakelog.errors import StoreUnavailableError
from wakelog_adapters.postgres.connections import Connection, rows_of
from wakelog_adapters.postgres.session.settings import MIGRATING
from wakelog_adapters.postgres.url import StoreLocation
from wakelog_adapters.sql.migrations import Migration, SchemaVersion, read
from wakelog_adapters.sql.schema import SqlSchema

__all__ = ["PostgresSchema", "migrations"]

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('wakelog migrations'), hashtext('{schema}'))"
_TABLE = """CREATE TABLE IF NOT EXISTS {t}migrations (
    number bigint PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    compatible_since bigint
)"""
_CHECK = """SELECT pg_catalog.current_setting('server_encoding'), EXISTS (
    SELECT FROM pg_catalog.pg_get_keywords() WHERE word = '{schema}' AND catcode <> 'U')"""
_ENCODING = "UTF8"


def migrations() -> Sequence[Migration]:
    """All known migrations, in order."""
    return read("wakelog_adapters.postgres")


class PostgresSchema(SqlSchema[Connection]):
    """The lock of a migration is an advisory lock of the schema. A script is for `psql`."""

    placeholder = "{schema}"
    begin_sql = ("BEGIN", MIGRATING, _LOCK)
    create_sql = ("CREATE SCHEMA IF NOT EXISTS {schema}", _TABLE)
    has_table_sql = (
        # Not to_regclass: it may answer from the session's cache, as it was before the lock.
        "SELECT 1 FROM pg_catalog.pg_tables"
        " WHERE schemaname = '{schema}' AND tablename = 'migrations'"
    )
    now_sql = "now()"

    def __init__(self, location: StoreLocation, known: Sequence[Migration] | None = None) -> None:
        """`known`: the package's own migrations, unless given."""
        super().__init__(
            f"{location.label} ({location.schema})",
            location.schema,
            f"{location.schema}.",
            known or migrations(),
            may_migrate=location.migrate,
        )
        self._location = location

    def version(self, connection: Connection) -> SchemaVersion:
        [(encoding, is_reserved)] = self.rows(connection, _CHECK)
        database, name = self._location.label, self._location.schema
        if encoding != _ENCODING:
            detail = f"{database} is encoded in {encoding}: create a database in {_ENCODING}"
            raise StoreUnavailableError("not_a_database", detail)
        if is_reserved:
            detail = f"{database}: schema={name} is a reserved word of SQL: choose another name"
            raise StoreUnavailableError("not_a_database", detail)
        return super().version(connection)

    def rows(self, connection: Connection, sql: str) -> Sequence[Sequence[Any]]:
        return rows_of(connection, self.filled_in(sql).encode())

    def execute(self, connection: Connection, sql: str) -> None:
        connection.execute(self.filled_in(sql).encode())

    @contextmanager
    def transaction(self, connection: Connection) -> Generator[None]:
        with connection.taking_long(), connection.transaction():
            self.execute(connection, MIGRATING)
            self.execute(connection, _LOCK)
            yield

    def create_table(self, connection: Connection) -> None:
        """CREATE SCHEMA needs the right to create one even if it exists: so it is not executed."""
        if self.rows(
            connection, "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = '{schema}'"
        ):
            self.execute(connection, _TABLE)
        else:
            super().create_table(connection)

    def statements(self, sql: str) -> Sequence[str]:
        """All at a time, as the server takes them."""
        return [sql.rstrip().removesuffix(";")]
