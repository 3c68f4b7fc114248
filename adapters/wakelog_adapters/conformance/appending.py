"""The exam's first part: appends, conflicts and keys."""

from __future__ import annotations

import threading
from pathlib import Path

from msgspec.structs import replace

from wakelog.core.events import (
    Cleared,
    EventReceived,
    ExecutionFailed,
    ScheduleCancelled,
    Scheduled,
    StateSet,
)
from wakelog.errors import StoreUnavailableError
from wakelog.ports import (
    Appended,
    KeyTaken,
    Lease,
    Listing,
    Store,
    StoredEvent,
    StoredSnapshot,
    VersionConflict,
)
from wakelog_adapters.conformance.pen import NOW, ORDERS, Pen, answer, in_parallel, kinds
from wakelog_adapters.conformance.sitting import Sitting

__all__ = ["AppendingExam"]


class AppendingExam(Sitting):
    """One append: all or nothing, and each refused unit alone."""

    def test_a_unit_writes_events_views_and_the_rest_together(self, tmp_path: Path) -> None:
        store, pen = self.open(tmp_path), Pen()
        first = pen.begin(NOW + 5, answer=answer("k"), snapshot=StoredSnapshot(3, b"\xfe3"))
        assert store.append([first]) == Appended([None], NOW + 5)
        assert store.events(pen.stream) == first.events
        assert store.status([pen.stream]) == [store.row(pen.instance, "hash-3")]
        assert store.answers([(pen.stream, "k")]) == [answer("k")]
        assert store.snapshot_before(pen.stream, 9) == StoredSnapshot(3, b"\xfe3")
        assert store.next_due_us([ORDERS], NOW) == NOW + 5

    def test_what_is_written_comes_back_as_it_was(self, tmp_path: Path) -> None:
        store, pen = self.open(tmp_path), Pen("a:b\\u0000 ☃ 🎉 'x' \"y\" ")
        error = ExecutionFailed(
            handler="on_event", error_type="E", message='\0 "☃"\n', traceback="\\", payload=None
        )
        state = '{"text":"☃ \\u0000 \\" ' + "x" * 100_000 + '"}'
        unit = pen.begin(NOW, answer=answer("k ☃ \\u0000", None, '{"a":"\\u0000"}'))
        assert kinds(store.append([unit, pen.unit(error, StateSet(state=state))])) == [None, None]
        assert store.status([pen.stream]) == [store.row(pen.instance, "hash-5")]
        assert store.list(Listing()) == [store.row(pen.instance, "hash-5")]
        assert store.answers([(pen.stream, "k ☃ \\u0000")]) == [unit.answer]
        event = StoredEvent(pen.stream, 6, "t", b"\x00" * 300_000)
        large = replace(pen.receive(), events=[event])
        assert store.append([large]).errors == [None]
        assert store.events(pen.stream, after=5) == large.events
        assert store.load(pen.stream).tail[-1:] == large.events

    def test_nothing_appended_is_nothing(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        assert store.append([]) == Appended((), None)
        assert store.list(Listing()) == []

    def test_losers_are_found_and_the_rest_commits(self, tmp_path: Path) -> None:
        store, pens = self.open(tmp_path), [Pen(f"o-{i}") for i in range(5)]
        store.append([pen.begin() for pen in pens])
        late = pens[2].fork()
        store.append([pens[2].receive()])
        group = [pens[0].receive(), pens[1].receive(), late.receive(), pens[3].begin(NOW + 7)]
        appended = store.append(group)
        assert kinds(appended) == [None, None, VersionConflict, None]
        assert appended.next_due_us == NOW + 7
        versions = [row.version for row in store.list(Listing())]
        assert versions == [3, 3, 3, 5, 2]

    def test_a_refused_unit_leaves_nothing_behind(self, tmp_path: Path) -> None:
        store, pen = self.open(tmp_path), Pen()
        store.append([pen.begin()])
        late = pen.fork()
        store.append([pen.receive()])
        lost = late.unit(
            Scheduled(due_us=NOW),
            answer=answer("k"),
            snapshot=StoredSnapshot(3, b"s"),
            take=Lease("w1", NOW + 1, 3, True),
        )
        assert kinds(store.append([lost])) == [VersionConflict]
        assert store.answers([(pen.stream, "k")]) == [None]
        assert store.load(pen.stream).snapshot is None
        assert store.renew("w1", NOW + 9, NOW) == []
        assert store.next_due_us([ORDERS], NOW) is None
        assert store.status([pen.stream]) == [store.row(pen.instance, "hash-3")]

    def test_units_of_one_stream_build_on_each_other(self, tmp_path: Path) -> None:
        store, pen, other = self.open(tmp_path), Pen(), Pen("o-2")
        group = [pen.begin(NOW), other.begin(), pen.receive(), pen.unit(ScheduleCancelled())]
        assert store.append(group) == Appended([None] * 4, None)
        assert [event.version for event in store.events(pen.stream)] == [1, 2, 3, 4, 5]
        assert store.status([pen.stream]) == [store.row(pen.instance, "hash-5")]

    def test_they_fall_with_the_one_that_was_refused(self, tmp_path: Path) -> None:
        store, pen, other = self.open(tmp_path), Pen(), Pen("o-2")
        store.append([pen.begin()])
        late = pen.fork()
        store.append([pen.receive()])
        group = [late.receive(), other.begin(), late.receive(), late.receive(), other.receive()]
        conflict = VersionConflict
        assert kinds(store.append(group)) == [conflict, None, conflict, conflict, None]
        assert len(store.events(pen.stream)) == 3

    def test_a_gap_is_impossible(self, tmp_path: Path) -> None:
        store, pen, missing = self.open(tmp_path), Pen(), Pen("o-2")
        store.append([pen.begin()])
        pen.receive()
        missing.begin()
        group = [pen.receive(), missing.receive()]
        assert kinds(store.append(group)) == [VersionConflict, VersionConflict]
        assert len(store.events(pen.stream)) == 2
        assert store.status([missing.stream]) == [None]

    def test_a_unit_that_leaves_a_version_out_is_refused(self, tmp_path: Path) -> None:
        store, good, bad = self.open(tmp_path), Pen(), Pen("o-2")
        whole = bad.begin()
        wrong = replace(whole, events=whole.events[:1])
        assert kinds(store.append([good.begin(), wrong])) == [None, StoreUnavailableError]
        assert [row.id for row in store.list(Listing())] == ["o-1"]

    def test_a_unit_without_events_sets_views_and_lease(self, tmp_path: Path) -> None:
        store, pen = self.open(tmp_path), Pen()
        store.append([pen.begin(NOW)])
        late = pen.fork()
        assert store.append([pen.unit(take=Lease("w1", NOW + 5, 3, False))]).errors == [None]
        assert store.renew("w1", NOW + 6, NOW) == [(pen.stream, 3)]
        store.append([pen.receive()])
        assert kinds(store.append([late.unit(ends_lease=True)])) == [VersionConflict]
        assert store.renew("w1", NOW + 6, NOW) == [(pen.stream, 3)]

    def test_one_of_many_writers_wins_each_version(self, tmp_path: Path) -> None:
        stores, pen = [self.open(tmp_path), self.open(tmp_path)], Pen()
        stores[0].append([pen.begin()])
        wins: list[int] = []

        def write(store: Store) -> None:
            for _ in range(25):
                mine = pen.fork()
                stands = store.load(pen.stream).tail[-1].version
                mine.unit(*[EventReceived(payload=None)] * (stands - mine.instance.version))
                unit = mine.receive()
                if store.append([unit]).errors == [None]:
                    wins.append(unit.base_version)

        threads = [threading.Thread(target=write, args=(stores[i % 2],)) for i in range(4)]
        in_parallel(threads)
        assert sorted(wins) == list(range(2, 2 + len(wins)))
        assert [e.version for e in stores[1].events(pen.stream)] == list(range(1, 3 + len(wins)))

    # -- keys

    def test_a_key_is_taken_once(self, tmp_path: Path) -> None:
        store, pen, other = self.open(tmp_path), Pen(), Pen("o-2")
        store.append([pen.begin(answer=answer("k"))])
        group = [other.begin(answer=answer("k")), pen.fork().receive(answer=answer("k", body="2"))]
        assert kinds(store.append(group)) == [None, KeyTaken]
        keys = [(pen.stream, "k"), (other.stream, "k"), (pen.stream, "no")]
        assert store.answers(keys) == [answer("k"), answer("k"), None]
        twice = [pen.receive(answer=answer("l")), pen.receive(answer=answer("l"))]
        assert kinds(store.append(twice)) == [None, KeyTaken]
        assert len(store.events(pen.stream)) == 3

    def test_an_answer_of_what_never_was_leaves_no_row(self, tmp_path: Path) -> None:
        store, pen, other = self.open(tmp_path), Pen(), Pen("o-2")
        group = [pen.unit(answer=answer("k")), other.begin()]
        assert store.append(group).errors == [None, None]
        assert store.status([pen.stream]) == [None]
        assert store.answers([(pen.stream, "k")]) == [answer("k")]
        assert kinds(store.append([pen.unit(answer=answer("k"))])) == [KeyTaken]
        late = pen.fork()
        assert store.append([pen.begin(answer=answer("l"))]).errors == [None]
        assert kinds(store.append([late.unit(answer=answer("m"))])) == [VersionConflict]

    def test_an_expired_key_may_be_used_again(self, tmp_path: Path) -> None:
        store, pen = self.open(tmp_path), Pen()
        store.append([pen.begin(answer=answer("k", NOW + 5))])
        early = pen.fork().receive(at_us=NOW + 4, answer=answer("k", NOW + 9))
        assert kinds(store.append([early])) == [KeyTaken]
        late = pen.receive(at_us=NOW + 5, answer=answer("k", NOW + 9, "[2]"))
        assert store.append([late]).errors == [None]
        assert store.answers([(pen.stream, "k")]) == [answer("k", NOW + 9, "[2]")]

    def test_a_key_outlives_a_clear_and_can_be_forgotten(self, tmp_path: Path) -> None:
        store, pen = self.open(tmp_path), Pen()
        store.append([pen.begin(answer=answer("k")), pen.unit(Cleared())])
        assert kinds(store.append([pen.fork().begin(answer=answer("k"))])) == [KeyTaken]
        assert store.forget_key(pen.stream, "k") is True
        assert store.forget_key(pen.stream, "k") is False
        assert store.append([pen.begin(answer=answer("k"))]).errors == [None]

    def test_expired_answers_are_purged_in_portions(self, tmp_path: Path) -> None:
        store, pen = self.open(tmp_path), Pen()
        expiries = [NOW + 1, NOW + 2, NOW + 3, NOW + 9, None]
        first = pen.begin()
        units = [pen.receive(answer=answer(f"k{i}", at)) for i, at in enumerate(expiries)]
        store.append([first, *units])
        assert store.purge_answers(NOW, 10) == 0
        assert [store.purge_answers(NOW + 3, 2) for _ in range(3)] == [2, 1, 0]
        left = store.answers([(pen.stream, f"k{i}") for i in range(5)])
        assert [a is not None for a in left] == [False, False, False, True, True]
