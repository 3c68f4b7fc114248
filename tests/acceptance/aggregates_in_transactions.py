"""An application of the eventsourcing library that saves and sends in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder
from eventsourcing.sqlite import SQLiteApplicationRecorder
from psycopg.conninfo import conninfo_to_dict

from wakelog_adapters.postgres.url import parse

__all__ = ["Parcel", "parcels_beside"]

Send = Callable[[Any], object]


class SQLiteSender(SQLiteApplicationRecorder):
    def _insert_events(self, c: Any, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Any:
        ids = super()._insert_events(c, stored_events)
        send: Send | None = kwargs.get("send")
        if send is not None:
            send(c.sqlite_cursor.connection)
        return ids


class PostgresSender(PostgresApplicationRecorder):
    def _insert_events(self, curs: Any, stored_events: Sequence[StoredEvent], **_: Any) -> None:
        super()._insert_events(curs, stored_events)
        send: Send | None = _.get("send")
        if send is not None:
            send(curs.connection)


class Parcel(Aggregate):
    @event("Registered")
    def __init__(self, number: str) -> None:
        self.number = number


def parcels_beside(url: str) -> Application[Any]:
    """An application in the database of a store."""
    if url.startswith("sqlite:"):
        env = {
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": url.removeprefix("sqlite:///"),
            "APPLICATION_RECORDER_TOPIC": f"{__name__}:SQLiteSender",
        }
    else:
        server = conninfo_to_dict(parse(url).conninfo)
        env = {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": str(server["dbname"]),
            "POSTGRES_HOST": str(server["host"]),
            "POSTGRES_PORT": str(server.get("port", "5432")),
            "POSTGRES_USER": str(server["user"]),
            "POSTGRES_PASSWORD": str(server.get("password", "none")),
            "POSTGRES_SCHEMA": parse(url).schema,
            "APPLICATION_RECORDER_TOPIC": f"{__name__}:PostgresSender",
        }
    return Application(env={**env, "PERSISTENCE_NAME": "parcels"})
