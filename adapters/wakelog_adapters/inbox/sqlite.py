"""Rows put into the inbox of an SQLite file by a connection of a caller."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import astuple

from wakelog.errors import InboxConnectionError
from wakelog.ports.inbox import InboxEntry, InboxRow
from wakelog_adapters.inbox.callers import Caller, Statement, Statements, run
from wakelog_adapters.inbox.table import InboxWrites
from wakelog_adapters.sql.rows import readable
from wakelog_adapters.sqlite.errors import translated
from wakelog_adapters.sqlite.pools import SQLitePools

__all__ = ["SQLiteInbox"]

_ROWS = msgspec.json.Decoder(list[tuple[int, str, str, str, str, int, int, str | None, int]])
_LEGACY = -1
"""What `sqlite3.Connection.autocommit` is unless it is given (Python 3.12)."""


class SQLiteInbox(InboxWrites, SQLitePools):
    """The inbox of a file. Raises `StoreUnavailableError`."""

    def inbox_put(
        self, connection: object, entries: Sequence[InboxEntry]
    ) -> Coroutine[Any, Any, None] | None:
        rows = msgspec.json.encode([astuple(entry) for entry in entries]).decode()
        statement = Statement(self.queries.inbox_put, (rows,))
        return run(connection, lambda caller: self._put(caller, statement))

    def _put(self, caller: Caller, statement: Statement) -> Statements:
        try:
            yield from self._checked(caller, statement)
        except sqlite3.ProgrammingError as error:  # closed, or of another thread
            raise InboxConnectionError(str(error), "give one that this thread may use") from error
        except sqlite3.Error:
            with translated(self.location.path):
                raise
        except ValueError as error:
            if isinstance(error, InboxConnectionError) or "active connection" not in str(error):
                raise
            raise InboxConnectionError(
                "it is closed", "give one that is open, in its transaction"
            ) from error

    def _checked(self, caller: Caller, statement: Statement) -> Statements:
        if caller.driver not in ("sqlite3", "aiosqlite"):
            raise InboxConnectionError(
                f"the jobs are in an SQLite file, and it is a connection of {caller.driver}",
                "give one to that file",
            )
        rows = yield Statement("PRAGMA database_list")
        file = next((os.fsdecode(path) for _, name, path in rows if _text(name) == "main"), "")
        if not self._is_same(file):
            raise InboxConnectionError(
                f"it is to {file or 'a database in memory'}, and the jobs are in "
                f"{self.location.path}",
                "give one whose main database is that file: SQLite commits over two files, "
                "one of them attached, are not safe from a crash",
            )
        if _commits_by_itself(caller.raw):
            raise InboxConnectionError(
                "it is in autocommit mode, without a transaction",
                "begin one, or leave connection= out",
            )
        yield statement

    def _is_same(self, file: str) -> bool:
        with suppress(OSError):
            return bool(file) and os.path.samefile(file, self.location.path)
        return False

    @readable
    def inbox_rows(self, jobs: Sequence[str], now_us: int, limit: int) -> Sequence[InboxRow]:
        names = msgspec.json.encode(list(jobs)).decode()
        return _rows(self._row(self.queries.inbox_rows, names, now_us, limit)[0])

    @readable
    def inbox_list(self, after: int, limit: int) -> Sequence[InboxRow]:
        return _rows(self._row(self.queries.inbox_list, after, limit)[0])


def _rows(found: str) -> list[InboxRow]:
    return [InboxRow(*row[:-1], bool(row[-1])) for row in _ROWS.decode(found)]


def _text(name: str | bytes) -> str:
    """A caller's connection may answer bytes for texts."""
    return os.fsdecode(name)


def _commits_by_itself(raw: Any) -> bool:
    """Whether a statement on it would be a transaction by itself."""
    if raw.in_transaction:
        return False
    mode = getattr(raw, "autocommit", _LEGACY)
    return mode is True or (mode == _LEGACY and raw.isolation_level is None)
