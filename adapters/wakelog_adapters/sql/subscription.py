"""Following the log of an SQL store, through the eventsourcing library's interface."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from eventsourcing import persistence

__all__ = ["LogListeners", "LogSubscription"]


class LogListeners:
    """Threads of this process that wait for its next append."""

    def __init__(self) -> None:
        self._events: set[threading.Event] = set()

    def add(self, event: threading.Event) -> None:
        """Set `event` after each append from now on."""
        self._events.add(event)

    def discard(self, event: threading.Event) -> None:
        """Set `event` no longer."""
        self._events.discard(event)

    def notify(self) -> None:
        """Something has been appended."""
        for event in tuple(self._events):
            event.set()


class LogSubscription(persistence.ListenNotifySubscription[persistence.ApplicationRecorder]):
    """Notifications in the order of the log, from a thread of its own.

    An append of this process is seen at once, those of other processes by looking every `poll_s`.
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
        super().__init__(recorder, gt, topics)  # starts the thread
        listeners.add(self._has_been_notified)

    def stop(self) -> None:
        super().stop()
        self._listeners.discard(self._has_been_notified)

    def _loop_on_pull(self) -> None:
        """As the library's loop, but it looks without a notification too."""
        try:
            while not self._has_been_stopped:
                self._pull()
                self._has_been_notified.wait(self._poll_s)
        except BaseException as error:
            self._thread_error = error
            self.stop()
