"""The schema: numbered SQL files, applied at open in one transaction.

A process that is killed while it migrates leaves the database as it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from wakelog_adapters.sql.migrations import Migration, SchemaVersion, read
from wakelog_adapters.sqlite.url import StoreLocation

__all__ = ["migrate", "migrations", "prepare", "schema_version", "script"]

_TABLE = """CREATE TABLE IF NOT EXISTS {prefix}migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TEXT NOT NULL,
    compatible_since INTEGER
)"""


def migrations() -> Sequence[Migration]:
    """All known steps, in order."""
    return read("wakelog_adapters.sqlite")


def schema_version(
    connection: sqlite3.Connection, place: StoreLocation, known: Sequence[Migration] | None = None
) -> SchemaVersion:
    """How the database stands to `known`, the package's own unless given. Changes nothing.

    Raises SQLite's own errors.
    """
    number, compatible_since = _applied(connection, place)
    return SchemaVersion(place.path, number, compatible_since, known or migrations())


def prepare(connection: sqlite3.Connection, place: StoreLocation) -> None:
    """What opening does: bring the database up to date, unless the URL says not to.

    Takes the write lock only if there is something to do. Raises `StoreUnavailableError`
    ("wrong_version") for a database that this package cannot work on, and SQLite's own errors.
    """
    stands = schema_version(connection, place)
    stands.check()
    if stands.missing and not place.migrate:
        raise stands.refuse()
    if stands.missing:
        migrate(connection, place)


def migrate(
    connection: sqlite3.Connection, place: StoreLocation, known: Sequence[Migration] | None = None
) -> Sequence[Migration]:
    """Apply what is missing, in one transaction under the write lock; answer what that was."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        stands = schema_version(connection, place, known)  # now nobody else changes it
        stands.check()
        connection.execute(_TABLE.replace("{prefix}", place.prefix))
        for migration in stands.missing:
            for statement in _statements(migration):
                connection.execute(statement.replace("{prefix}", place.prefix))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return stands.missing


def script(place: StoreLocation, missing: Sequence[Migration]) -> str:
    """`missing` as SQL to run by hand, as one transaction; for `sqlite3 -bail`, which stops at an
    error, or any other tool."""
    begin = ["BEGIN IMMEDIATE"]
    if missing and missing[0] == migrations()[0]:
        begin.append(_TABLE)
    steps = [f"-- {each}\n\n" + ";\n\n".join(_statements(each)) for each in missing]
    text = "".join(f"{part};\n\n" for part in [*begin, *steps]) + "COMMIT;\n"
    return text.replace("{prefix}", place.prefix)


def _statements(migration: Migration) -> Sequence[str]:
    """One migration and the record of it: one statement ends where a line ends with a semicolon."""
    number, name, compatible_since, sql = migration
    code = "\n".join(line for line in sql.splitlines() if not line.startswith("--")) + "\n"
    return [
        *(part for part in (each.strip() for each in code.split(";\n")) if part),
        "INSERT INTO {prefix}migrations (number, name, applied_at, compatible_since) VALUES"
        f" ({number}, '{name}', strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), {compatible_since})",
    ]


def _applied(connection: sqlite3.Connection, place: StoreLocation) -> tuple[int, int]:
    """The newest migration there is, and what a package must know: itself, if that is not said."""
    table = f"{place.prefix}migrations"
    exists = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    if connection.execute(exists, (table,)).fetchone() is None:
        return 0, 0
    number, compatible_since = connection.execute(
        f"SELECT ifnull(max(number), 0), ifnull(max(ifnull(compatible_since, number)), 0)"
        f" FROM {table}"
    ).fetchone()
    return number, compatible_since
