"""The exam's fourth part: what was written is found again."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from eventsourcing.persistence import ApplicationRecorder

from wakelog.core.events import Cleared, EventReceived, ExecutionFailed, Scheduled
from wakelog.ports.records import Loaded, StoredEvent, StoredSnapshot
from wakelog.ports.rows import HeldLease, Listing, StatusCount, WorkerRow
from wakelog.ports.units import Lease
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder, row_of

__all__ = ["ReadsExam"]


class ReadsExam(ExamBase):
    """Reads show all that was committed before them, by whomever."""

    def test_two_openings_see_each_other(self, tmp_path: Path) -> None:
        one, two, builder = self.open(tmp_path), self.open(tmp_path), UnitBuilder()
        assert two.status([builder.stream]) == [None]
        one.append([builder.begin(NOW)])
        assert two.status([builder.stream]) == [row_of(builder.instance, "hash-3")]
        two.append([builder.receive()])
        assert [event.version for event in one.load(builder.stream).tail] == [1, 2, 3, 4]

    def test_what_is_closed_can_be_opened_again(self, tmp_path: Path) -> None:
        builder = UnitBuilder()
        store = self.make_store(tmp_path)
        store.append([builder.begin(NOW)])
        store.close()
        assert len(self.open(tmp_path).load(builder.stream).tail) == 3

    # -- events and snapshots

    def test_load_answers_the_newest_snapshot_and_what_follows(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        assert store.load(builder.stream) == Loaded(None, [])
        first = builder.begin(snapshot=StoredSnapshot(2, b"\xff2"))
        store.append([first, *[builder.receive() for _ in range(3)]])
        second = builder.receive(snapshot=StoredSnapshot(6, b"\xff6"))
        store.append([second, builder.receive()])
        loaded = store.load(builder.stream)
        assert loaded.snapshot == StoredSnapshot(6, b"\xff6")
        assert [event.version for event in loaded.tail] == [7]
        only_tail = store.load(builder.stream, after_version=4)
        assert only_tail.snapshot is None
        assert [event.version for event in only_tail.tail] == [5, 6, 7]
        befores = [store.snapshot_before(builder.stream, version) for version in (1, 2, 5, 6)]
        two, six = StoredSnapshot(2, b"\xff2"), StoredSnapshot(6, b"\xff6")
        assert befores == [None, two, two, six]

    def test_many_streams_are_loaded_as_each_alone(self, tmp_path: Path) -> None:
        store, one, two = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-10")
        store.append([one.begin(snapshot=StoredSnapshot(2, b"2")), two.begin()])
        store.append([one.receive(), *[two.receive() for _ in range(1200)]])
        streams = [two.stream, "task:order:none", one.stream, two.stream]
        assert store.load_all(streams) == [store.load(stream) for stream in streams]
        assert [len(each.tail) for each in store.load_all(streams)] == [1202, 0, 1, 1202]
        assert store.load_all([]) == []

    def test_a_snapshot_may_be_made_anew(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(snapshot=StoredSnapshot(2, b"old"))])
        store.append([builder.unit(snapshot=StoredSnapshot(2, b"new"))])
        assert store.load(builder.stream) == Loaded(StoredSnapshot(2, b"new"), [])

    def test_events_are_answered_by_range(self, tmp_path: Path) -> None:
        store, builder, other = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-10")
        store.append([builder.begin(), other.begin(), *[builder.receive() for _ in range(1200)]])
        assert [e.version for e in store.events(builder.stream)] == list(range(1, 1203))
        assert [e.version for e in store.load(builder.stream).tail] == list(range(1, 1203))
        assert [e.version for e in store.events(builder.stream, after=1200)] == [1201, 1202]
        assert [e.version for e in store.events(builder.stream, after=3, upto=5)] == [4, 5]
        assert [e.version for e in store.events(builder.stream, after=3, limit=3)] == [4, 5, 6]
        assert len(store.events(builder.stream, limit=501)) == 501
        assert [e.version for e in store.events(builder.stream, upto=1001)][-1] == 1001
        assert list(store.events("task:order:none")) == []

    # -- the status view

    def test_status_answers_in_the_order_asked(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder("o-1"), UnitBuilder("o-2")]
        store.append([builder.begin() for builder in builders])
        streams = [builders[1].stream, "task:order:none", builders[0].stream, builders[1].stream]
        rows = store.status(streams)
        assert [row and row.id for row in rows] == ["o-2", None, "o-1", "o-2"]
        assert store.status([]) == []
        assert store.kept_replies([]) == []

    def test_a_cleared_instance_keeps_its_row_but_is_not_listed(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(NOW), builder.unit(Cleared())])
        assert store.status([builder.stream]) == [row_of(builder.instance, "hash-4")]
        assert store.list(Listing()) == []
        assert store.next_due_us([ORDERS], NOW) is None
        store.append([builder.begin(NOW)])
        assert [row.version for row in store.list(Listing())] == [7]

    def test_what_must_be_woken_can_be_listed_alive_or_not(self, tmp_path: Path) -> None:
        store, idle, due, ended = (
            self.open(tmp_path),
            UnitBuilder("o-1"),
            UnitBuilder("o-2"),
            UnitBuilder("o-3"),
        )
        waits = EventReceived(payload="1", deferred=True, handle_at_us=NOW + 9)
        store.append([idle.begin(), due.begin(NOW + 5), ended.begin(NOW + 5)])
        store.append([ended.unit(waits), ended.unit(Cleared(by="handler"))])
        rows = store.list(Listing(waking=True))
        assert [(row.id, row.wake_us) for row in rows] == [("o-2", NOW + 5), ("o-3", NOW + 9)]
        assert [row.id for row in store.list(Listing())] == ["o-1", "o-2"]
        assert [row.id for row in store.list(Listing(waking=True, after=due.stream))] == ["o-3"]

    def test_listings_filter(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        due, idle, failed = UnitBuilder("a-1"), UnitBuilder("a-2"), UnitBuilder("b-1")
        mail, orders = UnitBuilder("a-1", "mail"), UnitBuilder("a-9", "orders")
        error = ExecutionFailed(handler="execute", error_type="Oops", message="", payload=None)
        store.append([due.begin(NOW + 5), idle.begin(at_us=NOW + 1), mail.begin(NOW)])
        store.append([failed.begin(), failed.unit(error), orders.begin(NOW + 6)])

        def ids(listing: Listing) -> list[str]:
            return [row.stream.removeprefix("task:") for row in store.list(listing)]

        everything = ["mail:a-1", "order:a-1", "order:a-2", "order:b-1", "orders:a-9"]
        assert ids(Listing()) == ids(Listing(kind="task")) == everything
        assert ids(Listing(kind="debounce")) == []
        assert ids(Listing(kind="task", name="order")) == everything[1:4]
        assert ids(Listing(name="mail")) == everything[:1]
        assert ids(Listing(status="failed")) == ids(Listing(error_type="Oops")) == ["order:b-1"]
        assert ids(Listing(name="order", id_prefix="a-")) == ["order:a-1", "order:a-2"]
        assert ids(Listing(id_prefix="%")) == []
        assert ids(Listing(due_before_us=NOW + 6)) == ["mail:a-1", "order:a-1"]
        assert ids(Listing(updated_after_us=NOW)) == ["order:a-2"]
        assert ids(Listing(status="active", id_prefix="a-9")) == ["orders:a-9"]

    def test_listings_are_paged_by_stream(self, tmp_path: Path) -> None:
        store, names = self.open(tmp_path), ["Z", "a", "b:1", "ä", "☃", "🎉", "\uffff"]
        store.append([UnitBuilder(name).begin() for name in names])
        found: list[str] = []
        after: str | None = None
        while page := store.list(Listing(kind="task", limit=2, after=after)):
            found += [row.id for row in page]
            after = page[-1].stream
        assert found == sorted(names)

    def test_instances_are_counted_by_job_and_by_how_they_stand(self, tmp_path: Path) -> None:
        store, now_us = self.open(tmp_path), NOW + 5
        builders = [UnitBuilder(f"o-{i}") for i in range(6)]
        mail = UnitBuilder("m-1", name="mail")
        store.append([builder.begin(NOW + 9 * (i % 2)) for i, builder in enumerate(builders[:4])])
        store.append([builders[4].begin(), builders[5].begin(), mail.begin(at_us=NOW + 3)])
        store.append([builders[5].unit(Cleared()), builders[4].run("w1", NOW + 9)])
        order = "task", "order"
        assert sorted(store.count(Listing(), now_us)) == [
            StatusCount("task", "mail", "idle", False, False, 1),
            StatusCount(*order, "active", False, False, 2),
            StatusCount(*order, "active", False, True, 2),
            StatusCount(*order, "idle", True, False, 1),
        ]
        some = Listing(name="order", status="active", limit=1, after=builders[2].stream)
        assert sum(group.number for group in store.count(some, now_us)) == 4
        late = Listing(updated_after_us=NOW)
        assert store.count(late, now_us) == [StatusCount("task", "mail", "idle", False, False, 1)]
        for none in (Listing(id_prefix="x"), Listing(id_prefix="\0"), Listing(error_type="\0")):
            assert store.count(none, now_us) == []
            assert store.list(none) == []

    # -- what is due, what is stuck, who lives

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

    def test_workers_are_known_while_they_live(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        one = WorkerRow("w1", (ORDERS, "task:mail"), 100, "host ☃", 7, NOW, NOW, NOW + 5)
        two = one._replace(worker="w2", until_us=NOW + 9)
        store.put_worker(two)
        store.put_worker(one)
        assert store.workers(NOW) == [one, two]
        assert store.workers(NOW + 5) == [two]
        store.put_worker(one._replace(until_us=NOW + 50))
        assert [row.worker for row in store.workers(NOW + 10)] == ["w1"]
        store.remove_worker("w1")
        assert store.workers(NOW) == [two]

    def test_what_is_held_is_known_with_how_it_began(self, tmp_path: Path) -> None:
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
        assert [held.stream for held in store.leases(NOW, 1)] == [builders[0].stream]
        store.append([builders[1].unit(Cleared(), ends_lease=True)])
        store.release("w2", [(builders[0].stream, 3)])
        assert store.leases(NOW, 9) == []

    # -- the library's side

    def test_the_log_has_one_order_without_gaps(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder("o-1"), UnitBuilder("o-2")]
        recorder = cast(ApplicationRecorder, store)
        assert recorder.max_notification_id() is None
        units = [builders[0].begin(), builders[1].begin(NOW), builders[0].receive()]
        store.append(units)
        refused = UnitBuilder("o-1").begin()
        store.append([refused, builders[1].receive()])
        notifications = recorder.select_notifications(start=None, limit=99)
        assert [n.id for n in notifications] == list(range(1, 8))
        written = [event for unit in units for event in unit.events]
        read = [
            StoredEvent(str(n.originator_id), n.originator_version, n.topic, n.state)
            for n in notifications
        ]
        assert read[:6] == written
        assert recorder.max_notification_id() == 7
        some = recorder.select_notifications(2, 2, inclusive_of_start=False)
        assert [n.id for n in some] == [3, 4]
        received = recorder.select_notifications(1, 9, topics=["wakelog.EventReceived"])
        assert [n.id for n in received] == [6, 7]
        of_stream = recorder.select_events(builders[0].stream, gt=1, desc=True, limit=1)
        assert [event.originator_version for event in of_stream] == [3]

    def test_a_subscription_follows_the_log(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin()])
        with cast(ApplicationRecorder, store).subscribe(gt=1) as subscription:
            assert next(subscription).originator_version == 2
            store.append([builder.receive()])
            assert next(subscription).originator_version == 3
