"""Connections: one that writes, behind a fair lock, and a few that read.

Every call of Python's `sqlite3` releases the GIL and waits to get it back, up to 5 ms each time
while another thread computes. So the number of calls and of rows fetched decides the speed:
statements are whole transactions, and reads return one row of JSON.
"""

from __future__ import annotations

import math
import os
import sqlite3
import stat
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress

from eventsourcing import sqlite as library

from wakelog.affinity import forks
from wakelog.errors import StoreUnavailableError
from wakelog_adapters.sqlite.errors import reason_of
from wakelog_adapters.sqlite.open_file import OpenFile
from wakelog_adapters.sqlite.url import StoreLocation

__all__ = ["OLDEST", "FairLock", "LibraryPool", "Readers", "check_file", "connect"]

OLDEST = (3, 38, 0)
"""The first SQLite that always has JSON."""

_WAL_RETRY_S = 0.01
_KEPT_READERS = 8
_WAL_LIMIT = 16 << 20
"""Bytes of the `-wal` file that are kept when SQLite begins it anew: while another connection
reads for long it cannot, and the file grows."""
_WRITER_CACHE_KIB = 32_768
_READER_CACHE_KIB = 4_096


class FairLock:
    """A lock that threads get in the order in which they asked for it.

    A heartbeat must get it between the appends of a thread that never stops appending.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._locked = False
        self._waiting: deque[threading.Lock] = deque()

    @property
    def is_free(self) -> bool:
        """Whether no thread has it."""
        return not self._locked

    @property
    def waiting(self) -> int:
        """How many threads wait for it."""
        return len(self._waiting)

    def __enter__(self) -> None:
        with self._mutex:
            if not self._locked:
                self._locked = True
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
                self._locked = False

    def _leave(self, turn: threading.Lock) -> None:
        """An interrupt ended the wait: pass the lock on if this thread was given it meanwhile."""
        with self._mutex:
            queued = turn in self._waiting
            if queued:
                self._waiting.remove(turn)
        if not queued:
            self.__exit__()


class Readers:
    """Connections for reading, each for one thread at a time. A few are kept, the rest closed."""

    def __init__(self, location: StoreLocation, file: OpenFile) -> None:
        self._location = location
        self._file = file
        self._idle: deque[sqlite3.Connection] = deque()
        self._all: set[sqlite3.Connection] = set()

    @property
    def are_idle(self) -> bool:
        """Whether no thread has one of them."""
        return len(self._idle) == len(self._all)

    @contextmanager
    def lend(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection whose statements each see everything committed before them.

        Raises `StoreUnavailableError`: "moved" if the path no longer names the file,
        "unreachable" if the store is closed.
        """
        self._file.check()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._opened()
        try:
            yield connection
        finally:
            if self._file.is_closed or len(self._idle) >= _KEPT_READERS:
                self._close(connection)
            else:
                self._idle.append(connection)
                if self._file.is_closed:
                    self.close_idle()

    def _opened(self) -> sqlite3.Connection:
        connection = connect(self._location, cache_kib=_READER_CACHE_KIB)
        try:
            self._file.check()  # or it may have been opened in place of the old one
        except BaseException:
            connection.close()
            raise
        self._all.add(connection)
        return connection

    def _close(self, connection: sqlite3.Connection) -> None:
        self._all.discard(connection)
        connection.close()

    def close_idle(self) -> None:
        """Close those that nobody uses. Once the file is closed, the others follow when they are
        put back."""
        with suppress(IndexError):
            while True:
                self._close(self._idle.pop())


class LibraryPool(library.SQLiteConnectionPool):
    """The connections of the library's own reads and writes, closed when they are put back.

    The library closes those in use too. SQLite does not survive that: a thread that is in a
    statement while another one closes its connection ends the process with a segmentation fault.
    """

    def __init__(self, location: StoreLocation) -> None:
        super().__init__(db_name=location.path, lock_timeout=math.ceil(location.timeout_s))
        self._forks = forks()

    @property
    def are_idle(self) -> bool:
        """Whether no thread has one of them."""
        return not self._in_use

    def close_idle(self) -> None:
        """Close those that nobody uses, without waiting for the others."""
        with suppress(IndexError):
            while True:
                self._pool.pop().close()

    def put_connection(self, conn: library.SQLiteConnection) -> None:
        with self._put_condition:
            if self.closed:
                conn.close()
            else:
                super().put_connection(conn)

    def close(self) -> None:
        """Close the idle connections now, and the others when they are put back.

        Nothing happens in a forked process: see `inherited`.
        """
        if self._forks == forks():
            with self._put_condition:
                self._in_use.clear()
                super().close()


def check_file(path: str) -> None:
    """Raise `StoreUnavailableError` if SQLite would fail late, or without giving the reason.

    The file is not opened here: closing it again would drop the locks that other connections of
    this process have on it.
    """
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise StoreUnavailableError("not_a_database", f"{path} is a directory")
    if not os.path.isdir(folder):
        raise StoreUnavailableError("unreachable", f"{path}: there is no folder {folder}")
    for each in (path, folder):
        if os.path.exists(each) and not _is_writable(each):
            raise StoreUnavailableError("read_only", f"{path}: {each} is not writable")


def _is_writable(path: str) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def connect(location: StoreLocation, *, cache_kib: int = _WRITER_CACHE_KIB) -> sqlite3.Connection:
    """Open a connection: in WAL mode, and with every commit on the disk before it returns.

    Raises `StoreUnavailableError`. Any thread may use it, one at a time.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        oldest, version = ".".join(map(str, OLDEST)), sqlite3.sqlite_version
        raise StoreUnavailableError("wrong_version", f"SQLite {version} is older than {oldest}")
    _make_private(location.path)
    try:
        connection = sqlite3.connect(
            location.path, timeout=location.timeout_s, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise StoreUnavailableError(reason_of(error), f"{location.path}: {error}") from error
    try:
        _use_wal(connection, location.timeout_s)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        if location.max_mib is not None:
            page_size = connection.execute("PRAGMA page_size").fetchone()[0]
            pages = location.max_mib * 1024 * 1024 // page_size
            connection.execute(f"PRAGMA max_page_count = {pages}")
    except sqlite3.Error as error:
        connection.close()
        raise StoreUnavailableError(reason_of(error), f"{location.path}: {error}") from error
    return connection


def _make_private(path: str) -> None:
    """Make a new file that its owner alone can read: events may be secrets. SQLite gives the files
    beside it the same rights. It is not opened where that can be avoided: see `check_file`."""
    with suppress(OSError):  # it exists, or SQLite gives the reason
        path = os.path.realpath(path)  # a link may name a file that is not there
        if hasattr(os, "mknod"):
            os.mknod(path, stat.S_IFREG | 0o600)
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _use_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Set WAL mode, which the file keeps.

    While another process makes this same change, SQLite raises "locked" without waiting for its
    busy timeout, so the wait is here.
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
