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
from typing import NamedTuple

import psycopg

from wakelog.clock import SystemClock
from wakelog.errors import StoreUnavailableError
from wakelog.threads import LastingThread, log_failure
from wakelog_adapters.postgres.connections import Connection, Waits, connect
from wakelog_adapters.postgres.errors import translated
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["POLL_WITHOUT_LISTENER_US", "POLL_WITH_LISTENER_US", "Listener", "Notifier", "Told"]

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
_LISTEN_S = 0.5
"""How long one wait for notifications lasts: less than that for an answer of the server, which ends
the connection."""
LISTENS_FOR = 40
"""How many such waits there are before the server is asked whether it is still there."""
_MAX_DIGITS = 18
"""Of a time in a notification. Any role that may connect can send 8,000 characters."""
_CLOSE_S = 5.0
"""How long closing waits for a thread, which ends by itself."""

OnAlarm = Callable[[int], None]


class Told(NamedTuple):
    """What a notification tells."""

    due_us: int
    """When something can be claimed; 0: now."""
    pool: str = ""
    """It is of this pool alone; empty: of anything."""
    number: int = 0
    """Of the document of the pool that shows it; 0: it is about to be written."""

    def joined(self, other: Told) -> Told:
        """Both in one."""
        due_us = min(self.due_us, other.due_us)
        if self.pool != other.pool:
            return Told(due_us)
        return Told(due_us, self.pool, max(self.number, other.number))


_LOOK = Told(0)
"""Something may have been missed."""


def _channel(location: StoreLocation) -> str:
    return f"wakelog_{location.schema}"


class Notifier:
    """Notifies the other processes on a schema of alarms that this one has set.

    Its thread starts with the store, so that no append meets a thread that cannot be started; its
    connection begins with the first notification. Killed here: the alarm is in the append, and
    other processes find it by polling.
    """

    def __init__(self, location: StoreLocation, waits: Waits, sender: str) -> None:
        """`sender`: what identifies the notifications of this process."""
        self._location = location
        self._waits = waits
        self._sender = sender
        self._clock = SystemClock()
        self._changed = threading.Condition()
        self._next: Told | None = None
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

    def notify(self, told: Told) -> None:
        """Notify of an alarm, soon and from another thread, unless others poll before it is due.
        Never raises."""
        if told.due_us >= self._clock.now_us() + POLL_WITH_LISTENER_US:
            return
        with self._changed:
            if self._closing.is_set():
                return
            self.is_started = True
            self._add(told)
            self._changed.notify()

    def close(self) -> None:
        """Send what is still to be sent, if that can be done soon. Safe to call twice."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(_CLOSE_S)

    def _add(self, told: Told) -> None:
        self._next = told if self._next is None else self._next.joined(told)

    def _wait(self) -> Told | None:
        """Wait for an alarm to notify of; None: closed, and nothing is left to send."""
        with self._changed:
            self._changed.wait_for(lambda: self._next is not None or self._closing.is_set())
            told, self._next = self._next, None
            return told

    def _step(self) -> None:
        """Send one notification, or end."""
        told = self._wait()
        if told is None:
            self._end()
            return
        pause_s = DEBOUNCE_S
        try:
            self._send(told)
            self._failures = 0
        except Exception as error:  # out of file descriptors, of memory, of connections
            self._failures += 1
            with self._changed:
                self._add(told)
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

    def _send(self, told: Told) -> None:
        if self._connection is None:
            self._connection = connect(self._location, self._waits)
        words = map(str, told if told.pool else told[:1])
        notification = (_channel(self._location), " ".join([self._sender, *words]))
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
        waits: Waits,
        sender: str,
        on_alarm: OnAlarm,
        on_pool: Callable[[str, int], None] | None = None,
    ) -> None:
        """`sender`: what identifies the notifications of this process, which are skipped.
        `on_pool` is called in place of `on_alarm` for what is due now of one pool, with the number
        of its document.

        Raises `ThreadsExhaustedError`.
        """
        self._location = location
        self._waits = waits
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
        connection = connect(self._location, self._waits)
        with self._lock:
            self._connection = connection
        if not self._is_stopped:
            with translated(self._location.label):
                self._listen(connection)

    def _listen(self, connection: Connection) -> None:
        """Until the connection breaks. Raises psycopg's errors.

        To listen again now and then changes nothing, and finds out whether the server answers: a
        silent one, or one that is a standby by now, would never be missed.
        """
        connection.execute("SET idle_session_timeout = 0")  # a session that listens is idle
        while True:
            connection.execute(f"LISTEN {_channel(self._location)}".encode())
            self._is_connected = True
            self._pause_s = _FIRST_PAUSE_S
            self._report(_LOOK)
            for _ in range(LISTENS_FOR):
                for notification in connection.notifies(timeout=_LISTEN_S):
                    told = _told_in(notification.payload, self._sender)
                    if told is not None:
                        self._report(told)

    def _report(self, told: Told) -> None:
        if self._is_stopped:
            return
        if told.pool and self._on_pool is not None and told.due_us <= self._clock.now_us():
            self._on_pool(told.pool, told.number)
        else:
            self._on_alarm(told.due_us)

    def _disconnect(self) -> None:
        self._is_connected = False
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
        self._report(_LOOK)


def _told_in(payload: str, own: str) -> Told | None:
    """None for a notification of this process, and for a foreign one."""
    sender, _, words = payload.partition(" ")
    due_us, _, of_pool = words.partition(" ")
    pool, _, number = of_pool.partition(" ")
    if sender == own or not (_is_number(due_us) and _is_number(number or "0")):
        return None
    return Told(int(due_us), pool, int(number or 0))


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) <= _MAX_DIGITS


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
