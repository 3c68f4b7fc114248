"""What a worker does with what it takes: claim it, run it, handle what waits, re-arm what hangs."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Sequence

from msgspec.structs import replace

from wakelog.application import Application
from wakelog.core.calls import HandlerCall, HandlerEnded, HandlerFailed, Settle
from wakelog.core.events import EventReceived
from wakelog.core.instance import DeferredEvent, Instance
from wakelog.core.requests import HandleDeferred
from wakelog.errors import HistoryError, LeaseLostError, StoreUnavailableError, WakelogError
from wakelog.ids import InstanceId
from wakelog.log.records import decode
from wakelog.ports.records import StoredEvent
from wakelog.runtime.unit_of_work import Origin
from wakelog.turn import HandlerOutcomes, perform
from wakelog.worker.claims import Claimed, _has_more
from wakelog.worker.step_recorder import StepRecorder

__all__ = ["give_up", "work"]

_LOG = logging.getLogger("wakelog.worker")
PAGE = 1_000
"""Versions of a batch that are read at a time."""
MAX_PAUSE_S = 5.0
"""The longest pause between two tries to record an outcome while the store is unavailable."""


async def work(app: Application, claimed: Claimed) -> None:
    """Do what was claimed, record how it ended, and give the lease up.

    Waits first for a handler that is still at the instance. Raises `LeaseLostError` when the
    instance was cleared or taken over meanwhile: then nothing was recorded.
    """
    instance = await app.adopt(claimed.head)
    if claimed.call is not None:
        run = claimed.call.run
        if run is not None and (instance.run is None or instance.run.token != run.token):
            raise LeaseLostError(str(instance.id), run.number)
        await _run(app, claimed, claimed.call)
    elif claimed.works:
        await _handle_waiting(app, claimed)


async def _run(app: Application, claimed: Claimed, call: HandlerCall) -> None:
    """Call `execute`, then settle on whatever the instance is by then."""
    id = claimed.head.instance.id
    definition = app.registry.of(id)
    token = claimed.head.instance.version
    origin = Origin(cause=f"{id}@{token}")
    try:
        if call.batch_versions:
            call = replace(call, batch=await _batch(app, id, call.batch_versions))
    except HistoryError as error:
        settle = Settle(call, _refused(error, app.now_us(call.base)))
    else:
        steps = StepRecorder(app, definition, call, origin)
        settle = await perform(app.caller, definition, call, steps)
    memory: HandlerOutcomes = {}
    pause_s = 0.05
    while True:
        try:
            await app.ask(
                definition,
                id,
                settle,
                origin=origin,
                holds=token,
                ends_lease=_always,
                memory=memory,
            )
            return
        except StoreUnavailableError as error:
            if error.reason == "refused" and isinstance(settle.outcome, HandlerEnded):
                settle = Settle(call, _refused(error, settle.outcome.now_us))
                continue
            _LOG.error("the outcome of %s cannot be recorded yet: %s", id, error)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


async def _batch(app: Application, id: InstanceId, versions: Sequence[int]) -> tuple[str, ...]:
    """The payloads of the events that a run has taken, as they lie in the log."""
    payloads: list[str] = []
    pause_s = 0.05
    while len(payloads) < len(versions):
        first = versions[len(payloads)]
        page = [v for v in versions[len(payloads) :] if v < first + PAGE]
        try:
            stored = await app.read(app.store.events, str(id), after=first - 1, upto=page[-1])
        except StoreUnavailableError as error:
            _LOG.error("the events that %s has taken cannot be read yet: %s", id, error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
            continue
        payloads += [_event_of(stored[version - first]).payload or "null" for version in page]
    return tuple(payloads)


async def _handle_waiting(app: Application, claimed: Claimed) -> None:
    """Handle the events that wait, one unit each, until none is ready; then give the lease up.

    Where something went wrong it is left to the heart, which gives it up a little later: trying
    again at once would be in vain.
    """
    ended = False
    try:
        ended = await _handle_all(app, claimed.head.instance)
    except asyncio.CancelledError:
        await give_up(app, claimed)
        raise
    if not ended:
        await give_up(app, claimed)


async def give_up(app: Application, claimed: Claimed) -> None:
    """Give its lease up, once all that was done under it is appended. Killed before: it ends."""
    lease = claimed.unit.take
    if lease is not None:
        await app.settled(claimed.unit.stream)  # what is on its way was done under this lease
        held = [(claimed.unit.stream, lease.token)]
        await app.write(app.store.release, lease.owner, held)


async def _handle_all(app: Application, instance: Instance) -> bool:
    """Whether the last unit gave the lease up with it.

    While events wait others mostly append more of them: like a run's, the outcome of a handler
    goes on top of what they append. It is called again only where an `on_event` that had begun
    before was faster.
    """
    ended = False

    def ends(after: Instance) -> bool:
        nonlocal ended
        ended = app.stopping or not _has_more(after)
        return ended

    id, token = instance.id, instance.version
    definition = app.registry.of(id)
    waiting = instance.ready_deferred(app.now_us(instance))
    while waiting is not None:
        if id.job in await app.job_pauses.now():  # since it was claimed: what waits goes on waiting
            break
        request, origin = await _recorded(app, id, waiting)
        memory: HandlerOutcomes = {}
        asking = functools.partial(
            app.ask, definition, id, request, origin=origin, holds=token, ends_lease=ends
        )
        try:
            asked = await asking(memory=memory)
        except StoreUnavailableError as error:
            if error.reason != "refused":
                raise
            memory["on_event"] = _refused(error, app.now_us(instance))
            asked = await asking(memory=memory)
        if asked.after is None:
            break
        if ended:
            return True
        waiting = asked.after.ready_deferred(app.now_us(asked.after))
    return False


async def _recorded(
    app: Application, id: InstanceId, waiting: DeferredEvent
) -> tuple[HandleDeferred, Origin]:
    """The accepted event as it lies in the log, and whence it came."""
    version = waiting.version
    stored = await app.read(app.store.events, str(id), after=version - 1, upto=version)
    recorded, event = decode(stored[0]), _event_of(stored[0])
    request = HandleDeferred(version, event.payload or "null", event.event_id)
    return request, Origin(recorded.actor, recorded.correlation, f"{id}@{version}")


def _event_of(stored: StoredEvent) -> EventReceived:
    event = decode(stored).event
    if not isinstance(event, EventReceived):
        raise AssertionError(f"{stored.stream}@{stored.version} is no event received: {event!r}")
    return event


def _refused(error: WakelogError, now_us: int) -> HandlerFailed:
    return HandlerFailed(error, type(error).__name__, str(error), "", now_us)


def _always(_: Instance) -> bool:
    return True
