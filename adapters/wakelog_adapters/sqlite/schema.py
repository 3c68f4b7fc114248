"""The schema: numbered SQL files, applied at open in one transaction.

A process that is killed while it migrates leaves the database as it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from wakelog.errors import StoreUnavailableError
from wakelog_adapters.sqlite.url import Place

__all__ = ["Migration", "migrate", "migrations"]


class Migration(NamedTuple):
    """One step of the schema."""

    number: int
    name: str
    sql: str

    def statements(self, prefix: str) -> Sequence[str]:
        """Its statements, for tables whose names begin with `prefix`."""
        lines = self.sql.replace("{prefix}", prefix).splitlines()
        code = "\n".join(line for line in lines if not line.startswith("--"))
        return [part for part in (s.strip() for s in code.split(";\n")) if part]


def migrations() -> Sequence[Migration]:
    """All known steps, in order."""
    folder = resources.files("wakelog_adapters.sqlite") / "migrations"
    found: list[Migration] = []
    for file in folder.iterdir():
        if file.name.endswith(".sql"):
            number, _, name = file.name.removesuffix(".sql").partition("_")
            found.append(Migration(int(number), name, file.read_text(encoding="utf-8") + "\n"))
    return sorted(found)


def migrate(connection: sqlite3.Connection, place: Place) -> None:
    """Bring the database up to date. Takes the write lock only if there is something to do.

    Raises `StoreUnavailableError` ("wrong_version") for a database from a newer wakelog, and
    SQLite's own errors.
    """
    known = migrations()
    if _applied(connection, place, known) == known[-1].number:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _apply(connection, place, known)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apply(connection: sqlite3.Connection, place: Place, known: Sequence[Migration]) -> None:
    table = f"{place.prefix}migrations"
    applied = _applied(connection, place, known)  # again: another process may have been faster
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table} "
        "(number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL)"
    )
    for migration in known:
        if migration.number > applied:
            for statement in migration.statements(place.prefix):
                connection.execute(statement)
            connection.execute(
                f"INSERT INTO {table} VALUES (?, ?, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))",
                (migration.number, migration.name),
            )


def _applied(connection: sqlite3.Connection, place: Place, known: Sequence[Migration]) -> int:
    table = f"{place.prefix}migrations"
    exists = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
    ).fetchone()
    if exists is None:
        return 0
    number: int = connection.execute(f"SELECT ifnull(max(number), 0) FROM {table}").fetchone()[0]
    if number > known[-1].number:
        raise StoreUnavailableError(
            "wrong_version",
            f"{place.path} stands at migration {number}, this wakelog knows {known[-1].number}",
        )
    return number
