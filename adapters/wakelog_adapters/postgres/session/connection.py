"""A connection: a wait for its server has an end.

The system notices a server that has disappeared (keepalives, `tcp_user_timeout`), but not one that
takes what it is sent and never answers: a server that stalls, or a proxy that has lost it.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from typing import Any, ClassVar, Self, TypeVar, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row, tuple_row

from wakelog.errors import StoreUnavailableError
from wakelog_adapters.postgres.errors import NoAnswerError, reason_of, server_message
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["Connection", "Waits", "arguments", "connect", "is_pooled", "rows_of"]

R = TypeVar("R")

MIN_WAIT_S = 2.0
"""The shortest wait for an answer, and for a connection: this process may be slow itself."""
MARGIN_S = 0.5
"""How much longer than `timeout` an answer is waited for: the server waits for locks that long, and
says so then."""
HURRY_S = 1.0
"""How long an answer is waited for while the store is being closed."""
LONGEST_S = 3600.0
"""How long a statement may take that may take long, however much the server is at work on it."""
_DEFAULTS = {
    "application_name": "wakelog",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A server that has disappeared is noticed within half a minute, not after two hours."""
_IS_AT_WORK = b"SELECT coalesce(bool_or(state = 'active'), %s) FROM pg_stat_activity WHERE pid = %s"


class Waits:
    """How long the connections of one store wait. Any thread may change it."""

    def __init__(self, location: StoreLocation) -> None:
        self.location = location
        self.answer_s = max(MIN_WAIT_S, location.timeout_s + MARGIN_S)
        """How long the server may be silent while an answer is due."""
        self.are_over = False
        """No connection waits any longer."""
        self.hurries = False
        """They wait for a moment only: the store is to be closed."""
        made = type("Connection", (Connection,), {"waits": self})
        self.connection_class = cast("type[Connection]", made)
        """The class of these connections."""

    def hurry(self) -> None:
        """Wait for a moment only, and no longer at all once that was in vain."""
        self.answer_s = min(self.answer_s, HURRY_S)
        self.hurries = True

    def end(self) -> None:
        """End all waits now."""
        self.are_over = True

    def is_too_long(self, waited_s: float, allowed_s: float | None = None) -> bool:
        """Whether a wait for an answer has lasted long enough."""
        allowed_s = self.answer_s if allowed_s is None else min(allowed_s, self.answer_s)
        if waited_s >= allowed_s and self.hurries:
            self.end()
        return self.are_over or waited_s >= allowed_s

    def connecting(self, steps: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        """The steps of connecting, which has a timeout of its own; ended if the waits are."""
        began_s = time.monotonic()
        try:
            awaited = next(steps)
            while True:
                ready = yield awaited
                if not ready and (self.are_over or self.hurries):
                    waited_s = time.monotonic() - began_s
                    if self.is_too_long(waited_s):
                        raise NoAnswerError(waited_s)
                awaited = steps.send(ready)
        except StopIteration as end:
            return cast("R", end.value)


class Connection(psycopg.Connection[DictRow]):
    """If the server is silent for too long it is closed, and `NoAnswerError` is raised."""

    waits: ClassVar[Waits]
    allowed_s: float | None = None
    """How long the server may be silent, if that is less than usual."""
    was_read_only = False
    """Whether the server has refused to write in this session."""
    _takes_long = False

    @property
    def is_lost(self) -> bool:
        """Whether another connection may do better: it is broken, or its session takes no writes,
        perhaps only because the server took none when it began."""
        return self.closed or self.was_read_only

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Self:
        """psycopg's, which leaves open what it has given up: its error and the frame that raises it
        refer to each other, and that frame to the attempt. Here it is closed."""
        try:
            return super().connect(*args, **kwargs)
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)
            raise

    @classmethod
    def _connect_gen(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.waits.connecting(super()._connect_gen(*args, **kwargs))

    def wait(self, gen: Generator[Any, Any, R], *args: Any, **kwargs: Any) -> R:
        """psycopg's, which lets a generator go on at least ten times a second."""
        try:
            return super().wait(self._answered(gen), *args, **kwargs)
        except psycopg.errors.ReadOnlySqlTransaction:
            self.was_read_only = True
            raise

    @contextmanager
    def taking_long(self) -> Generator[None]:
        """Until the end of the block a statement may take long: it is waited for as long as the
        server, asked over another connection, is at work on it, and `LONGEST_S` at most."""
        self._takes_long = True
        try:
            yield
        finally:
            self._takes_long = False

    def _answered(self, steps: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        began_s = silent_since_s = time.monotonic()
        try:
            awaited = next(steps)
            while True:
                ready = yield awaited
                if ready:
                    silent_since_s = time.monotonic()
                elif self.waits.is_too_long(time.monotonic() - silent_since_s, self.allowed_s):
                    if not self._goes_on(began_s):
                        break
                    silent_since_s = time.monotonic()
                awaited = steps.send(ready)
        except StopIteration as end:
            return cast("R", end.value)
        steps.close()
        self.pgconn.finish()  # what comes now answers no question that anyone still has
        raise NoAnswerError(time.monotonic() - silent_since_s)

    def _goes_on(self, began_s: float) -> bool:
        if not self._takes_long or self.waits.are_over or time.monotonic() - began_s > LONGEST_S:
            return False
        location = self.waits.location
        try:
            with closing(connect(location, self.waits)) as other:
                params = (location.pooled is not False, self.info.backend_pid)
                return bool(rows_of(other, _IS_AT_WORK, params)[0][0])
        except (psycopg.Error, StoreUnavailableError):
            return False


def arguments(location: StoreLocation) -> dict[str, Any]:
    """The arguments for psycopg beside the URL, which takes precedence."""
    given = conninfo_to_dict(location.conninfo)
    defaults = {**_DEFAULTS, "connect_timeout": math.ceil(max(MIN_WAIT_S, location.timeout_s))}
    return {
        **{name: value for name, value in defaults.items() if name not in given},
        "client_encoding": "utf8",
        "autocommit": True,
        "row_factory": dict_row,
        "prepare_threshold": 2 if location.pooled is False else None,
    }


def connect(location: StoreLocation, waits: Waits | None = None) -> Connection:
    """A connection outside the pool, at once. Raises `StoreUnavailableError`, with the reason."""
    waits = waits or Waits(location)
    try:
        return waits.connection_class.connect(location.conninfo, **arguments(location))
    except (psycopg.Error, OSError) as error:  # OSError: out of file descriptors
        raise StoreUnavailableError(
            reason_of(error), f"{location.label}: {server_message(error)}"
        ) from error


def is_pooled(connection: Connection) -> bool:
    """Whether there is a pooler: it answers for the server, and so the process id that it gave when
    connecting is not that of the session."""
    [(pid,)] = rows_of(connection, b"SELECT pg_backend_pid()")
    return bool(pid != connection.info.backend_pid)


def rows_of(
    connection: Connection, sql: bytes, params: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """The rows of a statement, as tuples."""
    with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        return cursor.execute(sql, params).fetchall()
