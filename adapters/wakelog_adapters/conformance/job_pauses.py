"""The exam of a store's job pauses."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from wakelog.ports.rows import Due, JobPauseRow
from wakelog.ports.units import Unit
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder

__all__ = ["JobPauseTableExam"]

PAUSE = JobPauseRow(ORDERS, "stock-taking", "ann", NOW)
PATIENCE_S = 20.0


class JobPauseTableExam(ExamBase):
    """Nothing of a paused job is claimed, and every process sees the pause."""

    def test_nothing_of_a_paused_job_is_due(self, tmp_path: Path) -> None:
        store, order, mail = self.open(tmp_path), UnitBuilder(), UnitBuilder(name="mail")
        store.append([order.begin(NOW - 2), mail.begin(NOW - 1)])
        store.pause_job(PAUSE)
        assert store.next_due_us([ORDERS], NOW) is None
        assert store.next_due_us([ORDERS, "task:mail"], NOW) == NOW - 1
        assert self.claim(store, order) == []
        ended = store.resume_job(ORDERS)
        assert ended == PAUSE
        assert store.next_due_us([ORDERS], NOW) == NOW - 2
        assert [due.stream for due in self.claim(store, order)] == [order.stream]

    def test_an_ended_lease_of_a_paused_job_is_not_taken_over(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(), builder.run("w1", NOW - 1)])
        store.pause_job(PAUSE)
        assert self.claim(store) == []
        assert store.next_due_us([ORDERS], NOW) is None
        assert store.renew("w1", NOW + 9, NOW) == [(builder.stream, 3)]

    def test_the_first_pause_stays_until_it_is_ended(self, tmp_path: Path) -> None:
        store, other = self.open(tmp_path), self.open(tmp_path)
        assert store.job_pauses() == []
        assert store.pause_job(PAUSE) == PAUSE
        assert other.pause_job(JobPauseRow(ORDERS, None, None, NOW + 5)) == PAUSE
        assert other.job_pauses() == [PAUSE]
        bare = JobPauseRow("task:mail", None, None, NOW)
        assert store.pause_job(bare) == bare
        assert sorted(other.job_pauses()) == sorted([PAUSE, bare])
        assert other.resume_job(ORDERS) == PAUSE
        assert (store.resume_job(ORDERS), store.job_pauses()) == (None, [bare])

    def test_a_pause_waits_for_a_claim_that_is_under_way(self, tmp_path: Path) -> None:
        store, other, builder = self.open(tmp_path), self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(NOW)])
        order: list[str] = []

        def pause() -> None:
            other.pause_job(PAUSE)
            order.append("paused")

        pausing = threading.Thread(target=pause)

        def begin(dues: Sequence[Due]) -> Sequence[Unit]:
            pausing.start()
            units = [builder.run("w1", NOW + 9) for _ in dues]
            order.append("claimed")
            return units

        store.claim(now_us=NOW, jobs=[ORDERS], limit=1, begin=begin)
        pausing.join(PATIENCE_S)
        assert order == ["claimed", "paused"]
        assert store.renew("w1", NOW + 9, NOW) == [(builder.stream, 4)]
