"""The thread pool for `def` handlers, so that they never block the event loop.

A handler is often shorter than the overhead of a usual thread pool (50 µs per call with anyio's, 16
with the standard library's). Here calls go through one queue, and outcomes are handed back to the
event loop in batches, which costs 2.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Literal

__all__ = ["HandlerPool", "Returned"]

Returned = tuple[Any, BaseException | None]
"""What a function returned, or the exception it raised, as a value: some exceptions cannot be set
on a future, or would end more than the function."""


class HandlerPool:
    """At most `limit` threads, started on demand. To be used from the event loop's thread only.

    They are daemon threads: they end after `close`, or with the process, even during a call.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: SimpleQueue[PoolTask | None] = SimpleQueue()
        self._outcomes: deque[tuple[asyncio.Future[Returned], Returned]] = deque()
        self._is_notified = False
        """The event loop is going to collect outcomes."""
        self._threads = 0
        """The threads that take calls; not those stuck in an abandoned call."""
        self._open = 0
        """The calls that a caller waits for."""
        self._closed = False

    async def call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        on_begin: Callable[[], object] | None = None,
    ) -> Returned:
        """Call `fn(*args)` on a thread, in a copy of the caller's context.

        Waits for a free thread; `on_begin` is called on the event loop when one has started the
        call, unless it has ended by then. If the caller is cancelled, the call is abandoned: it
        never starts if it has not started yet; else it continues, its outcome is ignored, and
        another thread may be started in place of its own.
        """
        call = PoolTask(fn, args, on_begin)
        self._open += 1
        self._grow()
        self._calls.put(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            if call.abandon() and not self._closed:
                self._threads -= 1
            raise
        finally:
            self._open -= 1
            self._grow()

    def close(self) -> None:
        """Let each thread end after its current call."""
        self._closed = True
        for _ in range(self._threads):
            self._calls.put(None)
        self._threads = 0

    def _grow(self) -> None:
        """Start one more thread if calls may be waiting for one."""
        if self._threads < min(self._open, self._limit) and not self._closed:
            self._threads += 1
            name = f"wakelog-handler-{self._threads}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    # -- on a thread

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if not call.begin():
                continue
            outcome = call.outcome()
            if not call.end():
                return
            self._outcomes.append((call.future, outcome))
            if not self._is_notified:
                self._is_notified = True
                try:
                    call.future.get_loop().call_soon_threadsafe(self._collect)
                except RuntimeError:  # the event loop is closed: there is no caller
                    return
            del call, outcome  # else they would stay alive until the next call

    # -- on the event loop

    def _collect(self) -> None:
        self._is_notified = False  # first, so that outcomes from now on notify again
        while self._outcomes:
            future, outcome = self._outcomes.popleft()
            if not future.done():
                future.set_result(outcome)


class PoolTask:
    """One call: it waits, then runs on a thread, then has ended, unless its caller abandons it."""

    __slots__ = ("_args", "_context", "_fn", "_lock", "_on_begin", "_state", "future")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        on_begin: Callable[[], object] | None,
    ) -> None:
        self.future: asyncio.Future[Returned] = asyncio.get_running_loop().create_future()
        self._context = contextvars.copy_context()
        self._fn = fn
        self._args = args
        self._on_begin = on_begin
        self._lock = threading.Lock()
        self._state: Literal["waits", "runs", "ended", "abandoned"] = "waits"

    def outcome(self) -> Returned:
        """Call the function."""
        try:
            return self._context.run(self._fn, *self._args), None
        except BaseException as error:
            return None, error

    def begin(self) -> bool:
        """On the thread, before the call: False if it has been abandoned."""
        with self._lock:
            is_wanted = self._state == "waits"
            if is_wanted:
                self._state = "runs"
        if is_wanted and self._on_begin is not None:
            with contextlib.suppress(RuntimeError):  # the event loop is closed: there is no caller
                self.future.get_loop().call_soon_threadsafe(self._begun, self._on_begin)
        return is_wanted

    def _begun(self, on_begin: Callable[[], object]) -> None:
        if not self.future.done():
            on_begin()

    def end(self) -> bool:
        """On the thread, after the call: False if it has been abandoned, so that another thread
        takes the place of this one."""
        with self._lock:
            is_wanted = self._state == "runs"
            self._state = "ended"
            return is_wanted

    def abandon(self) -> bool:
        """The caller does not wait; True if a thread is still running the call."""
        with self._lock:
            is_running = self._state == "runs"
            self._state = "abandoned"
            return is_running
