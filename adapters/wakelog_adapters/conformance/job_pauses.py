"""The exam of a store's job pauses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from wakelog.core.events import Executed
from wakelog.ports.rows import HeldLease, JobPauseRow
from wakelog.ports.store import Store
from wakelog.ports.units import JobPaused, LeaseGone
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder, claim_request, kinds

__all__ = ["JobPauseTableExam"]

PAUSE = JobPauseRow(ORDERS, "stock-taking", "ann", NOW)
PATIENCE_S = 20.0
MANY = 60


class JobPauseTableExam(ExamBase):
    """Nothing of a paused job is claimed, no run of it begins, and every process sees the pause."""

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

    def test_a_run_of_a_paused_job_does_not_begin(self, tmp_path: Path) -> None:
        """It was claimed before the pause."""
        store, order, mail = self.open(tmp_path), UnitBuilder(), UnitBuilder(name="mail")
        other = UnitBuilder("o-2")
        store.append([order.begin(NOW), mail.begin(NOW), other.begin()])
        assert len(self.claimed(store, claim_request(jobs=[ORDERS, "task:mail"]))) == 2
        store.pause_job(PAUSE)
        group = [
            mail.run("w1", NOW + 9, lease_token=-1),
            order.fork().run("w1", NOW + 9, lease_token=-1),
            other.receive(),
        ]
        assert kinds(store.append(group)) == [None, JobPaused, None]
        assert [len(store.events(each.stream)) for each in (mail, order, other)] == [4, 3, 3]
        assert store.lease_tokens([mail.stream, order.stream]) == [4, -1]
        store.resume_job(ORDERS)
        assert kinds(store.append([order.run("w1", NOW + 9, lease_token=-1)])) == [None]

    def test_what_starts_no_run_of_a_paused_job_is_appended(self, tmp_path: Path) -> None:
        store, running, other = self.open(tmp_path), UnitBuilder("o-1"), UnitBuilder("o-2")
        store.append([running.begin(), running.run("w1", NOW + 9)])
        store.pause_job(PAUSE)
        done = Executed(run=1, started_us=NOW, duration_us=1, result=None)
        outcome = running.unit(done, lease_token=3, ends_lease=True)
        assert kinds(store.append([outcome, other.begin(NOW)])) == [None, None]

    def test_a_lost_lease_is_named_before_a_pause_and_that_before_another_version(
        self, tmp_path: Path
    ) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(NOW)])
        store.pause_job(PAUSE)
        late = builder.fork()
        store.append([builder.receive()])
        gone, paused = (
            late.fork().run("w1", NOW + 9, lease_token=-1),
            late.run("w1", NOW + 9),
        )
        assert kinds(store.append([gone])) == [LeaseGone]
        assert kinds(store.append([paused])) == [JobPaused]

    def test_after_a_pause_no_run_begins(self, tmp_path: Path) -> None:
        """It waits for the appends that are under way."""
        store, other = self.open(tmp_path), self.open(tmp_path)
        builders = [UnitBuilder(f"o-{i}") for i in range(MANY)]
        store.append([builder.begin(NOW) for builder in builders])
        begun = threading.Event()

        def begin_all() -> None:
            for builder in builders:
                store.append([builder.run("w1", NOW + 9)])
                begun.set()

        at_first, at_last = self._pausing(other, begin_all, begun)
        assert at_first
        assert at_first == at_last

    def test_after_a_pause_nothing_is_claimed(self, tmp_path: Path) -> None:
        """It waits for the claims that are under way."""
        store, other = self.open(tmp_path), self.open(tmp_path)
        store.append([UnitBuilder(f"o-{i}").begin(NOW) for i in range(MANY)])
        begun = threading.Event()

        def claim_all() -> None:
            for number in range(1, MANY + 1):
                self.claimed(store, claim_request(-number, limit=1))
                begun.set()

        at_first, at_last = self._pausing(other, claim_all, begun)
        assert at_first
        assert at_first == at_last

    def _pausing(
        self, store: Store, work: Callable[[], None], begun: threading.Event
    ) -> tuple[Sequence[HeldLease], Sequence[HeldLease]]:
        """Pause the job while `work` goes on; return the leases that there were when it was paused,
        and at the end of `work`."""
        working = threading.Thread(target=work)
        working.start()
        begun.wait(PATIENCE_S)
        store.pause_job(PAUSE)
        at_first = store.leases(NOW, MANY)
        working.join(PATIENCE_S)
        assert not working.is_alive()
        return at_first, store.leases(NOW, MANY)
