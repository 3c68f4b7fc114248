"""On which threads the blocking calls to a store run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from threading import Barrier, BrokenBarrierError
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar

from wakelog.errors import InvalidStateError, StoreUnavailableError
from wakelog.threads import START_ERRORS, no_thread_for

__all__ = [
    "InlineExecutor",
    "StoreExecutor",
    "StoreThreads",
    "ThreadExecutor",
    "closed_meanwhile",
]

P = ParamSpec("P")
R = TypeVar("R")

CLOSE_S = 0.5
"""How long closing waits for calls that are running although nothing waits for their results."""
JOIN_S = 0.25
"""How long closing then waits for a thread whose call the closing of the store ends; once in vain,
and it waits for no other."""
HAND_OVER_S = 0.005
"""The longest that the event loop blocks until a call has started: as long as it would keep the
GIL otherwise (`sys.getswitchinterval()`)."""


class StoreExecutor(Protocol):
    """Runs blocking functions for the event loop."""

    def run(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        """The result of `fn(*args, **kwargs)`."""
        ...

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Wait for the calls that are running, at most `timeout_s`, then end. Calls from now on
        raise `InvalidStateError`. Safe to call twice."""
        ...

    def join(self, timeout_s: float) -> bool:
        """After `close`: wait for the end of each thread; False if one takes longer than that."""
        ...


