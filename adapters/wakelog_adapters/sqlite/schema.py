"""The schema of an SQLite store: tables with the prefix of its URL, in a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from wakelog_adapters.sql.migrations import Migration, read
from wakelog_adapters.sql.schema import SqlSchema
from wakelog_adapters.sqlite.url import StoreLocation

__all__ = ["SQLiteSchema", "migrations"]

_TABLE = """CREATE TABLE IF NOT EXISTS {t}migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TEXT NOT NULL,
    compatible_since INTEGER
)"""


def migrations() -> Sequence[Migration]:
    """All known migrations, in order."""
    return read("wakelog_adapters.sqlite")


class SQLiteSchema(SqlSchema[sqlite3.Connection]):
    """The lock of a migration is the file's write lock. A script is for `sqlite3 -bail`, which
    stops at an error, or any other tool that does."""

    placeholder = "{prefix}"
    begin_sql = ("BEGIN IMMEDIATE",)
    create_sql = (_TABLE,)
    has_table_sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{t}migrations'"
    now_sql = "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')"

    def __init__(self, location: StoreLocation, known: Sequence[Migration] | None = None) -> None:
        """`known`: the package's own migrations, unless given."""
        super().__init__(
            location.path,
            location.prefix,
            location.prefix,
            known or migrations(),
            may_migrate=location.migrate,
        )

    def rows(self, connection: sqlite3.Connection, sql: str) -> Sequence[Sequence[Any]]:
        return connection.execute(self.filled_in(sql)).fetchall()

    def execute(self, connection: sqlite3.Connection, sql: str) -> None:
        connection.execute(self.filled_in(sql))

    @contextmanager
    def transaction(self, connection: sqlite3.Connection) -> Generator[None]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def statements(self, sql: str) -> Sequence[str]:
        """A statement ends at the end of a line that ends with a semicolon."""
        code = "\n".join(line for line in sql.splitlines() if not line.startswith("--")) + "\n"
        return [part for part in (each.strip() for each in code.split(";\n")) if part]
