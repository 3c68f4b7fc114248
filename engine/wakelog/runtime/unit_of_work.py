"""One unit of work: load the instance, take its turn, append; again if another writer was first.

The turn itself is `wakelog.turn`. Everything that a request, an alarm and a deferred event have in
common around it is here: the instance's lock, idempotency keys, conflicts, leases (U1 to U3, I1).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from wakelog.clock import Clock
from wakelog.core.calls import HandlerCall, HandlerFailed, Settle
from wakelog.core.events import Cleared
from wakelog.core.instance import Instance
from wakelog.core.requests import Claim, HandleDeferred, Receive, RecordStep, Request
from wakelog.definitions.definition import Definition
from wakelog.errors import (
    ConflictError,
    HistoryError,
    IdempotencyConflictError,
    LeaseLostError,
    QueueFullError,
    WakelogError,
)
from wakelog.execution.handler_runner import HandlerRunner
from wakelog.ids import InstanceId
from wakelog.log.rebuild import Head
from wakelog.ports.messages import Received
from wakelog.ports.store import Store
from wakelog.ports.units import KeptReply, KeyTaken, Lease, LeaseGone, Refused, VersionConflict
from wakelog.runtime.batch_reads import BatchReader
from wakelog.runtime.group_commit import GroupCommit
from wakelog.runtime.instance_cache import CachedInstance
from wakelog.runtime.instances import Instances
from wakelog.runtime.job_pauses import JobPauses
from wakelog.runtime.parking import parking
from wakelog.runtime.store_threads import StoreThreads
from wakelog.runtime.unit_records import NO_ORIGIN, Origin, UnitRecords
from wakelog.turn import HandlerOutcomes, Turn, claim_turn, take_turn

__all__ = ["IdempotencyKey", "RequestOutcome", "UnitsOfWork"]

MAX_LOSSES = 10
"""How often an event loses to other processes before it is accepted as deferred instead (U3)."""
MAX_CONFLICTS = 1_000
"""How often any other request loses before its caller is told."""
MAX_PURGED = 1_000
"""Expired replies deleted in one transaction."""
BACKOFF_S = 0.05
"""The longest pause between two tries."""


class IdempotencyKey(Struct, frozen=True):
    """A request with the same key is recorded once (I1)."""

    key: str
    action: str
    fingerprint: str
    """A digest of what is requested, to tell a repetition from a clash."""
    encode: Callable[[Any], str]
    """The reply as JSON, to be kept under the key."""


class RequestOutcome(Struct, frozen=True):
    """What a request came to.

    The turn itself is not kept while its outcome waits to be appended: so many live objects, for
    so many requests in flight, would cost the garbage collector more than the requests themselves.
    """

    after: Instance | None
    """The instance then; None if nothing happened to it."""
    reply: Any = None
    """What `make_reply` made of the turn; None if there are failures to raise instead."""
    raises: tuple[HandlerFailed, ...] = ()
    call: HandlerCall | None = None
    """Of a claim: the call to make now that the run has begun."""
    kept_reply: KeptReply | None = None
    """The reply to an earlier request with the same key: nothing was done now."""


class _Work(Struct):
    """One request on its way through the conflict loop."""

    definition: Definition
    id: InstanceId
    stream: str
    request: Request
    make_reply: Callable[[Turn, str], Any] | None
    origin: Origin
    key: IdempotencyKey | None
    lease_token: int | None
    claim: Callable[[int, int], Lease] | None
    ends_lease: Callable[[Instance], bool] | None
    outcomes: HandlerOutcomes | None = None
    appending: list[asyncio.Future[None]] | None = None
    received: Received | None = None
    inbox: tuple[int, ...] = ()
    losses: int = 0


class UnitsOfWork:
    """One unit at a time for each instance, many units in each append."""

    def __init__(
        self,
        store: Store,
        threads: StoreThreads,
        handler_runner: HandlerRunner,
        instances: Instances,
        records: UnitRecords,
        commits: GroupCommit,
        job_pauses: JobPauses,
        clock: Clock,
        entropy: random.Random,
        *,
        idempotency_window_us: int,
    ) -> None:
        self._store = store
        self._threads = threads
        self._handler_runner = handler_runner
        self._instances = instances
        self._records = records
        self._commits = commits
        self._job_pauses = job_pauses
        self.clock = clock
        self._entropy = entropy
        self._idempotency_window_us = idempotency_window_us
        inline = handler_runner.inline
        self._replies = BatchReader(threads.reads, store.kept_replies, at_once=inline)
        self.conflicts = 0
        """How many units were redone because another process was faster."""

    async def run(
        self,
        definition: Definition,
        id: InstanceId,
        request: Request,
        *,
        make_reply: Callable[[Turn, str], Any] | None = None,
        origin: Origin = NO_ORIGIN,
        key: IdempotencyKey | None = None,
        lease_token: int | None = None,
        claim: Callable[[int, int], Lease] | None = None,
        ends_lease: Callable[[Instance], bool] | None = None,
        outcomes: HandlerOutcomes | None = None,
        appending: list[asyncio.Future[None]] | None = None,
        received: Received | None = None,
        inbox: tuple[int, ...] = (),
    ) -> RequestOutcome:
        """Put `request` to the instance and append what follows; `make_reply` makes the reply of
        the turn and the stream id.

        Redone on the fresh instance if another process was faster; a run's handlers are not called
        again (`outcomes` has how they ended). `lease_token` is the lease under which the request
        works; it ends with the unit if `ends_lease` says so of the instance then. `claim` makes
        the lease of the run that begins with a `Claim`, of the time and version of that. `received`
        is the message that it delivers, `inbox` the rows that it is made of. With `appending` the
        append is not waited for, but added there: the caller looks how it ends. Raises
        `ConflictError` if it lost too often, `LeaseLostError` if the run belongs to another worker
        by now, `JobPaused` if one was to begin, `AlreadyReceived`, `InboxGone`,
        `IdempotencyConflictError`, `HistoryError` if the instance is damaged (it is parked then),
        and what `decide` and the store raise. A crash before the append leaves nothing, a crash
        after it everything.
        """
        if isinstance(request, Receive):
            if (pauses := self._job_pauses.fresh()) is None:
                pauses = await self._job_pauses.now()
            if id.job in pauses:
                request = replace(request, defer=True)
        work = _Work(
            definition, id, str(id), request, make_reply, origin, key, lease_token, claim,
            ends_lease, outcomes, appending, received, inbox,
        )  # fmt: skip
        while True:
            try:
                outcome = await self._try(work)
            except (VersionConflict, KeyTaken):
                await self._back_off(work)
                continue
            except LeaseGone:
                raise _lease_lost(work) from None
            except HistoryError as error:
                await self.park(work.stream, error, again=claim is not None)
                raise
            if outcome is not None:
                return outcome

    def claim_at_once(
        self,
        definition: Definition,
        id: InstanceId,
        request: Claim,
        *,
        lease_token: int,
        claim: Callable[[int, int], Lease],
        ends_lease: Callable[[Instance], bool],
    ) -> tuple[RequestOutcome, asyncio.Future[None] | None] | None:
        """`run` for a claim up to its append, if nothing has to be waited for before it; None: only
        `run` can do it. If the append fails, `run` finds out what to do. Raises what `decide`
        raises."""
        cached = self._instances.at_hand(str(id))
        if cached is None:
            return None
        stream = cached.stream
        work = _Work(
            definition, id, stream, request, None, NO_ORIGIN, None, lease_token, claim, ends_lease
        )
        now_us = self.clock.now_us()
        turn = claim_turn(definition, cached.head.instance, request, now_us)
        return self._claimed(cached, turn, work, now_us)

    async def _try(self, work: _Work) -> RequestOutcome | None:
        """One try; None if the cached instance was evicted: the caller retries."""
        cached = await self._instances.cached(work.stream)
        async with cached:
            if cached.evicted:
                return None
            same_key = cached.keys.get(work.key.key) if work.key else None
            if same_key is None:
                outcome, committed = await self._take_turn(cached, work)
            else:
                outcome, committed = None, None
        if same_key is not None:  # the same request is about to be appended: wait for its reply
            await asyncio.wait([same_key])
        if committed is not None and work.appending is None:
            await committed
        elif committed is not None and work.appending is not None:
            work.appending.append(committed)
        return outcome

    async def _take_turn(
        self, cached: CachedInstance, work: _Work
    ) -> tuple[RequestOutcome, asyncio.Future[None] | None]:
        """Take the turn of an instance; what it came to, and the append to wait for."""
        if work.key and (kept := await self._kept_reply(work, work.key)):
            return RequestOutcome(None, kept_reply=kept), None
        if work.claim is not None:
            await self._recorded(cached)
        instance = cached.head.instance
        now_us = self.clock.now_us()
        if isinstance(work.request, HandleDeferred):
            _forget_outdated(work, work.request, instance)
        try:
            turn = await take_turn(
                self._handler_runner, work.definition, instance, work.request, now_us, work.outcomes
            )
        except QueueFullError:
            await self._instances.check_fresh(cached)
            raise
        if turn.stale:
            raise _lease_lost(work)
        if cached.evicted:
            raise VersionConflict(cached.stream)
        if work.claim is not None:
            return self._claimed(cached, turn, work, now_us)
        reply = work.make_reply(turn, work.stream) if work.make_reply and not turn.raises else None
        outcome = RequestOutcome(turn.after if turn.events else None, reply, turn.raises)
        is_kept = work.received is not None or (work.key is not None and not turn.raises)
        if not turn.events and not is_kept:
            await self._instances.check_fresh(cached)
            return outcome, None
        return outcome, self._submit(cached, turn, work, reply, now_us)

    async def _recorded(self, cached: CachedInstance) -> None:
        """Wait for what is being appended: a claim is decided on what is recorded, since a unit
        before it may drop its lease."""
        if cached.pending is not None and not cached.pending.done():
            await asyncio.wait([cached.pending])
            if cached.evicted:
                raise VersionConflict(cached.stream)

    def _claimed(
        self, cached: CachedInstance, turn: Turn, work: _Work, now_us: int
    ) -> tuple[RequestOutcome, asyncio.Future[None] | None]:
        """What a claim came to: a run that begins is appended, and so is that nothing was to be
        done: the views agree again. To handle deferred events needs no more than the lease."""
        outcome = RequestOutcome(turn.after, call=turn.call)
        if not turn.events and work.ends_lease is not None and not work.ends_lease(turn.after):
            return outcome, None
        return outcome, self._submit(cached, turn, work, None, now_us)

    def _submit(
        self, cached: CachedInstance, turn: Turn, work: _Work, reply: Any, now_us: int
    ) -> asyncio.Future[None]:
        """Queue the turn's outcome for the next append, and let later turns build on it."""
        key, after = work.key, turn.after
        kept = None if key is None or turn.raises else self._to_keep(key, reply, now_us)
        ends_lease = work.ends_lease is not None and work.ends_lease(after)
        take = None
        if work.claim is not None and turn.call is not None:
            take, ends_lease = work.claim(now_us, after.version), False
        unit = self._records.unit(
            cached.stream,
            cached.head,
            turn.events,
            after,
            now_us,
            work.origin,
            kept_reply=kept,
            lease_token=work.lease_token,
            take=take,
            ends_lease=ends_lease or (work.lease_token is None and _ends_a_life(turn)),
            received=work.received,
            inbox=work.inbox,
        )
        if unit.events:  # else only the reply is new
            cached.head = Head(after, unit.hash)
        committed = cached.pending = self._commits.submit(unit)
        self._handler_runner.failures.after(committed, cached.stream, turn.events, turn.failures)
        if kept is None:
            return committed
        if not committed.done():
            cached.keys[kept.key] = committed
        return asyncio.shield(committed)  # others with the same key wait for it too

    async def park(self, stream: str, error: HistoryError, *, again: bool = False) -> None:
        """Set a damaged instance aside, and with `again` what wakes one that is parked. If that is
        not possible now, the next request does it."""
        now_us = self.clock.now_us()
        with contextlib.suppress(Refused, WakelogError):
            parked = await self._threads.read(
                parking, self._store, self._records, stream, error, now_us, again=again
            )
            if parked is not None:
                await self._commits.submit(parked[0])

    async def _back_off(self, work: _Work) -> None:
        """Another writer was first: wait a little, and give way after some losses."""
        work.losses += 1
        self.conflicts += 1
        if isinstance(work.request, Receive) and work.losses >= MAX_LOSSES:
            work.request = replace(work.request, defer=True)
        if work.losses >= MAX_CONFLICTS:
            raise ConflictError(work.stream, work.losses)
        if not self._handler_runner.inline:  # in a simulation there is no other writer
            pause_s = min(BACKOFF_S, 0.001 * 2 ** min(work.losses, 6))
            await asyncio.sleep(pause_s * self._entropy.random())

    # -- idempotency

    async def _kept_reply(self, work: _Work, key: IdempotencyKey) -> KeptReply | None:
        kept = await self._replies.read((work.stream, key.key))
        if kept is None:
            return None
        now_us = self.clock.now_us()
        if (kept.expires_us or 0) <= now_us:
            await self._purge(now_us)
            return None
        if (kept.action, kept.fingerprint) != (key.action, key.fingerprint):
            raise IdempotencyConflictError(work.stream, key.key, kept.action, key.action)
        return kept

    async def _purge(self, now_us: int) -> None:
        """Make room for a new reply: one without events may be older than what it replaces."""
        purge = self._store.purge_kept_replies
        while await self._threads.write(purge, now_us, MAX_PURGED) == MAX_PURGED:
            pass

    def _to_keep(self, key: IdempotencyKey, reply: Any, now_us: int) -> KeptReply:
        expires_us = now_us + self._idempotency_window_us
        return KeptReply(key.key, key.action, key.fingerprint, key.encode(reply), expires_us)


def _forget_outdated(work: _Work, request: HandleDeferred, instance: Instance) -> None:
    """Drop the kept outcomes of an event whose turn it is if its handlers would see another
    instance now. Before its turn, what they were built on may be recorded after all."""
    first = instance.next_deferred
    if work.outcomes is not None and first is not None and first.version == request.version:
        visible = (instance.state, instance.visible_schedule_us, instance.lives)
        if work.outcomes.visible not in ((), visible):
            work.outcomes.clear()
        work.outcomes.visible = visible


def _ends_a_life(turn: Turn) -> bool:
    return turn.after.started_us is None and any(isinstance(e, Cleared) for e in turn.events)


def _lease_lost(work: _Work) -> LeaseLostError:
    request = work.request
    run = request.call.run if isinstance(request, Settle) else None
    run = request.run if isinstance(request, RecordStep) else run
    return LeaseLostError(work.stream, run.number if run else 0)
