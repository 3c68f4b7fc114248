"""Connections that a forked process has inherited, which must go before it opens the file itself.

SQLite counts its locks on a file for the whole process, and not again for each connection: beside
an inherited connection a new one would rely on locks that only the other process has, and the file
of committed pages could be removed under it. An idle connection may be closed here: SQLite finds
the file locked by the other process, and leaves everything as it is. One that another thread was
using at the fork must stay as it is: to close it would undo what the other process is writing.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

from wakelog.affinity import forks
from wakelog.errors import InvalidStateError
from wakelog_adapters.sqlite.url import StoreLocation

__all__ = ["HasConnections", "drop_inherited", "register"]


class HasConnections(Protocol):
    """A store that has a file open."""

    location: StoreLocation
    forks: int
    """`forks()` when it was opened."""

    def drop_connections(self) -> bool:
        """Close the connections that are idle; whether all were."""
        ...


_stores: WeakSet[HasConnections] = WeakSet()


def register(store: HasConnections) -> None:
    """It has opened its file."""
    _stores.add(store)


def drop_inherited(path: str) -> None:
    """Close what this process has inherited, before it opens `path`.

    Raises `InvalidStateError` if that is not possible: the file cannot be opened here.
    """
    real = os.path.realpath(path)
    for store in [each for each in _stores if each.forks != forks()]:
        if store.drop_connections():
            _stores.discard(store)
        elif os.path.realpath(store.location.path) == real:
            raise InvalidStateError(
                f"this process was forked while another thread was using {path}, and cannot open "
                f"it: fork before the app is opened, or start the process by 'spawn'"
            )
