"""The alarm clock: the port through which a worker is woken at the right instant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["AlarmClock", "Claimant"]


class Claimant(Protocol):
    """What an alarm clock asks of the worker that it wakes. Called on the clock's own thread."""

    def take(self, now_us: int) -> Sequence[object]:
        """Claim what is due at `now_us`, for the free slots only."""
        ...

    def begin(self, claimed: object) -> None:
        """Start working on what was taken."""
        ...

    def next_us(self, now_us: int) -> int | None:
        """When to look again; None: not before a `wakeup()`."""
        ...


class AlarmClock(Protocol):
    """What wakes a worker at the right instant."""

    def start(self) -> None:
        """Begin: ask the desk (given at construction) whenever something is due."""
        ...

    def wakeup(self) -> None:
        """Look again now: an earlier alarm was set, or a slot became free. Any thread may call."""
        ...

    def stop(self) -> None:
        """End, and wait until no call of `take` is under way."""
        ...
