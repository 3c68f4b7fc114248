"""Appends that no thread waits for: a store may start one, and the event loop hears the answer.

A thread that waits for a server needs the interpreter twice for each append, and a busy loop gives
it away only every `sys.getswitchinterval()`: five milliseconds, as long as the server takes itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from wakelog.ports.store import StartedAppend, StartsAppends, Store
from wakelog.ports.units import Appended, Unit
from wakelog.runtime.store_threads import StoreExecutor

__all__ = ["AppendDriver"]

UNWATCHED = (OSError, RuntimeError)
"""How a loop says that it cannot watch a socket: it watches as many as it may, or takes this one
for one that somebody else has closed without a word to it."""


class AppendDriver:
    """Appends for the event loop: watched by it where the store can start them, else on a lane."""

    def __init__(self, store: Store, lane: StoreExecutor) -> None:
        self._store = store
        self._starting = store if isinstance(store, StartsAppends) else None
        self._lane = lane

    @property
    def are_watched(self) -> bool:
        """Whether the loop hears of their ends itself, and not from a thread."""
        return self._starting is not None

    def append(self, units: Sequence[Unit]) -> asyncio.Future[Appended]:
        """`Store.append`. It goes on, whatever becomes of who asked."""
        started = self._starting.start_append(units) if self._starting else None
        if started is None:
            return asyncio.ensure_future(self._lane.run(self._store.append, units))
        watched = _Watched(started, self._lane)
        try:
            watched.watch()
        except UNWATCHED as error:
            if isinstance(error, NotImplementedError):  # a loop without sockets, as on Windows
                self._starting = None
            watched.settle()
        return watched.future


class _Watched:
    """An append that the loop watches, and nothing else knows of, until its end."""

    __slots__ = ("_lane", "_loop", "_socket", "_started", "future")

    def __init__(self, started: StartedAppend, lane: StoreExecutor) -> None:
        self._started = started
        self._lane = lane
        self._loop = asyncio.get_running_loop()
        self._socket = started.socket
        self.future: asyncio.Future[Appended] = self._loop.create_future()

    def watch(self) -> None:
        """For one thing at a time: of a socket that was closed meanwhile a watch can be ended, but
        not changed."""
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
        started.look()
        if not started.is_over and started.is_sending == was_sending:
            return
        unwatch(self._socket)
        try:
            self.watch()
        except UNWATCHED:
            self.settle()

    def _end(self) -> None:
        try:
            appended = self._started.result()
        except Exception as error:  # in the place of a thread, which would hand it on
            self.future.set_exception(error)
            return
        if appended is None:
            self.settle()
        else:
            self.future.set_result(appended)

    def settle(self) -> None:
        """On the lane, where it may wait."""
        settling = asyncio.ensure_future(self._lane.run(self._started.settle))
        settling.add_done_callback(lambda settled: _hand_on(settled, self.future))


def _hand_on(settled: asyncio.Future[Appended], future: asyncio.Future[Appended]) -> None:
    if settled.cancelled():
        future.cancel()
    elif (error := settled.exception()) is None:
        future.set_result(settled.result())
    else:
        future.set_exception(error)
