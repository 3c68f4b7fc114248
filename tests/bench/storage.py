"""Where a benchmark runs: a fresh store for each round, its settings, and its floor."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psutil  # type: ignore[import-untyped]

from tests.bench import postgres_floor, sqlite_floor
from tests.support_postgres import a_server, bare_connection, with_options
from wakelog_adapters.postgres import url as postgres_url
from wakelog_adapters.sqlite import url as sqlite_url
from wakelog_adapters.sqlite.connections import connect

__all__ = [
    "STORES",
    "Appends",
    "Mark",
    "MemoryStorage",
    "PostgresStorage",
    "SQLiteStorage",
    "Storage",
    "storage",
]

STORES = ("memory", "sqlite", "postgres")


class Mark(NamedTuple):
    """How a store stood when the clock started."""

    copy: str
    """The URL of a copy of it."""
    position: int


class Appends(NamedTuple):
    """Appends by a bare loop."""

    commits: int
    took_s: float


class Storage(Protocol):
    """A kind of store to measure on."""

    @property
    def name(self) -> str:
        """As in `--stores`."""
        ...

    def fresh(self) -> str:
        """The URL of a new, empty store. The ones before are not used any more."""
        ...

    def settings(self) -> str:
        """The settings that decide how durable it is, as found on an open connection."""
        ...

    def mark(self, url: str) -> Mark | None:
        """Remember how the store stands: the floor begins where the engine began."""
        ...

    def floor(self, url: str, mark: Mark | None, mean_batch: float) -> float | None:
        """Units a second of a bare loop that writes what the engine has written since `mark`."""
        ...

    def bare_appends(self, url: str, mark: Mark | None) -> Appends | None:
        """What a bare loop needs for the events that the engine has appended since `mark`, in as
        many commits: it writes nothing beside them."""
        ...

    def old_snapshot(self, url: str) -> AbstractContextManager[None] | None:
        """A transaction that has read, and stays open: what it has seen cannot be cleaned away.
        None if the store has no such thing."""
        ...

    def processor_s(self) -> float | None:
        """The processor time that the database has used so far in processes of its own; None if it
        has none on this machine."""
        ...


@contextmanager
def storage(name: str, folder: Path) -> Iterator[Storage]:
    """One of `STORES`, with files in `folder`; a server is brought, and ended."""
    if name == "memory":
        yield MemoryStorage()
    elif name == "sqlite":
        yield SQLiteStorage(folder)
    else:
        with a_server(safe=True, folder=folder) as server, closing(PostgresStorage(server)) as it:
            yield it


class MemoryStorage:
    """Dictionaries. Nothing is written anywhere, so there is no floor."""

    name = "memory"

    def fresh(self) -> str:
        return "memory://"

    def settings(self) -> str:
        return "nothing is kept"

    def mark(self, url: str) -> Mark | None:
        return None

    def floor(self, url: str, mark: Mark | None, mean_batch: float) -> float | None:
        return None

    def bare_appends(self, url: str, mark: Mark | None) -> Appends | None:
        return None

    def old_snapshot(self, url: str) -> AbstractContextManager[None] | None:
        return None

    def processor_s(self) -> float | None:
        return None


@dataclass
class SQLiteStorage:
    """A file a round, in `folder`."""

    folder: Path
    name = "sqlite"

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)

    def fresh(self) -> str:
        return f"sqlite:///{self.folder}/{next(self._numbers)}.db"

    def settings(self) -> str:
        """Asked of a connection made as the engine makes its own.

        Raises `RuntimeError` for settings under which an acknowledged commit could be lost.
        """
        with closing(connect(sqlite_url.parse(self.fresh()))) as connection:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            level = connection.execute("PRAGMA synchronous").fetchone()[0]
        if (mode, level) != ("wal", 2):
            raise RuntimeError(f"not durable: journal_mode={mode}, synchronous={level}")
        return "journal_mode=WAL, synchronous=FULL"

    def mark(self, url: str) -> Mark | None:
        copy = self.folder / f"{next(self._numbers)}.floor.db"
        return Mark(f"sqlite:///{copy}", sqlite_floor.copy(sqlite_url.parse(url), copy))

    def floor(self, url: str, mark: Mark | None, mean_batch: float) -> float | None:
        if mark is None:
            return None
        units = sqlite_floor.recorded(sqlite_url.parse(url), mark.position)
        return sqlite_floor.rate(sqlite_url.parse(mark.copy), units, max(1, round(mean_batch)))

    def bare_appends(self, url: str, mark: Mark | None) -> Appends | None:
        if mark is None:
            return None
        appended = sqlite_floor.appended(sqlite_url.parse(url), mark.position)
        took_s = sqlite_floor.append_s(sqlite_url.parse(mark.copy), appended)
        return Appends(len(appended), took_s)

    @contextmanager
    def old_snapshot(self, url: str) -> Iterator[None]:
        place = sqlite_url.parse(url)
        with closing(connect(place)) as connection:
            connection.execute("BEGIN")
            connection.execute(f"SELECT count(*) FROM {place.prefix}status").fetchone()
            yield
            connection.execute("ROLLBACK")

    def processor_s(self) -> float | None:
        return None


@dataclass
class PostgresStorage:
    """A schema a round, on one server. The schemas of the round before go with the next."""

    server: str
    name = "postgres"

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._schemas: list[str] = []

    def fresh(self) -> str:
        self.close()
        return self._new()

    def _new(self) -> str:
        self._schemas.append(f"bench_{os.getpid()}_{next(self._numbers)}")
        return with_options(self.server, schema=self._schemas[-1])

    def settings(self) -> str:
        """Asked of a connection to the server.

        Raises `RuntimeError` for settings under which an acknowledged commit could be lost.
        """
        names = ("fsync", "synchronous_commit", "full_page_writes", "server_version")
        with bare_connection(self.server) as connection:
            said = {
                name: str(connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0])  # type: ignore[index]
                for name in names
            }
        version = said.pop("server_version")
        shown = ", ".join(f"{name}={value}" for name, value in said.items())
        if set(said.values()) != {"on"}:
            raise RuntimeError(f"not durable: {shown}")
        return f"{shown} (PostgreSQL {version})"

    def mark(self, url: str) -> Mark | None:
        copy = self._new()
        schema = postgres_url.parse(copy).schema
        return Mark(copy, postgres_floor.copy(postgres_url.parse(url), schema))

    def floor(self, url: str, mark: Mark | None, mean_batch: float) -> float | None:
        if mark is None:
            return None
        units = postgres_floor.recorded(postgres_url.parse(url), mark.position)
        return postgres_floor.rate(postgres_url.parse(mark.copy), units, max(1, round(mean_batch)))

    def bare_appends(self, url: str, mark: Mark | None) -> Appends | None:
        if mark is None:
            return None
        appended = postgres_floor.appended(postgres_url.parse(url), mark.position)
        took_s = postgres_floor.append_s(postgres_url.parse(mark.copy), appended)
        return Appends(len(appended), took_s)

    @contextmanager
    def old_snapshot(self, url: str) -> Iterator[None]:
        with bare_connection(url) as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT count(*) FROM pg_class")
            yield
            connection.execute("ROLLBACK")

    def processor_s(self) -> float | None:
        """Of all processes of the server, also of those that have ended."""
        with bare_connection(self.server) as connection:
            if connection.info.host and not connection.info.host.startswith("/"):
                return None  # perhaps another machine's
            backend = psutil.Process(connection.info.backend_pid)
            server = backend.parent()
            if server is None:
                return None
            used = [times for each in server.children() if (times := _times(each)) is not None]
            first = server.cpu_times()  # at last: with those that have ended meanwhile
        ended_s = float(first.children_user + first.children_system)
        return ended_s + sum(float(each.user + each.system) for each in (first, *used))

    def close(self) -> None:
        """Leave nothing on the server."""
        with bare_connection(self.server) as connection:
            while self._schemas:
                schema = self._schemas.pop()
                connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())


def _times(process: psutil.Process) -> Any:
    """Its processor times; None if it has ended."""
    try:
        return process.cpu_times()
    except psutil.NoSuchProcess:
        return None
