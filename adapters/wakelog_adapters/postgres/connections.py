"""Connections: a pool of them, shared by all threads of the process.

A connection that breaks is replaced in the background; the call that found it broken decides what
that means.

Nobody who is in a transaction waits for another connection. A pooler has fewer of them than there
are workers: if each had one and waited for a second, all would wait for ever.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeVar, get_args

import psycopg
import psycopg_pool
import stamina
from eventsourcing import persistence
from eventsourcing import postgres as library
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow

from wakelog.affinity import forks
from wakelog.errors import StoreUnavailableError
from wakelog.threads import START_ERRORS, log_failure, no_thread_for
from wakelog_adapters.postgres.errors import (
    is_silence,
    translated,
)
from wakelog_adapters.postgres.session.connection import (
    MARGIN_S,
    Connection,
    Waits,
    arguments,
    connect,
    is_pooled,
    rows_of,
)
from wakelog_adapters.postgres.session.settings import set_up
from wakelog_adapters.postgres.url import StoreLocation

__all__ = [
    "AFTER_SILENCE_S",
    "Connection",
    "Datastore",
    "Waits",
    "connect",
    "is_pooled",
    "rows_of",
]

_LOG = logging.getLogger("wakelog.postgres")
CounterName = Literal["store_waits", "store_retries", "store_lost_answers"]
"""Calls that found no connection and waited; that were sent again; whose answer was lost."""

R = TypeVar("R")

AFTER_SILENCE_S = 1.0
"""How much longer a call lasts whose connection was silent for too long: perhaps only that one is
lost, and the server answers on another."""
_RECONNECT_S = 3.0
"""How long one attempt to replace a connection lasts; the next call begins another."""
_AT_ONCE_S = 0.001
"""How long to wait for a connection that was ready but that another thread may take first; for the
pool 0 means no attempt."""
_CLOSE_S = 5.0
_PAUSE_S = 0.1
_MAX_PAUSE_S = 2.0
_IN_TRANSACTION = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


class _LentHere(threading.local):
    """The connections that a thread has."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []


