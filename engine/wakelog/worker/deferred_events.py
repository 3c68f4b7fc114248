"""Deferred events: a worker handles those that are ready, one unit of work each (T15, U3)."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

from wakelog.application import Application
from wakelog.core.calls import HandlerFailed
from wakelog.core.events import EventReceived
from wakelog.core.instance import DeferredEvent, Instance
from wakelog.core.requests import HandleDeferred
from wakelog.errors import (
    HistoryError,
    IntegrityError,
    LeaseLostError,
    StoreUnavailableError,
    UnreadableEventError,
)
from wakelog.log.records import Recorded, decode, whole
from wakelog.ports.records import StoredEvent
from wakelog.ports.units import LeaseGone, VersionConflict
from wakelog.runtime.unit_records import Origin
from wakelog.turn import HandlerOutcomes
from wakelog.worker.claims import Claimed, give_up, has_ready_event

__all__ = ["PAGE", "handle_deferred", "received_event"]

PAGE = 128
"""Events that are read in one go, and whose appends are waited for together, at most."""
PAGE_US = 20_000
"""A page ends so long after it was asked whether the job is paused, at most. That is asked between
pages, while their appends are waited for."""
SLOW_US = 2_000
"""A turn that takes as long ends its page: then looking at the pauses costs little beside it."""
SPAN = 1_000
"""Versions that are read in one go, at most: other events may lie between those that wait."""

R = TypeVar("R")


async def handle_deferred(app: Application, claimed: Claimed, instance: Instance) -> None:
    """Handle the deferred events until none is ready; then give the lease up. One that cannot be
    read parks the instance.

    After an error the heartbeat releases the lease later; an immediate retry would fail too.
    """
    ended = False
    began_us = app.clock.monotonic_us()
    try:
        handling = _DeferredEvents(app, instance, claimed.token)
        try:
            ended = await handling.handle(instance)
        finally:
            handling.close()
    except asyncio.CancelledError:
        await give_up(app, claimed)
        raise
    except HistoryError as error:  # of an event that waits: a loaded instance was whole
        await app.instances.settled(claimed.stream)  # what was done before it counts
        await app.units.park(claimed.stream, error)
    claimed.handler_us = app.clock.monotonic_us() - began_us
    if not ended:
        await give_up(app, claimed)


class _DeferredEvents:
    """The deferred events of one instance, under one lease.

    Their turns are taken one after the other, each on top of the one before, each with a unit of
    its own; the appends of a page are waited for together, while the next page is handled.

    While events are deferred, other writers mostly append more of them: like a run's, the outcome
    of a handler goes on top of what they append. It is called again only if an `on_event` that had
    begun before was faster.
    """

    def __init__(self, app: Application, instance: Instance, token: int) -> None:
        """`token` is that of the lease."""
        self._app = app
        self._definition = app.registry.of(instance.id)
        self._id = instance.id
        self._stream = str(instance.id)
        self._token = token
        self._size = 1 if app.handler_runner.inline else PAGE
        self._ended = False
        self._appending: deque[tuple[int, asyncio.Future[None]]] = deque()
        """What was submitted for which event, in this order: two pages at most."""
        self._outcomes: dict[int, HandlerOutcomes] = {}
        """Of the handlers of events that are not handled yet, by the events' versions."""
        self._ahead = _ReadAhead(app, self._stream)
        self._pauses = _PauseLook(app, instance.id.job)

    def close(self) -> None:
        """Leave what is still being read."""
        self._ahead.close()
        self._pauses.close()

    async def handle(self, instance: Instance) -> bool:
        """Handle all that are ready; whether the last unit gave the lease up with it. Raises
        `LeaseLostError`, and `StoreUnavailableError`."""
        size = self._size
        while instance.ready_deferred(self._app.clock.now_us()) is not None:
            if await self._pauses.is_paused():  # since it was claimed: the events stay deferred
                break
            begun = len(self._appending)
            after = await self._page(instance, size)
            is_last = after is None or self._ended
            if after is not None and not is_last and self._size > 1:
                self._pauses.ask()
                self._ahead.begin(after)
            if not await self._appended(0 if is_last else len(self._appending) - begun):
                # one alone, which gives way to other writers as any request does
                instance = (await self._app.instances.cached(self._stream)).head.instance
                size = 1
                continue
            if self._ended:
                return True
            if after is None:
                break
            instance, size = after, self._size
        await self._appended()
        return False

    async def _page(self, instance: Instance, size: int) -> Instance | None:
        """Take the turns of up to `size` of them; the instance then, None if nothing is to be done
        now. What they append is waited for while the next page is handled."""
        clock = self._app.clock
        for _ in range(size):
            deferred = instance.ready_deferred(clock.now_us())
            if deferred is None:
                break
            turn = await self._request(instance, deferred)
            began_us = clock.monotonic_us()
            after = None if turn is None else await self._take_turn(deferred.version, *turn, size)
            if after is None:
                return None
            instance, ended_us = after, clock.monotonic_us()
            is_over = ended_us >= self._pauses.until_us or ended_us - began_us >= SLOW_US
            if self._ended or is_over:
                break
        return instance

    async def _take_turn(
        self, version: int, request: HandleDeferred, origin: Origin, size: int
    ) -> Instance | None:
        """One turn; the instance then. None if it is not this event's turn."""
        outcomes = self._outcomes.setdefault(version, HandlerOutcomes())
        appending: list[asyncio.Future[None]] = []
        unit = functools.partial(
            self._app.request,
            self._definition,
            self._id,
            request,
            origin=origin,
            lease_token=self._token,
            ends_lease=self._ends_lease,
            outcomes=outcomes,
            appending=None if size == 1 else appending,
        )
        try:
            after = (await unit()).after
        except StoreUnavailableError as error:
            if error.reason != "refused":
                raise
            outcomes["on_event"] = HandlerFailed.by_engine(error, self._app.clock.now_us())
            after = (await unit()).after
        self._appending += [(version, each) for each in appending]
        if after is not None and not appending:
            del self._outcomes[version]
        return after

    def _ends_lease(self, after: Instance) -> bool:
        now_us = self._app.clock.now_us()
        self._ended = self._app.stopping or not has_ready_event(after, now_us)
        return self._ended

    async def _appended(self, left: int = 0) -> bool:
        """Wait for the appends until only so many are left; whether all were made. If one was
        refused, so is what was built on it: then none is left, and those events still wait."""
        done = [self._appending.popleft() for _ in range(len(self._appending) - left)]
        if done:
            await asyncio.wait([each for _, each in done])
        for version, future in done:
            error = future.exception()
            if error is None:
                self._outcomes.pop(version, None)
                continue
            self._ended = False
            if self._appending:
                await asyncio.wait([each for _, each in self._appending])
                self._appending.clear()
            self._raise_unless_refused(version, error)
            return False
        return True

    def _raise_unless_refused(self, version: int, error: BaseException) -> None:
        if isinstance(error, LeaseGone):
            raise LeaseLostError(self._stream, 0) from None
        if isinstance(error, VersionConflict):
            return
        if not isinstance(error, StoreUnavailableError) or error.reason != "refused":
            raise error
        self._outcomes[version]["on_event"] = HandlerFailed.by_engine(
            error, self._app.clock.now_us()
        )

    async def _request(
        self, instance: Instance, deferred: DeferredEvent
    ) -> tuple[HandleDeferred, Origin] | None:
        """The request for an accepted event as recorded, and the origin of what it leads to. None
        if it was not accepted after all: its append was refused.

        Raises `IntegrityError` if it is missing, and `UnreadableEventError`.
        """
        version = deferred.version
        stored = await self._ahead.event(instance, version)
        if stored is None:  # it may be being appended
            await self._app.instances.settled(self._stream)
            stored = await self._ahead.event(instance, version)
        if stored is None:
            head = await self._app.instances.load(self._stream)
            if any(each.version == version for each in head.instance.deferred):
                raise IntegrityError(self._stream, version, "it is not in the log")
            return None
        recorded = whole(decode(stored))
        event = received_event(recorded)
        request = HandleDeferred(version, event.payload or "null", event.event_id)
        return request, Origin(recorded.actor, recorded.correlation, f"{self._stream}@{version}")


