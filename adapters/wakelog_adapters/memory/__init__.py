"""The memory store: `memory://`, gone with the process; `memory://name`, shared inside it.

A forked process begins with empty stores: a copy of the other's would differ from it from then on.
"""

from __future__ import annotations

from eventsourcing import popo

from wakelog.affinity import forks
from wakelog.errors import Issue, ValidationError
from wakelog_adapters.memory.store import MemoryStore

__all__ = ["MemoryFactory", "MemoryStore", "open_store"]

_shared: dict[tuple[int, str], MemoryStore] = {}
"""By `forks` and name. Not locked: a thread that is not there after a fork could have the lock."""


def open_store(url: str) -> MemoryFactory:
    """`memory://`: a fresh store. `memory://name`: the same store each time that name is opened.

    A named store stays until the process ends, so that a test can close an app and open it
    again. Raises `ValidationError` for a URL with options: there are none.
    """
    name = url.partition("memory://")[2]
    if "?" in name:
        message = "a store in memory has no options"
        issue: Issue = {"loc": "", "msg": message, "type": "url"}
        raise ValidationError("store URL 'memory://***'", [issue])
    if not name:
        return MemoryFactory(MemoryStore())
    return MemoryFactory(_shared.setdefault((forks(), name), MemoryStore(is_shared=True)))


class MemoryFactory(popo.POPOFactory):
    """The library's factory, whose application recorder is the store."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__({})
        self._store = store

    def application_recorder(self) -> MemoryStore:
        """The store: one object for the library and for the engine."""
        return self._store