class _Pool(library.ConnectionPool[psycopg.Connection[DictRow]]):
    def __del__(self) -> None:
        """At the end of a process, where its threads have stopped, waiting for them takes 5 s for
        each (Python 3.13)."""
        if not sys.is_finalizing():
            super().__del__()


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
        self._lock = threading.Lock()
        self._lent = 0
        self._lent_here = _LentHere()
        self._outside_pool: set[Connection] = set()
        self.waits = Waits(location)
        """How long its connections wait for the server."""
        self._counters: Counter[CounterName] = Counter(dict.fromkeys(get_args(CounterName), 0))

    def open(self, location: StoreLocation) -> None:
        """Begin to connect. By now `location.pooled` is known. Raises `ThreadsExhaustedError`."""
        self._location = self.waits.location = location
        self.pool = _Pool(
            location.conninfo,
            connection_class=self.waits.connection_class,
            kwargs=arguments(location),
            min_size=1,
            max_size=location.pool,
            open=False,
            configure=lambda connection: set_up(_ours(connection), location),
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
    def lend(self, *, after: Exception | None = None) -> Generator[Connection, None, None]:
        """A connection for this thread alone. Errors on it are raised as they are.

        `after`: the error with which the call's connection broke: then one that was just checked,
        since others may have broken too. Raises `StoreUnavailableError` if none is available: then
        nothing was sent; and `AssertionError` if this thread is in a transaction.
        """
        self._check_no_transaction()
        if after is None:
            connection = self.retry_unreachable(self._take)
        elif is_silence(after):
            connection = self._take_alive(AFTER_SILENCE_S, after)
        else:
            connection = self.retry_unreachable(lambda: self._take_alive(self._location.timeout_s))
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

        Raises the last `StoreUnavailableError`. Ends early when the store is closed, or is to be
        closed soon.
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
        return unreachable and self._location.wait_s > 0 and not self.waits.hurries

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
        location = self._location
        for _ in range(2):
            connection = self._taken(location.timeout_s / 2)
            if connection is not None:
                return connection
            if self._lent < location.pool:
                return self._connect_outside_pool()
        waited = f"no connection within {location.timeout_s:g} s"
        detail = f"{waited}: all {location.pool} of the pool are in use (pool= in the URL)"
        raise StoreUnavailableError("unreachable", f"{location.label}: {detail}")

    def _taken(self, within_s: float) -> Connection | None:
        """One of the pool's; None if it has none within that time."""
        try:
            if self.waits.are_over:
                raise psycopg_pool.PoolClosed
            connection = _ours(self.pool.getconn(within_s))
        except psycopg_pool.PoolClosed:
            raise StoreUnavailableError(
                "unreachable", f"{self._location.label}: the store is closed"
            ) from None
        except psycopg_pool.PoolTimeout:
            return None
        with self._lock:
            self._lent += 1
        return connection

    def _take_alive(self, within_s: float, silence: Exception | None = None) -> Connection:
        """One that has just answered: a pooler may accept connections although its server is
        unreachable. Raises `StoreUnavailableError` if none answers.

        `silence`: with this error one was silent for long. Then all has to end within that time.
        """
        tries = self._location.pool + 1  # more than can have broken at once
        deadline_s = time.monotonic() + within_s
        with translated(self._location.label):
            for left in reversed(range(tries)):
                connection = self._take() if silence is None else self._taken(within_s)
                if connection is None:
                    raise silence or AssertionError
                connection.allowed_s = within_s
                try:
                    self.pool.check_connection(connection)
                except psycopg.Error:
                    self.put_back(connection)
                    if not left or time.monotonic() >= deadline_s:
                        raise
                else:
                    connection.allowed_s = None if silence is None else within_s + MARGIN_S
                    return connection
        raise AssertionError("the last try returns or raises")

    def take_ready(self) -> Connection | None:
        """A connection that is idle in the pool, for `put_back` later; None if there is none."""
        if not self.pool.get_stats()["pool_available"]:
            return None
        try:
            return self._taken(_AT_ONCE_S)
        except StoreUnavailableError:
            return None

    def put_back(self, connection: Connection) -> None:
        """Return what `take_ready` gave. A broken connection is dropped, and so is one whose server
        took no writes, with the idle ones: their sessions may stay so although the server does not.

        Never raises: what was done on the connection may be committed.
        """
        connection.allowed_s = None
        was_read_only = connection.was_read_only
        if was_read_only:
            connection.close()
        with self._lock:
            self._lent -= 1
            is_outside = connection in self._outside_pool
            self._outside_pool.discard(connection)
        try:
            if is_outside:
                connection.close()
            else:
                self.pool.putconn(connection)  # which drops it if it is broken
            if was_read_only:
                self.drop_idle()
        except Exception as error:
            log_failure(_LOG, "a connection cannot be put back", error=error)

    def _connect_outside_pool(self) -> Connection:
        """A connection for one call, if the pool has none: the pool tries a lost server only every
        few seconds, and may not have noticed that it is back. Raises `StoreUnavailableError`."""
        connection = connect(self._location, self.waits)
        try:
            with translated(self._location.label):
                set_up(connection, self._location)
        except StoreUnavailableError:
            connection.close()
            raise
        with self._lock:
            self._lent += 1
            self._outside_pool.add(connection)
        return connection

    def register_type_adapters(self) -> None:
        """The library's recorders insert values of a composite type, which each connection has to
        know. The store has none, and would query the server for it when it is opened."""
        if self.has_composite_types:
            super().register_type_adapters()

    @contextmanager
    def get_connection(self) -> Generator[Connection, None, None]:
        """For the library's own calls, which it tries again a few times; not those for which the
        server was waited for in vain: they raise `StoreUnavailableError`."""
        self._check_no_transaction()
        connection: Connection | None = None
        try:
            with super().get_connection() as lent:
                connection = _ours(lent)
                yield connection
        except persistence.OperationalError as error:
            if error.__cause__ is None or not is_silence(error.__cause__):
                raise
            with translated(self._location.label):
                raise error.__cause__ from None
        finally:
            if connection is not None and connection.is_lost:
                self.drop_idle()

    def drop_idle(self) -> None:
        """After one was found broken: replace the idle ones, which may be broken, too. To ask each
        of them would take long if their server does not answer."""
        for _ in range(self._location.pool):
            connection = self.take_ready()
            if connection is None:
                return
            connection.close()
            self.put_back(connection)

    def hurry(self) -> None:
        """Wait for the server for a moment only from now on, and once that was in vain, no longer.
        Never blocks."""
        self.waits.hurry()

    def close(self) -> None:
        """Safe to call twice. A connection in use is closed when it is put back.

        Nothing happens in a forked process: it would end the sessions of the one that opened it;
        nor at the end of a process that has not closed it, which ends the sessions.
        """
        if not (self.is_inherited or sys.is_finalizing()):
            self.hurry()
            self.pool.close(_CLOSE_S)


def _ours(connection: psycopg.Connection[DictRow]) -> Connection:
    """A connection of our pool, whose type the library does not know."""
    assert isinstance(connection, Connection)
    return connection
