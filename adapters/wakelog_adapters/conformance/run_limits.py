"""The exam of a store's claim queue, third part: the number of runs of a job at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from wakelog.core.events import EventReceived, Executed, Scheduled
from wakelog.ports.rows import Due
from wakelog.ports.units import Lease
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder, claim_request, in_parallel

__all__ = ["RunLimitsExam"]

MAIL = "task:mail"
BOTH = [ORDERS, MAIL]
DONE = Executed(run=1, started_us=NOW, duration_us=1, result=None)


def streams(dues: Sequence[Due]) -> list[str]:
    """Which instances were offered."""
    return [due.stream for due in dues]


class RunLimitsExam(ExamBase):
    """A limit on the runs of a job delays its runs, and nothing else."""

    def test_as_many_runs_start_as_the_limit_allows(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder(f"o-{i}") for i in range(5)]
        store.append([builder.begin(NOW - 9 + i) for i, builder in enumerate(builders)])
        two = {ORDERS: 2}
        assert store.next_due_us([ORDERS], NOW, two) == NOW - 9
        assert streams(self.claim(store, *builders, limits=two)) == [p.stream for p in builders[:2]]
        assert self.claim(store, *builders, limits=two) == []
        assert store.next_due_us([ORDERS], NOW, two) == NOW + 1000
        store.append([builders[1].unit(DONE, lease_token=4, ends_lease=True)])
        assert store.next_due_us([ORDERS], NOW, two) == NOW - 7
        assert streams(self.claim(store, *builders, limits=two)) == [builders[2].stream]
        assert streams(self.claim(store, limits={ORDERS: 4})) == [
            builders[3].stream,
            builders[4].stream,
        ]
        assert streams(self.claim(store, limits={MAIL: 1})) == [
            builders[3].stream,
            builders[4].stream,
        ]

    def test_other_jobs_are_not_delayed(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder(f"o-{i}") for i in range(30)]
        mails = [UnitBuilder(f"m-{i}", name="mail") for i in range(3)]
        store.append([builder.begin(NOW - 100 + i) for i, builder in enumerate(builders)])
        store.append([mail.begin(NOW - i) for i, mail in enumerate(mails)])
        found = self.claim(store, *builders, *mails, jobs=BOTH, limit=4, limits={ORDERS: 1})
        assert streams(found) == [builders[0].stream, *(mail.stream for mail in reversed(mails))]
        again = self.claim(store, jobs=BOTH, limit=4, limits={ORDERS: 1})
        assert again == []
        store.append([UnitBuilder("m-9", name="mail").begin(NOW - 5)])
        assert store.next_due_us(BOTH, NOW, {ORDERS: 1}) == NOW - 5
        assert streams(self.claim(store, jobs=BOTH, limit=4, limits={ORDERS: 1})) == [
            "task:mail:m-9"
        ]

    def test_what_starts_no_run_is_not_delayed(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder(f"o-{i}") for i in range(4)]
        store.append([builders[0].begin(NOW - 9), builders[1].begin(NOW - 8), builders[2].begin()])
        store.append([builders[3].begin()])
        one = {ORDERS: 1}
        self.claim(store, builders[0], limit=1)
        clear = builders[2].unit(Scheduled(due_us=NOW - 3, action="clear"))
        waits = EventReceived(payload="{}", deferred=True, handle_at_us=NOW - 2)
        store.append([clear, builders[3].unit(waits)])
        assert store.next_due_us([ORDERS], NOW, one) == NOW - 3
        assert streams(self.claim(store, limits=one)) == [builders[2].stream, builders[3].stream]
        assert len(self.claim(store)) == 3

    def test_taking_over_a_run_is_not_another_run(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder(f"o-{i}") for i in range(4)]
        store.append(
            [builders[0].begin(NOW - 9), builders[1].begin(NOW - 8), builders[2].begin(NOW - 7)]
        )
        one, two, first = {ORDERS: 1}, {ORDERS: 2}, builders[0]
        self.claim(store, first, limits=one)
        assert streams(self.claim(store, first, now_us=NOW + 2000, limits=one)) == [first.stream]
        # an ended lease is no way around the limit, if the instance's alarm is for a run
        handling = builders[1].unit(take=Lease("w1", NOW + 5, 3, False))
        store.append([handling])
        assert streams(self.claim(store, first, now_us=NOW + 4000, limits=one)) == [first.stream]
        found = self.claim(store, *builders, now_us=NOW + 6000, owner="w2", limits=two)
        assert len(found) == 2  # which other one is up to the store
        assert first.stream in streams(found)
        assert self.claim(store, now_us=NOW + 6000, limits=two) == []

    def test_a_run_counts_from_its_claim_on(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder(f"o-{i}") for i in range(3)]
        store.append([builder.begin(NOW - 3 + i) for i, builder in enumerate(builders)])
        one = {ORDERS: 1}
        claimed = self.claimed(store, claim_request(limits=one))
        assert streams(claimed) == [builders[0].stream]
        assert self.claimed(store, claim_request(-2, limits=one)) == []
        assert store.next_due_us([ORDERS], NOW, one) == NOW + 1000
        # nor does the beginning of the run make it two
        store.append([builders[0].run("w1", NOW + 1000, lease_token=-1)])
        assert streams(self.claim(store, limits={ORDERS: 2})) == [builders[1].stream]
        store.append([builders[0].unit(DONE, lease_token=4, ends_lease=True)])
        assert streams(self.claim(store, limits=one)) == [builders[1].stream]

    def test_a_run_that_was_claimed_and_never_begun_can_be_taken_over_at_the_limit(
        self, tmp_path: Path
    ) -> None:
        """Its lease counts, and its alarm is still due: it must not be in its own way."""
        store, builders = self.open(tmp_path), [UnitBuilder(f"o-{i}") for i in range(4)]
        store.append([builder.begin(NOW - 4 + i) for i, builder in enumerate(builders)])
        two, late = {ORDERS: 2}, NOW + 2000
        assert len(self.claimed(store, claim_request(limits=two))) == 2
        assert store.next_due_us([ORDERS], late, two) == NOW + 1000
        again = claim_request(-2, now_us=late, owner="w2", limits=two)
        assert self.claimed(store, again) == [
            Due(
                builder.stream, due_us, 3, builder.hash, Lease("w1", NOW + 1000, -1, True), run=True
            )
            for builder, due_us in ((builders[0], NOW - 4), (builders[1], NOW - 3))
        ]
        more = claim_request(-3, now_us=late, owner="w3", limits={ORDERS: 3})
        assert streams(self.claimed(store, more)) == [builders[2].stream]

    def test_what_was_given_back_counts_no_longer(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder(f"o-{i}") for i in range(2)]
        store.append([builder.begin(NOW - 2 + i) for i, builder in enumerate(builders)])
        one = {ORDERS: 1}
        self.claimed(store, claim_request(limits=one))
        store.release("w1", [(builders[0].stream, -1)])
        assert streams(self.claimed(store, claim_request(-2, limits=one))) == [builders[0].stream]

    def test_concurrent_claims_together_keep_to_the_limit(self, tmp_path: Path) -> None:
        builders = [UnitBuilder(f"o-{i}") for i in range(20)]
        first = self.open(tmp_path)
        first.append([builder.begin(NOW - 1) for builder in builders])
        stores = [self.open(tmp_path) for _ in range(4)]
        begun: list[str] = []
        barrier = threading.Barrier(len(stores))

        def claim_all(number: int) -> None:
            barrier.wait()
            for _ in range(10):
                claimed = self.claim(
                    stores[number], *builders, limit=2, owner=f"w{number}", limits={ORDERS: 5}
                )
                begun.extend(streams(claimed))

        in_parallel([threading.Thread(target=claim_all, args=(n,)) for n in range(len(stores))])
        assert len(begun) == len(set(begun)) == 5
        assert len(first.leases(NOW, 99)) == 5
