"""Access to the tables of a store behind its back, for SQLite and PostgreSQL alike."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager

from tests.support_postgres import bare_connection
from wakelog_adapters.postgres.url import parse

__all__ = ["Execute", "direct_access", "writes_blocked"]

Execute = Callable[[str], int]
"""Executes a statement, in whose text `{at}` precedes the name of a table; returns how many rows it
changed."""


@contextmanager
def direct_access(url: str) -> Generator[Execute]:
    """A connection of its own to the database, each statement a transaction."""
    if url.startswith("sqlite:"):
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            yield lambda sql: file.execute(sql.format(at="wakelog_")).rowcount
    else:
        at = f"{parse(url).schema}."
        with bare_connection(url) as server:
            yield lambda sql: server.execute(sql.format(at=at).encode()).rowcount


@contextmanager
def writes_blocked(url: str) -> Generator[None]:
    """Every commit waits until the end of the block."""
    with direct_access(url) as do:
        if url.startswith("sqlite:"):
            do("BEGIN IMMEDIATE")
        else:
            do("BEGIN")
            do("LOCK TABLE {at}ordering IN SHARE UPDATE EXCLUSIVE MODE")
        yield
        do("ROLLBACK")
