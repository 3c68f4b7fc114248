"""The admin of an SQLite store: its schema, and checks of its file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote

from wakelog.clock import Clock
from wakelog.errors import StoreUnavailableError
from wakelog_adapters.sql.admin import SqlStoreAdmin
from wakelog_adapters.sql.findings import Finding, ok, problem, warning
from wakelog_adapters.sql.migrations import SchemaVersion
from wakelog_adapters.sqlite.connections import OLDEST, check_file, connect
from wakelog_adapters.sqlite.errors import translated
from wakelog_adapters.sqlite.schema import SQLiteSchema
from wakelog_adapters.sqlite.url import StoreLocation, parse

__all__ = ["SQLiteAdmin", "open_admin"]


def open_admin(url: str) -> SQLiteAdmin:
    """Found through the `wakelog.store_admins` entry point. Raises `ValidationError`."""
    return SQLiteAdmin(parse(url))


class SQLiteAdmin(SqlStoreAdmin[sqlite3.Connection]):
    """Only `migrate` makes the file, or changes a setting of it."""

    def __init__(self, location: StoreLocation) -> None:
        super().__init__(SQLiteSchema(location))
        self._location = location

    def schema_version(self) -> SchemaVersion:
        if not os.path.exists(self._location.path):
            return SchemaVersion(self._location.path, 0, 0, self.migrations)
        return super().schema_version()

    def check_health(self, clock: Clock) -> Iterator[Finding]:
        check_file(self._location.path)
        return super().check_health(clock)

    def check_database(
        self, connection: sqlite3.Connection, clock: Clock
    ) -> Generator[Finding, None, bool]:
        yield _library()
        yield _journal(connection)
        integrity = _integrity(connection)
        yield integrity
        return integrity.level == "ok"

    @contextmanager
    def connected(self, *, to_migrate: bool = False) -> Generator[sqlite3.Connection]:
        path = self._location.path
        if to_migrate:
            check_file(path)
            connection = connect(self._location)
        else:
            connection = self._connect_unchanged()
        with closing(connection), translated(path):
            yield connection

    def _connect_unchanged(self) -> sqlite3.Connection:
        """Open the file as it is: it is not made, and none of its settings is changed."""
        path = self._location.path
        if not os.path.exists(path):
            raise StoreUnavailableError("unreachable", f"there is no file {path}")
        with translated(path):
            return sqlite3.connect(
                f"file:{quote(path)}?mode=rw",
                uri=True,
                timeout=self._location.timeout_s,
                isolation_level=None,
            )


def _library() -> Finding:
    if sqlite3.sqlite_version_info < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        text = f"SQLite {sqlite3.sqlite_version} is too old"
        return problem("server", text, f"use a Python with SQLite {oldest} or newer")
    return ok("server", f"SQLite {sqlite3.sqlite_version}, in this process")


def _journal(connection: sqlite3.Connection) -> Finding:
    """Each connection decides how much it flushes: those of a store flush every commit."""
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode == "wal":
        return ok("journal", "journal_mode is wal; the store itself sets synchronous=FULL")
    advice = "let nothing else set it; the next opening of the store makes it wal again"
    return warning("journal", f"journal_mode is {mode}, not wal", advice)


def _integrity(connection: sqlite3.Connection) -> Finding:
    """Reads the whole file."""
    try:
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        result = str(error)
    if result == "ok":
        return ok("integrity", "the file is sound (quick_check)")
    advice = "stop all processes that use the file, and restore a copy"
    return problem("integrity", f"the file is damaged: {result}", advice)
