"""The pulse of an event loop: whether it is there, or blocked by code that it calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

__all__ = ["LoopWatchdog"]

FRESH_S = 0.02
"""For how long after a sign of life no other one is asked for."""
PATIENCE_S = 0.05
"""How long an answer may take until the loop counts as blocked."""


class LoopWatchdog:
    """Felt from one other thread, so that nothing is begun that the loop would not get to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_back: Callable[[], None]) -> None:
        """`on_back` is called on the loop when it goes on after it was found blocked."""
        self._loop = loop
        self._on_back = on_back
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._answered.set()
        self._lived_s = loop.time()
        self.is_missed = False
        """Whether the loop was found blocked, and has not gone on since."""

    def is_felt(self) -> bool:
        """Whether the loop goes round. Waits for its answer a little; never twice for one."""
        if self._answered.is_set():
            if self._loop.time() - self._lived_s < FRESH_S:
                return True
            self._answered.clear()
            self._loop.call_soon_threadsafe(self._answer)
            self._answered.wait(PATIENCE_S)
        with self._lock:
            self.is_missed = not self._answered.is_set()
            return not self.is_missed

    def lives(self) -> None:
        """The loop has come by."""
        self._lived_s = self._loop.time()

    def _answer(self) -> None:
        self.lives()
        with self._lock:
            self._answered.set()
            was_missed, self.is_missed = self.is_missed, False
        if was_missed:
            self._on_back()
