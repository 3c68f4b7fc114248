"""Deferred events: a worker handles those that are ready, one unit of work each (T15, U3)."""

from __future__ import annotations

import asyncio
import functools
from collections import deque

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
"""How long such a page lasts, at most: pauses of the job are looked at between pages."""
SLOW_US = 2_000
"""A turn that takes as long ends its page: then looking at the pauses costs little beside it."""
SPAN = 1_000
"""Versions that are read in one go, at most: other events may lie between those that wait."""


async def handle_deferred(app: Application, claimed: Claimed, instance: Instance) -> None:
    """Handle the deferred events until none is ready; then give the lease up. One that cannot be
    read parks the instance.

    After an error the heartbeat releases the lease later; an immediate retry would fail too.
    """
    ended = False
    began_us = app.clock.monotonic_us()
    try:
        ended = await _DeferredEvents(app, instance, claimed.token).handle(instance)
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
        self._recorded: dict[int, StoredEvent] = {}
        """Events that were read ahead, by version."""

    async def handle(self, instance: Instance) -> bool:
        """Handle all that are ready; whether the last unit gave the lease up with it. Raises
        `LeaseLostError`, and `StoreUnavailableError`."""
        size = self._size
        while instance.ready_deferred(self._app.clock.now_us()) is not None:
            # since it was claimed: then the events stay deferred
            if self._id.job in await self._app.job_pauses.now():
                break
            begun = len(self._appending)
            after = await self._page(instance, size)
            is_last = after is None or self._ended
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
        until_us = clock.monotonic_us() + PAGE_US
        after: Instance | None = instance
        deferred = instance.ready_deferred(clock.now_us())
        for _ in range(size):
            if deferred is None or after is None:
                break
            turn = await self._request(after, deferred)
            began_us = clock.monotonic_us()
            after = None if turn is None else await self._take_turn(deferred.version, *turn, size)
            ended_us = clock.monotonic_us()
            if self._ended or ended_us >= until_us or ended_us - began_us >= SLOW_US:
                break
            deferred = None if after is None else after.ready_deferred(clock.now_us())
        return after

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
        if not appending:
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
        if version not in self._recorded:
            await self._read_ahead(instance, version)
        if version not in self._recorded:  # it may be being appended
            await self._app.instances.settled(self._stream)
            await self._read_ahead(instance, version)
        stored = self._recorded.get(version)
        if stored is None:
            head = await self._app.instances.load(self._stream)
            if any(each.version == version for each in head.instance.deferred):
                raise IntegrityError(self._stream, version, "it is not in the log")
            return None
        recorded = whole(decode(stored))
        event = received_event(recorded)
        request = HandleDeferred(version, event.payload or "null", event.event_id)
        return request, Origin(recorded.actor, recorded.correlation, f"{self._stream}@{version}")

    async def _read_ahead(self, instance: Instance, version: int) -> None:
        """Read this event, and with it those that follow and lie near it in the log."""
        near = [each.version for each in instance.deferred[:PAGE]]
        upto = max((each for each in near if version <= each < version + SPAN), default=version)
        read = self._app.store.events
        found = await self._app.threads.read(read, self._stream, after=version - 1, upto=upto)
        self._recorded = {each.version: each for each in found if each.version in {version, *near}}


def received_event(recorded: Recorded) -> EventReceived:
    """A recorded event that must be an `EventReceived`. Raises `UnreadableEventError`."""
    event = recorded.event
    if not isinstance(event, EventReceived):
        detail = "it is no event received"
        raise UnreadableEventError(recorded.stream, recorded.version, event.TOPIC, detail)
    return event
