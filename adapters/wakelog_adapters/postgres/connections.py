"""Connections: a pool of them, shared by all threads of the process.

Nothing is kept in a session but prepared statements (which a pooler cannot have): whatever a
transaction needs to be set, it sets for itself. A connection that breaks is replaced in the
background; the call that found it broken decides what that means.
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
from psycopg.rows import DictRow, dict_row, tuple_row

from wakelog.errors import StoreUnavailableError
from wakelog_adapters.postgres.errors import reason_of, said_by, translated
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["IDLE_TIMEOUT", "Connection", "Datastore", "connect", "is_pooled", "rows_of"]

_LOG = logging.getLogger("wakelog.postgres")
Connection = psycopg.Connection[DictRow]
Trouble = Literal["store_waits", "store_retries", "store_lost_answers"]
"""Calls that found no connection and waited; that were sent again; whose answer was lost."""

R = TypeVar("R")

IDLE_TIMEOUT = "20s"
"""How long a transaction may do nothing before the server gives what it locked to others: its
process has stalled, or its connection is cut and nobody told the server."""
_RECONNECT_S = 3.0
"""How long one attempt to replace a connection goes on; the next call begins another."""
_AT_ONCE_S = 0.001
"""Where another thread was quicker, though one lay ready; the pool takes 0 for a no."""
_CLOSE_S = 5.0
_PAUSE_S = 0.1
_MAX_PAUSE_S = 2.0
_DEFAULTS = {
    "application_name": "wakelog",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A server that has vanished is noticed within half a minute, not after two hours."""


def _arguments(place: StoreLocation) -> dict[str, Any]:
    """What psycopg is given beside the URL; the URL goes before it."""
    given = conninfo_to_dict(place.conninfo)
    defaults = {**_DEFAULTS, "connect_timeout": max(2, round(place.timeout_s))}
    return {
        **{name: value for name, value in defaults.items() if name not in given},
        "client_encoding": "utf8",
        "autocommit": True,
        "row_factory": dict_row,
        "prepare_threshold": 2 if place.pooled is False else None,
    }


def connect(place: StoreLocation) -> Connection:
    """A connection outside the pool, at once. Raises `StoreUnavailableError`, with the reason."""
    try:
        return Connection.connect(place.conninfo, **_arguments(place))
    except psycopg.Error as error:
        raise StoreUnavailableError(reason_of(error), f"{place.label}: {said_by(error)}") from error


def is_pooled(connection: Connection) -> bool:
    """Whether a pooler stands between: it answers for the server, and so names at the beginning
    another process of it than the one that works."""
    [(works,)] = rows_of(connection, b"SELECT pg_backend_pid()")
    return bool(works != connection.info.backend_pid)


