"""The alarm clock: the port through which a worker is woken when something is due.

Every alarm clock passes `wakelog_adapters.conformance.alarm_clock.AlarmClockExam`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["AlarmClock", "Claimant"]


class Claimant(Protocol):
    """What an alarm clock calls when it wakes: the worker. All calls are on the clock's own thread.

    An exception of any of them does not end the clock: it looks again soon.
    """

    def claim(self, now_us: int) -> Sequence[object]:
        """Claim what is due at `now_us`, for the free slots only."""
        ...

    def begin(self, claimed: Sequence[object]) -> None:
        """Begin the work on all that a claim has got. Called once for each claim that got any."""
        ...

    def next_look_us(self, now_us: int) -> int | None:
        """When to claim again; None: not before a `wakeup()`. A time in the past means now."""
        ...


class AlarmClock(Protocol):
    """Wakes a worker, never before the time that it gave. Its claimant is given when it is made.

    The time is that of the wall clock, however that jumps: one that is set on past the time brings
    the look within seconds, one that is set back delays it no longer than it was to take.
    """

    def start(self) -> None:
        """Start the thread; it claims at once. Raises `ThreadsExhaustedError`."""
        ...

    def keep_running(self) -> None:
        """Start the thread again if something has ended it. Any thread may call, always."""
        ...

    def wakeup(self) -> None:
        """Claim now: an earlier alarm was set, or a slot became free. Any thread may call, always;
        it never raises, since it is called when an append has been committed.

        A call during a claim leads to another claim after it.
        """
        ...

    def stop(self, timeout_s: float | None = None) -> None:
        """End. When this returns no claim follows, and everything claimed was begun; unless a claim
        has taken longer than `timeout_s`: it is the last one.

        Safe to call twice, and before `start`.
        """
        ...