class InlineExecutor:
    """Calls on the event loop itself: for stores that do not block, and for simulations.

    With `yields` other tasks run first: a caller that asks again and again would starve them.
    """

    def __init__(self, *, yields: bool = False) -> None:
        self._yields = yields
        self._closed = False

    async def run(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._yields:
            await asyncio.sleep(0)
        if self._closed:  # else a caller that looks again and again would do so for ever
            return await _refused()
        return fn(*args, **kwargs)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Nothing to wait for."""
        self._closed = True

    def join(self, timeout_s: float) -> bool:
        """No threads."""
        return True


class ThreadExecutor:
    """Calls on a few threads of its own, so that the event loop goes on meanwhile.

    All of them are started at once: a thread that is started by a call may be refused when the call
    is already queued, and an append would be made although its caller was told that it had failed.

    A worker thread needs the GIL to start. With `hands_over` the event loop blocks until the call
    has started, at most `HAND_OVER_S`, instead of keeping the GIL for a whole switch interval. It
    gets the GIL back when the call waits for the store (decision 14).

    A call that waited for a thread while another one ran into its timeout ends as that did. Each
    would run into a timeout of its own, one after the other.
    """

    def __init__(self, name: str, threads: int = 1, *, hands_over: bool = False) -> None:
        """Raises `ThreadsExhaustedError`."""
        started: list[threading.Thread] = []
        self._started = started
        self._threads = ThreadPoolExecutor(
            threads,
            thread_name_prefix=f"wakelog-{name}",
            initializer=lambda: started.append(threading.current_thread()),
        )
        _start_all(self._threads, name, threads)
        self._size = self._free = threads
        self._hands_over = hands_over
        self._closed = False
        self._asked = 0
        """How many calls were asked for."""
        self._away: tuple[int, str] | None = None
        """How many were when the last call began that found the store unreachable; what it said."""

    def run(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        if self._closed:
            return _refused()
        if not self._hands_over:
            self._asked = number = self._asked + 1
            return asyncio.wrap_future(self._threads.submit(self._made, number, fn, args, kwargs))
        started = threading.Lock()
        started.acquire()

        def call() -> R:
            started.release()
            return fn(*args, **kwargs)

        ended = asyncio.wrap_future(self._threads.submit(call))
        ended.add_done_callback(self._ended)
        self._free -= 1
        if self._free >= 0:
            started.acquire(timeout=HAND_OVER_S)
        return ended

    def _made(
        self, number: int, fn: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> R:
        if self._away is not None and number <= self._away[0]:
            detail = f"not tried, since a call before it failed: {self._away[1]}"
            raise StoreUnavailableError("unreachable", detail)
        asked = self._asked
        try:
            return fn(*args, **kwargs)
        except StoreUnavailableError as error:
            if error.reason == "unreachable":
                self._away = asked, error.detail
            raise

    def _ended(self, _: object) -> None:
        """Also if the caller was cancelled and the call goes on: then one wait is in vain."""
        self._free += 1

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """A call that takes longer goes on on its thread, which ends after it; calls that wait
        behind it are not made."""
        self._closed = True
        all_are_free = Barrier(self._size + 1)
        with suppress(RuntimeError):  # it was closed before
            for _ in range(self._size):
                self._threads.submit(all_are_free.wait)
        try:
            with suppress(BrokenBarrierError):
                all_are_free.wait(timeout_s)
        except BaseException:  # an interrupt: the threads that are free must not wait on
            all_are_free.abort()
            raise
        finally:
            self._threads.shutdown(wait=not all_are_free.broken, cancel_futures=True)

    def join(self, timeout_s: float) -> bool:
        """See `StoreExecutor.join`."""
        for thread in self._started:
            thread.join(timeout_s)
            if thread.is_alive():
                return False
        return True


class StoreThreads:
    """The executors of one process: short reads, long reads, one thread that appends, and two for
    writes that may wait for another session's locks."""

    def __init__(self, *, blocking: bool, inline: bool) -> None:
        """`blocking`: the store waits for a disk or a network. `inline`: a simulation.

        Raises `ThreadsExhaustedError`, and leaves no thread then.
        """
        self.reads: StoreExecutor
        self.writes: StoreExecutor | None
        """None: appends are made at once, on the event loop."""
        self.waits: StoreExecutor
        """For what may wait long, although it writes: no append waits behind it."""
        self._long_reads: StoreExecutor
        if blocking and not inline:
            with ExitStack() as started:
                self.reads = started.enter_context(closing(ThreadExecutor("reads", 2)))
                self._long_reads = started.enter_context(closing(ThreadExecutor("browse", 2)))
                self.waits = started.enter_context(closing(ThreadExecutor("waits", 2)))
                self.writes = ThreadExecutor("writes", hands_over=True)
                started.pop_all()
        else:
            self.reads = self._long_reads = InlineExecutor(yields=not inline)
            self.waits = InlineExecutor()
            self.writes = None

    async def read(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a reading method of the store off the event loop. Raises `InvalidStateError` if it
        is not made any longer, because these threads were closed."""
        return await _unless_closed(self.reads.run(fn, *args, **kwargs))

    async def browse(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `read`, for calls that may take long: no request waits behind them."""
        return await _unless_closed(self._long_reads.run(fn, *args, **kwargs))

    async def write(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `read`, for a writing method of the store, other than `append`."""
        return await _unless_closed(self.waits.run(fn, *args, **kwargs))

    def close(self) -> None:
        """End the executors, each as `StoreExecutor.close` does, also those after one in which it
        is interrupted. Safe to call twice."""
        with ExitStack() as closing_all:
            for executor in reversed([*self._executors()]):
                closing_all.callback(executor.close)

    def join(self) -> None:
        """Once the store is closed: calls that waited for it end now, and so do their threads. Wait
        for them, see `JOIN_S`."""
        for executor in self._executors():
            if not executor.join(JOIN_S):
                break

    def _executors(self) -> Iterator[StoreExecutor]:
        if self.writes is not None:
            yield self.writes
        yield from (self.waits, self.reads, self._long_reads)


def _start_all(pool: ThreadPoolExecutor, name: str, count: int) -> None:
    """Each of these calls takes a thread, so each starts one. If one is refused, none is left."""
    go_on = threading.Event()
    try:
        for _ in range(count):
            pool.submit(go_on.wait)
    except START_ERRORS as error:
        go_on.set()
        pool.shutdown(wait=True, cancel_futures=True)
        raise no_thread_for(f"wakelog-{name}", error) from error
    finally:
        go_on.set()


def closed_meanwhile() -> InvalidStateError:
    """The error of a call that was not made, because the threads were closed."""
    return InvalidStateError(
        "the app was closed meanwhile: open it again, and look at what was recorded"
    )


async def _refused() -> NoReturn:
    raise closed_meanwhile()


async def _unless_closed(call: Awaitable[R]) -> R:
    """What the call answers. If it is cancelled and its caller is not, closing has cancelled it."""
    try:
        return await call
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and not task.cancelling():
            raise closed_meanwhile() from None
        raise
