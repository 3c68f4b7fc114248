"""The exam of a store's pools, second part: the tables beside the log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wakelog.ports.pools import (
    ExceptionKey,
    ExceptionRow,
    Group,
    IdRow,
    PoolFilter,
    PoolLook,
    PoolWrites,
    SegmentRow,
    TakenRow,
    TrailRow,
)
from wakelog.ports.store import Store
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.pool.units import (
    POOL,
    SHARED,
    call,
    document,
    excepted,
    pool_event,
    seen_by,
    segment,
)
from wakelog_adapters.conformance.units import NOW

__all__ = ["PoolReadsExam"]

MOST_SKIPS = 1_000
BEGINNING = ExceptionKey(0, 0)
PARTITION = f"{POOL}:0"


class PoolReadsExam(ExamBase):
    """What is found in the tables of a pool, and in which order."""

    def written(self, folder: Path, writes: PoolWrites) -> Store:
        """A store whose pool has what one call has written."""
        store = self.open(folder)
        call(store, writes)
        return store

    def test_the_jobs_of_which_something_was_recorded(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        assert [*store.pool_jobs()] == []
        for job in ("workerPool:b", "workerPool:a", "workerPool:b"):
            store.pool_call(PoolLook(job, NOW), lambda seen: PoolWrites(state=document()))
        store.pool_call(PoolLook("workerPool:c", NOW), lambda seen: PoolWrites())
        assert [*store.pool_jobs()] == ["workerPool:a", "workerPool:b"]

    # -- the look

    def test_the_first_segment_of_each_lane_in_which_items_wait(self, tmp_path: Path) -> None:
        rows = [segment(lane, upto, 5, 1) for lane in (1, 2, 3) for upto in (5, 10, 15)]
        state = document(lanes=[[2, 5, 0, 9, "more"], [1, 6, 0], [3, 4, 0]])  # type: ignore[list-item]
        store = self.written(tmp_path, PoolWrites(segments=rows, state=state))
        assert seen_by(store).firsts == [rows[4], rows[1], rows[6]]
        assert call(store, PoolWrites(state=document(lanes=[[1, 15, 0]]))).firsts == [
            rows[4],
            rows[1],
            rows[6],
        ]
        assert seen_by(store).firsts == []

    def test_the_first_segments_only_of_the_lanes_that_are_asked_for(self, tmp_path: Path) -> None:
        rows = [segment(lane, 5, 5, 1) for lane in (1, 2, 3)]
        state = document(lanes=[[1, 0, 0], [2, 0, 0]], fair=[[3, 0, 0, "more"]])
        store = self.written(tmp_path, PoolWrites(segments=rows, state=state))
        assert seen_by(store, firsts="none").firsts == []
        assert seen_by(store, firsts="lanes").firsts == rows[:2]
        assert call(store, PoolWrites(), firsts="lanes").firsts == rows[:2]
        assert seen_by(store, firsts="all").firsts == rows
        call(store, PoolWrites(state=document()))
        assert seen_by(store, firsts="all").firsts == []

    def test_places_to_skip_are_seen_where_the_document_says_that_there_are_any(
        self, tmp_path: Path
    ) -> None:
        many = [ExceptionKey(1, off) for off in range(1, MOST_SKIPS + 20)]
        few = [ExceptionKey(2, 3), ExceptionKey(2, 8)]
        state = document(lanes=[[2, 3, 1], [1, 5, 2000], [3, 0, 0]])
        hidden = [ExceptionKey(3, 1)]
        store = self.written(tmp_path, PoolWrites(skips=[*many, *few, *hidden], state=state))
        assert seen_by(store).skips == [few[1], *many[5 : 5 + MOST_SKIPS]]
        keys = [many[0], ExceptionKey(1, 5_000), *hidden]
        assert seen_by(store, keys=keys).skips[-2:] == [many[0], *hidden]
        call(store, PoolWrites(skips=[many[5], ExceptionKey(2, 4)]))
        assert seen_by(store).skips[:3] == [ExceptionKey(2, 4), few[1], many[5]]

    def test_the_first_of_each_group_by_due_time_lane_and_place(self, tmp_path: Path) -> None:
        rows = [
            excepted(2, 1, due_us=NOW - 5),
            excepted(1, 2, due_us=NOW - 5),
            excepted(1, 1, due_us=NOW - 5),
            excepted(1, 9, due_us=NOW),
            excepted(1, 7, due_us=NOW + 1),
            excepted(1, 8, due_us=None),
            excepted(3, 1, slot=1, due_us=NOW - 9),
            excepted(3, 2, priority=7, due_us=NOW - 9),
        ]
        state = document(groups=[[0, 7, 0, 3], Group(0, 0, 0), Group(5, 5, 0)])
        store = self.written(tmp_path, PoolWrites(put=rows, state=state))
        expected = [rows[7], rows[2], rows[1], rows[0], rows[3], rows[4]]
        assert seen_by(store, due_limit=9).due == expected  # also what is due later
        assert seen_by(store, due_limit=2).due == expected[:3]
        assert seen_by(store, due_limit=0).due == []

    def test_nothing_is_due_below_the_floor(self, tmp_path: Path) -> None:
        rows = [excepted(1, off, due_us=NOW - 10 + off) for off in range(1, 9)]
        state = document(groups=[[0, 0, NOW - 6]])
        store = self.written(tmp_path, PoolWrites(put=rows, state=state))
        assert seen_by(store, due_limit=9).due == rows[3:]

    def test_ids_name_items_for_ever(self, tmp_path: Path) -> None:
        rows = [IdRow(f"id-{i}", i, 7, f"f{i}", NOW + i, i << 40) for i in range(4)]
        store = self.written(tmp_path, PoolWrites(ids=rows))
        assert seen_by(store, ids=["id-2", "none", "id-0", "id-2"]).ids == [rows[0], rows[2]]
        assert seen_by(store).ids == []

    # -- exceptions

    def test_an_exception_takes_the_place_of_another_one_of_its_item(self, tmp_path: Path) -> None:
        store = self.written(tmp_path, PoolWrites(put=[excepted(1, 1, key="k"), excepted(1, 2)]))
        changed = excepted(1, 1, "dead", slot=3, due_us=None, seq=9, key="l", detail="[1]")
        call(store, PoolWrites(put=[changed]))
        assert self._listed(store) == [changed, excepted(1, 2)]
        assert [*store.pool_blocked(POOL, ["k"])] == []
        call(store, PoolWrites(state=document(groups=[[0, 0, 0], [3, 0, 0]])))
        assert seen_by(store, due_limit=9).due == [excepted(1, 2)]

    def test_an_item_that_is_gone_and_put_in_one_call_is_there(self, tmp_path: Path) -> None:
        store = self.written(
            tmp_path, PoolWrites(put=[excepted(1, 1), excepted(1, 2), excepted(1, 3)])
        )
        again = excepted(1, 1, "lost", due_us=NOW + 5)
        gone = [ExceptionKey(1, 1), ExceptionKey(1, 3), ExceptionKey(7, 7)]
        call(store, PoolWrites(put=[again], gone=gone))
        assert self._listed(store) == [again, excepted(1, 2)]
        keys = [ExceptionKey(1, 3), ExceptionKey(1, 1), ExceptionKey(1, 1)]
        assert seen_by(store, keys=keys).exceptions == [again]

    def test_the_first_items_behind_each_key_are_found(self, tmp_path: Path) -> None:
        behind = [excepted(1, off, "behind", key="k", seq=100 - off) for off in range(1, 21)]
        others = [
            excepted(2, 1, "dead", due_us=None, key="k"),
            excepted(2, 2, "retrying", key="k"),
            excepted(2, 3, "behind", key="l"),
        ]
        store = self.written(tmp_path, PoolWrites(put=[*behind, *others]))
        assert seen_by(store).behind == []
        found = seen_by(store, behind=["k", "none"]).behind
        assert found == sorted(behind, key=lambda row: row.seq)[:16]
        assert seen_by(store, behind=["l", "l"]).behind == [others[2]]

    def test_exceptions_are_listed_by_place_and_filtered(self, tmp_path: Path) -> None:
        whys = ("dead", "retrying", "delayed")
        rows = [
            excepted(1 + i // 5, 1 + i % 5, whys[i % 3], key="ab"[i % 2], seq=100 - i)
            for i in range(10)
        ]
        store = self.written(tmp_path, PoolWrites(put=[*reversed(rows)]))
        assert self._listed(store) == rows
        assert self._listed(store, why=["dead"]) == rows[::3]
        two = [row for row in rows if row.why != "dead"]
        assert self._listed(store, why=["retrying", "delayed", "none"]) == two
        assert self._listed(store, key="b") == rows[1::2]
        assert self._listed(store, key="b", why=["dead"]) == [rows[3], rows[9]]
        assert self._listed(store, key="c") == self._listed(store, why=["none"]) == []

    def test_exceptions_are_listed_page_by_page(self, tmp_path: Path) -> None:
        rows = [excepted(lane, off, "dead") for lane in (1, 2, 3) for off in (1, 2, 3)]
        store = self.written(tmp_path, PoolWrites(put=rows))
        for why in ((), ("dead",), ("dead", "lost")):
            found: list[ExceptionRow] = []
            after = BEGINNING
            while page := self._listed(store, why=why, after=after, limit=4):
                assert len(page) <= 4
                found += page
                after = ExceptionKey(*page[-1][:2])
            assert found == rows

    def test_keys_are_blocked_by_the_first_item_that_is_not_dead(self, tmp_path: Path) -> None:
        rows = [
            excepted(1, 1, "dead", key="k", seq=1),
            excepted(2, 1, "behind", key="k", seq=5, due_us=None),
            excepted(1, 2, "retrying", key="k", seq=3),
            excepted(1, 3, "dead", key="l", seq=4),
            excepted(1, 4, "delayed", key="m", seq=6),
        ]
        store = self.written(tmp_path, PoolWrites(put=rows))
        assert dict(store.pool_blocked(POOL, ["m", "l", "k", "none"])) == {"k": 3, "m": 6}
        assert [*store.pool_blocked(POOL, [])] == []

    def _listed(
        self,
        store: Store,
        why: Sequence[str] = (),
        key: str | None = None,
        after: ExceptionKey = BEGINNING,
        limit: int = 100,
    ) -> Sequence[ExceptionRow]:
        return [*store.pool_exceptions(POOL, PoolFilter(why, key, after, limit))]

    # -- slices, takes, the trail

    def test_slices_are_cut_out_of_the_bodies_of_records(self, tmp_path: Path) -> None:
        store, rows = self._sliced(tmp_path)
        assert self._slices(store, (1, 0, 9)) == [
            (rows[0], b"a1\na2"),
            (rows[2], b"a3\n\xffa4\na5"),
        ]
        assert self._slices(store, (2, 0, 1)) == [(rows[1], b"b1")]
        assert self._slices(store, (9, 0, 1)) == self._slices(store) == []

    def test_a_range_has_the_segments_that_overlap_it(self, tmp_path: Path) -> None:
        store, rows = self._sliced(tmp_path)
        for after, upto, found in (
            (0, 1, [0]), (1, 2, [0]), (2, 3, [2]), (1, 3, [0, 2]), (0, 2, [0]), (4, 5, [2]),
            (5, 9, []), (2, 2, []), (1, 99, [0, 2]),
        ):  # fmt: skip
            slices = self._slices(store, (1, after, upto))
            assert [row for row, _ in slices] == [rows[i] for i in found], (after, upto)

    def test_a_segment_of_several_ranges_comes_once(self, tmp_path: Path) -> None:
        store, rows = self._sliced(tmp_path)
        slices = self._slices(store, (2, 1, 2), (1, 2, 4), (1, 0, 3), (1, 3, 5), (2, 0, 1))
        assert slices == [
            (rows[0], b"a1\na2"),
            (rows[2], b"a3\n\xffa4\na5"),
            (rows[1], b"b1"),
            (rows[3], b"b2"),
        ]

    def test_a_slice_of_a_large_record(self, tmp_path: Path) -> None:
        body = bytes(range(256)) * 2_000
        row = segment(1, 9, 9, 1, 256_000, 200_000)
        store = self.written(tmp_path, PoolWrites(events=[pool_event(1, body)], segments=[row]))
        assert self._slices(store, (1, 3, 4)) == [(row, body[256_000:456_000])]

    def _sliced(self, folder: Path) -> tuple[Store, Sequence[SegmentRow]]:
        """Two events with items of two lanes each."""
        rows = [
            segment(1, 2, 2, 1, 0, 5), segment(2, 1, 1, 1, 6, 2),
            segment(1, 5, 3, 2, 3, 9), segment(2, 2, 1, 2, 0, 2),
        ]  # fmt: skip
        events = [
            pool_event(1, b"a1", b"a2", b"b1"),
            pool_event(2, b"b2", b"a3", b"\xffa4", b"a5"),
        ]
        return self.written(folder, PoolWrites(events=events, segments=rows)), rows

    def _slices(
        self, store: Store, *ranges: tuple[int, int, int]
    ) -> Sequence[tuple[SegmentRow, bytes]]:
        return [(row, bytes(lines)) for row, lines in store.pool_slices(POOL, ranges)]

    def test_the_take_of_an_item(self, tmp_path: Path) -> None:
        rows = [TakenRow(1, 5, 0, 1), TakenRow(1, 8, 2, 1), TakenRow(2, 1, 0, 2)]
        store = self.written(tmp_path, PoolWrites(taken=rows))
        found = [store.pool_taken(POOL, 1, off) for off in (1, 5, 6, 8, 9)]
        assert found == [rows[0], rows[0], rows[1], rows[1], None]
        assert store.pool_taken(POOL, 2, 1) == rows[2]
        assert store.pool_taken(POOL, 2, 2) is None

    def test_the_trail_of_an_item_is_in_the_order_of_the_log(self, tmp_path: Path) -> None:
        rows = [
            TrailRow(1, 1, PARTITION, 1), TrailRow(1, 1, SHARED, 1), TrailRow(1, 1, PARTITION, 2),
            TrailRow(1, 2, SHARED, 1), TrailRow(1, 1, SHARED, 2),
        ]  # fmt: skip
        first = [
            pool_event(1, stream=PARTITION),
            pool_event(1),
            pool_event(2, stream=PARTITION),
        ]
        store = self.written(tmp_path, PoolWrites(events=first, trail=[rows[2], *rows[:2]]))
        call(store, PoolWrites(events=[pool_event(2)], trail=rows[3:]))
        assert [*store.pool_trail(POOL, 1, 1)] == [*rows[:3], rows[4]]
        assert [*store.pool_trail(POOL, 1, 2)] == [rows[3]]
