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

from wakelog.clock import SystemClock
from wakelog.errors import StoreUnavailableError
from wakelog.threads import LastingThread, log_failure
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
_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 2.0
"""The first and the longest pause of a listener between two attempts to connect; each is twice the
one before."""
_MAX_DIGITS = 18
"""Of a time in a notification. Any role that may connect can send 8,000 characters."""
_CLOSE_S = 5.0
"""How long closing waits for a thread, which ends by itself."""

OnAlarm = Callable[[int], None]


def _channel(location: StoreLocation) -> str:
    return f"wakelog_{location.schema}"


class Notifier:
    """Notifies the other processes on a schema of alarms that this one has set.

    Its thread starts with the store, so that no append meets a thread that cannot be started; its
    connection begins with the first notification. Killed here: the alarm is in the append, and
    other processes find it by polling.
    """

    def __init__(self, location: StoreLocation, sender: str) -> None:
        """`sender`: what identifies the notifications of this process."""
        self._location = location
        self._sender = sender
        self._clock = SystemClock()
        self._changed = threading.Condition()
        self._due_us: int | None = None
        self._pool = ""
        """The pool that all of it is of; empty: not of one alone."""
        self._failures = 0
        self._closing = threading.Event()
        self._thread = LastingThread("wakelog-notifier", self._step)
        self._connection: Connection | None = None
        self.is_started = False
        """Whether there has been anything to notify of."""

    @property
    def is_running(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive

    def start(self) -> None:
        """Start the thread. Raises `ThreadsExhaustedError`."""
        self._thread.start()

    def keep_running(self) -> None:
        """Start the thread again if something has ended it. Never raises."""
        self._thread.keep_running()

    def notify(self, due_us: int, pool: str = "") -> None:
        """Notify of an alarm, soon and from another thread, unless others poll before it is due.

        0: work has become available that was not before. `pool`: it is of this pool. Never raises.
        """
        if due_us >= self._clock.now_us() + POLL_WITH_LISTENER_US:
            return
        with self._changed:
            if self._closing.is_set():
                return
            self.is_started = True
            self._add(due_us, pool)
            self._changed.notify()

    def close(self) -> None:
        """Send what is still to be sent, if that can be done soon. Safe to call twice."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(_CLOSE_S)

    def _add(self, due_us: int, pool: str) -> None:
        if self._due_us is None:
            self._due_us, self._pool = due_us, pool
        else:
            self._due_us = min(due_us, self._due_us)
            self._pool = pool if pool == self._pool else ""

    def _next(self) -> tuple[int, str] | None:
        """Wait for an alarm to notify of; None: closed, and nothing is left to send."""
        with self._changed:
            self._changed.wait_for(lambda: self._due_us is not None or self._closing.is_set())
            due_us, self._due_us = self._due_us, None
            return None if due_us is None else (due_us, self._pool)

    def _step(self) -> None:
        """Send one notification, or end."""
        alarm = self._next()
        if alarm is None:
            self._end()
            return
        pause_s = DEBOUNCE_S
        try:
            self._send(*alarm)
            self._failures = 0
        except Exception as error:  # out of file descriptors, of memory, of connections
            self._failures += 1
            with self._changed:
                self._add(*alarm)
            self._disconnect()
            if self._failures > 1 and self._closing.is_set():
                self._end()
                return
            if self._failures > 1:  # the first failure is a broken connection, which is replaced
                pause_s = _PAUSE_S
                _warn("other processes cannot be notified of alarms; they poll instead", error)
        self._closing.wait(pause_s)

    def _end(self) -> None:
        self._thread.stopped.set()
        self._disconnect()

    def _send(self, due_us: int, pool: str) -> None:
        if self._connection is None:
            self._connection = connect(self._location)
        told = f"{due_us} {pool}" if pool else str(due_us)
        notification = (_channel(self._location), f"{self._sender} {told}")
        with translated(self._location.label):
            self._connection.execute("SELECT pg_notify(%s, %s)", notification)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Listener:
    """Receives the notifications of other processes, on a thread and a connection of its own.

    `on_alarm` is called on that thread with the time of the earliest alarm; with 0 whenever a
    notification may have been missed: after each connecting, and when the connection has broken.
    """

    def __init__(
        self,
        location: StoreLocation,
        sender: str,
        on_alarm: OnAlarm,
        on_pool: Callable[[str], None] | None = None,
    ) -> None:
        """`sender`: what identifies the notifications of this process, which are skipped.
        `on_pool` is called in place of `on_alarm` for what is due now of one pool.

        Raises `ThreadsExhaustedError`.
        """
        self._location = location
        self._sender = sender
        self._on_alarm = on_alarm
        self._on_pool = on_pool
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._is_connected = False
        self._pause_s = _FIRST_PAUSE_S
        self._thread = LastingThread("wakelog-listener", self._step)
        self._thread.start()

    @property
    def is_listening(self) -> bool:
        """Whether it is connected, so that notifications arrive."""
        return self._is_connected and self._thread.is_alive

    def keep_running(self) -> None:
        """Start the thread again if something has ended it. Never raises."""
        self._thread.keep_running()

    def stop(self) -> None:
        """End the calls of `on_alarm`. A thread that is just connecting may end a little later."""
        with self._lock:
            self._thread.stopped.set()
            if self._connection is not None:
                _interrupt(self._connection)
        self._thread.stop(_CLOSE_S)

    @property
    def _is_stopped(self) -> bool:
        return self._thread.stopped.is_set()

    def _step(self) -> None:
        """Connect and listen until that fails; then pause, longer each time it fails again."""
        try:
            self._connect_and_listen()
        except Exception as error:  # also out of file descriptors, of memory, of connections
            if not self._is_stopped and self._pause_s == _FIRST_PAUSE_S:
                _warn("no notifications of other processes' alarms; polling instead", error)
        finally:
            self._disconnect()
        self._thread.stopped.wait(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)

    def _connect_and_listen(self) -> None:
        connection = connect(self._location)
        with self._lock:
            self._connection = connection
        if not self._is_stopped:
            with translated(self._location.label):
                self._listen(connection)

    def _listen(self, connection: Connection) -> None:
        """Until the connection breaks. Raises psycopg's errors."""
        connection.execute("SET idle_session_timeout = 0")  # a session that listens is idle
        connection.execute(f"LISTEN {_channel(self._location)}".encode())
        self._is_connected = True
        self._pause_s = _FIRST_PAUSE_S
        self._report(0)
        for notification in connection.notifies():
            told = _told_in(notification.payload, self._sender)
            if told is not None:
                self._report(*told)

    def _report(self, due_us: int, pool: str = "") -> None:
        if self._is_stopped:
            return
        if pool and self._on_pool is not None and due_us <= self._clock.now_us():
            self._on_pool(pool)
        else:
            self._on_alarm(due_us)

    def _disconnect(self) -> None:
        self._is_connected = False
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
        self._report(0)


def _told_in(payload: str, own: str) -> tuple[int, str] | None:
    """The time that a notification tells, and the pool if it is of one; None for one of this
    process, and for a foreign one."""
    sender, _, told = payload.partition(" ")
    due_us, _, pool = told.partition(" ")
    is_time = due_us.isascii() and due_us.isdecimal() and len(due_us) <= _MAX_DIGITS
    return (int(due_us), pool) if is_time and sender != own else None


def _warn(message: str, error: Exception) -> None:
    """With a traceback if it is not the server. Never raises."""
    if isinstance(error, StoreUnavailableError):
        with contextlib.suppress(Exception):  # a filter of the user's may fail
            _LOG.warning("%s: %s", message, error)
    else:
        log_failure(_LOG, message, error=error)


def _interrupt(connection: Connection) -> None:
    """End the wait for notifications on another thread, which alone may close the connection."""
    with contextlib.suppress(OSError, psycopg.Error):
        connected = socket.socket(fileno=connection.fileno())  # no copy: no descriptor may be left
        try:
            connected.shutdown(socket.SHUT_RDWR)
        finally:
            connected.detach()
