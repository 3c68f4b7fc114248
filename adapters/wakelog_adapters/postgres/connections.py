"""Connections: a pool of them, shared by all threads of the process.

A session holds nothing but prepared statements (which a pooler does not allow): a transaction that
needs a setting makes it for itself. A connection that breaks is replaced in the background; the
call that found it broken decides what that means.

Nobody who is in a transaction waits for another connection. A pooler has fewer of them than there
are workers: if each had one and waited for a second, all would wait for ever.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, get_args

import psycopg
import psycopg_pool
import stamina
from eventsourcing import postgres as library
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row, tuple_row

from wakelog.affinity import forks
from wakelog.errors import StoreUnavailableError
from wakelog.threads import START_ERRORS, log_failure, no_thread_for
from wakelog_adapters.postgres.errors import reason_of, server_message, translated
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["Connection", "Datastore", "connect", "is_pooled", "rows_of"]

_LOG = logging.getLogger("wakelog.postgres")
Connection = psycopg.Connection[DictRow]
CounterName = Literal["store_waits", "store_retries", "store_lost_answers"]
"""Calls that found no connection and waited; that were sent again; whose answer was lost."""

R = TypeVar("R")

_RECONNECT_S = 3.0
"""How long one attempt to replace a connection lasts; the next call begins another."""
_AT_ONCE_S = 0.001
"""How long to wait for a connection that was ready but that another thread may take first; for the
pool 0 means no attempt."""
_CLOSE_S = 5.0
_PAUSE_S = 0.1
_MAX_PAUSE_S = 2.0
_IN_TRANSACTION = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
_DEFAULTS = {
    "application_name": "wakelog",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A server that has disappeared is noticed within half a minute, not after two hours."""


def _arguments(location: StoreLocation) -> dict[str, Any]:
    """The arguments for psycopg beside the URL, which takes precedence."""
    given = conninfo_to_dict(location.conninfo)
    defaults = {**_DEFAULTS, "connect_timeout": max(2, round(location.timeout_s))}
    return {
        **{name: value for name, value in defaults.items() if name not in given},
        "client_encoding": "utf8",
        "autocommit": True,
        "row_factory": dict_row,
        "prepare_threshold": 2 if location.pooled is False else None,
    }


def connect(location: StoreLocation) -> Connection:
    """A connection outside the pool, at once. Raises `StoreUnavailableError`, with the reason."""
    try:
        return Connection.connect(location.conninfo, **_arguments(location))
    except (psycopg.Error, OSError) as error:  # OSError: out of file descriptors
        raise StoreUnavailableError(
            reason_of(error), f"{location.label}: {server_message(error)}"
        ) from error


def is_pooled(connection: Connection) -> bool:
    """Whether there is a pooler: it answers for the server, and so the process id that it gave when
    connecting is not that of the session."""
    [(pid,)] = rows_of(connection, b"SELECT pg_backend_pid()")
    return bool(pid != connection.info.backend_pid)


