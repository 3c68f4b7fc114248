"""The exam of a store's log, first part: appends and conflicts."""

from __future__ import annotations

import threading
from pathlib import Path

from msgspec.structs import replace

from wakelog.core.events import (
    EventReceived,
    ExecutionFailed,
    ScheduleCancelled,
    Scheduled,
    StateSet,
)
from wakelog.errors import StoreUnavailableError
from wakelog.ports.records import StoredEvent, StoredSnapshot
from wakelog.ports.rows import Listing
from wakelog.ports.store import Store
from wakelog.ports.units import Appended, Lease, VersionConflict
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import (
    NOW,
    ORDERS,
    UnitBuilder,
    in_parallel,
    kept_reply,
    kinds,
)

__all__ = ["AppendExam"]


class AppendExam(ExamBase):
    """An append writes all, and refuses each unit alone."""

    def test_a_unit_writes_events_views_and_the_rest_together(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        first = builder.begin(
            NOW + 5, kept_reply=kept_reply("k"), snapshot=StoredSnapshot(3, b"\xfe3")
        )
        assert store.append([first]) == Appended([None], NOW + 5)
        assert store.events(builder.stream) == first.events
        assert store.status([builder.stream]) == [builder.row]
        assert store.kept_replies([(builder.stream, "k")]) == [kept_reply("k")]
        assert store.snapshot_before(builder.stream, 9) == StoredSnapshot(3, b"\xfe3")
        assert store.next_due_us([ORDERS], NOW) == NOW + 5

    def test_what_is_written_comes_back_as_it_was(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder("a:b\\u0000 ☃ 🎉 'x' \"y\" ")
        error = ExecutionFailed(
            handler="on_event", error_type="E", message='\0 "☃"\n', traceback="\\", payload=None
        )
        state = '{"text":"☃ \\u0000 \\" ' + "x" * 100_000 + '"}'
        unit = builder.begin(NOW, kept_reply=kept_reply("k ☃ \\u0000", None, '{"a":"\\u0000"}'))
        assert kinds(store.append([unit, builder.unit(error, StateSet(state=state))])) == [
            None,
            None,
        ]
        assert store.status([builder.stream]) == [builder.row]
        assert store.list(Listing()) == [builder.row]
        assert store.kept_replies([(builder.stream, "k ☃ \\u0000")]) == [unit.kept_reply]
        event = StoredEvent(builder.stream, 6, "t", b"\x00" * 300_000)
        large = replace(builder.receive(), events=[event])
        assert store.append([large]).errors == [None]
        assert store.events(builder.stream, after=5) == large.events
        assert store.load(builder.stream).tail[-1:] == large.events

    def test_an_append_of_no_units_writes_nothing(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        assert store.append([]) == Appended((), None)
        assert store.list(Listing()) == []

    def test_U3_a_unit_on_another_event_of_the_same_version_is_refused(
        self, tmp_path: Path
    ) -> None:
        store, builder, other = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-2")
        store.append([builder.begin(NOW), other.begin()])
        elsewhere = replace(builder.fork().receive(), base_hash="of another event")
        assert kinds(store.append([elsewhere, other.receive()])) == [VersionConflict, None]
        assert store.status([builder.stream]) == [builder.row]
        assert store.append([builder.receive()]).errors == [None]
        newest = builder.hash
        [due] = self.claim(store, builder)
        assert (due.version, due.hash) == (4, newest)

    def test_units_in_conflict_are_refused_and_the_rest_is_committed(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder(f"o-{i}") for i in range(5)]
        store.append([builder.begin() for builder in builders])
        late = builders[2].fork()
        store.append([builders[2].receive()])
        group = [
            builders[0].receive(),
            builders[1].receive(),
            late.receive(),
            builders[3].begin(NOW + 7),
        ]
        appended = store.append(group)
        assert kinds(appended) == [None, None, VersionConflict, None]
        assert appended.next_due_us == NOW + 7
        versions = [row.version for row in store.list(Listing())]
        assert versions == [3, 3, 3, 5, 2]

    def test_a_refused_unit_leaves_nothing_behind(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin()])
        late = builder.fork()
        store.append([builder.receive()])
        lost = late.unit(
            Scheduled(due_us=NOW),
            kept_reply=kept_reply("k"),
            snapshot=StoredSnapshot(3, b"s"),
            take=Lease("w1", NOW + 1, 3, True),
        )
        assert kinds(store.append([lost])) == [VersionConflict]
        assert store.kept_replies([(builder.stream, "k")]) == [None]
        assert store.load(builder.stream).snapshot is None
        assert store.renew("w1", NOW + 9, NOW) == []
        assert store.next_due_us([ORDERS], NOW) is None
        assert store.status([builder.stream]) == [builder.row]

    def test_units_of_one_stream_build_on_each_other(self, tmp_path: Path) -> None:
        store, builder, other = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-2")
        group = [
            builder.begin(NOW),
            other.begin(),
            builder.receive(),
            builder.unit(ScheduleCancelled()),
        ]
        assert store.append(group) == Appended([None] * 4, None)
        assert [event.version for event in store.events(builder.stream)] == [1, 2, 3, 4, 5]
        assert store.status([builder.stream]) == [builder.row]

    def test_units_after_a_refused_one_of_their_stream_are_refused(self, tmp_path: Path) -> None:
        store, builder, other = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-2")
        store.append([builder.begin()])
        late = builder.fork()
        store.append([builder.receive()])
        group = [late.receive(), other.begin(), late.receive(), late.receive(), other.receive()]
        conflict = VersionConflict
        assert kinds(store.append(group)) == [conflict, None, conflict, conflict, None]
        assert len(store.events(builder.stream)) == 3

    def test_a_unit_cannot_leave_a_gap_in_its_stream(self, tmp_path: Path) -> None:
        store, builder, missing = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-2")
        store.append([builder.begin()])
        builder.receive()
        missing.begin()
        group = [builder.receive(), missing.receive()]
        assert kinds(store.append(group)) == [VersionConflict, VersionConflict]
        assert len(store.events(builder.stream)) == 2
        assert store.status([missing.stream]) == [None]

    def test_a_unit_that_leaves_a_version_out_is_refused(self, tmp_path: Path) -> None:
        store, good, bad = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-2")
        whole = bad.begin()
        wrong = replace(whole, events=whole.events[:1])
        assert kinds(store.append([good.begin(), wrong])) == [None, StoreUnavailableError]
        assert [row.id for row in store.list(Listing())] == ["o-1"]

    def test_a_unit_without_events_sets_views_and_lease(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(NOW)])
        late = builder.fork()
        assert store.append([builder.unit(take=Lease("w1", NOW + 5, 3, False))]).errors == [None]
        assert store.renew("w1", NOW + 6, NOW) == [(builder.stream, 3)]
        store.append([builder.receive()])
        assert kinds(store.append([late.unit(ends_lease=True)])) == [VersionConflict]
        assert store.renew("w1", NOW + 6, NOW) == [(builder.stream, 3)]

    def test_one_of_many_writers_wins_each_version(self, tmp_path: Path) -> None:
        stores, builder = [self.open(tmp_path), self.open(tmp_path)], UnitBuilder()
        stores[0].append([builder.begin()])
        wins: list[int] = []

        def write(store: Store) -> None:
            for _ in range(25):
                mine = builder.fork()
                version = store.load(builder.stream).tail[-1].version
                mine.unit(*[EventReceived(payload=None)] * (version - mine.instance.version))
                unit = mine.receive()
                if store.append([unit]).errors == [None]:
                    wins.append(unit.base_version)

        threads = [threading.Thread(target=write, args=(stores[i % 2],)) for i in range(4)]
        in_parallel(threads)
        assert sorted(wins) == list(range(2, 2 + len(wins)))
        assert [e.version for e in stores[1].events(builder.stream)] == list(
            range(1, 3 + len(wins))
        )