class _ReadAhead:
    """The recorded events of one instance that are to be handled next: one page at most."""

    def __init__(self, app: Application, stream: str) -> None:
        self._app = app
        self._stream = stream
        self._recorded: dict[int, StoredEvent] = {}
        self._reading: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Leave what is still being read."""
        if self._reading is not None:
            self._reading.cancel()

    def begin(self, instance: Instance) -> None:
        """Begin to read the next page, unless most of it is here or that has begun."""
        missing = [each for each in _near(instance) if each not in self._recorded]
        if self._reading is None and len(missing) > PAGE // 2:
            self._reading = _task(self._read(instance, missing[0]))

    async def event(self, instance: Instance, version: int) -> StoredEvent | None:
        """The event of that version, as recorded; None if it is not."""
        if version not in self._recorded and self._reading is not None:
            reading, self._reading = self._reading, None
            await reading
        if version not in self._recorded:
            await self._read(instance, version)
        return self._recorded.get(version)

    async def _read(self, instance: Instance, version: int) -> None:
        """Read this event, and with it those that follow and lie near it in the log."""
        near = _near(instance)
        upto = max((each for each in near if version <= each < version + SPAN), default=version)
        read = self._app.store.events
        found = await self._app.threads.read(read, self._stream, after=version - 1, upto=upto)
        recorded = {**self._recorded, **{each.version: each for each in found}}
        self._recorded = {each: recorded[each] for each in (version, *near) if each in recorded}


def _near(instance: Instance) -> list[int]:
    """The versions of the events of a page."""
    return [each.version for each in itertools.islice(instance.deferred, PAGE)]


class _PauseLook:
    """Whether one job is paused: asked between two pages, while other things are waited for."""

    def __init__(self, app: Application, job: str) -> None:
        self._app = app
        self._job = job
        self._looking: asyncio.Task[bool] | None = None
        self._asked_us = 0
        self.until_us = 0
        """When the page ends, at the latest, for which it was answered."""

    def close(self) -> None:
        """Leave the question."""
        if self._looking is not None:
            self._looking.cancel()

    def ask(self) -> asyncio.Task[bool]:
        """Ask anew."""
        self.close()
        self._asked_us = self._app.clock.monotonic_us()
        self._looking = _task(self._look())
        return self._looking

    async def is_paused(self) -> bool:
        """Whether it is, as recorded when it was asked, a moment ago; else it is asked now."""
        clock, looking = self._app.clock, self._looking
        if looking is None or clock.monotonic_us() - self._asked_us > PAGE_US // 2:
            looking = self.ask()
        self._looking = None
        is_paused = await looking
        self.until_us = max(self._asked_us + PAGE_US, clock.monotonic_us() + PAGE_US // 2)
        return is_paused

    async def _look(self) -> bool:
        return self._job in await self._app.job_pauses.now()


def _task(coroutine: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
    """A task whose failure concerns only who waits for it."""
    task = asyncio.ensure_future(coroutine)
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return task


def received_event(recorded: Recorded) -> EventReceived:
    """A recorded event that must be an `EventReceived`. Raises `UnreadableEventError`."""
    event = recorded.event
    if not isinstance(event, EventReceived):
        detail = "it is no event received"
        raise UnreadableEventError(recorded.stream, recorded.version, event.TOPIC, detail)
    return event
