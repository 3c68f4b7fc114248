"""Following the log of an SQL store, through the eventsourcing library's interface."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from eventsourcing import persistence

from wakelog.errors import HistoryError
from wakelog.threads import PAUSE_S, START_ERRORS, log_failure, no_thread_for

__all__ = ["LogListeners", "LogSubscription"]

_LOG = logging.getLogger("wakelog.log")
ENDING = (HistoryError, persistence.ProgrammingError)
"""What asking again cannot mend."""


class LogListeners:
    """Threads of this process that wait for its next append."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: frozenset[threading.Event] = frozenset()
        self.is_closed = False
        """Whether the store is closed: there is nothing more to wait for."""

    def add(self, event: threading.Event) -> None:
        """Set `event` after each append from now on."""
        with self._lock:
            self._events |= {event}

    def discard(self, event: threading.Event) -> None:
        """Set `event` no longer."""
        with self._lock:
            self._events -= {event}

    def notify(self) -> None:
        """Something has been appended. Never raises: the append is committed."""
        for event in self._events:
            event.set()

    def close(self) -> None:
        """The store is closed."""
        self.is_closed = True
        self.notify()


class LogSubscription(persistence.ListenNotifySubscription[persistence.ApplicationRecorder]):
    """Notifications in the order of the log, from a thread of its own.

    An append of this process is seen at once, those of other processes by looking every `poll_s`.
    A store that cannot answer for a while ends nothing: it is asked again. What is damaged, and a
    store that is closed, ends the iteration with its error.
    """

    def __init__(
        self,
        recorder: persistence.ApplicationRecorder,
        gt: int | None,
        topics: Sequence[str],
        *,
        listeners: LogListeners,
        poll_s: float,
    ) -> None:
        self._listeners = listeners
        self._poll_s = poll_s
        try:
            super().__init__(recorder, gt, topics)  # starts the thread
        except START_ERRORS as error:
            raise no_thread_for("following the log", error) from error
        listeners.add(self._has_been_notified)

    def stop(self) -> None:
        super().stop()
        self._listeners.discard(self._has_been_notified)

    def _loop_on_pull(self) -> None:
        """As the library's loop, but it looks without a notification too, and goes on."""
        while not self._has_been_stopped:
            try:
                self._pull()
                self._has_been_notified.wait(self._poll_s)
            except BaseException as error:
                if self._listeners.is_closed or isinstance(error, ENDING):
                    self._thread_error = error
                    self.stop()
                elif not self._has_been_stopped:
                    log_failure(_LOG, "the log cannot be followed; trying again", error=error)
                    self._has_been_notified.clear()
                    self._has_been_notified.wait(PAUSE_S)
