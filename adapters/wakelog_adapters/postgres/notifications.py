"""Notifications between processes: a notifier announces alarms just set, a listener receives them.

A notification is a hint and may be lost: it is sent after the append has committed, over a
connection of its own, and no append waits for it. So every worker also polls: seldom while it has
a connection that listens, often while it has none.
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

__all__ = ["POLL_WITHOUT_LISTENER_US", "POLL_WITH_LISTENER_US", "Listener", "Notifier"]

_LOG = logging.getLogger("wakelog.postgres")

POLL_WITH_LISTENER_US = 5_000_000
"""How often to poll while notifications arrive; alarms later than that need no notification."""
POLL_WITHOUT_LISTENER_US = 200_000
"""How often to poll while none can arrive."""
DEBOUNCE_S = 0.005
"""How long a notifier waits after a notification: later alarms of that time go together."""
_PAUSE_S = 1.0
"""How long a notifier waits after it has failed twice in a row."""
_MAX_PAUSE_S = 2.0
"""The longest pause of a listener between two attempts to connect."""
_CLOSE_S = 2.0
"""How long closing waits for a thread, which ends by itself."""

OnAlarm = Callable[[int], None]


def _channel(location: StoreLocation) -> str:
    return f"wakelog_{location.schema}"


class Notifier:
    """Notifies the other processes on a schema of alarms that this one has set.

    Its thread and its connection begin with the first notification. Killed here: the alarm is in
    the append, and other processes find it by polling.
    """

    def __init__(self, location: StoreLocation, sender: str) -> None:
        """`sender`: what identifies the notifications of this process."""
        self._location = location
        self._sender = sender
        self._clock = SystemClock()
        self._changed = threading.Condition()
        self._due_us: int | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None

    @property
    def is_started(self) -> bool:
        """Whether there has been anything to notify of."""
        return self._thread is not None

    @property
    def is_running(self) -> bool:
        """Whether its thread runs, from the first notification until it is closed."""
        return self._thread is not None and self._thread.is_alive()

    def notify(self, due_us: int) -> None:
        """Notify of an alarm, soon and from another thread, unless others poll before it is due.

        0: work has become available that was not before.
        """
        if due_us >= self._clock.now_us() + POLL_WITH_LISTENER_US:
            return
        with self._changed:
            if self._closing.is_set():
                return
            self._add(due_us)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="wakelog-notifier", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Send what is still to be sent, if that can be done soon. Safe to call twice."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _add(self, due_us: int) -> None:
        self._due_us = due_us if self._due_us is None else min(due_us, self._due_us)

    def _next(self) -> int | None:
        """Wait for an alarm to notify of; None: closed, and nothing is left to send."""
        with self._changed:
            self._changed.wait_for(lambda: self._due_us is not None or self._closing.is_set())
            due_us, self._due_us = self._due_us, None
            return due_us

    def _run(self) -> None:
        failures = 0
        while (due_us := self._next()) is not None:
            pause_s = DEBOUNCE_S
            try:
                self._send(due_us)
                failures = 0
            except StoreUnavailableError as error:
                failures += 1
                if failures > 1 and self._closing.is_set():
                    break
                self._disconnect()
                with self._changed:
                    self._add(due_us)
                if failures > 1:  # the first failure is a broken connection, which is replaced
                    pause_s = _PAUSE_S
                    _LOG.warning(
                        "other processes cannot be notified of alarms; they poll instead: %s", error
                    )
            self._closing.wait(pause_s)
        self._disconnect()

    def _send(self, due_us: int) -> None:
        if self._connection is None:
            self._connection = connect(self._location)
        notification = (_channel(self._location), f"{self._sender} {due_us}")
        with translated(self._location.label):
            self._connection.execute("SELECT pg_notify(%s, %s)", notification)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Listener:
    """Receives the notifications of other processes, on a thread and a connection of its own.

    `on_alarm` is called on that thread with the time of the earliest alarm; with 0 whenever a
    notification may have been missed: after each connecting, and when the connection has broken.
    """

    def __init__(self, location: StoreLocation, sender: str, on_alarm: OnAlarm) -> None:
        """`sender`: what identifies the notifications of this process, which are skipped."""
        self._location = location
        self._sender = sender
        self._on_alarm = on_alarm
        self._lock = threading.Lock()
        self._stopped = False
        self._connection: Connection | None = None
        self.is_listening = False
        """Whether it is connected, so that notifications arrive."""
        self._thread = threading.Thread(target=self._run, name="wakelog-listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the calls of `on_alarm`. A thread that is about to reconnect ends a little later."""
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
                with translated(self._location.label):
                    self._listen(connection)
            except StoreUnavailableError as error:
                if not self._stopped:
                    _LOG.warning(
                        "no notifications of other processes' alarms; polling instead: %s", error
                    )
            finally:
                self._disconnect()

    def _connected(self) -> Connection:
        """A connection, however long that takes. Raises `StoreUnavailableError` if stopped."""
        attempts = stamina.retry_context(
            on=lambda error: isinstance(error, StoreUnavailableError) and not self._stopped,
            attempts=None,
            timeout=None,
            wait_max=_MAX_PAUSE_S,
        )
        for attempt in attempts:
            with attempt:
                return self._connect()
        raise AssertionError("it connects or raises")

    def _connect(self) -> Connection:
        connection = connect(self._location)
        with self._lock:
            if not self._stopped:
                self._connection = connection
                return connection
        connection.close()
        raise StoreUnavailableError("unreachable", "the store is closed")

    def _listen(self, connection: Connection) -> None:
        """Until the connection breaks. Raises psycopg's errors."""
        connection.execute("SET idle_session_timeout = 0")  # a session that listens is idle
        connection.execute(f"LISTEN {_channel(self._location)}".encode())
        self.is_listening = True
        self._report(0)
        for notification in connection.notifies():
            sender, _, due_us = notification.payload.partition(" ")
            if sender != self._sender and due_us.isdecimal():
                self._report(int(due_us))

    def _report(self, due_us: int) -> None:
        if not self._stopped:
            self._on_alarm(due_us)

    def _disconnect(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
        self.is_listening = False
        self._report(0)


def _interrupt(connection: Connection) -> None:
    """End the wait for notifications on another thread, which alone may close the connection."""
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as connected,
    ):
        connected.shutdown(socket.SHUT_RDWR)
