"""Virtual time: a clock that stands still until something is due, and an event loop that obeys it.

Whatever waits for time on this loop (`asyncio.sleep`, a handler's `timeout=`) does not wait: when
nothing else is left to do, the clock jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
from collections.abc import Mapping
from typing import Any

from wakelog.affinity import forks
from wakelog.definitions.steps import is_on_a_loop
from wakelog.errors import InvalidStateError

__all__ = ["VirtualClock", "VirtualLoop", "refuse_on_a_loop"]


class VirtualClock:
    """A clock that only moves forward when it is told to."""

    def __init__(self, start_us: int) -> None:
        self._now_us = start_us

    def now_us(self) -> int:
        """Microseconds since 1970 in UTC."""
        return self._now_us

    def monotonic_us(self) -> int:
        """As `now_us`: virtual time is never set back, and never stepped."""
        return self._now_us

    def move_to(self, us: int) -> None:
        """Go forward to `us`; never back."""
        self._now_us = max(self._now_us, us)

    def wait(self, event: threading.Event, us: int) -> None:
        """Let the time pass at once: nobody else is there who could set `event`."""
        if not event.is_set():
            self.move_to(self._now_us + us)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers follow a virtual clock."""

    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = clock
        self._began_us = clock.now_us()
        self._forks = forks()
        super().__init__(_JumpingSelector(clock))
        self.slow_callback_duration = math.inf  # else asyncio's debug mode logs what time passes

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked after the loop was made."""
        return self._forks != forks()

    def check_process(self) -> None:
        """Raise `InvalidStateError` in a process that was forked after the loop was made."""
        if self.is_inherited:
            text = "this process was forked after the simulation was made: make one here"
            raise InvalidStateError(text)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return (self._virtual.now_us() - self._began_us) / 1_000_000


class _JumpingSelector(selectors.BaseSelector):
    """Instead of waiting for time to pass, lets it have passed."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return self._real.select(timeout)
        ready = self._real.select(0)
        if not ready:
            self._clock.move_to(self._clock.now_us() + math.ceil(timeout * 1_000_000))
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def refuse_on_a_loop() -> None:
    """Raise `InvalidStateError` where an event loop runs: a simulation has one of its own."""
    if is_on_a_loop():
        raise InvalidStateError(
            "a simulation runs its own event loop: use it in a plain def, not async def, and where "
            "a loop runs already, as in a notebook, in a thread (asyncio.to_thread)"
        )
