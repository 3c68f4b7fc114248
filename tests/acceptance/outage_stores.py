"""Stores that go away for a while: a server that is stopped, a file that is locked or moved."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from tests.adapters.postgres.network_cuts import Wire, wired
from tests.support_pgbouncer import pgbouncer
from tests.support_postgres import Server, Stop, running_server, with_options
from tests.support_roles import ROLES, as_role, make_roles
from wakelog.jobs import open_store

__all__ = ["AwayFile", "AwayServer", "AwayStore", "RestartedServer", "away_server"]

STOPS: tuple[Stop, ...] = ("fast", "immediate", "kill")
CONNECTIONS = 3
"""Of the pooler to its server."""
PLAIN, POOLED = 3, 2
"""How many workers there are of each sort."""
PATIENCE_S = 60
SCHEMA = "outages"


class AwayStore(Protocol):
    """Where the processes work, and what can be done to it."""

    workers: list[str]
    """The URL of each worker."""
    clients: list[str]
    """That of the one that calls handlers, and that of the other one."""
    wire: Wire | None
    """The first of the clients, and some workers, are on it: those with the URL of the first
    worker."""
    patient: str
    """The URL of who waits for it."""
    is_of_one_machine: bool
    """Whether all processes have the same clock, by which leases are judged too."""

    def stop(self, rng: random.Random) -> str:
        """Have it answer no more; how that was done."""
        ...

    def start(self) -> None: ...


class RestartedServer:
    """PostgreSQL, which ends in several ways."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def is_running(self) -> bool:
        return self._server.is_running

    def stop(self, rng: random.Random) -> str:
        how = rng.choice(STOPS)
        self._server.stop(how)
        return how

    def start(self) -> None:
        self._server.start()


class AwayServer(RestartedServer):
    """One which some reach through a wire, and others through PgBouncer; all with least rights."""

    is_of_one_machine = False

    def __init__(self, server: Server, wire: Wire, on_wire: str, pooled: str) -> None:
        super().__init__(server)
        self.wire: Wire | None = wire
        worker, pooled_worker = as_role(on_wire, "jobs_worker"), as_role(pooled, "jobs_worker")
        self.workers = [worker] * PLAIN + [pooled_worker] * POOLED
        self.clients = [worker, as_role(pooled, "jobs_client")]
        self.owner = with_options(server.url, schema=SCHEMA)
        self.patient = with_options(self.owner, wait=PATIENCE_S)


@contextmanager
def away_server() -> Generator[AwayServer]:
    with (
        running_server(safe=True) as server,
        pgbouncer(server, connections=CONNECTIONS, roles=ROLES) as pooled,
        wired(with_options(server.url, schema=SCHEMA)) as (wire, on_wire),
    ):
        store = AwayServer(server, wire, on_wire, with_options(pooled, schema=SCHEMA))
        open_store(store.owner).close()
        make_roles(store.owner, *ROLES)
        yield store


class AwayFile:
    """SQLite: a process keeps its write lock, or it is moved away, or replaced by a copy."""

    is_of_one_machine = True

    def __init__(self, folder: Path) -> None:
        self.wire: Wire | None = None
        self._path = folder / "jobs.db"
        url = f"sqlite:///{self._path}"
        self.workers = [url] * 4
        self.clients = [url] * 2
        self.patient = f"{url}?timeout={PATIENCE_S}"
        self._lock: sqlite3.Connection | None = None

    @property
    def is_running(self) -> bool:
        return self._lock is None

    def stop(self, rng: random.Random) -> str:
        self._lock = sqlite3.connect(self._path, timeout=PATIENCE_S, isolation_level=None)
        self._lock.execute("BEGIN EXCLUSIVE")
        return "lock"

    def start(self) -> None:
        assert self._lock is not None
        self._lock.close()
        self._lock = None

    def move_away(self) -> None:
        for each in self._path.parent.glob("jobs.db*"):
            each.rename(each.parent / f"old-{each.name}")

    def put_back(self) -> None:
        for each in self._path.parent.glob("old-*"):
            each.rename(each.parent / each.name.removeprefix("old-"))

    def replace(self) -> None:
        """Put a copy in its place. What was acknowledged by then is in it."""
        self.move_away()
        with closing(sqlite3.connect(self._path.with_name("old-jobs.db"))) as connection:
            connection.execute("VACUUM INTO ?", (str(self._path),))

    def remove_the_old(self) -> None:
        for each in self._path.parent.glob("old-*"):
            each.unlink()
