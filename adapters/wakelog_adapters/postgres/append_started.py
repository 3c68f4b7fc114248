"""An append that the event loop sends and hears of, on a connection of the pool.

Only the plain case is done here: sent in one go, answered with yes. Whatever else comes of it the
`Appender` settles, on a thread: who was to blame for a no, and what became of an append whose
connection broke.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Sequence

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult

from wakelog.ports.units import Appended, Unit
from wakelog_adapters.postgres.append import Appender, Attempt
from wakelog_adapters.postgres.append_call import AppendRows
from wakelog_adapters.postgres.connections import Connection, Datastore
from wakelog_adapters.postgres.queries import Queries

__all__ = ["SentAppend", "Starter"]

_BINARY = 1


class Starter:
    """Starts appends on connections that lie ready."""

    def __init__(
        self,
        datastore: Datastore,
        queries: Queries,
        appender: Appender,
        on_appended: Callable[[Appended], None],
    ) -> None:
        """`on_appended` hears of each append that has ended, on the thread that sees it end."""
        self.datastore = datastore
        self.appender = appender
        self.on_appended = on_appended
        self._sql = queries.append_numbered

    def start(self, units: Sequence[Unit]) -> SentAppend | None:
        """Send an append; None where there is something to wait for, or to say about the units."""
        connection = self.datastore.take_ready()
        if connection is None:
            return None
        try:
            attempt = self.appender.attempt(units)
            parcel = AppendRows(units)
            attempt.expected = Appended([None] * len(units), parcel.next_due_us)
            sent = SentAppend(self, attempt, connection)
            sent.send(self._sql, parcel.arguments(self.appender.call(attempt)))
        except Exception:  # whatever it is: on the writer's thread it is raised again, and told
            self.datastore.put_back(connection)
            return None
        return sent


class SentAppend:
    """A `StartedAppend`, straight on libpq, which waits for nothing by itself."""

    def __init__(self, starter: Starter, attempt: Attempt, connection: Connection) -> None:
        """Raises psycopg's `OperationalError` if the connection is known to be closed."""
        self._starter = starter
        self._attempt = attempt
        self._connection = connection
        self._wire = connection.pgconn
        self._answer: PGresult | None = None
        """The last one. A commit that fails says so after the function has answered."""
        self._lost: psycopg.Error | None = None
        self.socket = self._wire.socket
        self.is_sending = False
        self.is_over = False

    def send(self, sql: bytes, arguments: Sequence[object]) -> None:
        """Begin. Raises `ValueError` and psycopg's `DataError`: then nothing was sent.

        The statement has no name: to prepare it is to wait, and a pooler could not have it.
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
        """Never blocks. A connection that breaks is an end too."""
        try:
            if self.is_sending:
                self.is_sending = self._wire.flush() > 0
            self._wire.consume_input()
            while not self.is_over and not self._wire.is_busy():
                self._receive()
        except psycopg.OperationalError as error:
            self._break(error)

    def result(self) -> Appended | None:
        """Gives the connection back."""
        self._starter.datastore.put_back(self._connection)
        if self._lost is not None or self._error() is not None:
            return None
        self._starter.on_appended(self._attempt.expected)
        return self._attempt.expected

    def settle(self) -> Appended:
        """As `Appender.append` from here on, with what it raises."""
        if not self.is_over:
            self._wait()
            if (appended := self.result()) is not None:
                return appended
        appended = self._starter.appender.settle(self._attempt, self._lost, self._error())
        self._starter.on_appended(appended)
        return appended

    def _wait(self) -> None:
        """Not in libpq: psycopg would keep the interpreter meanwhile."""
        while not self.is_over:
            with selectors.DefaultSelector() as selector:
                writing = selectors.EVENT_WRITE if self.is_sending else 0
                selector.register(self.socket, selectors.EVENT_READ | writing)
                selector.select()
            self.look()

    def _receive(self) -> None:
        """Take the next answer, which is there."""
        answer = self._wire.get_result()
        if answer is not None:
            self._answer = answer
        elif self._wire.status == ConnStatus.BAD or self._answer is None:
            self._break(psycopg.OperationalError(self._wire.get_error_message()))
        else:
            self.is_over = True

    def _error(self) -> psycopg.Error | None:
        """What the server said is wrong."""
        answer = self._answer
        if answer is None or answer.status == ExecStatus.TUPLES_OK:
            return None
        return error_from_result(answer)

    def _break(self, error: psycopg.Error) -> None:
        self._lost = error
        self.is_sending = False
        self.is_over = True
