"""Threads that must be there for as long as an app is open: started at open, kept, ended at close.

A process may be at its limit of threads or of file descriptors for a moment. What cannot start says
so when the app is opened; what runs survives whatever is raised in it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from wakelog.errors import ThreadsExhaustedError

__all__ = [
    "PAUSE_S",
    "START_ERRORS",
    "LastingThread",
    "log_failure",
    "no_thread_for",
    "start_thread",
]

_LOG = logging.getLogger("wakelog.threads")

PAUSE_S = 1.0
"""How long a loop pauses after it has failed."""
START_ERRORS = (RuntimeError, MemoryError)
"""How Python says that a thread cannot be started."""


def start_thread(thread: threading.Thread) -> None:
    """Start it. Raises `ThreadsExhaustedError`: then it may be started again later."""
    try:
        thread.start()
    except START_ERRORS as error:
        raise no_thread_for(thread.name, error) from error


def no_thread_for(what: str, error: BaseException) -> ThreadsExhaustedError:
    """The error of a thread that could not be started."""
    advice = "raise the limit on the threads of this user or container, or start fewer elsewhere"
    return ThreadsExhaustedError(what, str(error) or type(error).__name__, advice)


def log_failure(log: logging.Logger, message: str, *args: object, error: BaseException) -> None:
    """Log an error with its traceback. Never raises: a handler or filter of the user's may fail."""
    with contextlib.suppress(Exception):
        log.error(message, *args, exc_info=error)


class LastingThread:
    """A daemon thread that calls `step` again and again until it is stopped.

    Whatever `step` raises is logged, and `step` is called again after `PAUSE_S`.
    """

    def __init__(self, name: str, step: Callable[[], object]) -> None:
        self._name = name
        self._step = step
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.stopped = threading.Event()
        """Set by `stop`; a step that waits, waits for this too."""

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Raises `ThreadsExhaustedError`."""
        with self._lock:
            self.stopped.clear()
            self._start()

    def keep_running(self) -> None:
        """Start it again if it has ended by itself. Any thread may call; never raises."""
        if self.is_alive or self._thread is None or self.stopped.is_set():
            return
        with self._lock:
            if self.is_alive or self.stopped.is_set():
                return
            try:
                self._start()
            except ThreadsExhaustedError as error:
                log_failure(_LOG, "%s has ended", self._name, error=error)

    def stop(self, timeout_s: float | None = None) -> None:
        """End it after the step that is going on; wait for that, at most `timeout_s`."""
        with self._lock:
            self.stopped.set()
        self.join(timeout_s)

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until it has ended, at most `timeout_s`: its step has set `stopped`."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        start_thread(thread)
        self._thread = thread

    def _run(self) -> None:
        while not self.stopped.is_set():
            try:
                self._step()
            except BaseException as error:  # nothing may end it: there is no caller to see it
                log_failure(_LOG, "%s failed; it goes on in a moment", self._name, error=error)
                self.stopped.wait(PAUSE_S)
