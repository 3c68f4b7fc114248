"""A lane for units of instances that another session keeps locked: others go on beside it (K5).

A store waits for a locked row only a moment, because a whole group waits with it. What it refuses
then is tried again here, all of it together, until the row is free or the time for it is over.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence

from wakelog.errors import StoreUnavailableError
from wakelog.ports.units import Appended, StreamLocked, Unit, VersionConflict
from wakelog.runtime.append_driver import MAX_UNITS_PER_APPEND, AppendDriver, appended_of

__all__ = ["Entry", "LockedLane", "given_up"]

PAUSE_S = 0.1
"""Between two tries. No connection is held meanwhile, and none waits in the server."""

Entry = tuple[Unit, "asyncio.Future[None]"]
Ended = Callable[[Sequence[Entry], Sequence[Exception | None], int | None], None]


class _Waiting:
    """The units of one stream, in their order. As many as callers wait for, like the main queue."""

    __slots__ = ("entries", "until_s", "wait_s")

    def __init__(self, wait_s: float, now_s: float) -> None:
        self.entries: deque[Entry] = deque()
        self.wait_s = wait_s
        self.until_s = now_s + wait_s
        """When they are given up, by the event loop's clock."""


class LockedLane:
    """Keeps the order of each stream: while a unit of it waits here, its later ones wait behind.

    Used from the event loop's thread only.
    """

    def __init__(self, driver: AppendDriver, ended: Ended) -> None:
        """`driver` appends on no thread that others need; `ended` is called after each try with the
        units that have left the lane, what became of each, and the earliest alarm."""
        self._driver = driver
        self._ended = ended
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._is_trying = False

    def __contains__(self, stream: object) -> bool:
        return stream in self._waiting

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def set_aside(self, entry: Entry, wait_s: float) -> None:
        """Add the first unit of a stream, to be tried for `wait_s` seconds."""
        loop = asyncio.get_running_loop()
        stream = entry[0].stream
        if stream not in self._waiting:
            self._waiting[stream] = _Waiting(wait_s, loop.time())
        self.join(entry)
        if not self._is_trying:
            self._is_trying = True
            loop.call_later(PAUSE_S, self._try)

    def join(self, entry: Entry) -> None:
        """Add a unit of a stream that is in the lane."""
        self._waiting[entry[0].stream].entries.append(entry)

    def _try(self) -> None:
        entries = list(self._first_entries())
        try:
            appending = self._driver.append([unit for unit, _ in entries])
        except Exception as error:
            self._tried(entries, Appended([error] * len(entries), None))
            return
        appending.add_done_callback(
            lambda done: self._tried(entries, appended_of(done, len(entries)))
        )

    def _first_entries(self) -> Iterator[Entry]:
        left = MAX_UNITS_PER_APPEND
        for waiting in self._waiting.values():
            for entry in waiting.entries:
                if not left:
                    return
                left -= 1
                yield entry

    def _tried(self, entries: Sequence[Entry], appended: Appended) -> None:
        outcomes: list[tuple[Entry, Exception | None]] = []
        locked: dict[str, StreamLocked] = {}
        refused: set[str] = set()
        for entry, error in zip(entries, appended.errors, strict=True):
            stream = entry[0].stream
            if isinstance(error, StreamLocked):
                locked[stream] = error
            if stream in locked:
                continue
            self._waiting[stream].entries.popleft()
            outcomes.append((entry, error))
            if error is not None:
                refused.add(stream)
        for stream in dict.fromkeys(unit.stream for unit, _ in entries):
            outcomes += self._left_over(stream, locked.get(stream), stream in refused)
        try:
            self._ended(
                [entry for entry, _ in outcomes],
                [error for _, error in outcomes],
                appended.next_due_us,
            )
        finally:
            self._is_trying = bool(self._waiting)
            if self._is_trying:
                asyncio.get_running_loop().call_later(PAUSE_S, self._try)

    def _left_over(
        self, stream: str, locked: StreamLocked | None, was_refused: bool
    ) -> Iterator[tuple[Entry, Exception]]:
        """After a try: what leaves the lane with the units of the stream that were tried."""
        waiting = self._waiting[stream]
        now_s = asyncio.get_running_loop().time()
        error: Exception | None = None
        if locked is not None and now_s >= waiting.until_s:
            error = given_up(locked)
        elif was_refused:
            error = VersionConflict(stream)
        elif locked is not None:
            self._waiting.move_to_end(stream)  # so that all have their turn
        else:
            waiting.until_s = now_s + waiting.wait_s
        if error is not None or not waiting.entries:
            del self._waiting[stream]
        if error is not None:
            for entry in waiting.entries:
                yield entry, error


def given_up(error: StreamLocked) -> StoreUnavailableError:
    """What the callers of a unit get whose stream stays locked."""
    detail = f"another session keeps {error.stream} locked, for {error.wait_s:g} s or longer"
    return StoreUnavailableError("locked", detail)
