"""The exam of a store's claim queue, second part: claiming what is due."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from wakelog.core.events import Scheduled
from wakelog.ports.rows import Due
from wakelog.ports.store import Store
from wakelog.ports.units import Appended, Lease, NothingDue, Unit, VersionConflict
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder, in_parallel, kinds

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
            Due(builders[1].stream, NOW - 3, 3, hashes[1], None),
            Due(builders[3].stream, NOW - 2, 3, hashes[3], None),
        ]
        rest = self.claim(store, *builders)
        assert [due.stream for due in rest] == [builders[0].stream, builders[2].stream]
        assert self.claim(store, *builders) == []
        assert store.next_due_us([ORDERS], NOW) == NOW + 1

    def test_only_known_jobs_are_claimed(self, tmp_path: Path) -> None:
        store, order, mail = self.open(tmp_path), UnitBuilder(), UnitBuilder(name="mail")
        prefix = UnitBuilder(name="ord")
        store.append([mail.begin(NOW - 9), order.begin(NOW - 1), prefix.begin(NOW - 5)])
        assert [due.stream for due in self.claim(store)] == [order.stream]
        both: list[str] = []

        def begin(dues: Sequence[Due]) -> Sequence[Unit]:
            both.extend(due.stream for due in dues)
            return []

        store.claim(now_us=NOW, jobs=["task:mail", ORDERS], limit=9, begin=begin)
        assert both == [mail.stream, order.stream]
        assert store.next_due_us(["task:mail"], NOW) == NOW - 9
        assert store.next_due_us(["task:none"], NOW) is None
        assert store.next_due_us([], NOW) is None

    def test_without_something_due_nothing_is_begun(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()

        def begin(dues: Sequence[Due]) -> Sequence[Unit]:
            raise AssertionError(f"{dues} should not have been offered")

        store.append([builder.begin(NOW + 1)])
        for now_us, limit in ((NOW, 10), (NOW + 1, 0)):
            claimed = store.claim(now_us=now_us, jobs=[ORDERS], limit=limit, begin=begin)
            assert claimed in (Appended((), None), NothingDue(NOW + 1))
        nothing = store.claim(now_us=NOW, jobs=["task:none"], limit=10, begin=begin)
        assert nothing in (Appended((), None), NothingDue(None))

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
            Due(builders[1].stream, NOW + 2, 4, builders[1].hash, Lease("w1", NOW + 7, 3, True)),
            Due(builders[0].stream, NOW + 5, 3, builders[0].hash, Lease("w1", NOW + 5, 3, True)),
            Due(builders[2].stream, NOW + 6, 3, builders[2].hash, None),
        ]

    def test_a_claim_is_undone_if_begin_raises(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(NOW)])

        def begin(dues: Sequence[Due]) -> Sequence[Unit]:
            raise KeyError(dues[0].stream)

        raised: list[Exception] = []
        try:
            store.claim(now_us=NOW, jobs=[ORDERS], limit=1, begin=begin)
        except KeyError as error:
            raised.append(error)
        assert [error.args for error in raised] == [(builder.stream,)]
        assert [due.stream for due in self.claim(store, builder)] == [builder.stream]

    def test_begin_may_read_what_is_committed(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        first = builder.begin(NOW)
        store.append([first])

        def begin(dues: Sequence[Due]) -> Sequence[Unit]:
            assert store.load(dues[0].stream).tail == first.events
            assert store.status([builder.stream]) == [builder.row]
            return [builder.run("w1", NOW + 9)]

        appended = store.claim(now_us=NOW, jobs=[ORDERS], limit=1, begin=begin)
        assert appended == Appended([None], None)

    def test_a_unit_of_a_claim_is_refused_alone(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder("o-1"), UnitBuilder("o-2")]
        store.append([builders[0].begin(NOW), builders[1].begin(NOW + 9)])
        store.append([builders[1].unit(Scheduled(due_us=NOW))])
        late = UnitBuilder("o-2")
        late.begin(NOW)

        def begin(dues: Sequence[Due]) -> Sequence[Unit]:
            assert len(dues) == 2
            stale = late.fork()
            stale.instance = replace(stale.instance, version=2)
            return [builders[0].run("w1", NOW + 9), stale.run("w1", NOW + 9)]

        appended = store.claim(now_us=NOW, jobs=[ORDERS], limit=9, begin=begin)
        assert isinstance(appended, Appended)
        assert kinds(appended) == [None, VersionConflict]
        assert store.renew("w1", NOW + 9, NOW) == [(builders[0].stream, 4)]

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
