"""Deferred events: a worker handles those that are ready, one unit of work each (T15, U3)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence

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
from wakelog.log.records import decode, whole
from wakelog.ports.records import StoredEvent
from wakelog.ports.units import LeaseGone, VersionConflict
from wakelog.runtime.unit_records import Origin
from wakelog.turn import HandlerOutcomes
from wakelog.worker.claims import Claimed, has_ready_event

__all__ = ["PAGE", "give_up", "handle_deferred", "received_event"]

PAGE = 128
"""Events that are read in one go, and whose appends are waited for together, at most."""
PAGE_US = 20_000
"""How long such a page lasts, at most: pauses of the job are looked at between pages."""
SPAN = 1_000
"""Versions that are read in one go, at most: other events may lie between those that wait."""


async def handle_deferred(app: Application, claimed: Claimed) -> None:
    """Handle the deferred events until none is ready; then give the lease up. One that cannot be
    read parks the instance.

    After an error the heartbeat releases the lease later; an immediate retry would fail too.
    """
    ended = False
    try:
        instance = claimed.head.instance
        ended = await _DeferredEvents(app, instance).handle(instance)
    except asyncio.CancelledError:
        await give_up(app, claimed)
        raise
    except HistoryError as error:  # of an event that waits: a loaded instance was whole
        await app.units.park(claimed.unit.stream, error)
    if not ended:
        await give_up(app, claimed)


async def give_up(app: Application, claimed: Claimed) -> None:
    """Give the lease up, once all that was done under it is appended. Killed before: it ends."""
    lease = claimed.unit.take
    if lease is not None:
        stream = claimed.unit.stream
        await app.instances.settled(stream)  # what is being appended was done under this lease
        await app.threads.write(app.store.release, lease.owner, [(stream, lease.token)])


class _DeferredEvents:
    """The deferred events of one instance, under one lease.

    Their turns are taken one after the other, each on top of the one before, each with a unit of
    its own; the appends of a page of them are waited for together.

    While events are deferred, other writers mostly append more of them: like a run's, the outcome
    of a handler goes on top of what they append. It is called again only if an `on_event` that had
    begun before was faster.
    """

    def __init__(self, app: Application, instance: Instance) -> None:
        self._app = app
        self._definition = app.registry.of(instance.id)
        self._id = instance.id
        self._stream = str(instance.id)
        self._token = instance.version
        self._ended = False
        self._outcomes: dict[int, HandlerOutcomes] = {}
        """Of the handlers of events that are not handled yet, by the events' versions."""
        self._recorded: dict[int, StoredEvent] = {}
        """Events that were read ahead, by version."""

    async def handle(self, instance: Instance) -> bool:
        """Handle all that are ready; whether the last unit gave the lease up with it. Raises
        `LeaseLostError`, and `StoreUnavailableError`."""
        size = PAGE
        while instance.ready_deferred(self._app.clock.now_us()) is not None:
            # since it was claimed: then the events stay deferred
            if self._id.job in await self._app.job_pauses.now():
                break
            after, is_appended = await self._page(instance, size)
            if self._ended:
                return True
            size = PAGE
            if not is_appended:  # one alone, which gives way to other writers as any request does
                after, size = (await self._app.instances.cached(self._stream)).head.instance, 1
            if after is None:
                break
            instance = after
        return False

    async def _page(self, instance: Instance, size: int) -> tuple[Instance | None, bool]:
        """Handle up to `size` of them; the instance then (None if nothing is to be done now), and
        whether all was appended: else what was not is still deferred."""
        now_us = self._app.clock.now_us
        until_us = self._app.clock.monotonic_us() + PAGE_US
        versions: list[int] = []
        appending: list[asyncio.Future[None]] = []
        after: Instance | None = instance
        deferred = instance.ready_deferred(now_us())
        try:
            while deferred is not None and after is not None and not self._ended:
                versions.append(deferred.version)
                after = await self._take_turn(after, deferred, None if size == 1 else appending)
                if len(versions) == size or self._app.clock.monotonic_us() >= until_us:
                    break
                deferred = None if after is None else after.ready_deferred(now_us())
        except HistoryError:  # what was done before it counts
            await self._appended(versions, appending)
            raise
        return after, await self._appended(versions, appending)

    async def _take_turn(
        self,
        instance: Instance,
        deferred: DeferredEvent,
        appending: list[asyncio.Future[None]] | None,
    ) -> Instance | None:
        """One turn; the instance then. None if it is not this event's turn."""
        outcomes = self._outcomes.setdefault(deferred.version, HandlerOutcomes())
        found = await self._request(instance, deferred)
        if found is None:
            return None
        request, origin = found
        unit = functools.partial(
            self._app.request,
            self._definition,
            self._id,
            request,
            origin=origin,
            lease_token=self._token,
            ends_lease=self._ends_lease,
            outcomes=outcomes,
            appending=appending,
        )
        try:
            return (await unit()).after
        except StoreUnavailableError as error:
            if error.reason != "refused":
                raise
            outcomes["on_event"] = _failed(error, self._app.clock.now_us())
            return (await unit()).after

    def _ends_lease(self, after: Instance) -> bool:
        now_us = self._app.clock.now_us()
        self._ended = self._app.stopping or not has_ready_event(after, now_us)
        return self._ended

    async def _appended(
        self, versions: Sequence[int], appending: Sequence[asyncio.Future[None]]
    ) -> bool:
        """Wait for the appends of the events of these versions, in this order; whether all were
        made. What is built on a refused one is refused with it."""
        if appending:
            await asyncio.wait(appending)
        for version, future in zip(versions, appending, strict=False):
            error = future.exception()
            if error is None:
                self._outcomes.pop(version, None)
                continue
            self._ended = False
            if isinstance(error, LeaseGone):
                raise LeaseLostError(self._stream, 0) from None
            if not isinstance(error, VersionConflict):
                if not isinstance(error, StoreUnavailableError) or error.reason != "refused":
                    raise error
                failed = _failed(error, self._app.clock.now_us())
                self._outcomes[version]["on_event"] = failed
            return False
        return True

    async def _request(
        self, instance: Instance, deferred: DeferredEvent
    ) -> tuple[HandleDeferred, Origin] | None:
        """The request for an accepted event as recorded, and the origin of what it leads to. None
        if it was not accepted after all: its append was refused.

        Raises `IntegrityError` if it is missing, and `UnreadableEventError`.
        """
        version = deferred.version
        if version not in self._recorded:
            await self._app.instances.settled(self._stream)  # it may be being appended
            await self._read_ahead(instance, version)
        stored = self._recorded.get(version)
        if stored is None:
            head = await self._app.instances.load(self._stream)
            if any(each.version == version for each in head.instance.deferred):
                raise IntegrityError(self._stream, version, "it is not in the log")
            return None
        recorded, event = decode(stored), received_event(stored)
        request = HandleDeferred(version, event.payload or "null", event.event_id)
        return request, Origin(recorded.actor, recorded.correlation, f"{self._stream}@{version}")

    async def _read_ahead(self, instance: Instance, version: int) -> None:
        """Read this event, and with it those that follow and lie near it in the log."""
        near = [each.version for each in instance.deferred[:PAGE]]
        upto = max((each for each in near if version <= each < version + SPAN), default=version)
        read = self._app.store.events
        found = await self._app.threads.read(read, self._stream, after=version - 1, upto=upto)
        self._recorded = {each.version: each for each in found if each.version in {version, *near}}


def received_event(stored: StoredEvent) -> EventReceived:
    """A stored event that must be an `EventReceived`. Raises `HistoryError`."""
    event = whole(decode(stored)).event
    if not isinstance(event, EventReceived):
        detail = "it is no event received"
        raise UnreadableEventError(stored.stream, stored.version, stored.topic, detail)
    return event


def _failed(error: StoreUnavailableError, now_us: int) -> HandlerFailed:
    return HandlerFailed(error, type(error).__name__, str(error), "", now_us)
