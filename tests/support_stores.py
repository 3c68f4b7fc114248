"""Another's hands on the tables of a store, whatever database they lie in."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager

import psycopg

from tests.support_postgres import bare_connection
from wakelog_adapters.postgres.url import parse

__all__ = ["hands_on", "writes_held"]


@contextmanager
def hands_on(url: str) -> Generator[tuple[sqlite3.Connection | psycopg.Connection, str]]:
    """A connection, each statement a transaction, and what stands before the names of tables."""
    if url.startswith("sqlite:"):
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            yield connection, "wakelog_"
    else:
        with bare_connection(url) as server:
            yield server, f"{parse(url).schema}."


@contextmanager
def writes_held(url: str) -> Generator[None]:
    """Until the end of the block whoever has something to commit waits."""
    with hands_on(url) as (connection, at):
        if isinstance(connection, sqlite3.Connection):
            connection.execute("BEGIN IMMEDIATE")
        else:
            connection.execute("BEGIN")
            log = f"'{at}stored_events'::regclass::oid::int"
            connection.execute(f"SELECT pg_advisory_xact_lock({log}, 0)".encode())
        yield
        connection.execute("ROLLBACK")
