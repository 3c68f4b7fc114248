"""Where a benchmark runs: a fresh store for each round, its settings, and its floor."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.bench import sqlite_floor
from wakelog_adapters.sqlite.connections import connect
from wakelog_adapters.sqlite.url import parse

__all__ = ["STORES", "Mark", "MemoryStorage", "SQLiteStorage", "Storage"]


class Mark(NamedTuple):
    """How a store stood when the clock started."""

    copy: Path
    position: int


class Storage(Protocol):
    """A kind of store to measure on."""

    @property
    def name(self) -> str:
        """As in `--stores`."""
        ...

    def fresh(self) -> str:
        """The URL of a new, empty store."""
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


class MemoryStorage:
    """Dictionaries. Nothing is written anywhere, so there is no floor."""

    name = "memory"

    def __init__(self, folder: Path) -> None:
        """The folder stays empty."""

    def fresh(self) -> str:
        return "memory://"

    def settings(self) -> str:
        return "nothing is kept"

    def mark(self, url: str) -> Mark | None:
        return None

    def floor(self, url: str, mark: Mark | None, mean_batch: float) -> float | None:
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
        connection = connect(parse(self.fresh()))
        try:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            level = connection.execute("PRAGMA synchronous").fetchone()[0]
        finally:
            connection.close()
        if (mode, level) != ("wal", 2):
            raise RuntimeError(f"not durable: journal_mode={mode}, synchronous={level}")
        return "journal_mode=WAL, synchronous=FULL"

    def mark(self, url: str) -> Mark | None:
        copy = self.folder / f"{next(self._numbers)}.floor.db"
        return Mark(copy, sqlite_floor.copy(parse(url), copy))

    def floor(self, url: str, mark: Mark | None, mean_batch: float) -> float | None:
        if mark is None:
            return None
        units = sqlite_floor.recorded(parse(url), mark.position)
        return sqlite_floor.rate(parse(f"sqlite:///{mark.copy}"), units, max(1, round(mean_batch)))


STORES: dict[str, type[MemoryStorage] | type[SQLiteStorage]] = {
    "memory": MemoryStorage,
    "sqlite": SQLiteStorage,
}
