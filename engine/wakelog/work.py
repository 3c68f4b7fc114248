"""What a worker does with what it takes: claim it, run it, handle what waits, re-arm what hangs."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from wakelog.application import NOWHERE, Application, Origin
from wakelog.core.commands import Call, Claim, Ended, Failed, HandleWaiting, Rearm, Settle
from wakelog.core.decide import decide
from wakelog.core.events import EventReceived, Parked
from wakelog.core.evolve import evolve
from wakelog.core.instance import Instance, Waiting, next_wake
from wakelog.errors import HistoryError, LeaseLostError, StoreUnavailableError, WakelogError
from wakelog.ids import InstanceId
from wakelog.loading import load_heads
from wakelog.log import Head, decode, encode
from wakelog.ports import Due, Lease, StoredEvent, Unit
from wakelog.steps import RunSteps
from wakelog.turn import Memory, perform

__all__ = ["Claimed", "give_up", "next_due_us", "rearm", "take", "work"]

_LOG = logging.getLogger("wakelog.worker")
PAGE = 1_000
"""Versions of a batch that are read at a time."""
MAX_PAUSE_S = 5.0
"""The longest pause between two tries to record an outcome while the store is unavailable."""


class Claimed(NamedTuple):
    """What a worker took: the unit that takes it, and the call to make where a run has begun."""

    unit: Unit
    head: Head
    call: Call | None

    @property
    def held(self) -> tuple[str, int]:
        """The stream, and the token of the lease on it."""
        return self.unit.stream, self.unit.after.version

    @property
    def works(self) -> bool:
        """Whether there is anything left to do (a due clear is done with the claim itself)."""
        return self.unit.take is not None


def take(
    app: Application, *, worker: str, jobs: Sequence[str], limit: int, now_us: int
) -> list[Claimed]:
    """Claim up to `limit` due instances: their leases and `RunStarted` events in one append.

    Blocks; called on the alarm clock's thread. A crash before the append leaves them to others,
    a crash after it until their leases end.
    """
    claimed: list[Claimed] = []

    def begin(dues: Sequence[Due]) -> list[Unit]:
        heads = _heads(app, dues)
        claimed.extend(_claim(app, due, heads[due.stream], worker, now_us) for due in dues)
        return [each.unit for each in claimed]

    limits = app.registry.limits()
    appended = app.store.claim(now_us=now_us, jobs=jobs, limit=limit, begin=begin, limits=limits)
    paired = zip(claimed, appended.errors, strict=True)
    return [each for each, error in paired if error is None]


def next_due_us(app: Application, jobs: Sequence[str], now_us: int) -> int | None:
    """When there may be something to `take`. Blocks; called on the alarm clock's thread."""
    return app.store.next_due_us(jobs, now_us, app.registry.limits())


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


async def rearm(app: Application, stream: str, version: int) -> None:
    """Put back the alarm, or end the run, of an instance that was found stranded at `version` (A4).

    Nothing happens where it has moved on since: somebody works on it.
    """
    id = InstanceId.parse(stream)
    app.forget(stream)
    request = Rearm(version, app.settings.max_lost)
    asked = await app.ask(app.registry.of(id), id, request, origin=Origin(actor="sweep"))
    if asked.after is not None:
        _LOG.warning("%s had work but no alarm: re-armed", stream, extra={"instance": stream})


def _heads(app: Application, dues: Sequence[Due]) -> dict[str, Head | HistoryError]:
    """How the instances stand, or why that cannot be known: out of memory where they are there,
    the others in one read, for whoever claims holds locks."""
    heads: dict[str, Head | HistoryError] = {}
    for due in dues:
        if known := app.known(due.stream, due.version):
            heads[due.stream] = known
    missing = [due.stream for due in dues if due.stream not in heads]
    heads.update(zip(missing, load_heads(app.store, missing), strict=True))
    return heads