class _LentHere(threading.local):
    """The connections that a thread has."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []


class Datastore(library.PostgresDatastore):
    """The library's datastore on our pool. To be opened before it is used."""

    def __init__(self, location: StoreLocation) -> None:
        super().__init__(
            *("", "", "", "", ""), schema=location.schema, originator_id_type="text"
        )  # its pool, which is never opened, is replaced by one that takes the whole URL
        self.server_clock = location.server_clock
        """Whether the server's clock judges leases; see `url.StoreLocation`."""
        self.has_composite_types = False
        """Whether recorders of the library's own share this datastore."""
        self._location = location
        self._forks = forks()
        self._closed = False
        self._lock = threading.Lock()
        self._lent = 0
        self._lent_here = _LentHere()
        self._outside_pool: set[Connection] = set()
        self._configure: Callable[[Connection], None] | None = None
        self._counters: Counter[CounterName] = Counter(dict.fromkeys(get_args(CounterName), 0))

    def open(self, location: StoreLocation) -> None:
        """Begin to connect. By now `location.pooled` is known. Raises `ThreadsExhaustedError`."""
        self._location = location
        self._configure = None if location.pooled else _configure(location)
        self.pool = library.ConnectionPool(
            location.conninfo,
            connection_class=Connection,
            kwargs=_arguments(location),
            min_size=1,
            max_size=location.pool,
            open=False,
            configure=self._configure,
            name=location.label,
            timeout=location.timeout_s,
            reconnect_timeout=_RECONNECT_S,
        )
        try:
            self.pool.open()
        except START_ERRORS as error:
            self.pool.close(_CLOSE_S)
            raise no_thread_for("the pool of connections", error) from error

    @contextmanager
    def lend(self, *, alive: bool = False) -> Generator[Connection, None, None]:
        """A connection for this thread alone. Errors on it are raised as they are.

        `alive`: one that was just checked, for a call whose connection broke: others may have too.
        Raises `StoreUnavailableError` if none is available: then nothing was sent; and
        `AssertionError` if this thread is in a transaction.
        """
        self._check_no_transaction()
        connection = self.retry_unreachable(self._take_alive if alive else self._take)
        mine = self._lent_here.connections
        mine.append(connection)
        try:
            yield connection
        finally:
            mine.remove(connection)
            self.put_back(connection)

    def _check_no_transaction(self) -> None:
        for connection in self._lent_here.connections:
            if connection.pgconn.transaction_status in _IN_TRANSACTION:
                raise AssertionError(
                    "this thread is in a transaction, and must not wait for another connection:"
                    " use the one that it has"
                )

    def retry_unreachable(self, connect: Callable[[], R]) -> R:
        """Call `connect`, again for `wait` seconds (of the URL) while the server is unreachable.

        Raises the last `StoreUnavailableError`. Ends early when the store is closed.
        """
        try:
            return connect()
        except StoreUnavailableError as error:
            if not self._may_wait(error):
                raise
            _LOG.warning("waiting for %g s at most: %s", self._location.wait_s, error)
        self.count("store_waits")
        for attempt in stamina.retry_context(
            self._may_wait,
            attempts=None,
            timeout=self._location.wait_s,
            wait_initial=_PAUSE_S,
            wait_max=_MAX_PAUSE_S,
            wait_jitter=_PAUSE_S,
        ):
            with attempt:
                return connect()
        raise AssertionError("the last attempt returns or raises")

    def _may_wait(self, error: Exception) -> bool:
        unreachable = isinstance(error, StoreUnavailableError) and error.reason == "unreachable"
        return unreachable and self._location.wait_s > 0 and not self._closed

    def count(self, name: CounterName) -> None:
        """Add one to a counter."""
        with self._lock:
            self._counters[name] += 1

    @property
    def counters(self) -> Mapping[str, int]:
        """What has happened so far, counted by name."""
        with self._lock:
            return {name: count for name, count in self._counters.items()}

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the one that opened it."""
        return self._forks != forks()

    @property
    def lent(self) -> int:
        """How many connections are in use."""
        return self._lent

    def _take(self) -> Connection:
        try:
            connection = self.pool.getconn()
        except psycopg_pool.PoolClosed:
            raise StoreUnavailableError(
                "unreachable", f"{self._location.label}: the store is closed"
            ) from None
        except psycopg_pool.PoolTimeout:
            connection = self._connect_outside_pool()
        with self._lock:
            self._lent += 1
        return connection

    def _take_alive(self) -> Connection:
        """Raises `StoreUnavailableError` if none answers: a pooler may accept connections although
        its server is unreachable."""
        tries = self._location.pool + 1  # more than can have broken at once
        with translated(self._location.label):
            for left in reversed(range(tries)):
                connection = self._take()
                try:
                    self.pool.check_connection(connection)
                except psycopg.Error:
                    self.put_back(connection)
                    if not left:
                        raise
                else:
                    return connection
        raise AssertionError("the last try returns or raises")

    def take_ready(self) -> Connection | None:
        """A connection that is idle in the pool, for `put_back` later; None if there is none."""
        if not self.pool.get_stats()["pool_available"]:
            return None
        try:
            connection = self.pool.getconn(_AT_ONCE_S)
        except (psycopg_pool.PoolClosed, psycopg_pool.PoolTimeout):
            return None
        with self._lock:
            self._lent += 1
        return connection

    def put_back(self, connection: Connection) -> None:
        """Return what `take_ready` gave. A broken connection is dropped.

        Never raises: what was done on the connection may be committed.
        """
        with self._lock:
            self._lent -= 1
            is_outside = connection in self._outside_pool
            self._outside_pool.discard(connection)
        try:
            if is_outside:
                connection.close()
            else:
                self.pool.putconn(connection)  # which drops it if it is broken
        except Exception as error:
            log_failure(_LOG, "a connection cannot be put back", error=error)

    def _connect_outside_pool(self) -> Connection:
        """A connection for one call, if the pool has none: the pool tries a lost server only every
        few seconds, and may not have noticed that it is back. Raises `StoreUnavailableError`."""
        location = self._location
        if self._lent >= location.pool:
            waited = f"no connection within {location.timeout_s:g} s"
            detail = f"{waited}: all {location.pool} of the pool are in use (pool= in the URL)"
            raise StoreUnavailableError("unreachable", f"{location.label}: {detail}")
        connection = connect(location)
        try:
            if self._configure is not None:
                with translated(location.label):
                    self._configure(connection)
        except StoreUnavailableError:
            connection.close()
            raise
        with self._lock:
            self._outside_pool.add(connection)
        return connection

    def register_type_adapters(self) -> None:
        """The library's recorders insert values of a composite type, which each connection has to
        know. The store has none, and would query the server for it when it is opened."""
        if self.has_composite_types:
            super().register_type_adapters()

    @contextmanager
    def get_connection(self) -> Generator[Connection, None, None]:
        """For the library's own calls, which it tries again a few times."""
        self._check_no_transaction()
        connection: Connection | None = None
        try:
            with super().get_connection() as connection:
                yield connection
        finally:
            if connection is not None and connection.closed:
                self.drop_broken()

    def drop_broken(self) -> None:
        """After one was found broken: check all idle connections, and drop those that are, too."""
        self.pool.check()

    def close(self) -> None:
        """Safe to call twice. A connection in use is closed when it is put back.

        Nothing happens in a forked process: it would end the sessions of the one that opened it.
        """
        if not self.is_inherited:
            self._closed = True
            self.pool.close(_CLOSE_S)


def _configure(location: StoreLocation) -> Callable[[Connection], None]:
    def configure(connection: Connection) -> None:
        """Set what the database or the role could have set otherwise."""
        connection.execute(
            "SELECT set_config('default_transaction_isolation', 'read committed', false),"
            " set_config('lock_timeout', %s, false)",
            (f"{round(location.timeout_s * 1000)}ms",),
        )

    return configure


def rows_of(
    connection: Connection, sql: bytes, params: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """The rows of a statement, as tuples."""
    with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        return cursor.execute(sql, params).fetchall()
