"""Watching a stream for an event that somebody will append, perhaps in another process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from wakelog.clock import Clock
from wakelog.errors import WaitTimeoutError
from wakelog.log.records import Recorded, decode
from wakelog.ports.records import StoredEvent

__all__ = ["StreamWatch"]

R = TypeVar("R")


class StreamWatch:
    """Those who watch, by stream. Used from the loop's thread only."""

    def __init__(
        self,
        clock: Clock,
        events_after: Callable[[str, int], Awaitable[Sequence[StoredEvent]]],
    ) -> None:
        """`events_after` reads the events of a stream after a version."""
        self._clock = clock
        self._events_after = events_after
        self._watched: dict[str, set[asyncio.Event]] = {}
        self.drive: Callable[[int | None], Awaitable[None]] | None = None
        """In a simulation: lets the next thing happen, while a caller waits for an outcome."""

    def tell(self, stream: str) -> None:
        """This process has appended to `stream`, or heard of it."""
        for watcher in self._watched.get(stream, ()):
            watcher.set()

    async def watch(
        self, stream: str, after: int, find: Callable[[Recorded], R | None], timeout_us: int | None
    ) -> R:
        """Wait until `find` finds something in an event after version `after`, whoever appends it.

        Raises `WaitTimeoutError`.
        """
        seen = asyncio.Event()
        self._watched.setdefault(stream, set()).add(seen)
        until_us = None if timeout_us is None else self._clock.now_us() + timeout_us
        timeout_s = None if timeout_us is None or self.drive else timeout_us / 1_000_000
        try:
            async with asyncio.timeout(timeout_s):
                for pause_s in itertools.chain((0.01, 0.02, 0.05, 0.1), itertools.repeat(0.25)):
                    seen.clear()
                    for stored in await self._events_after(stream, after):
                        after = stored.version
                        if (found := find(decode(stored))) is not None:
                            return found
                    await self._pause(seen, pause_s, until_us)
        except TimeoutError:
            raise WaitTimeoutError(stream, (timeout_us or 0) / 1_000_000) from None
        finally:
            self._watched[stream].discard(seen)
            if not self._watched[stream]:
                del self._watched[stream]
        raise AssertionError("waiting has no end of its own")

    async def _pause(self, seen: asyncio.Event, pause_s: float, until_us: int | None) -> None:
        """Until this process appends to the stream; others' appends are found by looking.

        In a simulation: until something has happened. Raises `TimeoutError` if that is too late;
        cancelling the wait would cancel the handler that it lets run.
        """
        if self.drive is not None:
            if until_us is None or self._clock.now_us() < until_us:
                await self.drive(until_us)
            if until_us is not None and self._clock.now_us() >= until_us:
                raise TimeoutError
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await seen.wait()
