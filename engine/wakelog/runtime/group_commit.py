"""Group commit: many units of work, one append.

Units that become ready while an append is running go together in the next one: one transaction,
one wait for the disk. A lone unit never waits for company. A unit that the store refuses fails
alone; what was built on it (later units of the same stream, still in the queue) fails with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from wakelog.ports.store import Store
from wakelog.ports.units import Appended, Unit, VersionConflict
from wakelog.runtime.append_driver import AppendDriver

__all__ = ["MAX_UNITS_PER_APPEND", "GroupCommit"]

MAX_UNITS_PER_APPEND = 128
"""Units in one append. Two batches of half the senders each keep both the loop and the disk busy,
where one batch of all of them would have the loop wait for the disk and the disk for the loop."""

TOLD_AT_ONCE = 64
"""Callers who are told of their append in one go, where the loop hears of appends itself. They
mostly submit the next unit at once, and the loop hears of the next append's end when they have:
with more of them each append would wait for them."""

Entry = tuple[Unit, "asyncio.Future[None]"]


class GroupCommit:
    """Appends units in the order in which they are submitted. Used from the loop's thread only."""

    def __init__(
        self,
        store: Store,
        appends: AppendDriver | None,
        *,
        on_refused: Callable[[Unit], None],
        on_appended: Callable[[Sequence[Unit], int | None], None],
    ) -> None:
        """Append by `appends`, or at once where it is None (a store that does not block).

        `on_refused` hears of each unit that was not appended before anybody else can build on
        it, `on_appended` of the units that were and the earliest alarm that they set.
        """
        self._store = store
        self._appends = appends
        self._told_at_once = (
            TOLD_AT_ONCE if appends and appends.are_watched else MAX_UNITS_PER_APPEND
        )
        self._on_refused = on_refused
        self._on_appended = on_appended
        self._queue: deque[Entry] = deque()
        self._untold: deque[tuple[asyncio.Future[None], Exception | None]] = deque()
        """Who is still to be told what became of a unit, and what."""
        self._running = False
        self._telling = False
        self._appending: asyncio.Future[Appended] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.batches = 0
        self.units = 0

    def submit(self, unit: Unit) -> asyncio.Future[None]:
        """Have `unit` appended; the future ends when it is on the disk, or with what refused it.

        To cancel the future does not take the unit back: it may still be recorded.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        entry = (unit, future)
        if self._appends is None:
            self._append_at_once(entry)
            return future
        self._queue.append(entry)
        if not self._running:
            self._running = True
            self._idle.clear()
            loop.call_soon(self._start)
        return future

    async def drained(self) -> None:
        """Wait until nothing is queued or under way, and everybody is told."""
        await self._idle.wait()

    def _append_at_once(self, entry: Entry) -> None:
        unit, future = entry
        try:
            [error], due_us = self._store.append((unit,))
        except Exception as raised:
            error, due_us = raised, None
        if error is not None:
            self._settle((entry,), (error,), None)
            return
        future.set_result(None)
        self.batches += 1
        self.units += 1
        self._on_appended((unit,), due_us)

    def _start(self) -> None:
        """Send off the next batch; runs when all turns that are ready now have submitted."""
        if self._appends is None or not self._queue:
            self._running = False
            self._rest()
            return
        size = min(len(self._queue), MAX_UNITS_PER_APPEND)
        batch = [self._queue.popleft() for _ in range(size)]
        units = [unit for unit, _ in batch]
        try:
            self._appending = self._appends.append(units)
        except Exception as error:  # not even begun: these fail, the next have their turn
            self._appending = asyncio.get_running_loop().create_future()
            self._appending.set_exception(error)
        self._appending.add_done_callback(lambda done: self._ended(batch, done))

    def _ended(self, batch: list[Entry], done: asyncio.Future[Appended]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            appended = done.result()
            self._settle(batch, appended.errors, appended.next_due_us)
        else:
            failed = error if isinstance(error, Exception) else RuntimeError("the append was cut")
            self._settle(batch, [failed] * len(batch), None)
        self._start()

    def _settle(
        self, batch: Sequence[Entry], errors: Sequence[Exception | None], due_us: int | None
    ) -> None:
        refused: set[str] = set()
        appended: list[Unit] = []
        for (unit, future), error in zip(batch, errors, strict=True):
            if error is None:
                appended.append(unit)
            else:
                refused.add(unit.stream)
                self._on_refused(unit)
            self._untold.append((future, error))
        self.batches += 1
        self.units += len(appended)
        if refused:
            self._refuse_queued(refused)
        if appended:
            self._on_appended(appended, due_us)
        if not self._telling:
            self._tell()

    def _tell(self) -> None:
        for _ in range(min(len(self._untold), self._told_at_once)):
            _resolve(*self._untold.popleft())
        self._telling = bool(self._untold)
        if self._telling:
            asyncio.get_running_loop().call_soon(self._tell)
        else:
            self._rest()

    def _rest(self) -> None:
        if not self._running and not self._telling:
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


def _resolve(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():  # its caller has gone away
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # who waits behind a shield may be gone: nothing to complain of
