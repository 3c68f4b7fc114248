"""The exam of a store's claim queue, first part: leases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wakelog.core.events import Cleared, Executed, Scheduled
from wakelog.ports.rows import HeldLease
from wakelog.ports.store import Store
from wakelog.ports.units import Lease, LeaseGone, Takeover
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder, claim_request, kinds

__all__ = ["LeasesExam"]

DONE = Executed(run=1, started_us=NOW, duration_us=1, result=None)


class LeasesExam(ExamBase):
    """A unit of work is recorded under a lease that is still its own, or not at all."""

    def test_a_unit_under_a_lease_is_refused_if_that_is_gone(self, tmp_path: Path) -> None:
        store, builder, other = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-2")
        store.append([builder.begin(), builder.run("w1", NOW + 9), other.begin()])
        wrong = builder.fork().unit(DONE, lease_token=2, ends_lease=True)
        group = [
            wrong,
            other.fork().receive(lease_token=3),
            builder.unit(DONE, lease_token=3, ends_lease=True),
        ]
        assert kinds(store.append(group[:2])) == [LeaseGone, LeaseGone]
        assert kinds(store.append([other.receive(), group[2]])) == [None, None]
        assert kinds(store.append([builder.receive(lease_token=3)])) == [LeaseGone]

    def test_a_lease_is_held_until_it_is_dropped(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(), builder.run("w1", NOW + 9)])
        step = builder.receive(lease_token=3)
        assert (
            store.append([step, builder.receive(), builder.receive(lease_token=3)]).errors
            == [None] * 3
        )
        assert store.renew("w1", NOW + 9, NOW) == [(builder.stream, 3)]
        store.append([builder.receive(ends_lease=True)])
        assert store.renew("w1", NOW + 9, NOW) == []

    def test_a_lease_can_be_taken_and_dropped_in_one_group(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        group = [
            builder.begin(),
            builder.run("w1", NOW + 9),
            builder.unit(DONE, lease_token=3, ends_lease=True),
        ]
        assert store.append(group).errors == [None] * 3
        assert store.renew("w1", NOW + 9, NOW) == []
        again = [
            builder.run("w1", NOW + 9),
            builder.run("w2", NOW + 9),
            builder.receive(lease_token=5),
        ]
        assert kinds(store.append(again)) == [None, None, LeaseGone]
        assert store.renew("w1", NOW + 9, NOW) == []
        assert store.renew("w2", NOW + 9, NOW) == [(builder.stream, 6)]

    def test_an_older_holder_is_fenced_off(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(), builder.run("w1", NOW + 9)])
        late = builder.fork()
        store.append([builder.run("w2", NOW + 99)])
        outcome = late.unit(DONE, lease_token=3, ends_lease=True)
        assert kinds(store.append([outcome])) == [LeaseGone]
        assert store.renew("w2", NOW + 99, NOW) == [(builder.stream, 4)]

    def test_a_late_outcome_cannot_follow_a_clear(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(NOW), builder.run("w1", NOW + 9)])
        late = builder.fork()
        store.append([builder.unit(Cleared(), ends_lease=True)])
        assert kinds(store.append([late.unit(DONE, lease_token=4)])) == [LeaseGone]
        rows = store.status([builder.stream])
        assert [row.status for row in rows if row is not None] == ["not_found"]

    def test_leases_are_renewed_by_their_owner(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder(f"o-{i}") for i in range(3)]
        store.append([builder.begin() for builder in builders])
        store.append([builders[0].run("w1", NOW + 9), builders[1].run("w1", NOW + 9)])
        store.append([builders[2].run("w2", NOW + 9)])
        renewed = store.renew("w1", NOW + 50, NOW + 1)
        assert sorted(renewed) == [(builders[0].stream, 3), (builders[1].stream, 3)]
        assert store.next_due_us([ORDERS], NOW + 1) == NOW + 9
        assert [due.stream for due in self.claim(store, now_us=NOW + 49)] == [builders[2].stream]

    def test_a_lease_that_has_ended_is_renewed_unless_it_was_taken_over(
        self, tmp_path: Path
    ) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder("o-1"), UnitBuilder("o-2")]
        store.append([builder.begin() for builder in builders])
        store.append([builder.run("w1", NOW + 5) for builder in builders])
        self.claim(store, builders[0], now_us=NOW + 6, owner="w2", limit=1)
        assert store.renew("w1", NOW + 50, NOW + 7) == [(builders[1].stream, 3)]
        assert self.claim(store, now_us=NOW + 8) == []

    def test_U2_no_worker_takes_over_a_lease_of_its_own(self, tmp_path: Path) -> None:
        store, builders = self._runs(tmp_path, "w1", "w2")
        found = self.claim(store, now_us=NOW + 9, takeover=Takeover(owner="w1"))
        assert [due.stream for due in found] == [builders[1].stream]
        assert sorted(store.renew("w1", NOW + 50, NOW + 9)) == [(builders[0].stream, 3)]

    def test_U2_a_claim_may_leave_ended_leases_to_their_owners(self, tmp_path: Path) -> None:
        store, builders = self._runs(tmp_path, "w1", "w2")
        free = UnitBuilder("free")
        store.append([free.begin(NOW + 8)])
        found = self.claim(store, now_us=NOW + 9, takeover=Takeover(allowed=False, owner="w3"))
        assert [due.stream for due in found] == [free.stream]
        found = self.claim(store, now_us=NOW + 9, takeover=Takeover(owner="w3"))
        assert sorted(due.stream for due in found) == sorted(
            builder.stream for builder in (*builders, free)
        )

    def test_U2_an_alarm_under_a_lease_that_is_left_to_its_owner_waits(
        self, tmp_path: Path
    ) -> None:
        store, builders = self._runs(tmp_path, "w1", "w2")
        store.append([builder.unit(Scheduled(due_us=NOW, action="clear")) for builder in builders])
        assert self.claim(store, now_us=NOW + 9, takeover=Takeover(allowed=False)) == []
        found = self.claim(store, now_us=NOW + 9, takeover=Takeover(owner="w2"))
        assert [due.stream for due in found] == [builders[0].stream]

    def test_the_tokens_of_leases_are_read_by_stream(self, tmp_path: Path) -> None:
        store, builders = self._runs(tmp_path, "w1", "w2")
        streams = [builders[1].stream, "task:order:none", builders[0].stream]
        assert store.lease_tokens(streams) == [3, None, 3]
        store.append([builders[0].unit(Cleared(), ends_lease=True)])
        assert store.lease_tokens(streams) == [3, None, None]
        assert store.lease_tokens([]) == []

    def _runs(self, folder: Path, *owners: str) -> tuple[Store, Sequence[UnitBuilder]]:
        """An open run for each owner, with a lease that ends at NOW + 5."""
        store, builders = self.open(folder), [UnitBuilder(owner) for owner in owners]
        store.append([builder.begin() for builder in builders])
        store.append(
            [builder.run(owner, NOW + 5) for builder, owner in zip(builders, owners, strict=True)]
        )
        return store, builders

    def test_leases_are_released_by_owner_and_token(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder(f"o-{i}") for i in range(3)]
        store.append([builder.begin() for builder in builders])
        store.append([builder.run("w1", NOW + 9) for builder in builders])
        store.release("w2", [(builders[0].stream, 3)])
        store.release("w1", [(builders[1].stream, 2), (builders[2].stream, 3)])
        renewed = store.renew("w1", NOW + 9, NOW)
        assert sorted(renewed) == [(builders[0].stream, 3), (builders[1].stream, 3)]

    def test_leases_are_listed_with_the_event_of_their_token(self, tmp_path: Path) -> None:
        store, builders = (
            self.open(tmp_path),
            [UnitBuilder("o-1"), UnitBuilder("o-2"), UnitBuilder("o-3")],
        )
        store.append([builders[0].begin(NOW), builders[1].begin(NOW), builders[2].begin(NOW)])
        run = builders[1].run("w1", NOW + 9)
        handling = Lease("w2", NOW + 7, 3, False)
        store.append([run, builders[0].unit(take=handling)])
        assert store.leases(NOW + 8, 9) == [
            HeldLease(builders[0].stream, handling, store.events(builders[0].stream)[2]),
            HeldLease(builders[1].stream, Lease("w1", NOW + 9, 4, True), run.events[0]),
        ]
        assert [lease.stream for lease in store.leases(NOW, 1)] == [builders[0].stream]
        store.append([builders[1].unit(Cleared(), ends_lease=True)])
        store.release("w2", [(builders[0].stream, 3)])
        assert store.leases(NOW, 9) == []

    def test_a_lease_of_a_claim_is_listed_without_an_event(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(NOW)])
        self.claimed(store, claim_request(-5))
        lease = Lease("w1", NOW + 1000, -5, True)
        assert store.leases(NOW, 9) == [HeldLease(builder.stream, lease, None)]

    def test_a_run_without_a_lease_is_stranded(self, tmp_path: Path) -> None:
        store, builders = (
            self.open(tmp_path),
            [UnitBuilder("o-1"), UnitBuilder("o-2"), UnitBuilder("o-3"), UnitBuilder("o-4")],
        )
        store.append(
            [builders[0].begin(), builders[1].begin(), builders[2].begin(NOW), builders[3].begin()]
        )
        lost = [builders[0].run("w1", NOW), builders[1].run("w1", NOW), builders[3].run("w1", NOW)]
        store.append(lost)
        store.release("w1", [(builders[0].stream, 3), (builders[3].stream, 3)])
        assert sorted(store.stranded(NOW + 1, 9)) == [builders[0].stream, builders[3].stream]
        assert len(store.stranded(NOW + 1, 1)) == 1
        assert store.stranded(NOW, 9) == []
