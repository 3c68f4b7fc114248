"""Connections: one that writes, behind a fair lock, and a few that read.

All calls of Python's `sqlite3` give the interpreter lock away and wait to get it back, up to 5 ms
a time while another thread computes. So what counts here is the number of calls and of rows
fetched: statements are whole transactions, and reads answer one row of JSON.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress

from wakelog.errors import StoreUnavailableError
from wakelog_adapters.sqlite.errors import reason_of
from wakelog_adapters.sqlite.url import StoreLocation

__all__ = ["OLDEST", "FairLock", "Readers", "check_file", "connect"]

OLDEST = (3, 38, 0)
"""The first SQLite that cannot be without JSON."""

_WAL_RETRY_S = 0.01
_KEPT_READERS = 8
_WRITER_CACHE_KIB = 32_768
_READER_CACHE_KIB = 4_096


class FairLock:
    """A lock whose waiters go in the order they came.

    A heartbeat must get its turn between the appends of a thread that never stops appending.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._mutex:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:
            self._leave(turn)
            raise

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False

    def _leave(self, turn: threading.Lock) -> None:
        """An interrupt came while waiting: pass on what may have been handed over already."""
        with self._mutex:
            queued = turn in self._waiting
            if queued:
                self._waiting.remove(turn)
        if not queued:
            self.__exit__()


class Readers:
    """Connections for reading, lent to one thread at a time. A few are kept, the rest closed."""

    def __init__(self, place: StoreLocation) -> None:
        self._place = place
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False

    @contextmanager
    def lend(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection that shows all that was committed before each of its statements."""
        if self._closed:
            raise StoreUnavailableError("unreachable", f"{self._place.path}: the store is closed")
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect(self._place, cache_kib=_READER_CACHE_KIB)
        try:
            yield connection
        finally:
            if self._closed or len(self._idle) >= _KEPT_READERS:
                connection.close()
            else:
                self._idle.append(connection)
                if self._closed:
                    self._close_idle()

    def close(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


def check_file(path: str) -> None:
    """Raise `StoreUnavailableError` where SQLite would fail late, or without saying why.

    The file is not opened here: closing it again would drop the locks that other connections of
    this process hold on it.
    """
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise StoreUnavailableError("not_a_database", f"{path} is a directory")
    if not os.path.isdir(folder):
        raise StoreUnavailableError("unreachable", f"{path}: there is no folder {folder}")
    for place in (path, folder):
        if os.path.exists(place) and not _may_write(place):
            raise StoreUnavailableError("read_only", f"{path}: {place} may not be written")


def _may_write(path: str) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def connect(place: StoreLocation, *, cache_kib: int = _WRITER_CACHE_KIB) -> sqlite3.Connection:
    """Open a connection: WAL, every commit on the disk before it is answered.

    Raises `StoreUnavailableError`. It may be used by any thread, one at a time.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        needed, found = ".".join(map(str, OLDEST)), sqlite3.sqlite_version
        raise StoreUnavailableError("wrong_version", f"SQLite {found} is older than {needed}")
    try:
        connection = sqlite3.connect(
            place.path, timeout=place.timeout_s, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise StoreUnavailableError(reason_of(error), f"{place.path}: {error}") from error
    try:
        _use_wal(connection, place.timeout_s)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        if place.max_mib is not None:
            page_size = connection.execute("PRAGMA page_size").fetchone()[0]
            pages = place.max_mib * 1024 * 1024 // page_size
            connection.execute(f"PRAGMA max_page_count = {pages}")
    except sqlite3.Error as error:
        connection.close()
        raise StoreUnavailableError(reason_of(error), f"{place.path}: {error}") from error
    return connection


def _use_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Set WAL mode, which a file remembers.

    While another process makes this same change SQLite answers "locked" without waiting for its
    busy timeout, so the waiting is done here.
    """
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        return
    pause = threading.Event()
    for _ in range(round(timeout_s / _WAL_RETRY_S)):
        with suppress(sqlite3.OperationalError):
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
                return
        pause.wait(_WAL_RETRY_S)
    connection.execute("PRAGMA journal_mode = WAL")
