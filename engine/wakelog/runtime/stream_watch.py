"""Watching a stream for an event that will be appended, perhaps by another process."""

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

__all__ = ["EVERY_STREAM", "StreamWatch"]

R = TypeVar("R")

EVERY_STREAM = "*"
"""In place of a stream: whichever is appended to."""


class StreamWatch:
    """The watchers, by stream. Used from the event loop's thread only."""

    def __init__(
        self,
        clock: Clock,
        events_after: Callable[[str, int], Awaitable[Sequence[StoredEvent]]],
    ) -> None:
        """`events_after` reads the events of a stream after a version."""
        self._clock = clock
        self._events_after = events_after
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self.drive: Callable[[int | None], Awaitable[None]] | None = None
        """In a simulation: lets the next alarm fire while a caller waits for an outcome."""

    def notify(self, stream: str) -> None:
        """This process has appended to `stream`, or knows that another has."""
        for watcher in self._watchers.get(stream, ()):
            watcher.set()

    async def watch(
        self, stream: str, after: int, find: Callable[[Recorded], R | None], timeout_us: int | None
    ) -> R:
        """Wait until `find` answers something for an event after version `after`, whichever
        process appends it.

        Raises `WaitTimeoutError`.
        """

        async def look() -> R | None:
            nonlocal after
            for stored in await self._events_after(stream, after):
                after = stored.version
                if (found := find(decode(stored))) is not None:
                    return found
            return None

        return await self.until(stream, look, timeout_us)

    async def until(
        self, stream: str, look: Callable[[], Awaitable[R | None]], timeout_us: int | None
    ) -> R:
        """Wait until `look` answers something; it is asked again when this process appends to the
        stream, and every now and then, since others do.

        Raises `WaitTimeoutError`.
        """
        changed = asyncio.Event()
        self._watchers.setdefault(stream, set()).add(changed)
        until_us = None if timeout_us is None else self._clock.now_us() + timeout_us
        timeout_s = None if timeout_us is None or self.drive else timeout_us / 1_000_000
        try:
            async with asyncio.timeout(timeout_s):
                for pause_s in itertools.chain((0.01, 0.02, 0.05, 0.1), itertools.repeat(0.25)):
                    changed.clear()
                    if (found := await look()) is not None:
                        return found
                    await self._pause(changed, pause_s, until_us)
        except TimeoutError:
            raise WaitTimeoutError(stream, (timeout_us or 0) / 1_000_000) from None
        finally:
            self._watchers[stream].discard(changed)
            if not self._watchers[stream]:
                del self._watchers[stream]
        raise AssertionError("watching ends by its result or by its timeout")

    async def _pause(self, changed: asyncio.Event, pause_s: float, until_us: int | None) -> None:
        """Until this process appends to the stream; appends of others are found by polling.

        In a simulation: until the next alarm has fired. Raises `TimeoutError` if that is too late;
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
                await changed.wait()
