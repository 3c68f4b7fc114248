"""Whether a worker may claim: not while it cannot be sure of the leases that it holds (U2).

A worker whose heartbeat failed or is overdue, or whose clock was stepped, may find that the leases
of its own runs have ended, and those of workers that live as it does. So it renews first; and what
has ended it takes over only when a beat's time has passed, in which every living worker renews.
So does a worker that has just started: it cannot know how long the store was away before.

A store may stall with a claim in it, and judge leases by its own clock when it goes on, before the
renewals that wait as the claim did. So the guard is asked again once the claim knows what it takes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from wakelog.clock import Clock
from wakelog.ports.units import Takeover

__all__ = ["ClaimGuard"]

OVERDUE_US = 1_000_000
"""How late a beat may be."""
STEPPED_US = 1_000_000
"""How far the clock and the monotonic clock may have moved apart since the last beat."""


class ClaimGuard:
    """What the beats of one worker tell its claims. Any thread may use it."""

    def __init__(
        self, clock: Clock, owner: str, *, lease_us: int, beat_us: int, renew: Callable[[], None]
    ) -> None:
        """`beat_us` is the time between two beats; `renew` asks for one now, from any thread."""
        self._clock = clock
        self._owner = owner
        self._lease_us = lease_us
        self._beat_us = beat_us
        self._renew = renew
        self._lock = threading.Lock()
        self._is_sure = True
        self._beat_at_us, self._offset_us = self._read()
        """When the last successful beat began, and how far apart the two clocks were then."""
        self._takes_over_at_us = self._beat_at_us + beat_us

    def _read(self) -> tuple[int, int]:
        monotonic_us = self._clock.monotonic_us()
        return monotonic_us, self._clock.now_us() - monotonic_us

    def takeover(self) -> Takeover | None:
        """What a claim may take over now. None: claim nothing; a beat was asked for."""
        with self._lock:
            monotonic_us = self._check()
            if self._is_sure:
                allowed = monotonic_us >= self._takes_over_at_us
                return Takeover(allowed, self._owner, self._lease_us)
        self._renew()
        return None

    def may_take_over(self) -> bool:
        """Whether what has ended may still be taken over, by a claim that the store has begun."""
        with self._lock:
            monotonic_us = self._check()
            return self._is_sure and monotonic_us >= self._takes_over_at_us

    def beat_begins(self) -> tuple[int, int]:
        """The clocks as a beat begins; for `beat_succeeded`."""
        with self._lock:
            self._check()
        return self._read()

    def beat_failed(self) -> None:
        """The leases could not be renewed."""
        with self._lock:
            self._is_sure = False

    def beat_succeeded(self, began: tuple[int, int]) -> bool:
        """The leases were renewed; return whether claims were refused until now."""
        with self._lock:
            was_sure = self._is_sure
            self._beat_at_us, self._offset_us = began
            self._is_sure = True
            if not was_sure:
                self._takes_over_at_us = self._clock.monotonic_us() + self._beat_us
        return not was_sure

    def _check(self) -> int:
        """Look whether a beat is overdue or the clock was stepped; return the monotonic time."""
        monotonic_us, offset_us = self._read()
        if monotonic_us > self._beat_at_us + self._beat_us + OVERDUE_US:
            self._is_sure = False
        if abs(offset_us - self._offset_us) > STEPPED_US:
            self._is_sure = False
        return monotonic_us
