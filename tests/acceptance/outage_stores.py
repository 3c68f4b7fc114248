"""Stores that go away for a while: a server that is stopped, a file that is locked or moved."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from tests.support_pgbouncer import pgbouncer
from tests.support_postgres import Server, Stop, running_server, with_options

__all__ = ["AwayFile", "AwayServer", "AwayStore", "away_server"]

STOPS: tuple[Stop, ...] = ("fast", "immediate", "kill")
CONNECTIONS = 3
"""Of the pooler to its server."""
PLAIN, POOLED = 3, 2
"""How many workers there are of each sort."""
PATIENCE_S = 60


class AwayStore(Protocol):
    """Where the processes work, and what can be done to it."""

    workers: list[str]
    """The URL of each worker."""
    clients: list[str]
    patient: str
    """The URL of who waits for it."""
    is_of_one_machine: bool
    """Whether all processes have the same clock, by which leases are judged too."""

    def stop(self, rng: random.Random) -> str:
        """Have it answer no more; how that was done."""
        ...

    def start(self) -> None: ...


class AwayServer:
    """PostgreSQL, which some reach through PgBouncer."""

    is_of_one_machine = False

    def __init__(self, server: Server, pooled: str) -> None:
        plain, pooled = (with_options(url, schema="outages") for url in (server.url, pooled))
        self._server = server
        self.workers = [plain] * PLAIN + [pooled] * POOLED
        self.clients = [plain, pooled]
        self.patient = with_options(plain, wait=PATIENCE_S)

    def stop(self, rng: random.Random) -> str:
        how = rng.choice(STOPS)
        self._server.stop(how)
        return how

    def start(self) -> None:
        self._server.start()


@contextmanager
def away_server() -> Generator[AwayServer]:
    with (
        running_server(safe=True) as server,
        pgbouncer(server, connections=CONNECTIONS) as pooled,
    ):
        yield AwayServer(server, pooled)


class AwayFile:
    """SQLite: a process keeps its write lock, or it is moved away, or replaced by a copy."""

    is_of_one_machine = True

    def __init__(self, folder: Path) -> None:
        self._path = folder / "jobs.db"
        url = f"sqlite:///{self._path}"
        self.workers = [url] * 4
        self.clients = [url] * 2
        self.patient = f"{url}?timeout={PATIENCE_S}"
        self._lock: sqlite3.Connection | None = None

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
