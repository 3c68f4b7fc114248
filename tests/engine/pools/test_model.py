"""Pools against any sequence of accepts, outcomes, operators, crashes and time.

The real plans on a memory store; workers, handlers and time are played. After each step the whole
pool must add up (`tests.auditing_pools`). At the end everything that was accepted has one end:
completed, cancelled, discarded or dead.
"""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.engine.pools.played import LEASE_US, MS, SECOND, Hand, Played, item
from wakelog.errors import QueueFullError
from wakelog.jobs import open_store
from wakelog.pools.items import TakenItem
from wakelog.pools.operate import ItemAct, plan_pause, plan_resume
from wakelog.pools.settle import next_us
from wakelog.ports.store import Store
from wakelog_adapters.memory.store import MemoryStore

KEYS = [None, None, "a", "b", "c"]
MAX_ATTEMPTS = 3
MAX_LOST = 2
MAX_PENDING = 40
MAX_IDLE = 4
"""Rounds in a row in which all partitions look, and none may get anything."""
RATE, SPAN_US = 5, SECOND

Place = tuple[int, int]


class PoolMachine(RuleBasedStateMachine):
    """A pool, its clients, its operators and three workers of which any may die."""

    def new_store(self) -> Store:
        """Where a game is played."""
        return MemoryStore()

    @initialize(
        ordered=st.booleans(),
        n=st.integers(1, 3),
        has_rate=st.booleans(),
        fair=st.booleans(),
        on_empty=st.booleans(),
    )
    def begin(self, ordered: bool, n: int, has_rate: bool, fair: bool, on_empty: bool) -> None:
        limit: dict[str, Any] = {"rate": RATE, "span_us": SPAN_US} if has_rate else {}
        self.pool = Played(
            self.new_store(),
            concurrency=n,
            ordered=ordered,
            max_lost=MAX_LOST,
            on_empty=on_empty,
            **limit,
        )
        self.has_rate, self.is_fair = has_rate, fair
        self.hands: dict[str, list[Hand]] = {}
        self.accepted: list[Place] = []
        self.keys: dict[Place, str | None] = {}
        self.starts: list[int] = []
        self.done: dict[str, list[int]] = {}
        """The keys' items that ended well, by their numbers in the order of acceptance."""
        self.moved: set[str] = set()
        """Keys of which an operator has changed the order."""
        self.workers = 0
        self.empties: list[int] = []
        self.worker_joins(2)

    # -- clients

    @rule(
        keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=6),
        priority=st.sampled_from([0, 0, 0, 1]),
        delay_us=st.sampled_from([None, None, None, 500 * MS]),
    )
    def enqueue(self, keys: list[str | None], priority: int, delay_us: int | None) -> None:
        due_us = None if delay_us is None else self.pool.now_us + delay_us
        news = [
            item(
                f"{len(self.accepted) + k}",
                key=key,
                priority=priority,
                due_us=due_us,
                fair=f"tenant-{k % 2}" if self.is_fair and key is None else None,
            )
            for k, key in enumerate(keys)
        ]
        before = self.pool.state
        try:
            accepted = self.pool.accept(*news, max_pending=MAX_PENDING)
        except QueueFullError:
            waiting = before.pending + before.counts.get("delayed", 0)
            assert waiting + len(news) > MAX_PENDING
            assert self.pool.state.accepted == before.accepted
            return
        for answer, key in zip(accepted, keys, strict=True):
            self.accepted.append(answer.place)
            self.keys[answer.place] = key
            if key is not None and (priority or delay_us is not None):
                self.moved.add(key)  # its order is not that of acceptance alone
        assert accepted[0].position == before.pending

    # -- workers

    @rule(share=st.integers(1, 3))
    def worker_joins(self, share: int) -> None:
        if len(self.hands) < 3:
            self.workers += 1
            name = f"w{self.workers}"
            self.hands[name] = self.pool.hands(name, share)

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def worker_wants_more(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.hands)))
        self.hands[name] += self.pool.hands(name)

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def worker_dies(self, data: st.DataObject) -> None:
        """Its leases end; another worker takes its partitions over some time."""
        name = data.draw(st.sampled_from(sorted(self.hands)))
        for hand in self.hands.pop(name):
            if hand.items:  # it had begun with the first one
                self._started(hand.items[0])
        for others in self.hands.values():
            self._renew(others)
        self.pool.now_us += LEASE_US + 1
        for others in self.hands.values():
            self._renew(others)

    def _renew(self, hands: list[Hand]) -> None:
        """Living workers renew their leases."""
        now_us = self.pool.now_us
        owners = {name for name, each in self.hands.items() if each is hands}
        for owner in owners:
            self.pool.store.renew(owner, now_us + 2 * LEASE_US, now_us)

    def _all_hands(self) -> list[Hand]:
        return [hand for hands in self.hands.values() for hand in hands]

    @precondition(lambda self: any(not h.items for hands in self.hands.values() for h in hands))
    @rule(data=st.data(), want=st.integers(1, 4))
    def take(self, data: st.DataObject, want: int) -> None:
        idle = [hand for hand in self._all_hands() if not hand.items]
        hand = idle[data.draw(st.integers(0, len(idle) - 1))]
        self._take(hand, want)

    def _take(self, hand: Hand, want: int) -> list[str]:
        before = self.pool.state
        names = hand.take(want)
        assert len(names) <= want
        if hand.open is not None and hand.open.is_empty:
            assert not before.pending
            assert before.filled not in self.empties
            self.empties.append(before.filled)
            assert hand.book is not None
            hand.book.emptied([])
        return names

    @precondition(lambda self: any(h.items for hands in self.hands.values() for h in hands))
    @rule(data=st.data(), what=st.sampled_from(["ends", "ends", "ends", "fails", "unread"]))
    def item_ends(self, data: st.DataObject, what: str) -> None:
        """The next item of a take begins and ends in one way or another."""
        busy = [hand for hand in self._all_hands() if hand.items]
        hand = busy[data.draw(st.integers(0, len(busy) - 1))]
        self._end(hand, what)

    def _end(self, hand: Hand, what: str) -> None:
        each = hand.items[0]
        if hand.holds_back(each):
            return
        if what == "unread":
            hand.unread(each)
            return
        self._started(each)
        if what == "fails" and each.detail.attempt < MAX_ATTEMPTS:
            hand.fails(each, delay_us=300 * MS)
        elif what == "fails":
            hand.dies(each)
        else:
            hand.ends(each)
            self._note_end(each)

    def _started(self, each: TakenItem) -> None:
        """A run begins now: never more than the rate allows (P10)."""
        now_us = self.pool.now_us
        self.starts = [at_us for at_us in self.starts if at_us > now_us - SPAN_US] + [now_us]
        if self.has_rate:
            assert len(self.starts) <= RATE, "the rate is exceeded"

    def _note_end(self, each: TakenItem) -> None:
        """With `ordered`, items of a key end in the order in which they were accepted (P5)."""
        if each.key is None:
            return
        done = self.done.setdefault(each.key, [])
        if each.seq in done:  # its worker died before its end was recorded
            del done[done.index(each.seq) :]
        if self.pool.rules.ordered and each.key not in self.moved:
            assert not done or each.seq > done[-1], f"{each.seq} after {done}"
        done.append(each.seq)

    @precondition(lambda self: any(len(h.items) > 1 for hs in self.hands.values() for h in hs))
    @rule(data=st.data())
    def run_overstays(self, data: st.DataObject) -> None:
        busy = [hand for hand in self._all_hands() if len(hand.items) > 1]
        hand = busy[data.draw(st.integers(0, len(busy) - 1))]
        hand.gives_back(rest=hand.items[:1])

    # -- operators

    @precondition(lambda self: self.accepted)
    @rule(
        data=st.data(),
        what=st.sampled_from(["cancel", "requeue", "discard", "prioritize"]),
        count=st.integers(1, 3),
    )
    def operate(self, data: st.DataObject, what: Any, count: int) -> None:
        places = [data.draw(st.sampled_from(self.accepted)) for _ in range(count)]
        before = self.pool.audit()
        found = self.pool.act(ItemAct(what, priority=2), *places)
        after = self.pool.audit()
        for place, answer in zip(places, found, strict=True):
            key = self.keys[place]
            if key is not None and what in ("requeue", "prioritize") and answer == "done":
                self.moved.add(key)
        if what == "cancel":
            news = after.state.cancelled - before.state.cancelled
            assert news == len({p for p, a in zip(places, found, strict=True) if a == "done"})

    @rule(partition=st.sampled_from([None, 0]))
    def pause(self, partition: int | None) -> None:
        self.pool.operate(lambda writing: plan_pause(writing, partition, None, None))

    @rule(partition=st.sampled_from([None, 0]))
    def resume(self, partition: int | None) -> None:
        self.pool.operate(lambda writing: plan_resume(writing, partition, None))

    @rule()
    def rebuild(self) -> None:
        """The tables are made anew from the log while workers have taken items (H5)."""
        assert self.pool.rebuild().differences == []

    # -- time

    @rule(can=st.booleans())
    def code_changes(self, can: bool) -> None:
        """From now on workers can read what waited for code, or cannot."""
        self.pool.reads_all = can

    @rule(by_us=st.sampled_from([1, 100 * MS, 300 * MS, SECOND]))
    def time_passes(self, by_us: int) -> None:
        self.pool.now_us += by_us
        for hands in self.hands.values():
            self._renew(hands)

    # -- the end

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            self._finish()

    def _finish(self) -> None:
        """One worker for ever, whose handlers end well: all that was accepted comes to its end."""
        self.pool.reads_all = True
        for partition in (None, 0):
            self.resume(partition)
        for hand in self._all_hands():
            while hand.items:
                self._end(hand, "ends")
        self._takes_over()
        pool, idle = self.pool, 0
        while not pool.state.is_empty or (pool.rules.on_empty and pool.state.has_been_emptied):
            worked = [self._work(hand) for hand in self._all_hands()]
            idle = 0 if any(worked) else idle + 1
            if idle:
                assert idle < MAX_IDLE, f"nothing can be taken: {pool.state}"
                self._wait()
        state = pool.state
        audit = pool.audit()
        assert set(audit.ends()) <= {"completed", "cancelled", "discarded", "dead"}, audit.ends()
        assert state.accepted == len(self.accepted) == sum(audit.ends().values())

    def _wait(self) -> None:
        """Until the pool says that there is something; all its partitions are held."""
        pool = self.pool
        at_us = next_us(pool.state, pool.now_us, pool.rules, readable=pool.slots_of_unread())
        assert at_us is not None, f"it waits for nothing: {pool.state}"
        self.time_passes(max(0, at_us - pool.now_us))

    def _work(self, hand: Hand) -> bool:
        names = self._take(hand, 4)
        is_empty = hand.open is not None and hand.open.is_empty
        while hand.items:
            self._end(hand, "ends")
        hand.take(0)
        return bool(names) or is_empty

    def _takes_over(self) -> None:
        """All leases of the dead end, and a living worker has their partitions."""
        self.pool.now_us += LEASE_US + 1
        for hands in self.hands.values():
            self._renew(hands)
        if not self.hands:
            self.workers += 1
            self.hands[f"w{self.workers}"] = []
        name = sorted(self.hands)[0]
        self.hands[name] += self.pool.hands(name)
        assert len(self._all_hands()) == self.pool.rules.concurrency
        for hand in self._all_hands():
            hand.take(0)


class OnSQLite(PoolMachine):
    """The same on a file."""

    def new_store(self) -> Store:
        self.folder = tempfile.TemporaryDirectory()
        self.factory = open_store(f"sqlite:///{self.folder.name}/jobs.db")
        store: Store = self.factory.application_recorder()
        return store

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "factory"):
            self.factory.close()
            self.folder.cleanup()


def play(machine: type[PoolMachine], examples: int, steps: int = 40) -> None:
    """Let Hypothesis play."""
    bounds = settings(max_examples=examples, stateful_step_count=steps)
    run_state_machine_as_test(machine, settings=bounds)


@pytest.mark.parametrize(("machine", "examples"), [(PoolMachine, 40), (OnSQLite, 5)])
def test_P1_to_P11_any_sequence_leaves_every_item_with_one_end(
    machine: type[PoolMachine], examples: int
) -> None:
    play(machine, examples)


@pytest.mark.chaos
@pytest.mark.parametrize(("machine", "examples"), [(PoolMachine, 2_000), (OnSQLite, 200)])
def test_P1_to_P11_any_sequence_for_long(machine: type[PoolMachine], examples: int) -> None:
    play(machine, examples, 80)
