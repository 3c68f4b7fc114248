"""An append that the event loop sends and whose answer it receives, on a connection of the pool.

Only the plain case is done here: sent at once, and no unit refused. Everything else is settled by
the `Appender`, on a thread: which unit of a refused group was to blame, and what became of an
append whose connection broke.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Sequence

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult

from wakelog.ports.units import Appended, Unit
from wakelog_adapters.postgres.append import Appender
from wakelog_adapters.postgres.append_call import AppendCall
from wakelog_adapters.postgres.append_run import Attempt
from wakelog_adapters.postgres.connections import Connection, Datastore
from wakelog_adapters.postgres.errors import NoAnswerError, is_read_only
from wakelog_adapters.postgres.queries import Queries, numbered

__all__ = ["AppendStarter", "SentAppend"]

_BINARY = 1
_TICK_S = 0.1
"""How often a thread that waits looks whether it waits for too long."""
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""One that takes no file descriptor of its own: there may be none left."""


class AppendStarter:
    """Starts appends on idle connections of the pool."""

    def __init__(
        self,
        datastore: Datastore,
        queries: Queries,
        appender: Appender,
        on_appended: Callable[[Appended], None],
    ) -> None:
        """`on_appended` is called after each append that has ended, on the thread that sees it."""
        self.datastore = datastore
        self.appender = appender
        self.on_appended = on_appended
        self._sql = numbered(queries.append)

    def start(self, units: Sequence[Unit]) -> SentAppend | None:
        """Send an append; None if that would wait, or if the units cannot be sent."""
        connection = self.datastore.take_ready()
        if connection is None:
            return None
        try:
            attempt = self.appender.attempt(units)
            call = AppendCall(units)
            attempt.expected = Appended([None] * len(units), call.next_due_us, call.emits)
            sent = SentAppend(self, attempt, connection)
            sent.send(self._sql, call.arguments(self.appender.options(attempt)))
        except Exception:  # whatever it is: `Appender.append` meets it too, and reports it
            self.datastore.put_back(connection)
            return None
        return sent


class SentAppend:
    """A `StartedAppend`, directly on libpq. It never waits by itself."""

    def __init__(self, starter: AppendStarter, attempt: Attempt, connection: Connection) -> None:
        """Raises psycopg's `OperationalError` if the connection is known to be closed."""
        self.attempt = attempt
        self._starter = starter
        self._connection = connection
        self._wire = connection.pgconn
        self._result: PGresult | None = None
        """The last one. A commit that fails says so after the function has returned."""
        self._lost: psycopg.Error | None = None
        self.socket = self._wire.socket
        self.is_sending = False
        self.is_over = False
        self._silent_since_s = time.monotonic()

    def send(self, sql: bytes, arguments: Sequence[object]) -> None:
        """Begin. Raises `ValueError` and psycopg's `DataError`: then nothing was sent.

        The statement has no name: preparing one would wait, and poolers cannot keep it.
        """
        adapting = Transformer(self._connection)
        values = adapting.dump_sequence(arguments, [PyFormat.AUTO] * len(arguments))
        types, formats = adapting.types, adapting.formats
        try:
            self._wire.send_query_params(sql, values, types, formats, _BINARY)
            self.is_sending = self._wire.flush() > 0
        except psycopg.OperationalError as error:
            self._break(error)

    def look(self) -> None:
        """Never blocks. If the connection breaks, the append is over too."""
        self._silent_since_s = time.monotonic()
        try:
            if self.is_sending:
                self.is_sending = self._wire.flush() > 0
            self._wire.consume_input()
            while not self.is_over and not self._wire.is_busy():
                self._receive()
        except psycopg.OperationalError as error:
            self._break(error)
        except Exception as error:  # whatever it is: it was sent, and its outcome is looked up
            self._connection.close()
            self._break(psycopg.OperationalError(repr(error)))

    @property
    def is_silent(self) -> bool:
        return self._connection.waits.is_too_long(time.monotonic() - self._silent_since_s)

    def give_up(self) -> None:
        self._connection.close()
        self._break(NoAnswerError(time.monotonic() - self._silent_since_s))

    def result(self) -> Appended | None:
        """Gives the connection back."""
        self._connection.was_read_only = is_read_only(self._error())
        self._starter.datastore.put_back(self._connection)
        if self._lost is not None or self._error() is not None:
            return None
        self._starter.on_appended(self.attempt.expected)
        return self.attempt.expected

    def settle(self) -> Appended:
        """As `Appender.append` from here on, with what it raises."""
        if not self.is_over:
            self._wait()
            if (appended := self.result()) is not None:
                return appended
        appended = self._starter.appender.settle(self.attempt, self._lost, self._error())
        self._starter.on_appended(appended)
        return appended

    def _wait(self) -> None:
        """Not in libpq: psycopg would hold the GIL meanwhile."""
        while not self.is_over:
            with _Selector() as selector:
                writing = selectors.EVENT_WRITE if self.is_sending else 0
                selector.register(self.socket, selectors.EVENT_READ | writing)
                is_ready = selector.select(_TICK_S)
            if is_ready:
                self.look()
            elif self.is_silent:
                self.give_up()

    def _receive(self) -> None:
        """Take the next result, which has arrived."""
        result = self._wire.get_result()
        if result is not None:
            self._result = result
        elif self._wire.status == ConnStatus.BAD or self._result is None:
            self._break(psycopg.OperationalError(self._wire.get_error_message()))
        else:
            self.is_over = True

    def _error(self) -> psycopg.Error | None:
        """The error that the server has returned."""
        result = self._result
        if result is None or result.status == ExecStatus.TUPLES_OK:
            return None
        return error_from_result(result)

    def _break(self, error: psycopg.Error) -> None:
        self._lost = error
        self.is_sending = False
        self.is_over = True
