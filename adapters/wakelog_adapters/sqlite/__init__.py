"""The SQLite store: `sqlite:///jobs.db`, for one machine and any number of its processes."""

from __future__ import annotations

from eventsourcing import sqlite as library

from wakelog_adapters.sqlite.connections import LibraryPool
from wakelog_adapters.sqlite.store import SQLiteStore
from wakelog_adapters.sqlite.url import StoreLocation, parse

__all__ = ["SQLiteFactory", "SQLiteStore", "open_store"]


def open_store(url: str) -> SQLiteFactory:
    """Open the file that `url` names, and make it if it is missing; see `url.parse` for options.

    Raises `ValidationError` for a URL that cannot be one, and `StoreUnavailableError` for a file
    that cannot be such a store.
    """
    return SQLiteFactory(parse(url))


class SQLiteFactory(library.SQLiteFactory):
    """The library's factory, with the store as its application recorder."""

    def __init__(self, location: StoreLocation) -> None:
        super().__init__(
            {
                self.SQLITE_DBNAME: location.path,
                self.ORIGINATOR_ID_TYPE: "text",
            }
        )
        pool = self.datastore.pool = LibraryPool(location)
        self._store = SQLiteStore(self.datastore, location, pool)

    def application_recorder(self) -> SQLiteStore:
        """The store: one object for the library and for the engine."""
        return self._store

    def close(self) -> None:
        self._store.close()
