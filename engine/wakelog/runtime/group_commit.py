"""Group commit: units that become ready while an append runs go together in the next one.

One append is one transaction and one flush to the disk for many instances. A unit that comes while
no append runs is not held back until others join it (K5).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from wakelog.ports.store import Store
from wakelog.ports.units import Appended, StreamLocked, Unit, VersionConflict
from wakelog.runtime.append_driver import MAX_UNITS_PER_APPEND, AppendDriver, appended_of
from wakelog.runtime.locked_lane import Entry, LockedLane, given_up
from wakelog.threads import log_failure

__all__ = ["GroupCommit"]

_LOG = logging.getLogger("wakelog.commits")

MAX_RESOLVED_AT_ONCE = 64
"""Callers whose futures are resolved in one go if the event loop itself watches appends. Most of
them submit their next unit at once, and the loop sees the next append's end only after that: with
more of them each append would wait for them."""


class GroupCommit:
    """Appends units in the order of submission. Used from the event loop's thread only."""

    def __init__(
        self,
        store: Store,
        driver: AppendDriver | None,
        locked_driver: AppendDriver | None = None,
        *,
        on_refused: Callable[[Unit], None],
        on_appended: Callable[[Sequence[Unit], int | None], None],
    ) -> None:
        """Append by `driver`, or at once if it is None (a store that does not block); and by
        `locked_driver` what another session keeps locked. If that is None it is refused.

        `on_refused` is called with each unit that was not appended, before another unit can build
        on it; `on_appended` with the units that were, and the earliest alarm that they set.
        """
        self._store = store
        self._driver = driver
        watched = driver is not None and driver.are_watched
        self._resolved_at_once = MAX_RESOLVED_AT_ONCE if watched else MAX_UNITS_PER_APPEND
        self._on_refused = on_refused
        self._on_appended = on_appended
        self._queue: deque[Entry] = deque()
        self._lane = None if locked_driver is None else LockedLane(locked_driver, self._left_lane)
        self._unresolved: deque[tuple[asyncio.Future[None], Exception | None]] = deque()
        """The futures of callers whose units have ended, and how."""
        self._running = False
        self._resolving = False
        self._appending: asyncio.Future[Appended] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.appends = 0
        """How many appends there were so far."""
        self.units = 0
        """How many units went with them."""

    def submit(self, unit: Unit) -> asyncio.Future[None]:
        """Have `unit` appended; the future ends when it is on the disk, or with what refused it.

        Cancelling the future does not take the unit back: it may still be recorded.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        entry = (unit, future)
        if self._driver is None:
            self._append_at_once(entry)
            return future
        if self._lane is not None and unit.stream in self._lane:
            self._lane.join(entry)
            return future
        self._queue.append(entry)
        if not self._running:
            self._running = True
            self._idle.clear()
            loop.call_soon(self._start)
        return future

    async def drained(self) -> None:
        """Wait until nothing is queued or being appended, and every caller's future is resolved."""
        await self._idle.wait()

    def _append_at_once(self, entry: Entry) -> None:
        unit, future = entry
        try:
            [error], due_us, _ = self._store.append((unit,))
        except Exception as raised:
            error, due_us = raised, None
        if error is not None:
            self._settle((entry,), (error,), None)
            return
        future.set_result(None)
        self.appends += 1
        self.units += 1
        self._tell_appended((unit,), due_us)

    def _start(self) -> None:
        """Send the next group; runs when all turns that are ready now have submitted."""
        if self._driver is None or not self._queue:
            self._running = False
            self._rest()
            return
        size = min(len(self._queue), MAX_UNITS_PER_APPEND)
        group = [self._queue.popleft() for _ in range(size)]
        units = [unit for unit, _ in group]
        try:
            self._appending = self._driver.append(units)
        except Exception as error:  # not even begun: these fail, the next group has its turn
            self._appending = asyncio.get_running_loop().create_future()
            self._appending.set_exception(error)
        self._appending.add_done_callback(lambda done: self._ended(group, done))

    def _ended(self, group: list[Entry], done: asyncio.Future[Appended]) -> None:
        appended = appended_of(done, len(group))
        if self._queue and not any(appended.errors):
            self._start()  # the store goes on while the callers of this one are told
            self._settle(group, appended.errors, appended.next_due_us)
            return
        try:
            self._settle_ended(group, appended)
        finally:
            self._start()

    def _settle_ended(self, group: list[Entry], appended: Appended) -> None:
        errors = appended.errors
        if self._lane is not None and any(errors):
            group, errors = self._without_locked(self._lane, group, errors)
        self._settle(group, errors, appended.next_due_us)

    def _without_locked(
        self, lane: LockedLane, group: list[Entry], errors: Sequence[Exception | None]
    ) -> tuple[list[Entry], list[Exception | None]]:
        """Set aside what another session keeps locked, and all that was built on it."""
        others: list[tuple[Entry, Exception | None]] = []
        for entry, error in zip(group, errors, strict=True):
            if isinstance(error, StreamLocked):
                lane.set_aside(entry, error.wait_s)
            elif entry[0].stream in lane:
                lane.join(entry)
            else:
                others.append((entry, error))
        queued, self._queue = self._queue, deque()
        for entry in queued:
            if entry[0].stream in lane:
                lane.join(entry)
            else:
                self._queue.append(entry)
        return [entry for entry, _ in others], [error for _, error in others]

    def _left_lane(
        self, entries: Sequence[Entry], errors: Sequence[Exception | None], due_us: int | None
    ) -> None:
        if entries:
            self._settle(entries, errors, due_us)

    def _settle(
        self, group: Sequence[Entry], errors: Sequence[Exception | None], due_us: int | None
    ) -> None:
        refused: set[str] = set()
        appended: list[Unit] = []
        for (unit, future), error in zip(group, errors, strict=True):
            if error is None:
                appended.append(unit)
            else:
                refused.add(unit.stream)
                self._on_refused(unit)
            self._unresolved.append((future, _final(error)))
        self.appends += 1
        self.units += len(appended)
        if refused:
            self._refuse_queued(refused)
        if appended:
            self._tell_appended(appended, due_us)
        if not self._resolving:
            self._resolve_some()

    def _tell_appended(self, units: Sequence[Unit], due_us: int | None) -> None:
        """They are recorded: nothing that follows may tell their callers that they are not."""
        try:
            self._on_appended(units, due_us)
        except Exception as error:
            log_failure(_LOG, "an append is recorded, but not all followed", error=error)

    def _resolve_some(self) -> None:
        for _ in range(min(len(self._unresolved), self._resolved_at_once)):
            _resolve(*self._unresolved.popleft())
        self._resolving = bool(self._unresolved)
        if self._resolving:
            asyncio.get_running_loop().call_soon(self._resolve_some)
        else:
            self._rest()

    def _rest(self) -> None:
        if not self._running and not self._resolving and not self._lane:
            self._idle.set()

    def _refuse_queued(self, streams: set[str]) -> None:
        """Fail the queued units that were built on a refused one."""
        kept: deque[Entry] = deque()
        for unit, future in self._queue:
            if unit.stream in streams:
                _resolve(future, VersionConflict(unit.stream))
            else:
                kept.append((unit, future))
        self._queue = kept


def _final(error: Exception | None) -> Exception | None:
    """What the caller gets: without a lane, a locked stream is not waited for."""
    return given_up(error) if isinstance(error, StreamLocked) else error


def _resolve(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():  # its caller was cancelled
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # a caller behind a shield may be gone: that is no error to report
