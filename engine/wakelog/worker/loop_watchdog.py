"""The event loop watchdog: whether the loop turns, or user code blocks it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

__all__ = ["LoopWatchdog"]

FRESH_S = 0.02
"""For how long after a sign of progress no other one is asked for."""
PATIENCE_S = 0.05
"""How long the loop may take to answer until it counts as blocked."""


class LoopWatchdog:
    """Polled from one other thread, so that no work is claimed while the event loop is blocked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_back: Callable[[], None]) -> None:
        """`on_back` is called on the loop when it turns again after it was found blocked."""
        self._loop = loop
        self._on_back = on_back
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._answered.set()
        self._progress_s = loop.time()
        self.found_blocked = False
        """Whether the loop was found blocked, and has not turned since."""

    def is_responsive(self) -> bool:
        """Whether the loop turns. Waits for its answer at most `PATIENCE_S`; never twice for one
        answer."""
        if self._answered.is_set():
            if self._loop.time() - self._progress_s < FRESH_S:
                return True
            self._answered.clear()
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except BaseException:  # not asked: ask again the next time
                self._answered.set()
                raise
            self._answered.wait(PATIENCE_S)
        with self._lock:
            self.found_blocked = not self._answered.is_set()
            return not self.found_blocked

    def note_progress(self) -> None:
        """Called on the loop: it turns."""
        self._progress_s = self._loop.time()

    def _answer(self) -> None:
        self.note_progress()
        with self._lock:
            self._answered.set()
            was_blocked, self.found_blocked = self.found_blocked, False
        if was_blocked:
            self._on_back()
