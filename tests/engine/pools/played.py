"""A pool that is played by hand: the real plans on a store, with workers that do what a test says.

    pool = Played(store, concurrency=2)
    pool.accept("a", "b")
    hand = pool.hand("w1")            # acquires a partition
    hand.take(10)
    hand.ends(hand.items[0])          # or .fails(…), .dies(…)
    hand.take(10)                     # records that, and takes again

After every call the whole pool is checked against its log (`tests.auditing_pools`).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.auditing_pools import PoolAudit, audit_pool
from wakelog.core.events import DeadLettered, Executed, ExecutionFailed, RetryScheduled, Returned
from wakelog.core.pool.events import GivenBack
from wakelog.core.retry import Retry
from wakelog.log.batches import digest_of, item_line, read_item
from wakelog.log.payloads import Salts
from wakelog.pools.accept import Accept, Accepted, NewItem, plan_accepts
from wakelog.pools.book import Book
from wakelog.pools.items import Slices, TakenItem, items_of
from wakelog.pools.operate import Found, ItemAct, plan_act
from wakelog.pools.rebuild import Rebuilt, rebuild_tables
from wakelog.pools.settle import (
    Acquire,
    Acquired,
    CallAnswer,
    Outcome,
    PartitionRequest,
    plan_requests,
)
from wakelog.pools.state import PoolState, Take, loaded
from wakelog.pools.takes import PoolRules, Taking
from wakelog.pools.writing import CallMeta, Writing
from wakelog.ports.pools import (
    ExceptionKey,
    PoolFilter,
    PoolLook,
    PoolSeen,
    PoolWrites,
    SegmentRow,
)
from wakelog.ports.store import Store
from wakelog_adapters.memory.store import MemoryStore

__all__ = ["JOB", "MS", "SECOND", "Hand", "Played", "item"]

R = TypeVar("R")

JOB = "workerPool:emails"
START_US = 1_800_000_000_000_000
MS, SECOND = 1_000, 1_000_000
LEASE_US = 30 * SECOND

_salts = Salts(random.Random(14))


def item(
    name: str,
    *,
    key: str | None = None,
    priority: int = 0,
    fair: str | None = None,
    id: str | None = None,
    due_us: int | None = None,
) -> NewItem:
    """An event for the pool: its payload is its name."""
    line = item_line(_salts.next(), f'"{name}"', key, id)
    return NewItem(line, digest_of(line), priority, key, fair, id, name, due_us)


class Played:
    """One pool on a store, at a time that only a test moves."""

    def __init__(
        self, store: Store | None = None, *, check: bool = True, job: str = JOB, **rules: object
    ) -> None:
        self.store: Store = MemoryStore() if store is None else store
        self.job = job
        self.rules = PoolRules(**{"concurrency": 1, **rules})  # type: ignore[arg-type]
        self.now_us = START_US
        self.retry: Retry | None = None
        """The policy by which a loss is the last attempt."""
        self.reads_all = False
        """Whether the code of its workers can read what waits for code."""
        self.calls = 0
        self._check = check
        self._commits = itertools.count(1)
        self.written: list[PoolWrites] = []
        """What the newest calls wrote."""

    # -- calls

    def call(self, look: PoolLook, plan: Callable[[Writing, PoolSeen], R]) -> R:
        """One call of the store, and a check of all that is there."""
        answers: list[R] = []
        meta = CallMeta(self.now_us, f"c{next(self._commits)}")

        def planned(seen: PoolSeen) -> PoolWrites:
            writing = Writing(self.job, seen, meta, _salts)
            answers[:] = [plan(writing, seen)]
            self.written.append(writing.writes(None))
            return self.written[-1]

        self.calls += 1
        self.store.pool_call(look, planned)
        if self._check:
            self.audit()
        return answers[0]

    def audit(self) -> PoolAudit:
        """Everything adds up."""
        return audit_pool(self.store, self.job)

    def rebuild(self) -> Rebuilt:
        """Make the tables anew from the log."""
        rebuilt = rebuild_tables(self.store, self.job, self.rules)
        self.audit()
        return rebuilt

    @property
    def state(self) -> PoolState:
        return loaded(self.store.pool_look(PoolLook(self.job, self.now_us)).state)

    # -- clients

    def accepts(self, *accepts: Accept) -> list[list[Accepted] | Exception]:
        """What several callers want accepted, in one call."""
        ids = [each.id for accept in accepts for each in accept.items if each.id is not None]
        look = PoolLook(self.job, self.now_us, ids=ids)
        return self.call(look, lambda writing, seen: plan_accepts(writing, seen, accepts))

    def accept(self, *items: NewItem | str, max_pending: int | None = None) -> list[Accepted]:
        """Accept these, or raise why not."""
        news = [item(each) if isinstance(each, str) else each for each in items]
        [answer] = self.accepts(Accept(news, max_pending=max_pending))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def act(self, act: ItemAct, *places: tuple[int, int] | Accepted) -> list[Found]:
        """What an operator does to items."""
        at = (each.place if isinstance(each, Accepted) else each for each in places)
        keys = [ExceptionKey(lane, off) for lane, off in at]
        ranges = [(lane, off - 1, off) for lane, off in keys]
        slices = Slices(self.job, self.store.pool_slices(self.job, ranges))
        segments: dict[ExceptionKey, tuple[SegmentRow, str | None]] = {}
        for key in keys:
            for _, segment, line in slices.found(key.lane, key.off):
                segments[key] = segment, _read(line)
        behind = sorted({key for _, key in segments.values() if key is not None})
        look = PoolLook(self.job, self.now_us, keys=keys, behind=behind)
        return self.call(
            look, lambda writing, seen: plan_act(writing, seen, keys, act, segments.get)
        )

    def operate(self, plan: Callable[[Writing], bool]) -> bool:
        """Pause, resume, drain."""
        return self.call(PoolLook(self.job, self.now_us), lambda writing, _: plan(writing))

    # -- workers

    def turn(
        self, *slots: PartitionRequest, acquire: Acquire | None = None, due_limit: int = 200
    ) -> CallAnswer:
        """A call of a worker."""
        behind = [key for slot in slots for key in slot.outcome.unblock]
        keys = self.unread() if self.reads_all else []
        look = PoolLook(
            *(self.job, self.now_us), due_limit=due_limit, keys=keys, behind=behind, leases=True,
            firsts="lanes",
        )  # fmt: skip

        def plan(writing: Writing, seen: PoolSeen) -> CallAnswer:
            taking = Taking(writing, seen, self.rules, "w")
            return plan_requests(writing, seen, slots, acquire, taking)

        return self.call(look, plan)

    def acquire(self, worker: str, share: int = 64, *, lease_us: int = LEASE_US) -> list[Acquired]:
        """Partitions that a worker gets."""
        return self.turn(acquire=Acquire(worker, lease_us, share, lambda: True)).acquired

    def hands(self, worker: str = "w", share: int = 64) -> list[Hand]:
        """One for each partition that a worker gets."""
        return [Hand(self, each) for each in self.acquire(worker, share)]

    def hand(self, worker: str = "w") -> Hand:
        """The one partition that a worker gets."""
        [hand] = self.hands(worker, 1)
        return hand

    def slices(self, take: Take) -> Slices:
        ranges = [(r.lane, r.after, r.upto) for r in take.ranges]
        ranges += [(row.lane, row.off - 1, row.off) for row in take.rows]
        return Slices(self.job, self.store.pool_slices(self.job, ranges) if ranges else ())

    def unread(self) -> list[ExceptionKey]:
        """The items that wait for code."""
        return [ExceptionKey(*place) for place, why in self.exceptions().items() if why == "unread"]

    def slots_of_unread(self) -> set[int]:
        """Their key slots."""
        rows = self.store.pool_exceptions(self.job, PoolFilter(why=("unread",), limit=10_000))
        return {row.slot for row in rows}

    def exceptions(self) -> dict[tuple[int, int], str]:
        """Why items are in the table of exceptions."""
        rows = self.store.pool_exceptions(self.job, PoolFilter(limit=10_000))
        return {(row.lane, row.off): row.why for row in rows}


def _read(line: bytes) -> str | None:
    read = read_item(line)
    return None if read is None else read.key


class Hand:
    """A partition that is held, and works as a test says."""

    def __init__(self, pool: Played, acquired: Acquired) -> None:
        self.pool = pool
        self.number = acquired.partition
        self.token, self.version = acquired.token, acquired.version
        self.open: Take | None = None
        self.items: list[TakenItem] = []
        """Taken, and not ended."""
        self.book: Book | None = None
        if acquired.open_take is not None:
            take = acquired.open_take
            self.book = self._new_book(take)
            lost = [] if take.is_empty else items_of(take, pool.slices(take))
            worker = acquired.last_holder
            self.book.lost(lost, worker, pool.rules.max_lost, pool.now_us, pool.retry)

    def _new_book(self, take: Take) -> Book:
        return Book(take, _salts, is_ordered=self.pool.rules.ordered)

    @property
    def names(self) -> list[str]:
        """The names of what is taken."""
        return [each.payload.strip('"') for each in self.items if each.payload is not None]

    def next_request(self, want: int) -> PartitionRequest:
        """Record what has ended, and take so many."""
        book, self.book = self.book, None
        self.items, self.open = [], None
        return PartitionRequest(
            self.number, self.token, self.version, _outcome_of(book), None, want
        )

    def take(self, want: int = 100) -> list[str]:
        """Record what has ended, and take: the names of what it got."""
        assert not self.items, f"not ended: {self.names}"
        turn = self.pool.turn(self.next_request(want))
        self.got(turn, 0)
        return self.names

    def got(self, turn: CallAnswer, index: int) -> None:
        """What it got with a call that had several turns."""
        answer = turn.answers[index]
        assert answer is not None, "its lease is gone"
        self.version = answer.version
        if answer.take is not None:
            self.open = answer.take
            self.items = items_of(answer.take, self.pool.slices(answer.take))
            self.book = self._new_book(answer.take)
            if self.pool.rules.ordered:
                keys = sorted({i.key for i in self.items if i.key is not None})
                self.book.outside.update(self.pool.store.pool_blocked(self.pool.job, keys))

    # -- what becomes of an item

    def _pop(self, each: TakenItem) -> Book:
        self.items.remove(each)
        assert self.book is not None
        return self.book

    def holds_back(self, each: TakenItem) -> bool:
        """Give it back if another one of its key waits; whether it did."""
        assert self.book is not None
        if not self.book.holds_back(each):
            return False
        self._pop(each).given_back([each], "behind", self.pool.now_us)
        return True

    def ends(self, each: TakenItem, result: str | None = None) -> None:
        """Its run ends well."""
        now_us = self.pool.now_us
        event = Executed(
            run=1, attempt=each.detail.attempt, started_us=now_us, duration_us=0, result=result
        )
        self._pop(each).ended(each, [event], now_us)

    def fails(self, each: TakenItem, *, delay_us: int = SECOND, error: str = "Boom") -> None:
        """Its run fails, and is to be tried again."""
        now_us, attempt = self.pool.now_us, each.detail.attempt
        failed = _failed(attempt, error, will_retry=True)
        again = RetryScheduled(run=1, attempt=attempt + 1, due_us=now_us + delay_us)
        self._pop(each).ended(each, [failed, again], now_us)

    def dies(self, each: TakenItem, *, error: str = "Boom", message: str = "") -> None:
        """Its run fails for the last time."""
        now_us, attempt = self.pool.now_us, each.detail.attempt
        failed = _failed(attempt, error, will_retry=False)
        dead = DeadLettered(
            event_version=1, reason="handler_failed", error_type=error, message=message,
            attempts=attempt,
        )  # fmt: skip
        self._pop(each).ended(each, [failed, dead], now_us)

    def unread(self, each: TakenItem) -> None:
        """The code of its worker cannot read it."""
        event = Returned(run=1, attempt=each.detail.attempt, error_type="V", message="")
        self._pop(each).ended(each, [event], self.pool.now_us)

    def gives_back(self, why: GivenBack = "overstay", rest: Sequence[TakenItem] = ()) -> None:
        """Give back what has not begun, all but `rest`, and record that."""
        assert self.book is not None
        assert self.open is not None
        back = [each for each in self.items if each not in rest]
        book, self.book = self.book, self._new_book(self.open)
        book.given_back(back, why, self.pool.now_us)
        rows = [each.put("lost", None, each.detail) for each in rest]
        left = Take(self.open.version, self.open.at_us, rows=rows, count=len(rows))
        turn = PartitionRequest(self.number, self.token, self.version, book.outcome(), left)
        [answer] = self.pool.turn(turn).answers
        assert answer is not None
        self.version, self.items = answer.version, list(rest)

    def work(self, *, want: int = 100) -> list[str]:
        """Take, and let all of it end well, until there is nothing; the names in their order."""
        done: list[str] = []
        while names := self.take(want):
            for each in list(self.items):
                self.ends(each)
            done += names
        return done


def _outcome_of(book: Book | None) -> Outcome:
    return Outcome() if book is None else book.outcome()


def _failed(attempt: int, error: str, *, will_retry: bool) -> ExecutionFailed:
    return ExecutionFailed(
        run=1, attempt=attempt, handler="execute", error_type=error, will_retry=will_retry
    )
