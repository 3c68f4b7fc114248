"""Appends that no thread waits for: a store may start one, and the event loop watches its socket.

A thread that waits for a server needs the GIL twice for each append, and a busy event loop gives it
away only every `sys.getswitchinterval()`: five milliseconds, as long as the server itself takes
(decision 11).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from wakelog.ports.store import StartedAppend, StartsAppends, Store
from wakelog.ports.units import Appended, Unit
from wakelog.runtime.store_threads import StoreExecutor, closed_meanwhile

__all__ = ["MAX_UNITS_PER_APPEND", "AppendDriver", "appended_of"]

LOOK_S = 0.25
"""How often to look whether the answer to an append has been waited for long enough."""
MAX_UNITS_PER_APPEND = 128
"""Two groups of half the senders each keep both the event loop and the disk busy; with one group of
all of them the loop would wait for the disk, and the disk for the loop (decision 12)."""


class AppendDriver:
    """Appends for the event loop: watched by it if the store can start them, else on a thread."""

    def __init__(self, store: Store, executor: StoreExecutor) -> None:
        self._store = store
        self._starter = store if isinstance(store, StartsAppends) else None
        self._executor = executor

    @property
    def are_watched(self) -> bool:
        """Whether the event loop itself sees how appends end, and not a thread."""
        return self._starter is not None

    def append(self, units: Sequence[Unit]) -> asyncio.Future[Appended]:
        """`Store.append`. It goes on if the caller is cancelled."""
        started = self._starter.start_append(units) if self._starter else None
        if started is None:
            return asyncio.ensure_future(self._executor.run(self._store.append, units))
        watched = _WatchedAppend(started, self._executor)
        try:
            watched.watch()
        except Exception as error:  # it was sent: whatever this is, its outcome is found out
            if isinstance(error, NotImplementedError):  # a loop without sockets, as on Windows
                self._starter = None
            watched.settle()
        return watched.future


def appended_of(done: asyncio.Future[Appended], units: int) -> Appended:
    """The result of an append of so many units that has ended; if it failed, each has its error."""
    error = closed_meanwhile() if done.cancelled() else done.exception()
    if error is None:
        return done.result()
    ended = error if isinstance(error, Exception) else closed_meanwhile()
    return Appended([ended] * units, None)


class _WatchedAppend:
    """An append that the event loop watches until it ends; only the loop refers to it.

    A loop may refuse to watch a socket: it is out of file descriptors, or still has a closed socket
    registered under this number.
    """

    __slots__ = ("_executor", "_loop", "_socket", "_started", "_timer", "future")

    def __init__(self, started: StartedAppend, executor: StoreExecutor) -> None:
        self._started = started
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._socket = started.socket
        self.future: asyncio.Future[Appended] = self._loop.create_future()
        self._timer = self._loop.call_later(LOOK_S, self._look_at_clock)

    def watch(self) -> None:
        """Watch for one thing at a time: the watch of a socket that was closed meanwhile can be
        ended, but not changed."""
        loop = self._loop
        if self._started.is_over:
            self._end()
        elif self._started.is_sending:
            loop.add_writer(self._socket, self._look, loop.remove_writer)
        else:
            loop.add_reader(self._socket, self._look, loop.remove_reader)

    def _look(self, unwatch: Callable[[int], object]) -> None:
        started = self._started
        was_sending = started.is_sending
        try:
            started.look()
            if not started.is_over and started.is_sending == was_sending:
                return
            unwatch(self._socket)
            if not started.is_over:
                self.watch()
                return
        except Exception:  # it was sent: its outcome is found out
            with contextlib.suppress(Exception):
                unwatch(self._socket)
            self.settle()
            return
        self._end()

    def _look_at_clock(self) -> None:
        """After what has arrived was looked at: the loop may have been blocked."""
        if not self._started.is_silent:
            self._timer = self._loop.call_later(LOOK_S, self._look_at_clock)
            return
        for unwatch in (self._loop.remove_reader, self._loop.remove_writer):
            with contextlib.suppress(Exception):
                unwatch(self._socket)
        self._started.give_up()
        self.settle()

    def _end(self) -> None:
        self._timer.cancel()
        try:
            appended = self._started.result()
        except Exception as error:  # there is no thread that would hand it on
            self.future.set_exception(error)
            return
        if appended is None:
            self.settle()
        else:
            self.future.set_result(appended)

    def settle(self) -> None:
        """On the executor, which may block."""
        self._timer.cancel()
        settling = asyncio.ensure_future(self._executor.run(self._started.settle))
        settling.add_done_callback(lambda settled: _hand_on(settled, self.future))


def _hand_on(settled: asyncio.Future[Appended], future: asyncio.Future[Appended]) -> None:
    if settled.cancelled():
        future.cancel()
    elif (error := settled.exception()) is None:
        future.set_result(settled.result())
    else:
        future.set_exception(error)
