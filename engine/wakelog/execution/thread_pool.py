"""Threads: where `def` handlers are called, so that they never block the event loop.

A handler is often shorter than what a pool of threads usually costs (50 µs a call with anyio's,
16 with the standard library's). Here calls go through one queue and their outcomes come back many
at a time, which costs 2.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

__all__ = ["HandlerPool", "Returned"]

Returned = tuple[Any, BaseException | None]
"""What a function answered, or raised: as a value, since some exceptions cannot be passed on as
such through a future, or would end more than the function."""


class HandlerPool:
    """At most `limit` threads, begun when they are needed. Used from the loop's thread only.

    They end with `close`, or with the process, in the middle of a call if need be.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: SimpleQueue[PoolTask | None] = SimpleQueue()
        self._outcomes: deque[tuple[asyncio.Future[Returned], Returned]] = deque()
        self._is_told = False
        self._threads = 0
        """Those that take calls: not those stuck in a call whose caller is gone."""
        self._open = 0
        """Calls whose caller is there."""
        self._closed = False

    async def call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        on_begin: Callable[[], object] | None = None,
    ) -> Returned:
        """Call `fn(*args)` on a thread, in a copy of the caller's context.

        It waits for a thread that is free; `on_begin` is called on the loop when one has taken it
        up, unless it is over by then. A caller that is cancelled goes. What has not begun by then
        never does; what has goes on, nobody hears how it ends, and another thread may begin in
        the place of its own.
        """
        call = PoolTask(fn, args, on_begin)
        self._open += 1
        self._grow()
        self._calls.put(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            if call.leave() and not self._closed:
                self._threads -= 1
            raise
        finally:
            self._open -= 1
            self._grow()

    def close(self) -> None:
        """Let each thread end when it is done with its call."""
        self._closed = True
        for _ in range(self._threads):
            self._calls.put(None)
        self._threads = 0

    def _grow(self) -> None:
        """Begin one more thread if calls may be waiting for it."""
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
            if not self._is_told:
                self._is_told = True
                try:
                    call.future.get_loop().call_soon_threadsafe(self._tell)
                except RuntimeError:  # the loop is closed: nobody waits any more
                    return
            del call, outcome  # or they would be kept until the next call

    # -- on the loop

    def _tell(self) -> None:
        self._is_told = False  # first: what comes from now on is told of again
        while self._outcomes:
            future, outcome = self._outcomes.popleft()
            if not future.done():
                future.set_result(outcome)


class PoolTask:
    """One call, from its caller to a thread and back. Either side may be the first to give up."""

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
        self._state = "waits"

    def outcome(self) -> Returned:
        """Do it."""
        try:
            return self._context.run(self._fn, *self._args), None
        except BaseException as error:
            return None, error

    def begin(self) -> bool:
        """The thread takes it up; False if nobody waits for it any more."""
        with self._lock:
            is_wanted = self._state == "waits"
            if is_wanted:
                self._state = "runs"
        if is_wanted and self._on_begin is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self.future.get_loop().call_soon_threadsafe(self._begun, self._on_begin)
        return is_wanted

    def _begun(self, on_begin: Callable[[], object]) -> None:
        if not self.future.done():
            on_begin()

    def end(self) -> bool:
        """The thread is done with it; False if it was given up meanwhile, and its thread too."""
        with self._lock:
            is_wanted = self._state == "runs"
            self._state = "ended"
            return is_wanted

    def leave(self) -> bool:
        """The caller goes; True if that leaves a thread behind in it."""
        with self._lock:
            is_left = self._state == "runs"
            self._state = "left"
            return is_left
