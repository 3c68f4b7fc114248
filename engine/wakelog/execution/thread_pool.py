"""The thread pool for `def` handlers, so that they never block the event loop.

A handler is often shorter than the overhead of a usual thread pool (50 µs per call with anyio's, 16
with the standard library's). Here calls go through one queue, and outcomes are handed back to the
event loop in batches. Calls of functions that were short so far share a thread, which makes many of
them in one go; as soon as one of them takes longer, the others have threads of their own: see
`quick_lane`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from wakelog.errors import ThreadsExhaustedError
from wakelog.execution.pool_task import PoolTask, Returned
from wakelog.execution.quick_lane import Drain, Paces
from wakelog.threads import log_failure, start_thread

__all__ = ["HandlerPool", "Returned"]

_LOG = logging.getLogger("wakelog.call")

START_AGAIN_S = 0.1
"""How long to wait until a thread that could not be started is tried again, while calls wait."""
LEND_S = 0.001
"""How long the loop stands still for a thread that makes short calls and gets on with none."""
MAX_LENT = 4
"""So many times as long if it does: it would keep the interpreter about as long in any case."""
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
        self._queue: SimpleQueue[PoolTask | Drain | None] = SimpleQueue()
        """What waits for a thread; None ends one."""
        self._quick: deque[PoolTask] = deque()
        """The short calls that wait for the thread that makes them."""
        self._drain: Drain | None = None
        """That thread's way through them: under way, or asked for."""
        self._paces = Paces()
        self._waiting: dict[object, PoolTask] = {}
        """The calls that callers wait for, by the future that each awaits."""
        self._outcomes: deque[tuple[PoolTask, Returned]] = deque()
        self._is_notified = False
        """The event loop is going to collect outcomes."""
        self._threads: set[HandlerThread] = set()
        """All that run, also those that are stuck."""
        self._usable = 0
        """The threads that take calls; not those stuck in an abandoned call."""
        self._open = 0
        """The calls that a caller waits for and that do not share a thread."""
        self._closed = False
        self._checking: asyncio.TimerHandle | None = None
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
        if self.is_exhausted:
            raise self._exhausted()
        call = PoolTask(fn, args, on_begin, self._paces.of(fn))
        if call.is_quick:
            self._quick.append(call)
            if self._drain is None:
                self._start_drain()
        else:
            self._open += 1
            self._queue.put(call)
            self._grow()
        try:
            while True:
                future = call.future
                self._waiting[future] = call
                try:
                    return await future
                except asyncio.CancelledError:
                    if call.future is future:  # nobody takes its caller's place
                        self._abandon(call)
                        raise
                finally:
                    del self._waiting[future]
        finally:
            if not call.is_quick:
                self._open -= 1

    def hand_down(self, future: object) -> bool:
        """Whether a caller waits for `future` here: then its call goes on, though the caller is
        cancelled, and what is left of its coroutine is to be continued in another task."""
        call = self._waiting.get(future)
        if call is not None:
            call.hand_down()
            self._waiting[call.future] = call
        return call is not None

    def _abandon(self, call: PoolTask) -> None:
        """Its caller has gone: another thread takes the place of the one that makes it, if any."""
        if not call.abandon() or self._closed:
            return
        self._usable -= 1
        if self._drain is not None and self._drain.current is call:
            self._retire(self._drain, call)
        self._grow()
        if self.is_exhausted:
            self._refuse_waiting()

    def close(self) -> None:
        """End the threads; one that is in a call ends after it, and is not waited for."""
        self._closed = True
        for timer in (self._starting_again, self._checking):
            if timer is not None:
                timer.cancel()
        for _ in range(self._usable):
            self._queue.put(None)
        self._usable = 0
        for thread in tuple(self._threads):
            if not thread.is_busy:
                thread.join(CLOSE_S)
                if thread.is_alive():  # one that the system does not let run: wait for it once
                    break

    # -- short calls, which share a thread

    def _start_drain(self) -> None:
        loop = asyncio.get_running_loop()
        self._drain = drain = Drain(loop)
        self._queue.put(drain)
        self._grow()
        self._checking = loop.call_later(drain.pause_s(), self._check)
        if self._open < self._usable:  # else no thread is free to make them
            loop.call_soon(self._lend, drain)

    def _lend(self, drain: Drain) -> None:
        """Lend the interpreter to the thread that makes the short calls, and take over at once.

        Runs when all that is ready now has made its calls. The loop would rest soon anyway, or its
        calls would wait until it does; they are fresh in the processor's cache now.
        """
        if drain is not self._drain or drain.is_over or self._closed:
            return
        try:
            drain.is_lent = True
            for _ in range(MAX_LENT):
                made = drain.current
                if drain.ended.acquire(timeout=LEND_S) or drain.current is made:
                    break
        finally:
            drain.is_lent = False  # before the look: either it is seen here, or the thread tells
        if drain.is_over:
            self._collect()

    def _end_drain(self) -> None:
        self._drain = None
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None

    def _check(self) -> None:
        """Look whether the thread that makes the short calls gets on with them."""
        self._collect()
        drain = self._drain
        if drain is None or self._closed:
            return
        if drain.current is not None:
            drain.current.tell_begun()
        stuck = drain.stuck()
        if stuck is not None:
            self._retire(drain, stuck)
            return
        self._checking = drain.loop.call_later(drain.pause_s(), self._check)

    def _retire(self, drain: Drain, stuck: PoolTask) -> None:
        """This call is not short: its thread takes other calls after it, and those that wait behind
        it have threads of their own now."""
        drain.is_retired = True
        self._end_drain()
        stuck.tell_begun()
        stuck.was_stuck()
        self._parted(stuck)
        with contextlib.suppress(IndexError):
            while True:
                call = self._quick.popleft()
                self._parted(call)
                self._queue.put(call)
        while self._grow():
            pass

    def _parted(self, call: PoolTask) -> None:
        """It does not share a thread any longer."""
        if call.future in self._waiting:
            call.is_quick = False
            self._open += 1

    # -- threads

    def _grow(self) -> bool:
        """Start one more thread if calls may be waiting for one, and as many may run."""
        wanted = self._open if self._drain is None else self._open + 1
        if self._usable >= min(wanted, self._limit) or self._closed:
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
        refused: list[PoolTask] = []
        with contextlib.suppress(Empty):
            while True:
                waiting = self._queue.get_nowait()
                if isinstance(waiting, PoolTask):
                    refused.append(waiting)
        if self._drain is not None:  # no thread has begun it
            self._end_drain()
            refused.extend(self._quick)
            self._quick.clear()
        for call in refused:
            call.resolve(self._exhausted())

    # -- on a thread

    def _work(self, thread: HandlerThread) -> None:
        try:
            while (item := self._queue.get()) is not None:
                thread.is_busy = True
                if isinstance(item, Drain):
                    goes_on = self._make_short(item)
                else:
                    goes_on = self._make(item) and self._notify(item.loop)
                thread.is_busy = False
                if not goes_on:
                    return
                del item  # else it would stay alive until the next one
        finally:
            self._threads.discard(thread)

    def _make_short(self, drain: Drain) -> bool:
        """Make the short calls that wait; False: this thread is not wanted any longer."""
        goes_on = True
        while goes_on and not drain.is_retired:
            try:
                call = self._quick.popleft()
            except IndexError:
                break
            drain.current = call
            goes_on = self._make(call)
        drain.is_over = True  # before it is told: the loop looks whether more have come by then
        drain.ended.release()
        return (drain.is_lent or self._notify(drain.loop)) and goes_on

    def _make(self, call: PoolTask) -> bool:
        """Make a call and keep its outcome; False: this thread is not wanted any longer."""
        try:
            if not call.begin():
                return True
            outcome = call.outcome()
            if not call.end():
                return False
        except BaseException as error:  # out of memory, around the call
            log_failure(_LOG, "a handler's thread failed; it goes on", error=error)
            outcome = None, error
        self._outcomes.append((call, outcome))
        return True

    def _notify(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Have outcomes collected; False if the event loop is closed: there is no caller."""
        if not self._is_notified:
            self._is_notified = True
            try:
                loop.call_soon_threadsafe(self._collect)
            except RuntimeError:
                return False
        return True

    # -- on the event loop

    def _collect(self) -> None:
        self._is_notified = False  # first, so that outcomes from now on notify again
        while self._outcomes:
            call, outcome = self._outcomes.popleft()
            call.resolve(outcome)
        if self._drain is not None and self._drain.is_over:
            self._end_drain()
            if self._quick:  # they have come since
                self._start_drain()


class HandlerThread(threading.Thread):
    """A daemon thread of a pool."""

    def __init__(self, work: Callable[[HandlerThread], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self.is_busy = False
        """Whether it is in a call."""

    def run(self) -> None:
        self._work(self)
