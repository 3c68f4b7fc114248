"""The PostgreSQL store: `postgresql://user@host/database`, for any number of machines."""

from __future__ import annotations

from eventsourcing import persistence
from eventsourcing import postgres as library
from eventsourcing.utils import Environment

from wakelog_adapters.postgres.connections import Datastore
from wakelog_adapters.postgres.store import PostgresStore
from wakelog_adapters.postgres.url import StoreLocation, parse

__all__ = ["PostgresFactory", "PostgresStore", "open_store"]


def open_store(url: str) -> PostgresFactory:
    """Open the schema that `url` names, and make it if it is missing; see `url.parse` for options.

    Raises `ValidationError` for a URL that cannot be one, and `StoreUnavailableError` for a
    database that cannot be reached or cannot be such a store.
    """
    return PostgresFactory(parse(url))


class PostgresFactory(library.PostgresFactory):
    """The library's factory, with the store as its application recorder.

    Other recorders that it makes have tables of their own in the store's schema, named `library_…`.
    """

    datastore: Datastore

    def __init__(self, location: StoreLocation) -> None:
        # Not the library's __init__: it takes its settings from an environment, we have a URL.
        super(library.BasePostgresFactory, self).__init__(Environment("library"))
        self.datastore = Datastore(location)
        self._store = PostgresStore(self.datastore, location)

    def application_recorder(self) -> PostgresStore:
        """The store: one object for the library and for the engine."""
        return self._store

    def aggregate_recorder(self, purpose: str = "events") -> persistence.AggregateRecorder:
        self.datastore.has_composite_types = True
        return super().aggregate_recorder(purpose)

    def process_recorder(self) -> persistence.ProcessRecorder:
        self.datastore.has_composite_types = True
        return super().process_recorder()

    def judge_leases_by_given_time(self) -> None:
        """For simulations: the server's clock does not show virtual time. As `clock=given`."""
        self._store.datastore.server_clock = False

    def close(self) -> None:
        self._store.close()
