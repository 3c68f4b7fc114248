"""One call of a `def` on a thread, and who waits for its outcome."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any, Literal

from wakelog.clock import elapsed_s
from wakelog.execution.quick_lane import Pace

__all__ = ["PoolTask", "Returned"]

Returned = tuple[Any, BaseException | None]
"""What a function returned, or the exception it raised, as a value: some exceptions cannot be set
on a future, or would end more than the function."""


class PoolTask:
    """One call: it waits, then runs on a thread, then has ended, unless its caller abandons it."""

    __slots__ = (
        "_args", "_context", "_fn", "_lock", "_missed", "_on_begin", "_pace", "_state", "began_s",
        "future",
        "is_quick", "loop",
    )  # fmt: skip

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        on_begin: Callable[[], object] | None,
        pace: Pace | None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Returned] = self.loop.create_future()
        """What its caller awaits now; another one if another task takes the caller's place."""
        self.is_quick = pace is not None and pace.is_quick
        """Whether it shares a thread with others."""
        self.began_s = 0.0
        """When the function was called, by `elapsed_s`; 0 if it was not."""
        self._missed: Returned | Exception | None = None
        """How it ended, when its caller had given up and nobody had taken over yet."""
        self._context = contextvars.copy_context()
        self._fn = fn
        self._args = args
        self._on_begin = on_begin
        self._pace = pace
        self._lock = threading.Lock()
        self._state: Literal["waits", "runs", "ended", "abandoned"] = "waits"

    # -- on the event loop

    def hand_down(self) -> None:
        """Its caller gives up, and another task takes the caller's place: the call goes on."""
        self.future.cancel()
        if not self.future.cancelled():  # it has ended: who takes over finds the outcome there
            return
        self.future = self.loop.create_future()
        if self._missed is not None:
            self.resolve(self._missed)

    def resolve(self, end: Returned | Exception) -> None:
        """Tell whoever waits its outcome, or why it will not be made."""
        if self.future.done():
            self._missed = end
        elif isinstance(end, Exception):
            self.future.set_exception(end)
        else:
            self.future.set_result(end)

    def tell_begun(self) -> None:
        """Call `on_begin`, once, and not if nobody waits any more."""
        on_begin, self._on_begin = self._on_begin, None
        if on_begin is not None and not self.future.done():
            on_begin()

    def was_stuck(self) -> None:
        """It has taken too long to share a thread with others."""
        if self._pace is not None:
            self._pace.was_stuck()

    def abandon(self) -> bool:
        """The caller does not wait; True if a thread is still running the call."""
        with self._lock:
            is_running = self._state == "runs"
            self._state = "abandoned"
            return is_running

    # -- on a thread

    def begin(self) -> bool:
        """Before the call: False if it has been abandoned."""
        with self._lock:
            is_wanted = self._state == "waits"
            if is_wanted:
                self._state = "runs"
        if is_wanted and self._on_begin is not None and not self.is_quick:
            with contextlib.suppress(RuntimeError):  # the event loop is closed: there is no caller
                self.loop.call_soon_threadsafe(self.tell_begun)
        return is_wanted

    def outcome(self) -> Returned:
        """Call the function, and remember how long it took."""
        began_s = self.began_s = elapsed_s()
        try:
            returned: Returned = self._context.run(self._fn, *self._args), None
        except BaseException as error:
            returned = None, error
        if self._pace is not None:
            self._pace.took(elapsed_s() - began_s)
        return returned

    def end(self) -> bool:
        """After the call: False if it has been abandoned, so that another thread takes the place of
        this one."""
        with self._lock:
            is_wanted = self._state == "runs"
            self._state = "ended"
            return is_wanted
