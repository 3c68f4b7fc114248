"""Which functions are so short that their calls share a thread, and the thread's way through them.

To hand each call to a thread of its own costs several times what a short handler does. Calls of
functions that were short so far wait in one line, and one thread makes all that are in it, in one
go. Whether they are short still is looked at while they run: see `Drain.stuck`.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wakelog.clock import elapsed_s, processor_s

if TYPE_CHECKING:
    from wakelog.execution.pool_task import PoolTask

__all__ = ["Drain", "Pace", "Paces"]

QUICK_S = 0.000_1
"""A function is short if its calls take less than this on average."""
SLOW_S = 0.000_2
"""It is not short any more if they take longer than this on average."""
LONGEST_S = 0.001
"""No call counts for more: one that had to wait for the interpreter says little of its function."""
WEIGHT = 1 / 16
"""What part of the average the newest call is."""
CHECK_S = 0.001
"""How long a call may take before the others are made elsewhere."""
STARVED_S = 0.02
"""The same, while the loop computes: then the call may only have to wait for the interpreter."""


class Pace:
    """How long the calls of one function take, on average; at first they count as not short."""

    __slots__ = ("average_s", "is_quick")

    def __init__(self) -> None:
        self.average_s = SLOW_S
        self.is_quick = False

    def took(self, seconds: float) -> None:
        """A call has ended. Any thread may say so: if two do at once, one of them may be lost."""
        self.average_s += (min(seconds, LONGEST_S) - self.average_s) * WEIGHT
        self.is_quick = self.average_s < (SLOW_S if self.is_quick else QUICK_S)

    def was_stuck(self) -> None:
        """A call does not end: until more calls than usual were short, none counts as such."""
        self.average_s = LONGEST_S
        self.is_quick = False


class Paces:
    """The pace of each function that is called and that is still alive."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], Pace]] = {}

    def of(self, fn: Callable[..., Any]) -> Pace | None:
        """The pace of `fn`; None if it cannot be kept."""
        key = id(fn)
        known = self._known.get(key)
        if known is not None and known[0]() is fn:
            return known[1]
        pace = Pace()
        try:
            self._known[key] = (weakref.ref(fn, lambda ref: self._forget(key, ref)), pace)
        except TypeError:
            return None
        return pace

    def _forget(self, key: int, ref: weakref.ref[Any]) -> None:
        known = self._known.get(key)
        if known is not None and known[0] is ref:  # else another function has the number by now
            del self._known[key]


class Drain:
    """One way of a thread through the short calls that wait: it makes them until none is left."""

    __slots__ = (
        "_loop_s", "_pause_s", "_seen_s", "current", "ended", "is_lent", "is_over", "is_retired",
        "loop",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.current: PoolTask | None = None
        """The call that the thread makes or has just made; None if it has not come yet."""
        self.is_over = False
        """The thread has left, since it found no more or is not to go on."""
        self.ended = threading.Lock()
        """Held until then."""
        self.ended.acquire()
        self.is_lent = False
        """The loop waits for that: it need not be told."""
        self.is_retired = False
        """The thread is not to go on after its call."""
        self._pause_s = CHECK_S
        self._seen_s = elapsed_s()
        self._loop_s = processor_s()

    def stuck(self) -> PoolTask | None:
        """On the event loop, now and then: the current call if it takes longer than a short one.

        Where the loop itself has computed most of the time since the last look, that does not say
        much: the thread may only have waited for the interpreter.
        """
        call, now_s, loop_s = self.current, elapsed_s(), processor_s()
        is_idle = loop_s - self._loop_s < (now_s - self._seen_s) / 2
        self._seen_s, self._loop_s = now_s, loop_s
        if call is None or not call.began_s:
            return None
        return call if now_s - call.began_s >= (CHECK_S if is_idle else STARVED_S) else None

    def pause_s(self) -> float:
        """How long to wait until the next look: longer and longer, while no thread is free."""
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, STARVED_S)
        return pause_s if self.current is None else CHECK_S
