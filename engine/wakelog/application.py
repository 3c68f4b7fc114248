"""The application: loads an instance, takes its turn, has the outcome appended; again if it lost.

Built on the eventsourcing library's `Application`, so that its notification log and projections
work on ours. One of these stands behind an open app; clients and workers share it.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import eventsourcing.application as library
from eventsourcing.persistence import ApplicationRecorder, InfrastructureFactory
from eventsourcing.utils import Environment
from msgspec.structs import replace

from wakelog.clock import Clock
from wakelog.core.instance import Instance
from wakelog.core.requests import HandleDeferred, Receive, Request
from wakelog.definitions.definition import Definition
from wakelog.definitions.registry import Registry
from wakelog.errors import ConflictError, IdempotencyConflictError, QueueFullError
from wakelog.execution.handler_runner import HandlerRunner
from wakelog.ids import InstanceId
from wakelog.log.mapper import LogMapper
from wakelog.log.rebuild import Head, load_heads, snapshot
from wakelog.log.records import Meta, Salts, encode
from wakelog.ports.records import StoredEvent, StoredSnapshot
from wakelog.ports.rows import StatusRow
from wakelog.ports.store import Store
from wakelog.ports.units import KeptReply, KeyTaken, LeaseGone, Unit, VersionConflict
from wakelog.runtime.append_driver import AppendDriver
from wakelog.runtime.batch_reads import BatchReader
from wakelog.runtime.group_commit import GroupCommit
from wakelog.runtime.instance_cache import CachedInstance, InstanceCache
from wakelog.runtime.job_pauses import JobPauses
from wakelog.runtime.store_threads import InlineExecutor, StoreExecutor, ThreadExecutor
from wakelog.runtime.stream_watch import StreamWatch
from wakelog.runtime.unit_of_work import (
    BACKOFF_S,
    MAX_CONFLICTS,
    MAX_LOSSES,
    MAX_PURGED,
    NOWHERE,
    Asked,
    Body,
    Key,
    Origin,
    _asked,
    _ended,
    _lease_lost,
    _never,
    _Try,
)
from wakelog.settings import Settings
from wakelog.turn import HandlerOutcomes, Turn, take_turn

__all__ = ["Application"]

P = ParamSpec("P")
R = TypeVar("R")


class Application(library.Application[str]):
    """Turns, one at a time for each instance, many at a time for each append."""

    name = "wakelog"

    def __init__(
        self,
        factory: InfrastructureFactory[Any],
        registry: Registry,
        clock: Clock,
        settings: Settings,
        *,
        inline: bool = False,
        seed: int | None = None,
    ) -> None:
        """Work on the store of `factory`. `inline`: nothing on other threads, for simulations."""
        self._given_factory = factory
        super().__init__()
        self.store = cast(Store, self.recorder)
        self.registry = registry
        self.clock = clock
        self.settings = settings
        self.caller = HandlerRunner(clock, inline=inline, limit=settings.threads)
        self.on_wake: Callable[[int], None] = lambda due_us: None
        """Told the earliest alarm of each append."""
        self.on_cleared: Callable[[str], None] = lambda stream: None
        """Told each stream whose life was ended from outside."""
        self.stopping = False
        """This process ends: begin nothing that can wait."""
        self._slots = InstanceCache(settings.cache)
        threaded = self.store.blocking and not inline
        calls = InlineExecutor(yields=not inline)
        self._reads: StoreExecutor = ThreadExecutor("reads", 2) if threaded else calls
        self._long_reads: StoreExecutor = ThreadExecutor("long-reads", 2) if threaded else calls
        self._writes: StoreExecutor | None = (
            ThreadExecutor("writes", hands_over=True) if threaded else None
        )
        appends = AppendDriver(self.store, self._writes) if self._writes else None
        self._commits = GroupCommit(
            self.store, appends, on_refused=self._refused, on_appended=self._appended
        )
        load = functools.partial(load_heads, self.store)
        self._loads = BatchReader(self._reads, load, at_once=inline)
        self._statuses = BatchReader(self._reads, self.store.status, at_once=inline)
        self._answers = BatchReader(self._reads, self.store.kept_replies, at_once=inline)
        self.job_pauses = JobPauses(self.store, self._reads, clock)
        self.watching = StreamWatch(clock, self._events_after)
        self._entropy: random.Random = secrets.SystemRandom()
        if seed is not None:  # with the position: commit ids never repeat, whoever opens again
            self._entropy = random.Random(f"{seed}@{self.recorder.max_notification_id()}")
        self._salts = Salts(self._entropy)
        self.conflicts = 0
        self._commit_prefix = f"{self._entropy.getrandbits(64):016x}"
        self._commit_numbers = itertools.count(1)

    # -- the eventsourcing library's hooks

    def construct_env(self, name: str, env: Mapping[str, str] | None = None) -> Environment:
        """Nothing from the process's environment: it may belong to another application."""
        return Environment(name, {})

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        return self._given_factory

    def construct_mapper(self) -> LogMapper:
        return LogMapper()

    def construct_recorder(self) -> ApplicationRecorder:
        return self.factory.application_recorder()

    # -- requests

    async def ask(
        self,
        definition: Definition,
        id: InstanceId,
        request: Request,
        *,
        say: Callable[[Turn], Body] | None = None,
        origin: Origin = NOWHERE,
        key: Key | None = None,
        holds: int | None = None,
        ends_lease: Callable[[Instance], bool] = _never,
        memory: HandlerOutcomes | None = None,
    ) -> Asked:
        """Put `request` to the instance and have what follows appended; `say` what of it.

        Redone on the fresh instance whenever another process was faster; a run's handlers are
        not called again (`memory` has their outcomes). `holds` is the token of the lease that the
        request works under. Raises `ConflictError` when it lost too often, `LeaseLostError` when
        the run is not ours any more, `IdempotencyConflictError`, and what `decide` and the store
        raise. A crash before the append leaves nothing, a crash after it everything.
        """
        if isinstance(request, Receive) and id.job in await self.job_pauses.lately():
            request = replace(request, defer=True)
        this = _Try(definition, id, request, say, origin, key, holds, ends_lease, memory)
        while True:
            try:
                asked = await self._try(this)
            except (VersionConflict, KeyTaken):
                await self._lost(this)
            except LeaseGone:
                raise _lease_lost(this) from None
            else:
                if asked is not None:
                    return asked

    async def _try(self, this: _Try) -> Asked | None:
        """One try; None where it has to begin again because the ground has moved."""
        stream = str(this.id)
        slot = self._slots.get(stream) or await self._loaded(stream)
        async with slot:
            if slot.dead:
                return None
            same_key = slot.keys.get(this.key.key) if this.key else None
            if same_key is None:
                asked, committed = await self._turn(slot, this)
            else:
                asked, committed = None, None
        if same_key is not None:  # the same request is about to be appended: hear its answer
            await asyncio.wait([same_key])
        if committed is not None:
            await committed
        return asked

    async def _turn(
        self, slot: CachedInstance, this: _Try
    ) -> tuple[Asked, asyncio.Future[None] | None]:
        """Take the turn of an instance; what it came to, and the append to wait for."""
        if this.key and (found := await self._answered(this, this.key)):
            return Asked(None, answer=found), None
        instance = slot.head.instance
        now_us = self.now_us(instance)
        if isinstance(this.request, HandleDeferred):
            seen = (instance.state, instance.visible_schedule_us, instance.lives)
            if this.memory and this.seen not in ((), seen):
                this.memory.clear()  # an `on_event` elsewhere was faster: its outcome must be seen
            this.seen = seen
        try:
            turn = await take_turn(
                self.caller, this.definition, instance, this.request, now_us, this.memory
            )
        except QueueFullError:
            await self._check_fresh(slot)
            raise
        if turn.stale:
            raise _lease_lost(this)
        if slot.dead:
            raise VersionConflict(slot.stream)
        if not turn.events and (this.key is None or turn.raises):
            await self._check_fresh(slot)
            return _asked(this, turn), None
        return _asked(this, turn), self._submit(slot, turn, this, now_us)

    async def _check_fresh(self, slot: CachedInstance) -> None:
        """What is answered without an append is not checked by one: ask the store whether the
        instance stands where we think. Raises `VersionConflict`."""
        await self.settled(slot.stream)
        row = await self._statuses.read(slot.stream)
        stands = 0 if row is None else row.version
        if slot.dead or stands != slot.head.instance.version:
            self._slots.drop(slot.stream)
            raise VersionConflict(slot.stream)

    def _submit(
        self, slot: CachedInstance, turn: Turn, this: _Try, now_us: int
    ) -> asyncio.Future[None]:
        """Queue the turn's outcome for the next append, and let later turns build on it."""
        meta = self.meta(now_us, this.origin)
        base = slot.head.instance.version
        records, hash = encode(slot.stream, base, slot.head.hash, turn.events, meta)
        head = Head(turn.after, hash)
        accepted = this.key is not None and not turn.raises
        unit = Unit(
            stream=slot.stream,
            base_version=base,
            events=records,
            after=turn.after,
            hash=hash,
            commit=meta.commit,
            kept_reply=self._answer(this.key, turn, now_us) if this.key and accepted else None,
            snapshot=self.snapshot_if_due(base, head),
            lease_token=this.holds,
            ends_lease=this.ends_lease(turn.after) or (this.holds is None and _ended(turn)),
        )
        if records:  # else only the answer is new
            slot.head = head
        committed = slot.pending = self._commits.submit(unit)
        if unit.kept_reply is None:
            return committed
        if not committed.done():
            slot.keys[unit.kept_reply.key] = committed
        return asyncio.shield(committed)  # others with the same key wait for it too

    async def _lost(self, this: _Try) -> None:
        """Another was first: wait a little, and give way after some losses."""
        this.losses += 1
        self.conflicts += 1
        if isinstance(this.request, Receive) and this.losses >= MAX_LOSSES:
            this.request = replace(this.request, defer=True)
        if this.losses >= MAX_CONFLICTS:
            raise ConflictError(str(this.id), this.losses)
        if not self.caller.inline:  # in a simulation nobody is at it at the same time
            pause_s = min(BACKOFF_S, 0.001 * 2 ** min(this.losses, 6))
            await asyncio.sleep(pause_s * self._entropy.random())

    # -- idempotency

    async def _answered(self, this: _Try, key: Key) -> KeptReply | None:
        found = await self._answers.read((str(this.id), key.key))
        if found is None:
            return None
        now_us = self.clock.now_us()
        if (found.expires_us or 0) <= now_us:
            await self._purge(now_us)
            return None
        if (found.action, found.fingerprint) != (key.action, key.fingerprint):
            raise IdempotencyConflictError(str(this.id), key.key, found.action, key.action)
        return found

    async def _purge(self, now_us: int) -> None:
        """Make room for a new answer: one without events may be older than what it replaces."""
        while await self.write(self.store.purge_kept_replies, now_us, MAX_PURGED) == MAX_PURGED:
            pass

    def _answer(self, key: Key, turn: Turn, now_us: int) -> KeptReply:
        expires_us = now_us + self.settings.idempotency_window_us
        return KeptReply(key.key, key.action, key.fingerprint, key.body(turn), expires_us)

    # -- reading

    async def load(self, id: InstanceId, *, stale_ok: bool = False) -> Head:
        """The instance as it is recorded now, by whatever process; with `stale_ok` the one at
        hand, if it is."""
        stream = str(id)
        known = self._slots.peek(stream)
        if stale_ok and known is not None:
            return known
        row = await self._statuses.read(stream)
        known = self._slots.peek(stream)
        if row is not None and known is not None and known.instance.version == row.version:
            return known
        return await self._loads.read(stream)

    async def status(self, id: InstanceId, *, stale_ok: bool = False) -> Head | StatusRow | None:
        """The status row as recorded now; with `stale_ok` the instance at hand, if it is."""
        known = self._slots.peek(str(id)) if stale_ok else None
        return known or await self._statuses.read(str(id))

    async def read(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a reading method of the store off the loop."""
        return await self._reads.run(fn, *args, **kwargs)

    async def browse(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `read`, for what may take long: no request waits behind it."""
        return await self._long_reads.run(fn, *args, **kwargs)

    async def write(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a writing method of the store off the loop."""
        if self._writes is None:
            return fn(*args, **kwargs)
        return await self._writes.run(fn, *args, **kwargs)

    # -- inside

    async def _events_after(self, stream: str, version: int) -> Sequence[StoredEvent]:
        return await self.read(self.store.events, stream, after=version)

    def meta(self, now_us: int, origin: Origin) -> Meta:
        """What surrounds the events of a new unit of work."""
        commit = f"{self._commit_prefix}{next(self._commit_numbers):x}"
        salt = self._salts.next()
        return Meta(now_us, commit, salt, origin.cause, origin.correlation, origin.actor)

    async def _loaded(self, stream: str) -> CachedInstance:
        return self._slots.put(stream, await self._loads.read(stream))

    def _refused(self, unit: Unit) -> None:
        self._slots.drop(unit.stream)

    def _appended(self, units: Sequence[Unit], due_us: int | None) -> None:
        for unit in units:
            self._slots.appended(unit.stream, unit.after, unit.hash)
            slot = self._slots.get(unit.stream) if unit.kept_reply else None
            if slot is not None and unit.kept_reply is not None:
                slot.keys.pop(unit.kept_reply.key, None)
            if unit.lease_token is None and not unit.after.exists:
                self.on_cleared(unit.stream)
            self.watching.tell(unit.stream)
        if due_us is not None:
            self.on_wake(due_us)

    async def settled(self, stream: str) -> None:
        """Wait for the append of the newest unit of this instance that was decided on here."""
        slot = self._slots.get(stream)
        if slot is not None and slot.pending is not None:
            await asyncio.wait([slot.pending])

    async def adopt(self, head: Head) -> Instance:
        """Learn what a claim has appended, and wait for a handler that is at it already.

        That handler's outcome is void, but one instance never has two handlers running here.
        Answers how the instance stands then: somebody may have cleared it meanwhile.
        """
        stream = str(head.instance.id)
        slot = self._slots.adopt(stream, head)
        self.watching.tell(stream)
        if slot.turn.locked():
            async with slot.turn:
                pass
        known = self._slots.peek(stream)
        return head.instance if known is None else known.instance

    def forget(self, stream: str) -> None:
        """Look at the store again before the next turn of this stream."""
        self._slots.drop(stream)

    def now_us(self, instance: Instance) -> int:
        """The time for a unit of this instance: its history never goes back."""
        return max(self.clock.now_us(), instance.recorded_us)

    def known(self, stream: str, version: int) -> Head | None:
        """The head of a stream at `version`, if it is in memory. Any thread may ask."""
        head = self._slots.peek(stream)
        return head if head is not None and head.instance.version == version else None

    @property
    def appends(self) -> tuple[int, int]:
        """How many appends requests have led to so far, and how many units went with them."""
        return self._commits.batches, self._commits.units

    def snapshot_if_due(self, base: int, head: Head) -> StoredSnapshot | None:
        """The snapshot to append with a unit that goes from version `base` to `head`."""
        every = self.settings.snapshot_every
        return snapshot(head) if base // every != head.instance.version // every else None

    async def drained(self) -> None:
        """Wait until everything that was decided is appended."""
        await self._commits.drained()

    def close(self) -> None:
        """Let go of threads and store. Await `drained()` first. Safe to call twice."""
        if self._writes is not None:
            self._writes.close()
        self._reads.close()
        self._long_reads.close()
        self.caller.close()
        self.store.close()

    def __del__(self) -> None:
        """Unlike the library's: the store may have a new application by now."""
