"""The alarm clock: the port through which a worker is woken when something is due."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["AlarmClock", "Claimant"]


class Claimant(Protocol):
    """What an alarm clock calls on the worker that it wakes. Called on the clock's own thread."""

    def take(self, now_us: int) -> Sequence[object]:
        """Claim what is due at `now_us`, at most as many as there are free slots."""
        ...

    def begin(self, claimed: object) -> None:
        """Start working on one of what `take` returned."""
        ...

    def next_us(self, now_us: int) -> int | None:
        """When to call `take` again; None: not before a `wakeup()`."""
        ...


class AlarmClock(Protocol):
    """Wakes a worker when something is due."""

    def start(self) -> None:
        """Begin to call the claimant (given at construction) whenever something is due."""
        ...

    def wakeup(self) -> None:
        """Call it now: an earlier alarm was set, or a slot became free. Any thread may call."""
        ...

    def stop(self) -> None:
        """End, and wait until no call of `take` is under way."""
        ...
