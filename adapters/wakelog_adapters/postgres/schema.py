"""The schema: numbered SQL files, applied at open in one transaction, under a lock.

A process that is killed while it migrates leaves the database as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

from wakelog.errors import StoreUnavailableError
from wakelog_adapters.postgres.connections import Connection, rows_of
from wakelog_adapters.postgres.url import Place

__all__ = ["Migration", "migrate", "migrations"]

_LOCK = b"SELECT pg_advisory_xact_lock(hashtext('wakelog migrations'), hashtext(%s))"
_ENCODING = "UTF8"


class Migration(NamedTuple):
    """One step of the schema."""

    number: int
    name: str
    sql: str

    def script(self, schema: str) -> str:
        """Its statements, for tables in `schema`."""
        return self.sql.replace("{schema}", schema)


@cache
def migrations() -> Sequence[Migration]:
    """All known steps, in order."""
    folder = resources.files("wakelog_adapters.postgres") / "migrations"
    found: list[Migration] = []
    for file in folder.iterdir():
        if file.name.endswith(".sql"):
            number, _, name = file.name.removesuffix(".sql").partition("_")
            found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return sorted(found)


def migrate(connection: Connection, place: Place) -> None:
    """Bring the schema up to date. Takes the lock only if there is something to do.

    Raises `StoreUnavailableError` ("wrong_version") for a schema from a newer wakelog, and
    psycopg's own errors.
    """
    encoding = rows_of(connection, b"SHOW server_encoding")[0][0]
    if encoding != _ENCODING:
        detail = f"{place.label} is encoded in {encoding}: create a database in {_ENCODING}"
        raise StoreUnavailableError("not_a_database", detail)
    known = migrations()
    if _applied(connection, place, known) == known[-1].number:
        return
    with connection.transaction():
        connection.execute(_LOCK, (place.schema,))
        _apply(connection, place, known)


def _apply(connection: Connection, place: Place, known: Sequence[Migration]) -> None:
    schema = place.schema
    applied = _applied(connection, place, known)  # again: another process may have been faster
    if not rows_of(connection, b"SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)):
        connection.execute(f"CREATE SCHEMA {schema}".encode())  # "IF NOT EXISTS" wants the right
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {schema}.migrations (number bigint PRIMARY KEY,"
        " name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())".encode()
    )
    for migration in known:
        if migration.number > applied:
            connection.execute(migration.script(schema).encode())
            connection.execute(
                f"INSERT INTO {schema}.migrations (number, name) VALUES (%s, %s)".encode(),
                (migration.number, migration.name),
            )


def _applied(connection: Connection, place: Place, known: Sequence[Migration]) -> int:
    # Not to_regclass: it may answer from before the lock, out of the session's own cache.
    exists = b"SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'migrations'"
    if not rows_of(connection, exists, (place.schema,)):
        return 0
    sql = f"SELECT coalesce(max(number), 0) FROM {place.schema}.migrations"
    number: int = rows_of(connection, sql.encode())[0][0]
    if number > known[-1].number:
        raise StoreUnavailableError(
            "wrong_version",
            f"{place.label} ({place.schema}) stands at migration {number}, "
            f"this wakelog knows {known[-1].number}",
        )
    return number
