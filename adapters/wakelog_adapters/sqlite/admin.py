"""The care of an SQLite store: its schema, and what there is to know of its file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from wakelog.clock import Clock
from wakelog.errors import StoreUnavailableError
from wakelog_adapters.sql.findings import Finding, of_schema, ok, problem, warning
from wakelog_adapters.sql.health import Ward, examine_work
from wakelog_adapters.sql.migrations import Migration, SchemaVersion
from wakelog_adapters.sqlite import schema
from wakelog_adapters.sqlite.connections import OLDEST, check_file, connect
from wakelog_adapters.sqlite.errors import translated
from wakelog_adapters.sqlite.url import StoreLocation, parse

__all__ = ["SQLiteAdmin", "open_admin"]


def open_admin(url: str) -> SQLiteAdmin:
    """Found through the `wakelog.store_admins` entry point. Raises `ValidationError`."""
    return SQLiteAdmin(parse(url))


class SQLiteAdmin:
    """Opens the file for each question, as it is: no setting of it is changed, none is made."""

    def __init__(self, place: StoreLocation) -> None:
        self._place = place

    @property
    def migrations(self) -> Sequence[Migration]:
        return schema.migrations()

    def schema_version(self) -> SchemaVersion:
        if not os.path.exists(self._place.path):
            return SchemaVersion(self._place.path, 0, 0, self.migrations)
        with self._opened() as connection:
            return schema.schema_version(connection, self._place)

    def script(self, steps: Sequence[Migration]) -> str:
        return schema.script(self._place, steps)

    def migrate(self) -> Sequence[Migration]:
        stands = self.schema_version()
        stands.check()
        if not stands.missing:
            return ()
        check_file(self._place.path)
        connection = connect(self._place)
        try:
            with translated(self._place.path):
                return schema.migrate(connection, self._place)
        finally:
            connection.close()

    def examine(self, clock: Clock) -> Iterator[Finding]:
        check_file(self._place.path)
        with self._opened() as connection:
            yield _library()
            yield _journal(connection)
            integrity = _integrity(connection)
            yield integrity
            if integrity.level != "ok":
                return
            stands = schema.schema_version(connection, self._place)
            yield of_schema(stands)
            if stands.number and not stands.is_too_new:
                yield from examine_work(self._ward(connection, clock))

    def _ward(self, connection: sqlite3.Connection, clock: Clock) -> Ward:
        def ask(sql: str) -> Sequence[Sequence[Any]]:
            return connection.execute(sql.replace("{t}", self._place.prefix)).fetchall()

        now_us = clock.now_us()
        return Ward(ask, now_us, now_us)

    @contextmanager
    def _opened(self) -> Generator[sqlite3.Connection]:
        path = self._place.path
        if not os.path.exists(path):
            raise StoreUnavailableError("unreachable", f"there is no file {path}")
        with translated(path):
            connection = sqlite3.connect(
                f"file:{quote(path)}?mode=rw",
                uri=True,
                timeout=self._place.timeout_s,
                isolation_level=None,
            )
            try:
                yield connection
            finally:
                connection.close()


def _library() -> Finding:
    if sqlite3.sqlite_version_info < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        text = f"SQLite {sqlite3.sqlite_version} is too old"
        return problem("server", text, f"use a Python with SQLite {oldest} or newer")
    return ok("server", f"SQLite {sqlite3.sqlite_version}, in this process")


def _journal(connection: sqlite3.Connection) -> Finding:
    """How much is flushed is decided by each connection: those of a store flush every commit."""
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode == "wal":
        return ok("journal", "journal_mode is wal; the store itself sets synchronous=FULL")
    advice = "let nothing else set it; the next opening of the store makes it wal again"
    return warning("journal", f"journal_mode is {mode}, not wal", advice)


def _integrity(connection: sqlite3.Connection) -> Finding:
    """Reads the whole file."""
    try:
        said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        said = str(error)
    if said == "ok":
        return ok("integrity", "the file is sound (quick_check)")
    advice = "stop all that use the file, and restore a copy"
    return problem("integrity", f"the file is damaged: {said}", advice)
