"""Wake-ups between processes: a bell that tells of alarms just set, and an ear that hears of them.

What is told is a hint and may be lost: it goes out after the append has committed, on a connection
of its own, and no append waits for it. So whoever waits for alarms also looks by itself: seldom
while it hears, often while it is deaf.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable

import psycopg
import stamina

from wakelog.clock import SystemClock
from wakelog.errors import StoreUnavailableError
from wakelog_adapters.postgres.connections import Connection, connect
from wakelog_adapters.postgres.errors import translated
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["DEAF_LOOK_US", "LOOK_US", "Bell", "Ear"]

_LOG = logging.getLogger("wakelog.postgres")

LOOK_US = 5_000_000
"""How often to look while other processes are heard; alarms later than that need no telling."""
DEAF_LOOK_US = 200_000
"""How often to look while they are not."""
DEBOUNCE_S = 0.005
"""How long the bell is still after it has rung: what comes meanwhile goes together."""
_PAUSE_S = 1.0
"""How long the bell is still after it could not ring, twice in a row."""
_MAX_PAUSE_S = 2.0
"""The longest pause between two tries of the ear to connect."""
_CLOSE_S = 2.0
"""How long closing waits for a thread, which ends by itself."""

Heard = Callable[[int], None]


def _channel(place: StoreLocation) -> str:
    return f"wakelog_{place.schema}"


class Bell:
    """Tells the other processes on a schema of alarms that this one has set.

    Nothing is begun before there is something to tell. Killed here: the alarm is in the append, and
    found by those who look.
    """

    def __init__(self, place: StoreLocation, own: str) -> None:
        """`own`: what this process's notifications are known by."""
        self._place = place
        self._own = own
        self._clock = SystemClock()
        self._changed = threading.Condition()
        self._due_us: int | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None

    def ring(self, due_us: int) -> None:
        """Tell of an alarm, soon and from another thread, unless others will look before it.

        Of 0 where work can be had that was not to be had before.
        """
        if due_us >= self._clock.now_us() + LOOK_US:
            return
        with self._changed:
            if self._closing.is_set():
                return
            self._add(due_us)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wakelog-bell", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """What was to be told is told, if that can be done soon. Safe to call twice."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _add(self, due_us: int) -> None:
        self._due_us = due_us if self._due_us is None else min(due_us, self._due_us)

    def _next(self) -> int | None:
        """Wait for something to tell; None: it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._due_us is not None or self._closing.is_set())
            due_us, self._due_us = self._due_us, None
            return due_us

    def _run(self) -> None:
        failures = 0
        while (due_us := self._next()) is not None:
            pause_s = DEBOUNCE_S
            try:
                self._tell(due_us)
                failures = 0
            except StoreUnavailableError as error:
                failures += 1
                if failures > 1 and self._closing.is_set():
                    break
                self._hang_up()
                with self._changed:
                    self._add(due_us)
                if failures > 1:  # the first time the connection was broken, and is replaced
                    pause_s = _PAUSE_S
                    _LOG.warning("others cannot be told of alarms, they look themselves: %s", error)
            self._closing.wait(pause_s)
        self._hang_up()

    def _tell(self, due_us: int) -> None:
        if self._connection is None:
            self._connection = connect(self._place)
        told = (_channel(self._place), f"{self._own} {due_us}")
        with translated(self._place.label):
            self._connection.execute("SELECT pg_notify(%s, %s)", told)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Ear:
    """Hears what the bells of other processes tell, on a thread and a connection of its own.

    `heard` is called on that thread with the moment of the earliest alarm; with 0 whenever
    something may have been missed: after each connecting, and when the connection has broken.
    """

    def __init__(self, place: StoreLocation, own: str, heard: Heard) -> None:
        self._place = place
        self._own = own
        self._heard = heard
        self._lock = threading.Lock()
        self._stopped = False
        self._connection: Connection | None = None
        self.hears = False
        """Whether it is connected and listens."""
        self._thread = threading.Thread(target=self._run, name="wakelog-ear", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Call `heard` no more. Between two tries to connect the thread ends a little later."""
        with self._lock:
            self._stopped = True
            connection = self._connection
            if connection is not None:
                _interrupt(connection)
        if connection is not None:
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._stopped:
            try:
                connection = self._connected()
            except StoreUnavailableError:
                return  # it was stopped
            try:
                with translated(self._place.label):
                    self._listen(connection)
            except StoreUnavailableError as error:
                if not self._stopped:
                    _LOG.warning("other processes are not heard, looking instead: %s", error)
            finally:
                self._hang_up()

    def _connected(self) -> Connection:
        """A connection, however long that takes. Raises `StoreUnavailableError` if stopped."""
        tries = stamina.retry_context(
            on=lambda error: isinstance(error, StoreUnavailableError) and not self._stopped,
            attempts=None,
            timeout=None,
            wait_max=_MAX_PAUSE_S,
        )
        for attempt in tries:
            with attempt:
                return self._connect()
        raise AssertionError("it connects or raises")

    def _connect(self) -> Connection:
        connection = connect(self._place)
        with self._lock:
            if not self._stopped:
                self._connection = connection
                return connection
        connection.close()
        raise StoreUnavailableError("unreachable", "the store is closed")

    def _listen(self, connection: Connection) -> None:
        """Until the connection breaks. Raises psycopg's errors."""
        connection.execute("SET idle_session_timeout = 0")  # who listens is idle
        connection.execute(f"LISTEN {_channel(self._place)}".encode())
        self.hears = True
        self._tell(0)
        for told in connection.notifies():
            sender, _, due_us = told.payload.partition(" ")
            if sender != self._own and due_us.isdecimal():
                self._tell(int(due_us))

    def _tell(self, due_us: int) -> None:
        if not self._stopped:
            self._heard(due_us)

    def _hang_up(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
        self.hears = False
        self._tell(0)


def _interrupt(connection: Connection) -> None:
    """End the wait for notifications on another thread, which alone may close the connection."""
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)
