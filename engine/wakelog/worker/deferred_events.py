"""Deferred events: a worker handles those that are ready, one unit of work each (T15)."""

from __future__ import annotations

import asyncio
import functools

from wakelog.application import Application
from wakelog.core.calls import HandlerFailed
from wakelog.core.events import EventReceived
from wakelog.core.instance import DeferredEvent, Instance
from wakelog.core.requests import HandleDeferred
from wakelog.errors import (
    HistoryError,
    IntegrityError,
    StoreUnavailableError,
    UnreadableEventError,
)
from wakelog.log.records import decode, whole
from wakelog.ports.records import StoredEvent
from wakelog.runtime.unit_records import Origin
from wakelog.turn import HandlerOutcomes
from wakelog.worker.claims import Claimed, has_ready_event

__all__ = ["give_up", "handle_deferred", "received_event"]


async def handle_deferred(app: Application, claimed: Claimed) -> None:
    """Handle the deferred events until none is ready; then give the lease up. One that cannot be
    read parks the instance.

    After an error the heartbeat releases the lease later; an immediate retry would fail too.
    """
    ended = False
    try:
        ended = await _handle_all(app, claimed.head.instance)
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


async def _handle_all(app: Application, instance: Instance) -> bool:
    """Whether the last unit gave the lease up with it.

    While events are deferred, other writers mostly append more of them: like a run's, the outcome
    of a handler goes on top of what they append. It is called again only if an `on_event` that had
    begun before was faster.
    """
    ended = False

    def ends(after: Instance) -> bool:
        nonlocal ended
        ended = app.stopping or not has_ready_event(after, app.clock.now_us())
        return ended

    id, token = instance.id, instance.version
    stream, definition = str(id), app.registry.of(id)
    deferred = instance.ready_deferred(app.clock.now_us())
    while deferred is not None:
        if id.job in await app.job_pauses.now():  # since it was claimed: the events stay deferred
            break
        outcomes: HandlerOutcomes = {}
        request, origin = await _recorded(app, stream, deferred)
        unit = functools.partial(
            app.request, definition, id, request, origin=origin, lease_token=token, ends_lease=ends
        )
        try:
            outcome = await unit(outcomes=outcomes)
        except StoreUnavailableError as error:
            if error.reason != "refused":
                raise
            now_us = app.clock.now_us()
            name = type(error).__name__
            outcomes["on_event"] = HandlerFailed(error, name, str(error), "", now_us)
            outcome = await unit(outcomes=outcomes)
        if outcome.after is None:
            break
        if ended:
            return True
        deferred = outcome.after.ready_deferred(app.clock.now_us())
    return False


async def _recorded(
    app: Application, stream: str, deferred: DeferredEvent
) -> tuple[HandleDeferred, Origin]:
    """The accepted event as recorded, and the origin of what it leads to.

    Raises `IntegrityError` if it is not there, and `UnreadableEventError`.
    """
    version = deferred.version
    read = app.store.events
    found = await app.threads.read(read, stream, after=version - 1, upto=version)
    if not found:
        raise IntegrityError(stream, version, "it is not in the log")
    [stored] = found
    recorded, event = decode(stored), received_event(stored)
    request = HandleDeferred(version, event.payload or "null", event.event_id)
    return request, Origin(recorded.actor, recorded.correlation, f"{stream}@{version}")


def received_event(stored: StoredEvent) -> EventReceived:
    """A stored event that must be an `EventReceived`. Raises `HistoryError`."""
    event = whole(decode(stored)).event
    if not isinstance(event, EventReceived):
        detail = "it is no event received"
        raise UnreadableEventError(stored.stream, stored.version, stored.topic, detail)
    return event
