"""Whether a file that a store has open is still the one that its path names.

SQLite keeps the file that it has opened. If that is removed, moved or replaced, it goes on writing
to a file that the next process to open the path does not find, and reports no error in WAL mode.
"""

from __future__ import annotations

import os

from wakelog.errors import StoreUnavailableError

__all__ = ["OpenFile"]

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
        real = os.path.realpath(path)  # SQLite puts the other files beside the target of a link
        paths = (path, *(real + suffix for suffix in _BESIDE))
        self._opened = [(each, inode) for each in paths if (inode := _inode(each)) is not None]

    def check(self, detail: str = "") -> None:
        """Raise `StoreUnavailableError` ("moved") if one of them has been removed, moved or
        replaced; its detail ends with `detail`. Three calls of `stat`, some microseconds."""
        for path, inode in self._opened:
            found = _inode(path)
            if found != inode:
                what = "is no longer there" if found is None else "is another file now"
                about = "" if path == self._path else f"{self._path}: "
                text = f"{about}{path} {what}, while this process has the old one open{detail}"
                raise StoreUnavailableError("moved", text)


def _inode(path: str) -> _Inode | None:
    """The device and inode of the file that `path` names; None if it names none, or one that
    cannot be found out. A file that was removed has no link left, so no path names it."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
