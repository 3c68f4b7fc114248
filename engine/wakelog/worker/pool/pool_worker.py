"""The work of one process on one pool: the partitions it holds, and the calls they make together.

What partitions ask for goes into the next call; two calls are under way at most, so while one waits
for the disk the other partitions work. A pool is presented by the alarm clock like everything else
(`due`, on its thread); once a partition has work it takes the next by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from wakelog.application import Application
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.errors import StoreUnavailableError
from wakelog.pools.items import Slices
from wakelog.pools.settle import (
    Acquire,
    Acquired,
    CallAnswer,
    PartitionAnswer,
    PartitionRequest,
    Recalled,
    next_us,
    plan_requests,
    ranges_of,
    unheld_partitions,
)
from wakelog.pools.state import PoolState, loaded
from wakelog.pools.takes import PoolRules, Taking
from wakelog.pools.writing import Writing
from wakelog.ports.pools import PoolLook, PoolSeen
from wakelog.worker.leases import HeldLeases, LeaseKey
from wakelog.worker.pool.held_partition import HeldPartition
from wakelog.worker.pool.take_size import TakeSize
from wakelog.worker.pool.taken_reads import PAUSE_S, TakenReads, leaving
from wakelog.worker.pool.taken_watch import TakenWatch
from wakelog.worker.pool.unread_items import UnreadItems

__all__ = ["PoolWorker"]

_LOG = logging.getLogger("wakelog.worker")

MAX_CALLS = 2
"""Calls of one pool that are under way at a time: while one waits for the disk another is made."""
DUE_LIMIT = 200
"""Items of each group of the table of exceptions that a call looks at."""
LAST_S = 4.0
"""How long a shutdown waits until what it has given back is recorded."""
AGAIN_US = 500_000
"""How soon it is looked again whether leases that have ended may be taken over."""


class PoolWorker:
    """Holds partitions of one pool. Used on the event loop, but for `due`."""

    def __init__(
        self,
        app: Application,
        definition: WorkerPool[object],
        worker: str,
        leases: HeldLeases,
        share: Callable[[int], int],
        may_take_over: Callable[[], bool],
        lease_us: int,
    ) -> None:
        """`share`: of so many partitions, how many this worker may hold."""
        self.app = app
        self.definition = definition
        self.worker = worker
        self.job = definition.job
        self.processed = 0
        """How many items of the pool had ended well at the last call."""
        self._leases = leases
        self._share = share
        self._may_take_over = may_take_over
        self._lease_us = lease_us
        self._reads = TakenReads(app, definition)
        self._watch = TakenWatch(app, self.job, self._give_back)
        self.unread = UnreadItems(app, definition)
        """What waits for code that this worker has."""
        self._held: dict[int, HeldPartition] = {}
        self._asking: list[tuple[HeldPartition, PartitionRequest]] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._wants_more = False
        """Partitions are to be acquired with the next call."""
        self._is_closing = False
        self._changed = asyncio.Event()
        self._crash: BaseException | None = None
        """What ended a call: a simulated crash."""
        self.worked = 0
        """How many items were worked on."""
        self._size = TakeSize()
        self.rules = PoolRules.of(definition, app.settings.max_lost)
        self._seen = 0
        """The number of the newest document that a call has seen."""

    # -- on the alarm clock's thread

    def due_us(self, now_us: int) -> int | None:
        """When a partition that this worker holds, or could, may find something to take; None if
        all of them work, or nothing waits. Blocks."""
        if self._is_closing:
            return None
        held = tuple(self._held.values())
        mine = {each.number for each in held if each.is_idle}
        self._note_missed()
        if len(held) >= self.rules.concurrency and not mine:
            return None  # each takes again by itself
        seen = self.app.store.pool_look(PoolLook(self.job, now_us, leases=True))
        if seen.state is None or seen.is_paused:
            return None
        state = loaded(seen.state)
        unheld = unheld_partitions(state, self.job, self.worker, seen.leases, self.rules)
        free = [each for each in unheld if each.is_surplus or self._room > 0]
        if any(each.is_surplus for each in free):
            self._wants_more = True
        if any(each.ended for each in free) and not self._may_take_over():
            return now_us + AGAIN_US
        if any(each.partition.take for each in free):
            return now_us  # what a worker that is gone had taken
        return self._next_us(state, now_us, mine | {each.partition.number for each in free})

    def has_seen(self, number: int) -> bool:
        """Whether this worker holds all that it may, and a call has seen this document."""
        return number <= self._seen and self._room <= 0

    # -- on the loop

    @property
    def running(self) -> int:
        """How many items are being worked on."""
        return sum(each.is_working for each in self._held.values())

    @property
    def _room(self) -> int:
        """How many partitions more it may hold. Those beyond the concurrency do not count (P2)."""
        mine = sum(not each.is_surplus for each in tuple(self._held.values()))
        return self._share(self.rules.concurrency) - mine

    def wake(self) -> None:
        """There is something to take, or may be."""
        if self._is_closing:
            return
        self._note_missed()
        for held in self._held.values():
            if held.is_idle:
                self._ask_next(held)
        if self._room > 0:
            self._wants_more = True
        self._pump()

    def _note_missed(self) -> None:
        """Something may have come too late for the calls that are under way."""
        for held in tuple(self._held.values()):
            if held.is_asking:
                held.was_missed = True

    def wake_idle(self) -> bool:
        """Let one partition that is idle take; whether there was one."""
        if self._is_closing:
            return False
        for held in self._held.values():
            if held.is_idle:
                self._ask_next(held)
                self._pump()
                return True
        self._note_missed()
        return False

    def balance(self) -> None:
        """Give up a partition that does not work, if this worker has more than its share."""
        too_many = -self._room
        for held in tuple(self._held.values()):
            if held.is_idle and (too_many > 0 or held.is_surplus):
                too_many -= 1
                self._ask_next(held)
        self._pump()

    def ask(self, held: HeldPartition, request: PartitionRequest) -> None:
        """Put what a partition asks for into the next call."""
        held.is_asking = True
        self._asking.append((held, request))
        self._pump()

    def pace(self, item_us: int) -> None:
        """An item has taken so long."""
        self.worked += 1
        self._size.note(item_us)

    def ended(self, held: HeldPartition) -> None:
        """A partition has worked off its take."""
        if held.is_lost:
            self._drop(held)
        else:
            self._ask_next(held)
        self._pump()
        self._changed.set()

    def _ask_next(self, held: HeldPartition) -> None:
        gives_up = self._is_closing or self._room < 0 or held.is_surplus
        held.was_missed = False
        request = held.next_request(0 if gives_up else self._size.items)
        request.gives_up = gives_up
        held.is_asking = True
        self._asking.append((held, request))

    def _pump(self) -> None:
        """Make another call, if something is asked for and not too many are under way."""
        if not (self._asking or self._wants_more) or len(self._calls) >= MAX_CALLS:
            return
        task = asyncio.get_running_loop().create_task(self.call())
        self._calls.add(task)
        task.add_done_callback(self._called)

    def _called(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._crash = None if task.cancelled() else task.exception()
        self._pump()
        self._changed.set()

    async def call(self) -> None:
        """Make a call for all that is asked for."""
        asking, self._asking = self._asking, []
        wants_more, self._wants_more = self._wants_more, False
        if not asking and not wants_more:
            return  # another call had it
        share = self._share(self.rules.concurrency)
        acquire = Acquire(self.worker, self._lease_us, share, self._may_take_over)
        asked = [request for _, request in asking], acquire if wants_more else None
        try:
            await self._answered(asking, *await self._recorded(*asked))
        except Exception:
            _LOG.exception("a call of %s failed: what it was about is taken up again", self.job)
            for held, _ in asking:
                held.answered(None)
                if not held.is_working:
                    self._drop(held)

    async def _recorded(
        self, requests: Sequence[PartitionRequest], acquire: Acquire | None
    ) -> tuple[CallAnswer, Slices]:
        """The answer, and what was read for it, however long the store is away."""
        while True:
            try:
                return await self._one_call(requests, acquire)
            except StoreUnavailableError as error:
                if error.reason == "refused":
                    raise
                _LOG.warning("what %s has done cannot be recorded yet: %s", self.job, error)
            await asyncio.sleep(PAUSE_S)

    async def _one_call(
        self, requests: Sequence[PartitionRequest], acquire: Acquire | None
    ) -> tuple[CallAnswer, Slices]:
        meta = self.app.pools.meta()
        behind = [key for request in requests for key in request.outcome.unblock]
        keys = self.unread.of_slots(self._serves)
        look = PoolLook(
            *(self.job, meta.now_us), due_limit=DUE_LIMIT, keys=keys, behind=behind, leases=True,
            firsts="lanes",
        )  # fmt: skip
        held = tuple(self._held)

        def plan(writing: Writing, seen: PoolSeen) -> CallAnswer:
            taking = Taking(writing, seen, self.rules, self.worker)
            self.processed = writing.state.processed
            self._seen = max(seen.number, self._seen)
            answer = plan_requests(writing, seen, requests, acquire, taking)
            self.unread.keep(keys, taking.due)
            if not seen.is_paused:
                answer.next_us = self._next_us(writing.state, meta.now_us, held)
            writing.read = [each for take in answer.takes for each in ranges_of(take)]
            return answer

        return await self.app.pools.call_and_read(look, plan, meta=meta)

    def _serves(self, slot: int) -> bool:
        """Whether a partition that this worker holds takes items of a key slot."""
        return not slot or (slot - 1) % self.rules.concurrency in self._held

    def _next_us(self, state: PoolState, now_us: int, among: Collection[int]) -> int | None:
        return next_us(state, now_us, self.rules, among, self.unread.slots)

    async def _answered(
        self,
        asking: list[tuple[HeldPartition, PartitionRequest]],
        answer: CallAnswer,
        slices: Slices,
    ) -> None:
        if slices.is_empty:
            slices = await self._reads.slices(answer.takes)
        for (held, request), found in zip(asking, answer.answers, strict=True):
            held.answered(found)
            if found is None:
                self.lost(held.key)
            elif request.gives_up:
                self._drop(held)
            else:
                with leaving(held, self._drop):
                    await self._begin(held, found, slices)
                if found.take is None and request.outcome.unblock:
                    held.was_missed = True  # what this call has released can be taken by the next
        for acquired in answer.acquired:
            held = HeldPartition(self, acquired.partition, acquired.token, acquired.version)
            with leaving(held, self._drop):
                await self._hold(held, acquired, slices)
        self._give_back(answer.recalls)
        self._look_again({held for held, _ in asking}, answer.next_us)

    def _give_back(self, recalls: Mapping[int, Recalled]) -> None:
        """What operators want of what was taken: all of it if the pool or the partition is paused,
        else what was cancelled (P6)."""
        for number, only in recalls.items():
            if (held := self._held.get(number)) is not None:
                held.give_back("paused" if only is None else "cancelled", only)

    def watch_taken(self) -> None:
        """Something has changed: look whether what was taken is to be given back."""
        if any(each.has_unbegun for each in self._held.values()):
            self._watch.look()

    def _look_again(self, asked: Collection[HeldPartition], next_us: int | None) -> None:
        """Partitions were left without anything: see to it that what is due is looked at."""
        idle = [held for held in self._held.values() if held.is_idle]
        if not idle or self._is_closing:
            return
        again = [held for held in idle if held.was_missed]
        if not again and next_us is not None:
            if next_us > self.app.clock.now_us():
                self.app.pools.on_change(self.job, next_us)
            else:
                again = [held for held in idle if held not in asked]
        for held in again:
            self._ask_next(held)

    async def _begin(self, held: HeldPartition, found: PartitionAnswer, slices: Slices) -> None:
        if found.take is None:
            return
        items = await self._reads.items(found.take, slices)
        held.work(found.take, items, await self._reads.outside(items))
        if self._is_closing or self.app.stopping:
            held.give_back("shutdown")  # the call was under way when the shutdown began

    async def _hold(self, held: HeldPartition, acquired: Acquired, slices: Slices) -> None:
        take = acquired.open_take
        lost = [] if take is None else await self._reads.items(take, slices)
        self._held[acquired.partition] = held
        self._leases.add([held.key])
        if take is not None:
            held.recover(take, lost, acquired.last_holder, self.rules.max_lost)
        if held.is_idle:
            self._ask_next(held)
        self._pump()

    def lost(self, key: LeaseKey) -> None:
        """Its lease is lost: what it had taken is taken up elsewhere."""
        for held in tuple(self._held.values()):
            if held.key == key:
                _LOG.warning("the lease on %s is lost: stopping", key[0])
                held.is_lost = True
                held.stop()
                if not held.is_working:
                    self._drop(held)

    def _drop(self, held: HeldPartition) -> None:
        self._leases.discard(held.key)
        if self._held.get(held.number) is held:
            del self._held[held.number]

    async def close(self, grace_s: float) -> None:
        """Take nothing more, give back what has not begun, let what has begun end within the grace;
        then stop it. Everything is recorded, if the store is there."""
        self._is_closing = True
        self._watch.close()
        for held in tuple(self._held.values()):
            held.give_back("shutdown")
            if held.is_idle:
                self._ask_next(held)
        self._pump()
        try:
            for seconds in (grace_s, LAST_S):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.idle(), seconds)
                for held in tuple(self._held.values()):
                    held.stop()
        finally:  # also if the caller does not wait for so long
            for call in tuple(self._calls):
                call.cancel()

    async def idle(self) -> None:
        """Wait until nothing is being taken or worked on. Raises what has crashed a call."""
        while self._calls or self.running:
            self._changed.clear()
            await self._changed.wait()
        crash, self._crash = self._crash, None
        if crash is not None:
            raise crash
