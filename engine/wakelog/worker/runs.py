"""Runs: what a worker does with what it claimed.

    decide what it is due for -> append -> read the batch, if the run has taken one
    -> call `execute` -> settle on whatever the instance is by then -> append, drop the lease

The call is the first half of a turn (`turn.perform`), made without holding the instance; meanwhile
other writers may append to it. The outcome is recorded once, however long the store is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from wakelog.application import Application
from wakelog.core.calls import HandlerCall, HandlerEnded, HandlerFailed, RunGivenBack, Settle
from wakelog.core.instance import Instance
from wakelog.definitions.definition import Definition
from wakelog.errors import (
    HistoryError,
    IntegrityError,
    LeaseLostError,
    StoreUnavailableError,
)
from wakelog.ids import InstanceId
from wakelog.log.records import decode, whole
from wakelog.runtime.unit_records import Origin
from wakelog.turn import HandlerOutcomes, perform
from wakelog.worker.claims import Begun, Claimed, begin, give_up
from wakelog.worker.deferred_events import handle_deferred, received_event
from wakelog.worker.leases import LeaseKey
from wakelog.worker.step_recorder import StepRecorder

__all__ = ["recorded_payloads", "work"]

_LOG = logging.getLogger("wakelog.worker")

PAGE = 1_000
"""Versions of a batch that are read at a time."""
FIRST_PAUSE_S, MAX_PAUSE_S = 0.05, 5.0
"""Pauses between two tries to record an outcome while the store is unavailable."""


async def work(
    app: Application,
    claimed: Claimed,
    on_run: Callable[[LeaseKey, LeaseKey], None] = lambda before, after: None,
) -> None:
    """Begin what was claimed, do it, record how it ended, and give the lease up.

    If it cannot be begun (it is parked, its job is paused, the store is away) the lease is given
    up, and it is claimed again if it is still due. Raises `LeaseLostError` if the instance was
    cleared or taken over meanwhile: then nothing was recorded.
    """
    begun: Begun | None = None
    try:
        begun = await begin(app, claimed, on_run)
    except HistoryError:  # it is parked, and that was logged
        pass
    except StoreUnavailableError as error:
        _LOG.warning("%s could not be begun: %s", claimed.stream, error)
    except BaseException:
        with contextlib.suppress(StoreUnavailableError):
            await give_up(app, claimed)
        raise
    if begun is None or (claimed.is_stopped and begun.call is None):
        with contextlib.suppress(StoreUnavailableError):  # then the lease ends, or a beat drops it
            await give_up(app, claimed)
    elif begun.call is None:
        await handle_deferred(app, claimed, begun.instance)
    else:
        await _run(app, claimed, begun.call)


async def _run(app: Application, claimed: Claimed, call: HandlerCall) -> None:
    """Call `execute`, then settle on whatever the instance is by then."""
    id = call.base.id
    definition = app.registry.of(id)
    stream, token = claimed.key
    origin = Origin(cause=f"{stream}@{token}")
    try:
        if call.batch_versions:
            call = replace(call, batch=await recorded_payloads(app, stream, call.batch_versions))
    except HistoryError as error:
        settle = Settle(call, HandlerFailed.by_engine(error, app.clock.now_us()))
    else:
        steps = StepRecorder(app, definition, call, origin)
        settle = await _performed(app, definition, claimed, call, steps)
    await _record(app, definition, id, settle, origin, token)


async def _performed(
    app: Application,
    definition: Definition,
    claimed: Claimed,
    call: HandlerCall,
    steps: StepRecorder,
) -> Settle:
    """The call's outcome; given back if the worker has stopped it before it began."""
    if claimed.is_stopped:
        return Settle(call, RunGivenBack())
    run, known = call.run, app.instances.peek(claimed.stream)
    if run is not None and known is not None:  # since it began it may have been cleared
        now = known.instance.run
        if now is None or now.token != run.token:
            raise LeaseLostError(claimed.stream, run.number)
    began_us = app.clock.monotonic_us()
    settle = await perform(app.handler_runner, definition, call, steps)
    claimed.handler_us = app.clock.monotonic_us() - began_us
    return settle


async def _record(
    app: Application,
    definition: Definition,
    id: InstanceId,
    settle: Settle,
    origin: Origin,
    token: int,
) -> None:
    """Append the outcome, however long the store is unavailable. An outcome that the database
    refuses is recorded as a failure instead."""
    outcomes = HandlerOutcomes()
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            await app.request(
                definition,
                id,
                settle,
                origin=origin,
                lease_token=token,
                ends_lease=_always,
                outcomes=outcomes,
            )
            return
        except StoreUnavailableError as error:
            if error.reason == "refused" and isinstance(settle.outcome, HandlerEnded):
                settle = Settle(settle.call, HandlerFailed.by_engine(error, settle.outcome.now_us))
                continue
            _LOG.error("the outcome of %s cannot be recorded yet: %s", id, error)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


async def recorded_payloads(
    app: Application, stream: str, versions: Sequence[int]
) -> tuple[str, ...]:
    """The payloads of accepted events, such as those that a run has taken, as recorded; waits for
    a store that is unavailable. Raises `IntegrityError`, and `UnreadableEventError`."""
    payloads: list[str] = []
    pause_s = FIRST_PAUSE_S
    while len(payloads) < len(versions):
        first = versions[len(payloads)]
        page = [v for v in versions[len(payloads) :] if v < first + PAGE]
        try:
            events = app.store.events
            stored = await app.threads.read(events, stream, after=first - 1, upto=page[-1])
        except StoreUnavailableError as error:
            _LOG.error("the events that %s has taken cannot be read yet: %s", stream, error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
            continue
        found = {each.version: each for each in stored}
        if not found.keys() >= set(page):
            raise IntegrityError(stream, min(set(page) - found.keys()), "it is not in the log")
        read = [received_event(whole(decode(found[version]))) for version in page]
        payloads += [event.payload or "null" for event in read]
    return tuple(payloads)


def _always(_: Instance) -> bool:
    return True
