"""The thread pool for `def` handlers, so that they never block the event loop.

A handler is often shorter than the overhead of a usual thread pool (50 µs per call with anyio's, 16
with the standard library's). Here calls go through one queue, and outcomes are handed back to the
event loop in batches, which costs 2.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Literal

from wakelog.errors import ThreadsExhaustedError
from wakelog.threads import log_failure, start_thread

__all__ = ["HandlerPool", "Returned"]

_LOG = logging.getLogger("wakelog.call")

Returned = tuple[Any, BaseException | None]
"""What a function returned, or the exception it raised, as a value: some exceptions cannot be set
on a future, or would end more than the function."""

START_AGAIN_S = 0.1
"""How long to wait until a thread that could not be started is tried again, while calls wait."""
CLOSE_S = 5.0
"""How long closing waits for threads that are in no call: they end at once."""
_ADVICE = "find the handlers that do not end (the log names some), and restart this process"


class HandlerPool:
    """At most `limit` threads, and as many more that are stuck in abandoned calls.

    The first is started with the pool, the others on demand: a process that cannot start any for a
    moment makes its calls on those that it has. To be used from the event loop's thread only. They
    are daemon threads: they end after `close`, or with the process, even during a call.
    """

    def __init__(self, limit: int, *, starts: bool = True) -> None:
        """`starts`: whether to start the first thread now."""
        self._limit = limit
        self._calls: SimpleQueue[PoolTask | None] = SimpleQueue()
        self._outcomes: deque[tuple[asyncio.Future[Returned], Returned]] = deque()
        self._is_notified = False
        """The event loop is going to collect outcomes."""
        self._threads: set[HandlerThread] = set()
        """All that run, also those that are stuck."""
        self._usable = 0
        """The threads that take calls; not those stuck in an abandoned call."""
        self._open = 0
        """The calls that a caller waits for."""
        self._closed = False
        self._starting_again: asyncio.TimerHandle | None = None
        self._is_refused = False
        """The last start of a thread has failed, and was logged."""
        if starts:
            self._start_one()

    @property
    def is_exhausted(self) -> bool:
        """Whether no call can be made: each thread is stuck, and so is each that took its place."""
        return not self._usable and len(self._threads) >= 2 * self._limit

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
        another thread may be started in place of its own. Raises `ThreadsExhaustedError` if `limit`
        threads were replaced so, and those in their place are stuck too: it has not started.
        """
        call = PoolTask(fn, args, on_begin)
        self._open += 1
        try:
            self._grow()
            if self.is_exhausted:
                raise self._exhausted()
            self._calls.put(call)
            return await call.future
        except asyncio.CancelledError:
            if call.abandon() and not self._closed:
                self._usable -= 1
            raise
        finally:
            self._open -= 1
            self._grow()
            if self._open and self.is_exhausted:
                self._refuse_waiting()

    def close(self) -> None:
        """End the threads; one that is in a call ends after it, and is not waited for."""
        self._closed = True
        if self._starting_again is not None:
            self._starting_again.cancel()
        for _ in range(self._usable):
            self._calls.put(None)
        self._usable = 0
        for thread in tuple(self._threads):
            if not thread.is_busy:
                thread.join(CLOSE_S)
                if thread.is_alive():  # one that the system does not let run: wait for it once
                    break

    def _grow(self) -> bool:
        """Start one more thread if calls may be waiting for one, and as many may run."""
        if self._usable >= min(self._open, self._limit) or self._closed:
            return False
        if len(self._threads) >= 2 * self._limit or self._starting_again is not None:
            return False
        if self._start_one():
            return True
        loop = asyncio.get_running_loop()
        self._starting_again = loop.call_later(START_AGAIN_S, self._start_again)
        return False

    def _start_again(self) -> None:
        self._starting_again = None
        while self._grow():
            pass

    def _start_one(self) -> bool:
        """Start a thread, and count it; False if the process cannot start any now."""
        thread = HandlerThread(self._work, f"wakelog-handler-{self._usable + 1}")
        self._threads.add(thread)
        try:
            start_thread(thread)
        except ThreadsExhaustedError as error:
            self._threads.discard(thread)
            if not self._is_refused:
                _LOG.warning("%s (calls go on with %d threads)", error, self._usable)
            self._is_refused = True
            return False
        self._is_refused = False
        self._usable += 1
        return True

    def _exhausted(self) -> ThreadsExhaustedError:
        detail = f"all {len(self._threads)} are stuck in handlers whose callers have gone"
        return ThreadsExhaustedError("a def handler", detail, _ADVICE)

    def _refuse_waiting(self) -> None:
        """No thread is left for the calls that wait."""
        with contextlib.suppress(Empty):
            while True:
                call = self._calls.get_nowait()
                if call is not None and not call.future.done():
                    call.future.set_exception(self._exhausted())

    # -- on a thread

    def _work(self, thread: HandlerThread) -> None:
        try:
            while (call := self._calls.get()) is not None:
                try:
                    if not self._serve(thread, call):
                        return
                except BaseException as error:  # out of memory, around the call
                    log_failure(_LOG, "a handler's thread failed; it goes on", error=error)
                    with contextlib.suppress(Exception):
                        self._hand_over(call, (None, error))
                del call  # else it would stay alive until the next one
        finally:
            self._threads.discard(thread)

    def _serve(self, thread: HandlerThread, call: PoolTask) -> bool:
        """Make a call and hand its outcome over; False: this thread is not wanted any longer."""
        if not call.begin():
            return True
        thread.is_busy = True
        outcome = call.outcome()
        thread.is_busy = False
        return call.end() and self._hand_over(call, outcome)

    def _hand_over(self, call: PoolTask, outcome: Returned) -> bool:
        """Give the event loop an outcome; False if it is closed."""
        self._outcomes.append((call.future, outcome))
        if not self._is_notified:
            self._is_notified = True
            try:
                call.future.get_loop().call_soon_threadsafe(self._collect)
            except RuntimeError:  # the event loop is closed: there is no caller
                return False
        return True

    # -- on the event loop

    def _collect(self) -> None:
        self._is_notified = False  # first, so that outcomes from now on notify again
        while self._outcomes:
            future, outcome = self._outcomes.popleft()
            if not future.done():
                future.set_result(outcome)


class HandlerThread(threading.Thread):
    """A daemon thread of a pool."""

    def __init__(self, work: Callable[[HandlerThread], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self.is_busy = False
        """Whether it is in a call."""

    def run(self) -> None:
        self._work(self)


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
