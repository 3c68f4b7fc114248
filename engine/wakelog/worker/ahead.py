"""What a worker has claimed and not begun: a little more than it has free slots for, if its runs
are short, so that no slot waits for a claim.

What lies ahead is kept from idle workers. So it is what the worker does in `AHEAD_US` by its pace,
nothing at all if its handlers are slow or a job has a limit on its runs, and whatever has not begun
by `LATE_US` is given back (A1).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from wakelog.clock import Clock
from wakelog.worker.claims import Claimed

__all__ = ["AHEAD_US", "LATE_US", "MAX_AHEAD", "SLOW_US", "Ahead"]

AHEAD_US = 30_000
"""As much work as a worker does in this time may lie ahead of its free slots."""
LATE_US = 50_000
"""What was claimed as long ago and has not begun is given back."""
MAX_AHEAD = 256
"""How many instances may lie ahead, at most."""
SLOW_US = 50_000
"""Handlers that take as long on average are slow: nothing lies ahead then."""
LEAST_US = 10_000
"""The pace is measured over at least this time."""
WEIGHT = 8
"""The last so many handlers count for the average."""


class Ahead:
    """First in, first out. Any thread may use it."""

    def __init__(self, clock: Clock, *, is_allowed: bool) -> None:
        """`is_allowed`: whether anything may lie ahead at all."""
        self._clock = clock
        self._is_allowed = is_allowed
        self._lock = threading.Lock()
        self._claimed: deque[Claimed] = deque()
        self._handler_us = 0.0
        """How long a handler takes on average."""
        self._ended = 0
        """How many have ended since `_since_us`."""
        self._since_us = clock.monotonic_us()
        self.allowed = 0
        """How many may lie ahead of the free slots."""

    def __len__(self) -> int:
        return len(self._claimed)

    def put(self, claimed: Sequence[Claimed]) -> None:
        """These were claimed."""
        with self._lock:
            self._claimed.extend(claimed)

    def take(self) -> Claimed | None:
        """The next one to begin; None if there is none, or if it is late."""
        with self._lock:
            if self._claimed and not self._is_late(self._claimed[0]):
                return self._claimed.popleft()
        return None

    def take_late(self) -> Sequence[Claimed]:
        """What is to be given back now."""
        late: list[Claimed] = []
        with self._lock:
            while self._claimed and self._is_late(self._claimed[0]):
                late.append(self._claimed.popleft())
        return late

    def take_all(self) -> Sequence[Claimed]:
        """All of them: the worker closes."""
        with self._lock:
            claimed = tuple(self._claimed)
            self._claimed.clear()
        return claimed

    def late_in_us(self) -> int | None:
        """When the first of them is late, from now on; None if there is none."""
        with self._lock:
            if not self._claimed:
                return None
            return max(0, self._claimed[0].at_us + LATE_US - self._clock.monotonic_us())

    def note_ended(self, handler_us: int) -> None:
        """A handler has ended. On the event loop."""
        self._handler_us += (handler_us - self._handler_us) / WEIGHT
        self._ended += 1

    def pace(self) -> None:
        """Measure how much may lie ahead now. On the alarm clock's thread, before a claim."""
        now_us = self._clock.monotonic_us()
        since_us = now_us - self._since_us
        if since_us < LEAST_US:
            return
        ended, self._ended, self._since_us = self._ended, 0, now_us
        is_slow = self._handler_us >= SLOW_US or not self._is_allowed
        self.allowed = 0 if is_slow else min(MAX_AHEAD, ended * AHEAD_US // since_us)

    def _is_late(self, claimed: Claimed) -> bool:
        return self._clock.monotonic_us() - claimed.at_us >= LATE_US
