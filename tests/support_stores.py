"""Another's hands on the tables of a store, whatever database they lie in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager

from tests.support_postgres import bare_connection
from wakelog_adapters.postgres.url import parse

__all__ = ["Hands", "hands_on", "writes_held"]

Hands = Callable[[str], int]
"""Executes a statement, in whose text `{at}` stands before the name of a table; how many rows it
changed."""


@contextmanager
def hands_on(url: str) -> Generator[Hands]:
    """A connection of somebody else, each statement a transaction."""
    if url.startswith("sqlite:"):
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            yield lambda sql: file.execute(sql.format(at="wakelog_")).rowcount
    else:
        at = f"{parse(url).schema}."
        with bare_connection(url) as server:
            yield lambda sql: server.execute(sql.format(at=at).encode()).rowcount


@contextmanager
def writes_held(url: str) -> Generator[None]:
    """Until the end of the block whoever has something to commit waits."""
    with hands_on(url) as do:
        if url.startswith("sqlite:"):
            do("BEGIN IMMEDIATE")
        else:
            do("BEGIN")
            do("SELECT pg_advisory_xact_lock('{at}stored_events'::regclass::oid::int, 0)")
        yield
        do("ROLLBACK")
