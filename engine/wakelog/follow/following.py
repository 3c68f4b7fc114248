"""`app.follow(name)`: an iterator over the messages for the outside (I3)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any

from wakelog.application import Application
from wakelog.arguments import check_type
from wakelog.client.gateway import RequestGateway
from wakelog.errors import UnknownJobError, WaitTimeoutError
from wakelog.follow.feed import FOLLOWER, read_page
from wakelog.ids import check_name
from wakelog.log.cloud_event import CloudEvent, Topics
from wakelog.log.position import Position
from wakelog.runtime.stream_watch import EVERY_STREAM

__all__ = ["RECORD_S", "Following", "pending", "until"]

RECORD_S = 0.1
"""How often a position is recorded, at most, while there is more to handle at once."""


class Following(AsyncIterator[CloudEvent]):
    """The messages that a named follower has not handled yet, in order, each at least once.

        async with app.follow("mailer", topics=["paid", "order.*"]) as events:
            async for event in events:
                await mail(event.data)

    A message counts as handled when the next one is asked for. How far that is, is recorded before
    waiting for more, and ten times a second while there is more: after a crash, what was handled
    since comes again, and so does the message that was being handled when the loop was left.
    """

    def __init__(
        self,
        app: Application,
        gateway: RequestGateway,
        name: str,
        topics: Sequence[str],
        *,
        wait: bool,
        on_wait: Callable[[], None],
    ) -> None:
        """`on_wait` is called before it waits for more."""
        self._app = app
        self._gateway = gateway
        self._name = check_name(name)
        self._topics = Topics(topics)
        self._wait = wait
        self._on_wait = on_wait
        self._ready: deque[CloudEvent] = deque()
        self._given: CloudEvent | None = None
        """What the consumer is at."""
        self._read_upto: int | None = None
        self._handled_upto = self._recorded_upto = 0
        self._recorded_s = 0.0

    def __aiter__(self) -> Following:
        return self

    async def __aenter__(self) -> Following:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def __anext__(self) -> CloudEvent:
        """The next message; waits for one. With `wait=False` it ends where there is none.

        Raises `StoreUnavailableError`: ask again; and `UnreadableEventError` for a damaged message.
        """
        event = await self.next_if_any()
        if event is None:
            raise StopAsyncIteration
        return event

    async def next_if_any(self) -> CloudEvent | None:
        """The same; None in place of the end."""
        self._gateway.check()
        if self._given is not None:
            self._handled_upto = max(self._handled_upto, self._given.position.at)
            self._given = None
        if self._ready:
            await self._record()
        else:
            await self._fill()
        self._given = self._ready.popleft() if self._ready else None
        return self._given

    async def aclose(self) -> None:
        """Record how far it is. The iterator may be used again."""
        await self._record(now=True)

    async def _fill(self) -> None:
        app = self._app
        if self._read_upto is None:
            recorded = await app.threads.browse(app.store.positions)
            self._read_upto = self._recorded_upto = recorded.get(self._name, 0)
        if not await self._look():
            await self._record(now=True)
            if self._wait:
                self._on_wait()
                await app.stream_watch.until(EVERY_STREAM, self._found, None)

    async def _found(self) -> bool | None:
        self._gateway.check()
        return await self._look() or None

    async def _look(self) -> bool:
        """Read on, until there are messages or the end of the log; whether there are any."""
        while not self._ready:
            before = self._read_upto or 0
            page = await self._app.threads.browse(read_page, self._app, before, self._topics)
            self._ready.extend(page.events)
            self._read_upto = page.upto
            if not page.events:
                self._handled_upto = max(self._handled_upto, page.upto)
            if page.upto == before:
                return bool(self._ready)
        return True

    async def _record(self, *, now: bool = False) -> None:
        if self._handled_upto <= self._recorded_upto:
            return
        now_s = asyncio.get_running_loop().time()
        if now or now_s - self._recorded_s >= RECORD_S:
            put = self._app.store.put_position
            await self._app.threads.write(put, self._name, self._handled_upto)
            self._recorded_upto, self._recorded_s = self._handled_upto, now_s


def _followed(app: Application, name: str) -> tuple[Any, int]:
    """What a job follows, and how far it is. Raises `UnknownJobError`."""
    definition = app.registry.target(name)
    if definition.followed is None:
        raise UnknownJobError(name, [each.name for each in app.registry if each.followed])
    [row] = app.store.status([f"{definition.job}:{FOLLOWER}"])
    return definition.followed, 0 if row is None or row.state is None else int(row.state)


def pending(app: Application, name: str) -> int:
    """How much a job has not followed yet. Blocks. Raises `UnknownJobError`."""
    followed, at = _followed(app, name)
    count: int = followed.pending(app, at)
    return count


async def until(app: Application, position: Position, name: str, timeout_us: int | None) -> None:
    """Wait until a follower has handled everything up to a position. Raises `WaitTimeoutError`."""
    check_type(Position, "position", position)
    check_name(name)

    def has_come() -> bool | None:
        if name in app.registry:
            followed, at = _followed(app, name)
            first = followed.first(app, at)
            return first is None or first > position.at or None
        return app.store.positions().get(name, 0) >= position.at or None

    async def look() -> bool | None:
        return await app.threads.browse(has_come)

    try:
        await app.stream_watch.until(EVERY_STREAM, look, timeout_us)
    except WaitTimeoutError as error:
        raise WaitTimeoutError(f"the follower {name}", error.timeout_s) from None
