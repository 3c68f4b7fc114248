"""The exam's part on jobs that are held as a whole."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from wakelog.ports import Due, HoldRow, Unit
from wakelog_adapters.conformance.pen import NOW, ORDERS, Pen
from wakelog_adapters.conformance.sitting import Sitting

__all__ = ["HoldingExam"]

HELD = HoldRow(ORDERS, "stock-taking", "ann", NOW)
PATIENCE_S = 20.0


class HoldingExam(Sitting):
    """Nothing of a held job is claimed, and the hold is there for all to see."""

    def test_nothing_of_a_held_job_is_due(self, tmp_path: Path) -> None:
        store, order, mail = self.open(tmp_path), Pen(), Pen(name="mail")
        store.append([order.begin(NOW - 2), mail.begin(NOW - 1)])
        store.hold(HELD)
        assert store.next_due_us([ORDERS], NOW) is None
        assert store.next_due_us([ORDERS, "task:mail"], NOW) == NOW - 1
        assert self.claim(store, order) == []
        ended = store.unhold(ORDERS)
        assert ended == HELD
        assert store.next_due_us([ORDERS], NOW) == NOW - 2
        assert [due.stream for due in self.claim(store, order)] == [order.stream]

    def test_an_ended_lease_of_a_held_job_is_left_alone(self, tmp_path: Path) -> None:
        store, pen = self.open(tmp_path), Pen()
        store.append([pen.begin(), pen.run("w1", NOW - 1)])
        store.hold(HELD)
        assert self.claim(store) == []
        assert store.next_due_us([ORDERS], NOW) is None
        assert store.renew("w1", NOW + 9, NOW) == [(pen.stream, 3)]

    def test_the_first_hold_stays_until_it_is_ended(self, tmp_path: Path) -> None:
        store, other = self.open(tmp_path), self.open(tmp_path)
        assert store.holds() == []
        assert store.hold(HELD) == HELD
        assert other.hold(HoldRow(ORDERS, None, None, NOW + 5)) == HELD
        assert other.holds() == [HELD]
        bare = HoldRow("task:mail", None, None, NOW)
        assert store.hold(bare) == bare
        assert sorted(other.holds()) == sorted([HELD, bare])
        assert other.unhold(ORDERS) == HELD
        assert (store.unhold(ORDERS), store.holds()) == (None, [bare])

    def test_a_hold_waits_for_a_claim_that_is_under_way(self, tmp_path: Path) -> None:
        store, other, pen = self.open(tmp_path), self.open(tmp_path), Pen()
        store.append([pen.begin(NOW)])
        order: list[str] = []

        def hold() -> None:
            other.hold(HELD)
            order.append("held")

        holding = threading.Thread(target=hold)

        def begin(dues: Sequence[Due]) -> Sequence[Unit]:
            holding.start()
            units = [pen.run("w1", NOW + 9) for _ in dues]
            order.append("claimed")
            return units

        store.claim(now_us=NOW, jobs=[ORDERS], limit=1, begin=begin)
        holding.join(PATIENCE_S)
        assert order == ["claimed", "held"]
        assert store.renew("w1", NOW + 9, NOW) == [(pen.stream, 4)]
