"""The exam of a store's log, second part: reading it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from eventsourcing.persistence import ApplicationRecorder

from wakelog.ports.records import Loaded, Newest, StoredEvent, StoredSnapshot
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import NOW, UnitBuilder

__all__ = ["EventReadsExam"]


class EventReadsExam(ExamBase):
    """Reads show all that was committed before them, by any process."""

    def test_two_openings_see_each_other(self, tmp_path: Path) -> None:
        one, two, builder = self.open(tmp_path), self.open(tmp_path), UnitBuilder()
        assert two.status([builder.stream]) == [None]
        one.append([builder.begin(NOW)])
        assert two.status([builder.stream]) == [builder.row]
        two.append([builder.receive()])
        assert [event.version for event in one.load(builder.stream).tail] == [1, 2, 3, 4]

    def test_a_closed_store_can_be_opened_again(self, tmp_path: Path) -> None:
        builder = UnitBuilder()
        store = self.make_store(tmp_path)
        store.append([builder.begin(NOW)])
        store.close()
        assert len(self.open(tmp_path).load(builder.stream).tail) == 3

    # -- events and snapshots

    def test_load_returns_the_newest_snapshot_and_what_follows(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        assert store.load(builder.stream) == Loaded(None, [])
        first = builder.begin(snapshot=StoredSnapshot(2, b"\xff2"))
        store.append([first, *[builder.receive() for _ in range(3)]])
        second = builder.receive(snapshot=StoredSnapshot(6, b"\xff6"))
        store.append([second, builder.receive()])
        loaded = store.load(builder.stream)
        assert loaded.snapshot == StoredSnapshot(6, b"\xff6")
        assert [event.version for event in loaded.tail] == [6, 7]
        assert loaded.newest == Newest(7, builder.row.hash)
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
        assert [len(each.tail) for each in store.load_all(streams)] == [1202, 0, 2, 1202]
        assert store.load_all([]) == []

    def test_a_snapshot_may_be_replaced(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(snapshot=StoredSnapshot(2, b"old"))])
        store.append([builder.unit(snapshot=StoredSnapshot(2, b"new"))])
        second = store.events(builder.stream, after=1)
        newest = Newest(2, builder.row.hash)
        assert store.load(builder.stream) == Loaded(StoredSnapshot(2, b"new"), second, newest)

    def test_K1_load_tells_what_the_status_row_says_is_the_newest_event(
        self, tmp_path: Path
    ) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(), builder.receive()])
        assert store.load(builder.stream).newest == Newest(3, builder.row.hash)
        store.append([builder.receive()])
        assert store.load_all([builder.stream, "task:order:none"]) == [
            Loaded(None, store.events(builder.stream), Newest(4, builder.row.hash)),
            Loaded(None, []),
        ]

    def test_events_are_read_by_range(self, tmp_path: Path) -> None:
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

    # -- the library's interface

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
