"""The exam's third part: how many runs of a job there may be at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from wakelog.core.events import EventReceived, Executed, Scheduled
from wakelog.ports import Due, Lease, Unit
from wakelog_adapters.conformance.pen import NOW, ORDERS, Pen, in_parallel
from wakelog_adapters.conformance.sitting import Sitting

__all__ = ["LimitingExam"]

MAIL = "task:mail"
BOTH = [ORDERS, MAIL]
DONE = Executed(run=1, started_us=NOW, duration_us=1, result=None)


def streams(dues: Sequence[Due]) -> list[str]:
    """Which instances were offered."""
    return [due.stream for due in dues]


class LimitingExam(Sitting):
    """A limit on the runs of a job holds up those runs, and nothing else."""

    def test_as_many_runs_begin_as_the_limit_says(self, tmp_path: Path) -> None:
        store, pens = self.open(tmp_path), [Pen(f"o-{i}") for i in range(5)]
        store.append([pen.begin(NOW - 9 + i) for i, pen in enumerate(pens)])
        two = {ORDERS: 2}
        assert store.next_due_us([ORDERS], NOW, two) == NOW - 9
        assert streams(self.claim(store, *pens, limits=two)) == [p.stream for p in pens[:2]]
        assert self.claim(store, *pens, limits=two) == []
        assert store.next_due_us([ORDERS], NOW, two) == NOW + 1000
        store.append([pens[1].unit(DONE, holds=4, ends_lease=True)])
        assert store.next_due_us([ORDERS], NOW, two) == NOW - 7
        assert streams(self.claim(store, *pens, limits=two)) == [pens[2].stream]
        assert streams(self.claim(store, limits={ORDERS: 4})) == [pens[3].stream, pens[4].stream]
        assert streams(self.claim(store, limits={MAIL: 1})) == [pens[3].stream, pens[4].stream]

    def test_others_are_not_held_up(self, tmp_path: Path) -> None:
        store, pens = self.open(tmp_path), [Pen(f"o-{i}") for i in range(30)]
        mails = [Pen(f"m-{i}", name="mail") for i in range(3)]
        store.append([pen.begin(NOW - 100 + i) for i, pen in enumerate(pens)])
        store.append([mail.begin(NOW - i) for i, mail in enumerate(mails)])
        found = self.claim(store, *pens, *mails, jobs=BOTH, limit=4, limits={ORDERS: 1})
        assert streams(found) == [pens[0].stream, *(mail.stream for mail in reversed(mails))]
        again = self.claim(store, jobs=BOTH, limit=4, limits={ORDERS: 1})
        assert again == []
        store.append([Pen("m-9", name="mail").begin(NOW - 5)])
        assert store.next_due_us(BOTH, NOW, {ORDERS: 1}) == NOW - 5
        assert streams(self.claim(store, jobs=BOTH, limit=4, limits={ORDERS: 1})) == [
            "task:mail:m-9"
        ]

    def test_what_begins_no_run_is_not_held_up(self, tmp_path: Path) -> None:
        store, pens = self.open(tmp_path), [Pen(f"o-{i}") for i in range(4)]
        store.append([pens[0].begin(NOW - 9), pens[1].begin(NOW - 8), pens[2].begin()])
        store.append([pens[3].begin()])
        one = {ORDERS: 1}
        self.claim(store, pens[0], limit=1)
        clear = pens[2].unit(Scheduled(due_us=NOW - 3, action="clear"))
        waits = EventReceived(payload="{}", deferred=True, handle_at_us=NOW - 2)
        store.append([clear, pens[3].unit(waits)])
        assert store.next_due_us([ORDERS], NOW, one) == NOW - 3
        assert streams(self.claim(store, limits=one)) == [pens[2].stream, pens[3].stream]
        assert len(self.claim(store)) == 3

    def test_a_run_that_is_taken_over_keeps_its_place(self, tmp_path: Path) -> None:
        store, pens = self.open(tmp_path), [Pen(f"o-{i}") for i in range(4)]
        store.append([pens[0].begin(NOW - 9), pens[1].begin(NOW - 8), pens[2].begin(NOW - 7)])
        one, late = {ORDERS: 1}, NOW + 2000
        self.claim(store, pens[0], limits=one)
        assert streams(self.claim(store, now_us=late, limits=one)) == [pens[0].stream]
        # nor does what a dead worker had only begun to handle begin a run
        handling = pens[1].unit(take=Lease("w1", NOW + 5, 3, False))
        store.append([handling])
        assert streams(self.claim(store, now_us=late, limits=one)) == [pens[0].stream]
        found = self.claim(store, pens[0], pens[1], now_us=late, owner="w2", limits={ORDERS: 2})
        assert streams(found) == [pens[1].stream, pens[0].stream]
        assert self.claim(store, now_us=late, limits={ORDERS: 2}) == []

    def test_claims_at_the_same_time_keep_to_it_together(self, tmp_path: Path) -> None:
        pens = [Pen(f"o-{i}") for i in range(20)]
        first = self.open(tmp_path)
        first.append([pen.begin(NOW - 1) for pen in pens])
        stores = [self.open(tmp_path) for _ in range(4)]
        begun: list[str] = []
        barrier = threading.Barrier(len(stores))

        def claim_all(number: int) -> None:
            barrier.wait()
            for _ in range(10):
                stores[number].claim(
                    now_us=NOW, jobs=[ORDERS], limit=2, begin=begin, limits={ORDERS: 5}
                )

        def begin(dues: Sequence[Due]) -> Sequence[Unit]:
            begun.extend(streams(dues))
            return [pen.run("w1", NOW + 1000) for pen in pens if pen.stream in streams(dues)]

        in_parallel([threading.Thread(target=claim_all, args=(n,)) for n in range(len(stores))])
        assert len(begun) == len(set(begun)) == 5
