"""The exam of a store's claim queue, second part: claiming what is due."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from wakelog.core.events import EventReceived, Scheduled, StateSet
from wakelog.log.rebuild import MAX_KEPT_HEAD, kept_head
from wakelog.ports.rows import Due, HeldLease
from wakelog.ports.store import Store
from wakelog.ports.units import Lease, LeaseGone, NothingDue, VersionConflict
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import (
    NOW,
    ORDERS,
    UnitBuilder,
    claim_request,
    in_parallel,
    kinds,
)

__all__ = ["ClaimsExam"]


class ClaimsExam(ExamBase):
    """No instance is claimed twice at a time, and none that is due is forgotten."""

    def test_the_oldest_are_claimed_up_to_the_limit(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder(f"o-{i}") for i in range(5)]
        dues = [NOW - 1, NOW - 3, NOW, NOW - 2, NOW + 1]
        store.append([builder.begin(due) for builder, due in zip(builders, dues, strict=True)])
        hashes = [builder.hash for builder in builders]
        first = self.claim(store, *builders, limit=2)
        assert first == [
            Due(builders[1].stream, NOW - 3, 3, hashes[1], None, run=True),
            Due(builders[3].stream, NOW - 2, 3, hashes[3], None, run=True),
        ]
        rest = self.claim(store, *builders)
        assert [due.stream for due in rest] == [builders[0].stream, builders[2].stream]
        assert self.claim(store, *builders) == []
        assert store.next_due_us([ORDERS], NOW) == NOW + 1

    def test_a_head_that_comes_with_a_claim_is_that_of_the_newest_event(
        self, tmp_path: Path
    ) -> None:
        store, small, large = self.open(tmp_path), UnitBuilder("small"), UnitBuilder("large")
        huge = StateSet(state=json.dumps("é" * MAX_KEPT_HEAD))
        store.append([small.begin(NOW - 9), large.begin(NOW - 8)])
        store.append([small.receive(), large.unit(huge)])
        dues = store.claim(claim_request())
        assert not isinstance(dues, NothingDue)
        kept = kept_head(small.instance, small.hash)
        newest = store.events(small.stream)[-1]
        assert [(due.head, due.newest) for due in dues] in (
            [(kept, newest), (None, None)],
            [(None, None), (None, None)],
        )

    def test_only_known_jobs_are_claimed(self, tmp_path: Path) -> None:
        store, order, mail = self.open(tmp_path), UnitBuilder(), UnitBuilder(name="mail")
        prefix = UnitBuilder(name="ord")
        store.append([mail.begin(NOW - 9), order.begin(NOW - 1), prefix.begin(NOW - 5)])
        assert [due.stream for due in self.claim(store)] == [order.stream]
        both = self.claimed(store, claim_request(jobs=["task:mail", ORDERS]))
        assert [due.stream for due in both] == [mail.stream, order.stream]
        store.release("w1", [(due.stream, -1) for due in both])
        assert store.next_due_us(["task:mail"], NOW) == NOW - 9
        assert store.next_due_us(["task:none"], NOW) is None
        assert store.next_due_us([], NOW) is None

    def test_without_something_due_nothing_is_claimed(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(NOW + 1)])
        for now_us, limit in ((NOW, 10), (NOW + 1, 0)):
            claimed = store.claim(claim_request(now_us=now_us, limit=limit))
            assert claimed == NothingDue(NOW + 1) or list(claimed) == []
        for jobs in (["task:none"], []):
            nothing = store.claim(claim_request(jobs=jobs))
            assert nothing == NothingDue(None) or list(nothing) == []
        assert store.leases(NOW, 9) == []

    def test_a_claim_takes_leases_and_changes_nothing_else(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), _builders(2)
        first = builders[0].begin(NOW - 1)
        store.append([first, builders[1].begin(NOW + 1)])
        claimed = self.claimed(store, claim_request(-7))
        assert claimed == [Due(builders[0].stream, NOW - 1, 3, builders[0].hash, None, run=True)]
        lease = Lease("w1", NOW + 1000, -7, True)
        assert store.leases(NOW, 9) == [HeldLease(builders[0].stream, lease, None)]
        assert store.lease_tokens([builder.stream for builder in builders]) == [-7, None]
        assert store.events(builders[0].stream) == first.events
        assert store.status([builders[0].stream]) == [builders[0].row]
        assert self.claimed(store, claim_request(-8)) == []
        store.release("w1", [(builders[0].stream, -7)])
        assert store.next_due_us([ORDERS], NOW) == NOW - 1
        assert self.claimed(store, claim_request(-9)) == claimed

    def test_a_run_begins_under_the_lease_of_its_claim(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(NOW)])
        self.claimed(store, claim_request(-7))
        wrong = builder.fork().run("w1", NOW + 9, lease_token=-6)
        assert kinds(store.append([wrong])) == [LeaseGone]
        right = builder.run("w1", NOW + 2000, lease_token=-7)
        assert kinds(store.append([right])) == [None]
        lease = Lease("w1", NOW + 2000, 4, True)
        assert store.leases(NOW, 9) == [HeldLease(builder.stream, lease, right.events[0])]
        store.release("w1", [(builder.stream, -7)])
        assert store.renew("w1", NOW + 3000, NOW) == [(builder.stream, 4)]

    def test_a_run_that_cannot_begin_keeps_the_lease_of_its_claim(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), _builders(2)
        store.append([builder.begin(NOW) for builder in builders])
        late = builders[1].fork()
        self.claimed(store, claim_request())
        store.append([builders[1].receive()])
        units = [each.run("w1", NOW + 9, lease_token=-1) for each in (builders[0], late)]
        assert kinds(store.append(units)) == [None, VersionConflict]
        assert store.lease_tokens([builder.stream for builder in builders]) == [4, -1]
        assert kinds(store.append([builders[1].run("w1", NOW + 9, lease_token=-1)])) == [None]

    def test_a_lease_says_whether_a_run_is_to_begin(self, tmp_path: Path) -> None:
        """That is counted against a limit: to clear, or to handle a deferred event, is no run."""
        store = self.open(tmp_path)
        names = ("clears", "handles", "lost", "runs", "waits")
        clears, handles, lost, runs, waits = builders = [UnitBuilder(name) for name in names]
        store.append([clears.begin(), handles.begin(), lost.begin(NOW - 1), runs.begin(NOW)])
        later = EventReceived(payload="{}", deferred=True, handle_at_us=NOW - 2)
        clear = Scheduled(due_us=NOW - 3, action="clear")
        store.append([clears.unit(clear), handles.unit(later), lost.run("w2", NOW - 1)])
        store.append([lost.unit(clear), waits.begin(), waits.unit(later)])
        store.append([waits.unit(take=Lease("w2", NOW - 1, 3, False))])
        self.claimed(store, claim_request())
        flags = [(held.stream, held.lease.run) for held in store.leases(NOW, 9)]
        expected = [False, False, True, True, False]
        streams = [builder.stream for builder in builders]
        assert flags == list(zip(streams, expected, strict=True))

    def test_an_instance_under_a_live_lease_is_not_claimed(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder("o-1"), UnitBuilder("o-2")]
        store.append([builders[0].begin(NOW - 5), builders[1].begin(NOW - 4)])
        taking = builders[0].unit(take=Lease("w1", NOW + 5, 3, False))
        store.append([taking])
        assert [due.stream for due in self.claim(store, limit=1)] == [builders[1].stream]
        assert store.next_due_us([ORDERS], NOW) == NOW - 4

    def test_an_ended_lease_is_offered_with_its_holder(self, tmp_path: Path) -> None:
        store, builders = (
            self.open(tmp_path),
            [UnitBuilder("o-1"), UnitBuilder("o-2"), UnitBuilder("o-3")],
        )
        store.append([builder.begin() for builder in builders])
        store.append([builders[0].run("w1", NOW + 5), builders[1].run("w1", NOW + 7)])
        clear = Scheduled(due_us=NOW + 2, action="clear")
        store.append([builders[1].unit(clear), builders[2].unit(Scheduled(due_us=NOW + 6))])
        assert store.next_due_us([ORDERS], NOW) == NOW + 5
        assert self.claim(store, now_us=NOW + 4) == []
        assert self.claim(store, now_us=NOW + 7) == [
            Due(
                builders[1].stream,
                NOW + 2,
                4,
                builders[1].hash,
                Lease("w1", NOW + 7, 3, True),
                run=True,
            ),
            Due(
                builders[0].stream,
                NOW + 5,
                3,
                builders[0].hash,
                Lease("w1", NOW + 5, 3, True),
                run=True,
            ),
            Due(builders[2].stream, NOW + 6, 3, builders[2].hash, None, run=True),
        ]

    def test_a_claim_that_never_began_is_taken_over_when_its_lease_ends(
        self, tmp_path: Path
    ) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(NOW - 5)])
        self.claimed(store, claim_request(-7))
        assert self.claimed(store, claim_request(-8, owner="w2", now_us=NOW + 999)) == []
        late = claim_request(-8, owner="w2", now_us=NOW + 1000)
        before = Lease("w1", NOW + 1000, -7, True)
        assert self.claimed(store, late) == [
            Due(builder.stream, NOW - 5, 3, builder.hash, before, run=True)
        ]
        assert kinds(store.append([builder.fork().run("w1", NOW + 9, lease_token=-7)])) == [
            LeaseGone
        ]
        store.release("w1", [(builder.stream, -7)])
        assert kinds(store.append([builder.run("w2", NOW + 9, lease_token=-8)])) == [None]

    def test_a_lease_of_a_claim_is_renewed_and_released_as_every_other(
        self, tmp_path: Path
    ) -> None:
        store, builders = self.open(tmp_path), _builders(2)
        store.append([builder.begin(NOW) for builder in builders])
        self.claimed(store, claim_request(-7))
        streams = [builder.stream for builder in builders]
        renewed = store.renew("w1", NOW + 5000, NOW)
        assert sorted(renewed) == [(stream, -7) for stream in streams]
        assert self.claimed(store, claim_request(-8, owner="w2", now_us=NOW + 4999)) == []
        store.release("w1", [(streams[0], -8)])
        store.release("w2", [(streams[0], -7)])
        assert store.lease_tokens(streams) == [-7, -7]
        store.release("w1", [(streams[0], -7)])
        assert store.lease_tokens(streams) == [None, -7]
        again = self.claimed(store, claim_request(-8, owner="w2"))
        assert [due.stream for due in again] == [streams[0]]

    def test_what_was_recorded_lately_can_be_left_to_others(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), _builders(3)
        store.append([builder.begin(NOW - 3, at_us=NOW - 20) for builder in builders])
        store.append([builders[0].receive(at_us=NOW - 10), builders[1].receive(at_us=NOW - 9)])
        store.append([builders[2].receive(at_us=NOW - 9)])
        left = [builders[0].stream, builders[1].stream, "task:order:none"]
        claimed = self.claimed(store, claim_request(left=left, left_us=10))
        assert [due.stream for due in claimed] == [builders[0].stream, builders[2].stream]
        claimed = self.claimed(store, claim_request(-2, left=left, left_us=9))
        assert [due.stream for due in claimed] == [builders[1].stream]

    def test_those_that_are_left_do_not_hide_others(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), _builders(80)
        store.append([builder.begin(NOW - 99 + i) for i, builder in enumerate(builders)])
        left = [builder.stream for builder in builders[:79]]
        claimed = self.claimed(store, claim_request(limit=2, left=left))
        assert [due.stream for due in claimed] == [builders[79].stream]

    def test_ended_leases_are_left_if_the_claimant_may_not_take_over_in_the_end(
        self, tmp_path: Path
    ) -> None:
        """The store may have stalled with the claim in it (U2)."""
        store, builders = self.open(tmp_path), _builders(4)
        store.append([builder.begin(NOW - 9) for builder in builders[:2]])
        store.append([builder.run("w2", NOW - 5) for builder in builders[:2]])
        store.append([builder.begin(NOW - 1) for builder in builders[2:]])
        asked: list[bool] = []

        def may_not() -> bool:
            asked.append(False)
            return False

        claimed = self.claimed(store, claim_request(limit=3, may_take_over=may_not))
        assert [due.stream for due in claimed] == [builder.stream for builder in builders[2:]]
        assert asked
        streams = [builder.stream for builder in builders]
        assert store.lease_tokens(streams) == [4, 4, -1, -1]
        assert sorted(store.renew("w2", NOW + 9, NOW)) == [(stream, 4) for stream in streams[:2]]

    def test_nobody_is_asked_about_ended_leases_if_there_are_none(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), _builders(2)
        store.append([builders[0].begin(NOW), builders[1].begin(), builders[1].run("w2", NOW + 1)])

        def may() -> bool:
            raise AssertionError("no lease has ended")

        assert len(self.claimed(store, claim_request(may_take_over=may))) == 1

    def test_an_ended_lease_does_not_wait_for_all_that_is_due(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), _builders(50)
        store.append([builder.begin(NOW) for builder in builders])
        store.append([builders[49].run("w2", NOW - 9)])
        found: list[str] = []
        for number in range(1, 4):
            found += [due.stream for due in self.claimed(store, claim_request(-number, limit=2))]
        assert len(found) == 6
        assert builders[49].stream in found

    def test_free_ones_and_ended_leases_are_claimed_up_to_the_limit(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), _builders(6)
        store.append([builder.begin(NOW - 9) for builder in builders])
        store.append([builder.run("w2", NOW - 6 + i) for i, builder in enumerate(builders[:3])])
        found: list[str] = []
        for number in range(1, 4):
            claimed = self.claimed(store, claim_request(-number, limit=2))
            assert len(claimed) == 2
            assert [due.due_us for due in claimed] == sorted(due.due_us for due in claimed)
            found += [due.stream for due in claimed]
        assert sorted(found) == [builder.stream for builder in builders]

    def test_two_workers_never_claim_the_same(self, tmp_path: Path) -> None:
        stores, builders = [self.open(tmp_path), self.open(tmp_path)], _builders(60)
        stores[0].append([builder.begin(NOW - 1) for builder in builders])
        taken: list[str] = []

        def work(store: Store, owner: str) -> None:
            while due := self.claim(store, *builders, limit=4, owner=owner):
                taken.extend(d.stream for d in due)

        threads = [threading.Thread(target=work, args=(stores[i % 2], f"w{i}")) for i in range(4)]
        in_parallel(threads)
        assert sorted(taken) == sorted(builder.stream for builder in builders)
        renewed = [len(stores[0].renew(f"w{i}", NOW + 9, NOW)) for i in range(4)]
        assert sum(renewed) == 60

    def test_the_next_due_is_an_alarm_or_the_end_of_a_lease(self, tmp_path: Path) -> None:
        store, builders = (
            self.open(tmp_path),
            [UnitBuilder("o-1"), UnitBuilder("o-2"), UnitBuilder("o-3")],
        )
        store.append([builders[0].begin(NOW + 9), builders[1].begin(NOW + 3), builders[2].begin()])
        assert store.next_due_us([ORDERS], NOW) == NOW + 3
        store.append([builders[1].unit(take=Lease("w1", NOW + 20, 3, False))])
        assert store.next_due_us([ORDERS], NOW) == NOW + 9
        store.append([builders[2].run("w1", NOW + 6)])
        assert store.next_due_us([ORDERS], NOW) == NOW + 6
        assert store.next_due_us([ORDERS], NOW + 25) == NOW + 3
        store.append([builders[1].unit(Scheduled(due_us=NOW + 30))])
        assert store.next_due_us([ORDERS], NOW + 25) == NOW + 6

    def test_alarms_are_polled_for_even_with_notifications(self, tmp_path: Path) -> None:
        one, two = self.open(tmp_path), self.open(tmp_path)
        notified: list[int] = []
        stop = two.watch_alarms(notified.append)
        one.append([UnitBuilder().begin(NOW + 1)])
        assert two.poll_us
        stop()
        stop()
        assert set(notified) <= {0, NOW + 1}


def _builders(count: int) -> Sequence[UnitBuilder]:
    return [UnitBuilder(f"o-{i}") for i in range(count)]