def _claim(
    app: Application, due: Due, head: Head | HistoryError, worker: str, now_us: int
) -> Claimed:
    """The unit that takes one due instance; or parks it, where its history cannot be read."""
    if isinstance(head, HistoryError):
        return _parked(app, InstanceId.parse(due.stream), head, now_us)
    instance = head.instance
    at_us = max(now_us, instance.recorded_us)
    lost = instance.run if due.expired is not None and due.expired.run else None
    policy = app.registry.of(instance.id).policy
    if policy is None:
        raise AssertionError(f"{instance.id.job} is not registered")
    decision = decide(instance, Claim(worker, lost, app.settings.max_lost), policy, at_us)
    meta = app.meta(at_us, NOWHERE)
    records, hash = encode(due.stream, instance.version, head.hash, decision.events, meta)
    after = decision.after
    taken = Head(after, hash)
    waits = not decision.events and _has_more(replace(after, recorded_us=at_us))
    works = decision.call is not None or waits
    until_us = now_us + app.settings.lease_us
    lease = Lease(worker, until_us, after.version, run=decision.call is not None)
    unit = Unit(
        stream=due.stream,
        base_version=instance.version,
        events=records,
        after=after,
        hash=hash,
        commit=meta.commit,
        snapshot=app.snapshot_if_due(instance.version, taken),
        take=lease if works else None,
        ends_lease=not works,
    )
    return Claimed(unit, taken, decision.call)


def _parked(app: Application, id: InstanceId, error: HistoryError, now_us: int) -> Claimed:
    """Set a damaged instance aside, so that others go on; it shows as `failed`, and why."""
    stream = str(id)
    _LOG.error("%s is parked: %s", stream, error, extra={"instance": stream})
    [row] = app.store.status([stream])
    if row is None:
        raise error
    at_us = max(now_us, row.updated_us)
    event = Parked(reason="unreadable", error_type=type(error).__name__, message=str(error))
    before = Instance(id, row.version, row.updated_us, lives=1, started_us=row.created_us or at_us)
    after = evolve(before, event, at_us)
    meta = app.meta(at_us, NOWHERE)
    records, hash = encode(stream, row.version, row.hash, [event], meta)
    unit = Unit(stream, row.version, records, after, hash, meta.commit, ends_lease=True)
    return Claimed(unit, Head(after, hash), None)


async def _run(app: Application, claimed: Claimed, call: Call) -> None:
    """Call `execute`, then settle on whatever the instance is by then."""
    id = claimed.head.instance.id
    definition = app.registry.of(id)
    token = claimed.head.instance.version
    origin = Origin(cause=f"{id}@{token}")
    try:
        if call.base.windows:
            call = replace(call, batch=await _batch(app, id, call.base.windows[0].events))
    except HistoryError as error:
        settle = Settle(call, _refused(error, app.now_us(call.base)))
    else:
        steps = RunSteps(app, definition, call, origin)
        settle = await perform(app.caller, definition, call, steps)
    memory: Memory = {}
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
            if error.reason == "refused" and isinstance(settle.outcome, Ended):
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
    waiting = instance.first_waiting(app.now_us(instance))
    while waiting is not None:
        if id.job in await app.holds.now():  # since it was claimed: what waits goes on waiting
            break
        request, origin = await _recorded(app, id, waiting)
        memory: Memory = {}
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
        waiting = asked.after.first_waiting(app.now_us(asked.after))
    return False


def _has_more(after: Instance) -> bool:
    """Whether the next thing to do is to handle a waiting event: an alarm that was due before
    it has its turn first, or those who keep sending would hold it up for ever."""
    wake = next_wake(after)
    return wake is not None and wake.action == "deferred" and wake.due_us <= after.recorded_us


async def _recorded(
    app: Application, id: InstanceId, waiting: Waiting
) -> tuple[HandleWaiting, Origin]:
    """The accepted event as it lies in the log, and whence it came."""
    version = waiting.version
    stored = await app.read(app.store.events, str(id), after=version - 1, upto=version)
    recorded, event = decode(stored[0]), _event_of(stored[0])
    request = HandleWaiting(version, event.payload or "null", event.event_id)
    return request, Origin(recorded.actor, recorded.correlation, f"{id}@{version}")


def _event_of(stored: StoredEvent) -> EventReceived:
    event = decode(stored).event
    if not isinstance(event, EventReceived):
        raise AssertionError(f"{stored.stream}@{stored.version} is no event received: {event!r}")
    return event


def _refused(error: WakelogError, now_us: int) -> Failed:
    return Failed(error, type(error).__name__, str(error), "", now_us)


def _always(_: Instance) -> bool:
    return True