class Datastore(library.PostgresDatastore):
    """The library's datastore on our pool. To be opened once the place is known."""

    def __init__(self, place: StoreLocation) -> None:
        super().__init__(
            *("", "", "", "", ""), schema=place.schema, originator_id_type="text"
        )  # its pool, which is never opened, is replaced by one that takes the whole URL
        self.server_clock = place.server_clock
        """Whether the server's clock judges leases; see `url.StoreLocation`."""
        self._place = place
        self._closed = False
        self._lock = threading.Lock()
        self._lent = 0
        self._beside: set[Connection] = set()
        self._configure: Callable[[Connection], None] | None = None
        self._troubles: Counter[Trouble] = Counter(dict.fromkeys(get_args(Trouble), 0))

    def open(self, place: StoreLocation) -> None:
        """Begin to connect. `place` says by now whether a pooler stands between."""
        self._place = place
        self._configure = None if place.pooled else _configure(place)
        self.pool = library.ConnectionPool(
            place.conninfo,
            connection_class=Connection,
            kwargs=_arguments(place),
            min_size=1,
            max_size=place.pool,
            open=False,
            configure=self._configure,
            name=place.label,
            timeout=place.timeout_s,
            reconnect_timeout=_RECONNECT_S,
        )
        self.pool.open()

    @contextmanager
    def lend(self, *, alive: bool = False) -> Generator[Connection, None, None]:
        """A connection for this thread alone. What goes wrong on it is raised as it is.

        `alive`: one that has just answered, for a call whose connection broke: others did too.
        Raises `StoreUnavailableError` where there is none to be had: then nothing was sent.
        """
        connection = self.patiently(self._take_alive if alive else self._take)
        try:
            yield connection
        finally:
            self.put_back(connection)

    def patiently(self, connect: Callable[[], R]) -> R:
        """What `connect` answers; asked again for `wait` seconds while none is to be had.

        Raises the last `StoreUnavailableError`. Ends early when the store is closed.
        """
        try:
            return connect()
        except StoreUnavailableError as error:
            if not self._may_wait(error):
                raise
            _LOG.warning("waiting for %g s at most: %s", self._place.wait_s, error)
        self.count("store_waits")
        for attempt in stamina.retry_context(
            self._may_wait,
            attempts=None,
            timeout=self._place.wait_s,
            wait_initial=_PAUSE_S,
            wait_max=_MAX_PAUSE_S,
            wait_jitter=_PAUSE_S,
        ):
            with attempt:
                return connect()
        raise AssertionError("the last attempt returns or raises")

    def _may_wait(self, error: Exception) -> bool:
        is_away = isinstance(error, StoreUnavailableError) and error.reason == "unreachable"
        return is_away and self._place.wait_s > 0 and not self._closed

    def count(self, trouble: Trouble) -> None:
        """One more of these."""
        with self._lock:
            self._troubles[trouble] += 1

    @property
    def counters(self) -> Mapping[str, int]:
        """How often what happened so far."""
        with self._lock:
            return {name: count for name, count in self._troubles.items()}

    def _take(self) -> Connection:
        try:
            connection = self.pool.getconn()
        except psycopg_pool.PoolClosed:
            raise StoreUnavailableError(
                "unreachable", f"{self._place.label}: the store is closed"
            ) from None
        except psycopg_pool.PoolTimeout:
            connection = self._beside_the_pool()
        with self._lock:
            self._lent += 1
        return connection

    def _take_alive(self) -> Connection:
        """Raises `StoreUnavailableError` where none answers: a pooler may take connections for a
        server that is away."""
        tries = self._place.pool + 1  # more than there may be that broke together
        with translated(self._place.label):
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
        """One that lies ready in the pool, to be `put_back`; None where there is none to be had
        at once."""
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
        """After `take_ready`. One that is broken is dropped."""
        with self._lock:
            self._lent -= 1
            is_beside = connection in self._beside
            self._beside.discard(connection)
        if is_beside:
            connection.close()
        else:
            self.pool.putconn(connection)  # which drops it if it is broken

    def _beside_the_pool(self) -> Connection:
        """For one call, where the pool has none: it looks for a lost server every few seconds
        only, and may not know yet that it is back. Raises why there is none."""
        place = self._place
        if self._lent >= place.pool:
            waited = f"no connection within {place.timeout_s:g} s"
            detail = f"{waited}: all {place.pool} of the pool are in use (pool= in the URL)"
            raise StoreUnavailableError("unreachable", f"{place.label}: {detail}")
        connection = connect(place)
        try:
            if self._configure is not None:
                with translated(place.label):
                    self._configure(connection)
        except StoreUnavailableError:
            connection.close()
            raise
        with self._lock:
            self._beside.add(connection)
        return connection

    def register_type_adapters(self) -> None:
        """The library asks the server for its composite types: we have none, and ask nothing."""

    @contextmanager
    def get_connection(self) -> Generator[Connection, None, None]:
        """As the library has it, for its own calls, which are tried again a few times."""
        connection: Connection | None = None
        try:
            with super().get_connection() as connection:
                yield connection
        finally:
            if connection is not None and connection.closed:
                self.weed()

    def weed(self) -> None:
        """After one was found broken: drop the others that are, all at once, from those idle."""
        self.pool.check()

    def close(self) -> None:
        """Safe to call twice. What is lent is closed when it comes back."""
        self._closed = True
        self.pool.close(_CLOSE_S)


def _configure(place: StoreLocation) -> Callable[[Connection], None]:
    def configure(connection: Connection) -> None:
        """What a database's or role's own settings could have otherwise."""
        connection.execute(
            "SELECT set_config('default_transaction_isolation', 'read committed', false),"
            " set_config('lock_timeout', %s, false)",
            (f"{round(place.timeout_s * 1000)}ms",),
        )

    return configure


def rows_of(
    connection: Connection, sql: bytes, params: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """The rows that a statement answers, as tuples."""
    with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        return cursor.execute(sql, params).fetchall()
