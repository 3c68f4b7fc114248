"""Runs: what a worker does with what it claimed.

    decide what it is due for -> append -> read the batch, if the run has taken one
    -> call `execute` -> settle on whatever the instance is by then -> append, drop the lease

The call is the first half of a turn (`turn.perform`), made without holding the instance; meanwhile
other writers may append to it. The outcome is recorded once, however long the store is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

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
from wakelog.execution.isolation import in_context
from wakelog.ids import InstanceId
from wakelog.log.records import decode, whole
from wakelog.ports.units import LeaseGone, VersionConflict
from wakelog.runtime.unit_records import Origin
from wakelog.turn import HandlerOutcomes, perform
from wakelog.worker.claims import Beginning, Begun, Claimed, give_up
from wakelog.worker.deferred_events import handle_deferred, received_event
from wakelog.worker.leases import LeaseKey
from wakelog.worker.step_recorder import StepRecorder

__all__ = ["Appending", "Step", "begin", "error_of", "recorded_payloads", "work"]

_LOG = logging.getLogger("wakelog.worker")

PAGE = 1_000
"""Versions of a batch that are read at a time."""
FIRST_PAUSE_S, MAX_PAUSE_S = 0.05, 5.0
"""Pauses between two tries to record an outcome while the store is unavailable."""


class Appending(NamedTuple):
    """What is being appended, and how to go on after it. No task waits meanwhile: a worker has
    hundreds of these, and each waiting task is dozens of objects for the garbage collector."""

    appending: asyncio.Future[None]
    then: Callable[[BaseException | None], Coroutine[Any, Any, Appending | None] | None]
    """How to go on, given why the append has failed; None: it is done."""


Step = Coroutine[Any, Any, Appending | None]
"""A part of the work on what was claimed; it returns what it leaves to be appended."""


def _unnoted(before: LeaseKey, after: LeaseKey) -> None: ...


async def work(app: Application, claimed: Claimed) -> None:
    """All the work on what was claimed, to its end, without the context variables of the caller.
    Raises what its steps raise: see `begin`."""
    context = contextvars.Context()
    step: Appending | Step | None = begin(app, claimed, _unnoted, _unnoted)
    while step is not None:
        if isinstance(step, Appending):
            if not step.appending.done():
                await asyncio.wait([step.appending])
            step = step.then(error_of(step.appending))
        else:
            step = await in_context(step, context)


def error_of(appending: asyncio.Future[None]) -> BaseException | None:
    """Why an append that has ended has failed."""
    return asyncio.CancelledError() if appending.cancelled() else appending.exception()


def begin(
    app: Application,
    claimed: Claimed,
    on_run: Callable[[LeaseKey, LeaseKey], None],
    on_append: Callable[[LeaseKey, LeaseKey], None],
) -> Appending | Step:
    """The first step of the work: begin what was claimed, do it, record how it ended, and give the
    lease up. At once if nothing has to be waited for before the append.

    If it cannot be begun (it is parked, its job is paused, the store is away) the lease is given
    up, and it is claimed again if it is still due. Its steps raise `LeaseLostError` if the instance
    was cleared or taken over meanwhile: then nothing was recorded.
    """
    if claimed.is_stopped:
        return _go_on(app, claimed, None)
    beginning = Beginning(app, claimed, on_run, on_append)
    try:
        at_once = beginning.at_once()
    except Exception:  # it is met again
        at_once = None
    if at_once is None:
        return _begun(app, claimed, beginning)
    begun, appending = at_once

    def then(error: BaseException | None) -> Step:
        if error is not None:
            claimed.stage = "waits"
            return _begun(app, claimed, beginning)
        beginning.appended(begun)
        return _go_on(app, claimed, begun)

    return then(None) if appending is None else Appending(appending, then)


async def _begun(app: Application, claimed: Claimed, beginning: Beginning) -> Appending | None:
    """Begin it, whatever has to be waited for."""
    begun: Begun | None = None
    try:
        if not claimed.is_stopped:
            begun = await beginning.recorded()
    except HistoryError:  # it is parked, and that was logged
        pass
    except StoreUnavailableError as error:
        _LOG.warning("%s could not be begun: %s", claimed.stream, error)
    except BaseException:
        with contextlib.suppress(StoreUnavailableError):
            await give_up(app, claimed)
        raise
    return await _go_on(app, claimed, begun)


async def _go_on(app: Application, claimed: Claimed, begun: Begun | None) -> Appending | None:
    """Do what was begun."""
    if begun is not None and begun.call is not None:
        return await _run(app, claimed, begun.call)
    if begun is not None and not claimed.is_stopped:
        await handle_deferred(app, claimed, begun.instance)
    else:
        with contextlib.suppress(StoreUnavailableError):  # then the lease ends, or a beat drops it
            await give_up(app, claimed)
    return None


async def _run(app: Application, claimed: Claimed, call: HandlerCall) -> Appending | None:
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
    return await _Outcome(app, definition, settle, origin, token).recorded()


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


class _Outcome:
    """How a run has ended, to be recorded."""

    def __init__(
        self,
        app: Application,
        definition: Definition,
        settle: Settle,
        origin: Origin,
        token: int,
    ) -> None:
        self._app = app
        self._definition = definition
        self._settle = settle
        self._origin = origin
        self._token = token
        self._outcomes = HandlerOutcomes()

    async def recorded(self) -> Appending | None:
        """Append it, however long the store is unavailable. An outcome that the database refuses is
        recorded as a failure instead."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._appending()
            except StoreUnavailableError as error:
                _LOG.error("the outcome of %s cannot be recorded yet: %s", self._id, error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    @property
    def _id(self) -> InstanceId:
        return self._settle.call.base.id

    async def _appending(self) -> Appending | None:
        appending: list[asyncio.Future[None]] = []
        await self._app.request(
            self._definition,
            self._id,
            self._settle,
            origin=self._origin,
            lease_token=self._token,
            ends_lease=_always,
            outcomes=self._outcomes,
            appending=appending,
        )
        return Appending(appending[0], self._appended) if appending else None

    def _appended(self, error: BaseException | None) -> Step | None:
        return None if error is None else self._again(error)

    async def _again(self, error: BaseException) -> Appending | None:
        """The append has failed: settle it on what the instance is by now, when that is possible.
        The handlers are not called again."""
        if isinstance(error, LeaseGone):
            run = self._settle.call.run
            raise LeaseLostError(str(self._id), run.number if run else 0)
        if isinstance(error, StoreUnavailableError):
            settle = self._settle
            if error.reason == "refused" and isinstance(settle.outcome, HandlerEnded):
                failed = HandlerFailed.by_engine(error, settle.outcome.now_us)
                self._settle = Settle(settle.call, failed)
            else:
                _LOG.error("the outcome of %s cannot be recorded yet: %s", self._id, error)
                await asyncio.sleep(FIRST_PAUSE_S)
        elif not isinstance(error, VersionConflict):
            raise error
        return await self.recorded()


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
