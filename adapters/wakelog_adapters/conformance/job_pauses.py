"""The exam's part on jobs that are held as a whole."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from wakelog.ports.rows import Due, JobPauseRow
from wakelog.ports.units import Unit
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder

__all__ = ["JobPausesExam"]

HELD = JobPauseRow(ORDERS, "stock-taking", "ann", NOW)
PATIENCE_S = 20.0


class JobPausesExam(ExamBase):
    """Nothing of a held job is claimed, and the hold is there for all to see."""

    def test_nothing_of_a_held_job_is_due(self, tmp_path: Path) -> None:
        store, order, mail = self.open(tmp_path), UnitBuilder(), UnitBuilder(name="mail")
        store.append([order.begin(NOW - 2), mail.begin(NOW - 1)])
        store.pause_job(HELD)
        assert store.next_due_us([ORDERS], NOW) is None
        assert store.next_due_us([ORDERS, "task:mail"], NOW) == NOW - 1
        assert self.claim(store, order) == []
        ended = store.resume_job(ORDERS)
        assert ended == HELD
        assert store.next_due_us([ORDERS], NOW) == NOW - 2
        assert [due.stream for due in self.claim(store, order)] == [order.stream]

    def test_an_ended_lease_of_a_held_job_is_left_alone(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(), builder.run("w1", NOW - 1)])
        store.pause_job(HELD)
        assert self.claim(store) == []
        assert store.next_due_us([ORDERS], NOW) is None
        assert store.renew("w1", NOW + 9, NOW) == [(builder.stream, 3)]

    def test_the_first_hold_stays_until_it_is_ended(self, tmp_path: Path) -> None:
        store, other = self.open(tmp_path), self.open(tmp_path)
        assert store.job_pauses() == []
        assert store.pause_job(HELD) == HELD
        assert other.pause_job(JobPauseRow(ORDERS, None, None, NOW + 5)) == HELD
        assert other.job_pauses() == [HELD]
        bare = JobPauseRow("task:mail", None, None, NOW)
        assert store.pause_job(bare) == bare
        assert sorted(other.job_pauses()) == sorted([HELD, bare])
        assert other.resume_job(ORDERS) == HELD
        assert (store.resume_job(ORDERS), store.job_pauses()) == (None, [bare])

    def test_a_hold_waits_for_a_claim_that_is_under_way(self, tmp_path: Path) -> None:
        store, other, builder = self.open(tmp_path), self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(NOW)])
        order: list[str] = []

        def hold() -> None:
            other.pause_job(HELD)
            order.append("held")

        holding = threading.Thread(target=hold)

        def begin(dues: Sequence[Due]) -> Sequence[Unit]:
            holding.start()
            units = [builder.run("w1", NOW + 9) for _ in dues]
            order.append("claimed")
            return units

        store.claim(now_us=NOW, jobs=[ORDERS], limit=1, begin=begin)
        holding.join(PATIENCE_S)
        assert order == ["claimed", "held"]
        assert store.renew("w1", NOW + 9, NOW) == [(builder.stream, 4)]
