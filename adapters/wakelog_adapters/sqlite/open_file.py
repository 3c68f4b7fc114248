"""Whether a file that a store has open is still the one that its path names.

SQLite keeps the file that it has opened. If that is removed, moved or replaced, it goes on writing
to a file that the next process to open the path does not find, and reports no error in WAL mode.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from contextlib import suppress

from wakelog.errors import StoreUnavailableError

__all__ = ["OpenFile"]

_LOG = logging.getLogger("wakelog.store")
_BESIDE = ("-wal", "-shm")
"""What SQLite keeps beside a file for as long as a connection to it is open: committed pages that
are not in the file yet, and the index of them."""

_Inode = tuple[int, int]


class OpenFile:
    """The inodes of a database file and of the files beside it, as of when they were opened."""

    def __init__(self, path: str) -> None:
        """To be made while a connection is open that has read from the file: until that is closed
        the system gives these inodes to no other file."""
        self._path = path
        self._real = os.path.realpath(path)
        self._mode = stat.S_IMODE(os.stat(path).st_mode)
        self.is_closed = False
        """Whether this process has closed it: the files beside it may go then."""
        # SQLite puts the other files beside the target of a link.
        paths = (path, *self._beside())
        self._opened = [(each, inode) for each in paths if (inode := _inode(each)) is not None]

    def close(self, connection: sqlite3.Connection) -> None:
        """This process closes it: from now on `check` raises.

        If nothing is in its place, what it contains is written there before: else all that was
        acknowledged would go with the last process that has the file open. The files that it has
        left beside its place are removed, since SQLite would take what is in them for a part of
        the file there. Never raises. A crash here leaves a file `….restored-<pid>`, or the whole
        file; never a part of it.
        """
        path, inode = self._opened[0]
        if not self.is_closed and _inode(path) != inode:
            if os.path.lexists(self._real):
                self._remove_files_beside(connection)
            else:
                self._write_back(connection)
        self.is_closed = True

    def _beside(self) -> tuple[str, ...]:
        return tuple(self._real + suffix for suffix in _BESIDE)

    def _remove_files_beside(self, connection: sqlite3.Connection) -> None:
        """Another file is in its place, or will be: nothing of this one stays beside that."""
        opened = dict(self._opened)
        with suppress(sqlite3.Error):  # then a file that was moved is whole
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        for each in self._beside():
            if each in opened and _inode(each) == opened[each]:
                with suppress(OSError):
                    os.remove(each)

    def _write_back(self, connection: sqlite3.Connection) -> None:
        copy = f"{self._real}.restored-{os.getpid()}"
        try:
            os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            os.chmod(copy, self._mode)
            connection.execute("VACUUM INTO ?", (copy,))
            _flush(copy)  # SQLite does not
            self._remove_files_beside(connection)
            with suppress(FileExistsError):  # another process was first: it has the same content
                os.link(copy, self._real)
            os.remove(copy)
            _flush(os.path.dirname(self._real))
            _LOG.warning("%s was removed while it was open: it has been written back", self._path)
        except (OSError, sqlite3.Error) as error:
            _LOG.error("%s was removed while it was open: not written back: %s", self._path, error)

    def check(self, detail: str = "") -> None:
        """Raise `StoreUnavailableError` ("moved") if one of them has been removed, moved or
        replaced; its detail ends with `detail`. Three calls of `stat`, some microseconds.

        After `close` it raises that error with "unreachable"."""
        for path, inode in self._opened:
            found = _inode(path)
            if self.is_closed:
                raise StoreUnavailableError("unreachable", f"{self._path}: the store is closed")
            if found != inode:
                what = "is no longer there" if found is None else "is another file now"
                about = "" if path == self._path else f"{self._path}: "
                text = f"{about}{path} {what}, while this process has the old one open{detail}"
                raise StoreUnavailableError("moved", text)


def _flush(path: str) -> None:
    """Have the system put a file or folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _inode(path: str) -> _Inode | None:
    """The device and inode of the file that `path` names; None if it names none, or one that
    cannot be found out. A file that was removed has no link left, so no path names it."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
