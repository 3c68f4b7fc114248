"""Time as a value: microseconds since 1970 in UTC, read from one injected clock.

`SystemClock` is the only caller of the machine's clock; everything else is given `now_us`.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Where the engine learns what time it is."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01T00:00Z."""
        ...

    def wait(self, event: threading.Event, us: int) -> None:
        """Hold this thread up until `event` is set, for `us` microseconds at most."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def wait(self, event: threading.Event, us: int) -> None:
        event.wait(us / 1_000_000)
