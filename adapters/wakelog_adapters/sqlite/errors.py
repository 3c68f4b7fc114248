"""What SQLite's error codes mean to the engine."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from wakelog.errors import StoreReason, StoreUnavailableError

__all__ = ["REFUSALS", "reason_of", "translated"]

_REASONS: dict[int, StoreReason] = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_PROTOCOL: "locked",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_NOTADB: "not_a_database",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_ERROR: "damaged",  # our own tables or columns are missing
    sqlite3.SQLITE_SCHEMA: "damaged",
    sqlite3.SQLITE_TOOBIG: "refused",
    sqlite3.SQLITE_CONSTRAINT: "refused",
    sqlite3.SQLITE_MISMATCH: "refused",
}

REFUSALS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    ValueError,
    TypeError,
)
"""Errors that concern one of the values. All others concern the whole transaction."""


def reason_of(error: BaseException) -> StoreReason:
    """The reason for `error`. Without a code, or for an error of the disk: unreachable."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None and "UTF-8" in str(error):  # raised by Python, not by SQLite
        return "damaged"
    return "unreachable" if code is None else _REASONS.get(code & 0xFF, "unreachable")


@contextmanager
def translated(path: str) -> Generator[None, None, None]:
    """Raise `StoreUnavailableError` in place of any error of SQLite's."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailableError(reason_of(error), f"{path}: {error}") from error
