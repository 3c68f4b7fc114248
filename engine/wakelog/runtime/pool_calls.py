"""The calls of pools: what waits is put together, and planned while the store holds the lock.

A pool has at most two calls under way: while one waits for the disk the next one is filled. Calls
that only look take no lock.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from wakelog.clock import Clock
from wakelog.log.payloads import Salts
from wakelog.pools.accept import Accept, Accepted, plan_accepts
from wakelog.pools.items import Slices
from wakelog.pools.settle import next_us
from wakelog.pools.takes import PoolRules
from wakelog.pools.writing import CallMeta, Writing
from wakelog.ports.pools import PoolLook, PoolSeen, PoolWrites
from wakelog.ports.store import Store
from wakelog.runtime.store_threads import StoreThreads

__all__ = ["PoolCalls"]

R = TypeVar("R")
MAX_CALLS = 2
"""How many calls that accept are under way at a time, for each pool."""
MAX_GROUP = 2_000
"""Items that one call accepts, unless a caller alone has more."""
MAX_GROUP_BYTES = 16 << 20
"""And their bytes: what a store refuses because it is too big is refused to that caller only."""

_Waiting = tuple[Accept, "asyncio.Future[list[Accepted]]"]


class PoolCalls:
    """All calls of one process, of all pools. Used on the event loop."""

    def __init__(
        self, store: Store, threads: StoreThreads, clock: Clock, entropy: random.Random
    ) -> None:
        self._store = store
        self._threads = threads
        self._clock = clock
        self.salts = Salts(entropy)
        self._commit_prefix = f"{entropy.getrandbits(64):016x}"
        self._commit_numbers = itertools.count(1)
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._under_way: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_call: Callable[[str], None] = lambda job: None
        """Called with a pool after each call that has written."""
        self.on_sent: Callable[[Sequence[str]], None] = lambda senders: None
        """Called with the streams that have sent messages to other jobs, after such a call."""
        self.on_change: Callable[[str, int], None] = lambda job, due_us: None
        """Called with a pool and when it has work next, after such a call."""

    # -- any call

    async def call(
        self, look: PoolLook, plan: Callable[[Writing, PoolSeen], R], *, meta: CallMeta
    ) -> R:
        """Plan and write in one transaction; what the plan has answered. Raises what it raises, and
        `StoreUnavailableError`. A crash leaves all of it, or nothing."""
        return (await self.call_and_read(look, plan, meta=meta))[0]

    async def call_and_read(
        self, look: PoolLook, plan: Callable[[Writing, PoolSeen], R], *, meta: CallMeta
    ) -> tuple[R, Slices]:
        """The same, and what the plan wanted to have read (`Writing.read`), or nothing."""
        answer: list[R] = []
        written: list[PoolWrites] = []

        def planned(seen: PoolSeen) -> PoolWrites:
            writing = Writing(look.pool, seen, meta, self.salts)
            answer[:] = [plan(writing, seen)]
            due_us = next_us(
                writing.state, meta.now_us, PoolRules(concurrency=writing.state.concurrency)
            )
            written[:] = [writing.writes(due_us)]
            return written[0]

        slices = await self._threads.write(self._store.pool_call, look, planned)
        if written[0].state is not None:
            self.on_call(look.pool)
            if written[0].sent:
                self.on_sent([stream for stream, _ in written[0].sent])
            if written[0].due_us is not None:
                self.on_change(look.pool, written[0].due_us)
        return answer[0], Slices(look.pool, slices)

    def meta(self, actor: str | None = None, correlation: str | None = None) -> CallMeta:
        """What surrounds the events of a call that is made now."""
        commit = f"{self._commit_prefix}{next(self._commit_numbers):x}"
        return CallMeta(self._clock.now_us(), commit, actor, correlation)

    async def look(self, look: PoolLook) -> PoolSeen:
        """What there is, without the lock."""
        return await self._threads.read(self._store.pool_look, look)

    # -- accepting

    async def accept(self, job: str, accept: Accept) -> list[Accepted]:
        """Accept items, all of them or none, together with what others wait to have accepted.

        Raises `QueueFullError`, `IdempotencyConflictError`, `InvalidStateError` (the pool is
        drained), `InboxGone`, and `StoreUnavailableError`. A caller that is cancelled may have had
        it accepted.
        """
        future: asyncio.Future[list[Accepted]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job, deque()).append((accept, future))
        self._begin(job)
        return await future

    def _begin(self, job: str) -> None:
        """Begin another call, if there is something to accept and not too many are under way."""
        if not self._waiting.get(job) or self._under_way.get(job, 0) >= MAX_CALLS:
            return
        self._under_way[job] = self._under_way.get(job, 0) + 1
        task = asyncio.get_running_loop().create_task(self._accept_group(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept_group(self, job: str) -> None:
        """One call after the other, until nothing waits."""
        try:
            while group := _group(self._waiting[job]):
                await self._accepted(job, group)
        finally:
            self._under_way[job] -= 1

    async def _accepted(self, job: str, group: list[_Waiting]) -> None:
        accepts = [accept for accept, _ in group]
        meta = self.meta()
        ids = [item.id for accept in accepts for item in accept.items if item.id is not None]
        for_now = any(item.due_us is None for accept in accepts for item in accept.items)
        inbox = [n for accept in accepts for n in accept.inbox]
        look = PoolLook(job, meta.now_us, ids=ids, inbox=inbox, brings_work=for_now)
        try:
            answers = await self.call(
                look, lambda writing, seen: plan_accepts(writing, seen, accepts), meta=meta
            )
        except BaseException as error:
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), answer in zip(group, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def drained(self) -> None:
        """Wait until nothing is being accepted."""
        while self._tasks:
            await asyncio.wait(self._tasks)


def _group(waiting: deque[_Waiting]) -> list[_Waiting]:
    """What the next call accepts."""
    group: list[_Waiting] = []
    count = size = 0
    while waiting:
        accept = waiting[0][0]
        count, size = count + len(accept.items), size + accept.size
        if group and (count > MAX_GROUP or size > MAX_GROUP_BYTES):
            break
        group.append(waiting.popleft())
    return group
