"""One partition of a pool, as its worker holds it: it works on one item at a time.

    take -> for each item: call `execute` (`turn.perform`), decide (`turn.take_turn`) -> book
    -> the next call of the pool records the book and takes again

What is written is put together for a whole take; what a handler gets and what follows from its
outcome are as for every job.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from wakelog.core.calls import HandlerCall, HandlerFailed, Settle
from wakelog.core.events import StepCompleted
from wakelog.core.instance import Instance
from wakelog.core.pool.events import GivenBack
from wakelog.errors import IntegrityError, LeaseLostError, RetryExhaustedError
from wakelog.ids import InstanceId
from wakelog.pools.book import Book
from wakelog.pools.items import TakenItem
from wakelog.pools.settle import Outcome, PartitionAnswer, PartitionRequest, Recalled
from wakelog.pools.state import Take, partition_stream
from wakelog.turn import perform, take_turn
from wakelog.worker.leases import LeaseKey
from wakelog.worker.pool.pool_steps import PoolSteps
from wakelog.worker.pool.take_size import TAKE_US

if TYPE_CHECKING:
    from wakelog.worker.pool.pool_worker import PoolWorker

__all__ = ["HeldPartition"]

_LOG = logging.getLogger("wakelog.worker")

LONG_US = 1_000
"""An item that took longer lets go of the event loop before the next one."""
OVERSTAY_US = 2 * TAKE_US
"""After how long what has not begun is given back, since one item takes longer than expected."""


class HeldPartition:
    """A partition whose lease this worker holds."""

    def __init__(self, pool: PoolWorker, number: int, token: int, version: int) -> None:
        self._pool = pool
        self.app = pool.app
        self.definition = pool.definition
        self.loop = asyncio.get_running_loop()
        self.number = number
        self.token = token
        self.version = version
        self.is_lost = False
        self.is_asking = False
        """A call with a request of it is under way or about to be made."""
        self.was_missed = False
        """There may be something for it that came too late for that call."""
        self._waiting: deque[TakenItem] = deque()
        self._take: Take | None = None
        self._book: Book | None = None
        self._task: asyncio.Task[None] | None = None
        self._current: TakenItem | None = None
        self._asked = asyncio.Event()
        self._gives_back: tuple[GivenBack, Recalled] | None = None
        """Why what has not begun, and which of it, is to be given back with the next request."""

    @property
    def is_surplus(self) -> bool:
        """Whether it is beyond the concurrency: given up as soon as what it has is settled."""
        return self.number >= self._pool.rules.concurrency

    @property
    def key(self) -> LeaseKey:
        """Of its lease."""
        return partition_stream(self._pool.job, self.number), self.token

    @property
    def is_idle(self) -> bool:
        """Whether it could take something."""
        return self._task is None and not self.is_asking and not self.is_lost

    @property
    def has_unbegun(self) -> bool:
        """Whether it has taken something that has not begun."""
        return bool(self._waiting)

    @property
    def is_working(self) -> bool:
        """Whether an item of it has begun, or is about to."""
        return self._task is not None

    # -- a take

    def work(self, take: Take, items: Sequence[TakenItem], outside: dict[str, int]) -> None:
        """Begin to work on what it has got."""
        self._take = take
        self._waiting = deque(items)
        self._book = self._new_book(take)
        self._book.outside = outside
        self._begin_task(self._worked(take))

    def _begin_task(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self.app.handler_runner.start(work)
        self._task.add_done_callback(self._ended)

    def _new_book(self, take: Take) -> Book:
        pool = self._pool
        return Book(take, pool.app.pools.salts, is_ordered=pool.definition.ordered)

    async def _worked(self, take: Take) -> None:
        """All items of a take; then ask for the next one."""
        timer = asyncio.get_running_loop().call_later(OVERSTAY_US / 1e6, self.give_back, "overstay")
        try:
            if take.is_empty:
                await self._on_empty()
            while self._waiting and not self.is_lost:
                item = self._waiting.popleft()
                self._current = item
                await self._worked_on(take, item)
        finally:
            timer.cancel()
        await self._until_answered()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _LOG.error("partition %s:%d failed", self._pool.job, self.number, exc_info=error)
            self.is_lost = True  # its lease ends, and what it had taken is taken up again
        self._pool.ended(self)

    @property
    def _open_book(self) -> Book:
        """The one that is not recorded yet: what is given back meanwhile is recorded with the one
        before."""
        if self._book is None:
            raise AssertionError("a take has a book")
        return self._book

    async def _worked_on(self, take: Take, item: TakenItem) -> None:
        app, definition, pool = self.app, self.definition, self._pool
        if self._open_book.holds_back(item):
            self._open_book.given_back([item], "behind", app.clock.now_us())
            self._current = None
            return
        began_us = app.clock.now_us()
        call = item.call(definition.name, take, began_us, pool.worker, self.number, pool.processed)
        if item.payload is None:
            error = IntegrityError(f"{pool.job}:shared", 0, f"{item.name} was destroyed")
            settle = Settle(call, HandlerFailed.by_engine(error, app.clock.now_us()))
        else:
            steps = PoolSteps(call, self, item)
            settle = await perform(app.handler_runner, definition, call, steps)
        now_us = max(began_us, app.clock.now_us())
        turn = await take_turn(app.handler_runner, definition, call.base, settle, now_us)
        self._open_book.ended(item, turn.events, began_us)
        self._current = None  # what is given back from now on is without it
        app.handler_runner.failures.log(f"{pool.job}:{item.name}", turn.events, turn.failures)
        if self._open_book.has_paused:
            self.give_back("paused")
        took_us = max(0, app.clock.now_us() - began_us)
        pool.pace(took_us)
        if took_us > LONG_US:  # it may not have waited for anything: let others have the loop
            await asyncio.sleep(0)

    async def _on_empty(self) -> None:
        app, definition, book = self._pool.app, self._pool.definition, self._book
        now_us = app.clock.now_us()
        id = InstanceId("workerPool", definition.name, str(self.number))
        instance = Instance(id, lives=1, started_us=now_us, recorded_us=now_us)
        call = HandlerCall("on_empty", base=instance, source="execute")
        outcome = await app.handler_runner.call(definition, call, instance, now_us)
        turn = await take_turn(
            app.handler_runner, definition, instance, Settle(call, outcome), now_us
        )
        app.handler_runner.failures.log(str(id), turn.events, turn.failures)
        if book is not None:
            book.emptied(turn.events)

    # -- giving back

    def give_back(self, why: GivenBack, only: Recalled = None) -> None:
        """Give back what has not begun, all or only these; once the step that is being recorded
        is."""
        items = [each for each in self._waiting if only is None or each.place in only]
        if not items or self._book is None or self._take is None or self.is_lost:
            return
        if self.is_asking:
            if only is None or self._gives_back is None:
                self._gives_back = why, only
            return
        self._waiting = deque(each for each in self._waiting if only and each.place not in only)
        left = [*self._waiting] if self._current is None else [self._current, *self._waiting]
        book, self._book = self._book, self._new_book(self._take)
        self._book.blocked |= book.blocked
        self._book.outside = book.outside
        book.given_back(items, why, self._pool.app.clock.now_us())
        rows = [each.put("lost", None, each.detail) for each in left]
        take = self._take
        rest = Take(take.version, take.at_us, rows=rows, count=len(rows))
        self._pool.ask(
            self, PartitionRequest(self.number, self.token, self.version, book.outcome(), rest)
        )

    def stop(self) -> None:
        """Stop the handler that is running: its run is given back."""
        if self._task is not None:
            self._pool.app.handler_runner.stop(self._task)

    # -- requests

    async def record_step(self, item: TakenItem, step: str, result: str) -> None:
        """Record the result of a step of the item that is being worked on. Raises
        `LeaseLostError`."""
        await self._until_answered()
        event = StepCompleted(run=1, step=step, result=result, item=item.name)
        outcome = Outcome(events=[event])
        self._pool.ask(self, PartitionRequest(self.number, self.token, self.version, outcome))
        if self._pool.app.handler_runner.inline:
            await self._pool.call()  # here, since no other task runs meanwhile
        await self._until_answered()
        if self.is_lost:
            raise LeaseLostError(self.key[0], 1)

    async def _until_answered(self) -> None:
        """Wait until no request of it is under way."""
        while self.is_asking:
            self._asked.clear()
            await self._asked.wait()

    def next_request(self, want: int) -> PartitionRequest:
        """What it asks of the next call: record what its take came to, and take so many."""
        book, self._book = self._book, None
        self._take = self._gives_back = None
        outcome = Outcome() if book is None else book.outcome()
        return PartitionRequest(self.number, self.token, self.version, outcome, None, want)

    def answered(self, answer: PartitionAnswer | None) -> None:
        """Its request was recorded, or refused: then its lease is gone."""
        self.is_asking = False
        if answer is None:
            self.is_lost = True
        else:
            self.version = answer.version
        self._asked.set()
        back, self._gives_back = self._gives_back, None
        if back is not None and not self.is_lost:
            self.give_back(*back)

    def recover(self, take: Take, items: Sequence[TakenItem], worker: str, max_lost: int) -> None:
        """What the partition's last holder, that worker, had taken is lost. An event that has no
        attempt left after that is a dead letter, and `on_dead_letter` is called here.

        Nothing of it is recorded until that has ended: killed meanwhile, the next holder calls it
        again, unless `max_lost` holders were lost in it.
        """
        self._book = book = self._new_book(take)
        now_us, retry = self.app.clock.now_us(), self.definition.retry
        dead = book.lost(items, worker, max_lost, now_us, retry)
        attempts = [item.detail.attempt for item in items]
        self.app.handler_runner.failures.log(self.key[0], book.events, attempts=attempts)
        if dead is None or "on_dead_letter" not in self.definition.handlers:
            return
        if take.takeovers > max_lost:
            _LOG.error("%s: on_dead_letter has cost %d workers: it is not called again for %s",
                       self._pool.job, max_lost, dead.name)  # fmt: skip
            return
        self._begin_task(self._tell(take, dead, book))

    async def _tell(self, take: Take, dead: TakenItem, book: Book) -> None:
        """Call `on_dead_letter` with an event that was lost too often, or for the last time."""
        app, definition, pool = self.app, self.definition, self._pool
        now_us = app.clock.now_us()
        lost = dead.call(definition.name, take, now_us, pool.worker, self.number, pool.processed)
        call = HandlerCall(
            "on_dead_letter",
            base=replace(lost.base, run=None),
            payload=dead.payload,
            error=RetryExhaustedError(str(lost.base.id), "lost", lost.attempt),
            source="execute",
            place=lost.place,
        )
        outcome = await app.handler_runner.call(definition, call, call.base, now_us)
        settle = Settle(call, outcome)
        turn = await take_turn(app.handler_runner, definition, call.base, settle, now_us)
        app.handler_runner.failures.log(f"{pool.job}:{dead.name}", turn.events, turn.failures)
        book.told(dead, turn.events)
