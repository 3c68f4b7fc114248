"""Time as a value: microseconds since 1970 in UTC, read from one injected clock.

`SystemClock` is the only caller of the system clock; everything else gets `now_us` as an argument.
The stopwatches say how long the machine takes for something, never when it is.
"""

from __future__ import annotations

import threading
import time
from time import monotonic_ns, perf_counter, thread_time
from typing import Protocol

__all__ = ["Clock", "SystemClock", "elapsed_s", "processor_s"]

elapsed_s = perf_counter
"""Seconds since some moment, the same for all threads."""
processor_s = thread_time
"""Seconds for which this thread has had a processor so far."""


class Clock(Protocol):
    """The engine's source of time."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01T00:00Z."""
        ...

    def monotonic_us(self) -> int:
        """Microseconds since some moment; nobody sets this clock."""
        ...

    def wait(self, event: threading.Event, us: int) -> None:
        """Block this thread until `event` is set, for at most `us` microseconds."""
        ...


class SystemClock:
    """The system clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_us(self) -> int:
        return monotonic_ns() // 1000

    def wait(self, event: threading.Event, us: int) -> None:
        event.wait(us / 1_000_000)
