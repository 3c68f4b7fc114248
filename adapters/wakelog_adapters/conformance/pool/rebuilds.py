"""The exam of a store's pools, third part: all rows of a pool, read and replaced (H5)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from wakelog.ports.pools import (
    ExceptionKey,
    IdRow,
    PoolLook,
    PoolRows,
    PoolWrites,
    Positioned,
    TakenRow,
    TrailRow,
)
from wakelog.ports.store import Store
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.pool.units import (
    POOL,
    SHARED,
    call,
    count_up,
    document,
    excepted,
    number_in,
    pool_event,
    pool_look,
    seen_by,
    segment,
)
from wakelog_adapters.conformance.units import NOW

__all__ = ["PoolRebuildExam"]

PARTITION, OTHER = f"{POOL}:0", "workerPool:emails2"
EVENTS = [pool_event(1, b"a"), pool_event(1, stream=PARTITION), pool_event(2, b"b")]
WRITES = PoolWrites(
    events=EVENTS,
    state=document(lanes=[[1, 0, 0]]),
    segments=[segment(1, 5, 5, 1), segment(1, 9, 4, 2)],
    taken=[TakenRow(1, 3, 0, 1)],
    ids=[IdRow("mail-1", 1, 2, "f", NOW, 0), IdRow("é", 1, 3, "g", NOW, 7)],
    put=[excepted(1, 1, key="k"), excepted(2, 1, "dead", due_us=None)],
    skips=[ExceptionKey(1, 4)],
    trail=[TrailRow(1, 1, PARTITION, 1)],
)
ROWS = ("segments", "taken", "ids", "exceptions", "skips", "trail")


def sorted_rows(rows: PoolRows) -> PoolRows:
    """The order of rows means nothing."""
    return replace(rows, **{name: sorted(getattr(rows, name), key=repr) for name in ROWS})


class PoolRebuildExam(ExamBase):
    """What is read of a pool as a whole, and put in its place."""

    def filled(self, folder: Path) -> Store:
        """A store with two pools, of which each has all sorts of rows, and bare events."""
        store = self.open(folder)
        call(store, WRITES)
        others = [pool_event(n, stream=f"{OTHER}:shared") for n in (1, 2)]
        store.pool_call(PoolLook(OTHER, NOW), lambda _: replace(WRITES, events=others, trail=()))
        return store

    def test_the_log_of_a_pool_page_by_page_in_its_order(self, tmp_path: Path) -> None:
        store = self.filled(tmp_path)
        late = pool_event(3, b"c")
        call(store, PoolWrites(events=[late]))
        first = store.pool_log(POOL, 0, 2)
        assert [event for _, event in first] == EVENTS[:2]
        rest = store.pool_log(POOL, first[-1][0], 9)
        assert [event for _, event in rest] == [EVENTS[2], late]
        positions = [position for position, _ in [*first, *rest]]
        assert positions == sorted({*positions})
        assert positions[3] - positions[2] == 3  # those of the other pool are between
        assert [*store.pool_log(POOL, positions[-1], 9)] == []

    def test_H5_all_rows_of_a_pool_as_of_one_moment(self, tmp_path: Path) -> None:
        store = self.filled(tmp_path)
        rows = sorted_rows(store.pool_rows(POOL))
        assert rows.position == store.pool_log(POOL, 0, 9)[-1][0]
        assert rows.state == WRITES.state
        expected = replace(
            rows, segments=WRITES.segments, taken=WRITES.taken, ids=WRITES.ids,
            exceptions=WRITES.put, skips=WRITES.skips, trail=WRITES.trail,
        )  # fmt: skip
        assert rows == sorted_rows(expected)
        none = store.pool_rows("workerPool:none")
        assert (none.position, none.state, [*none.segments]) == (0, None, [])

    def test_H5_the_rows_of_a_pool_are_replaced_and_calls_go_on(self, tmp_path: Path) -> None:
        store = self.filled(tmp_path)
        before, other = store.pool_rows(POOL), sorted_rows(store.pool_rows(OTHER))
        position = store.pool_log(POOL, 0, 1)[0][0]
        news = replace(
            before, state=document(number=7), segments=WRITES.segments[1:], ids=WRITES.ids[:1],
            exceptions=WRITES.put[:1], skips=[], trail=[], taken=[TrailRow(1, 2, PARTITION, 3)][:0],
        )  # fmt: skip
        seen: list[tuple[Sequence[Positioned], PoolRows | None]] = []

        def refold(since: Sequence[Positioned], stored: PoolRows | None) -> PoolRows:
            seen.append((since, stored))
            return news

        store.pool_rebuild(POOL, position, refold)
        [(since, stored)] = seen
        assert [event for _, event in since] == EVENTS[1:]
        assert stored is not None
        assert sorted_rows(stored) == sorted_rows(before)
        assert sorted_rows(store.pool_rows(POOL)) == sorted_rows(news)
        assert sorted_rows(store.pool_rows(OTHER)) == other
        assert seen_by(store, keys=[ExceptionKey(1, 1)]).exceptions == WRITES.put[:1]
        number = store.pool_look(pool_look()).number
        assert number == 2  # it goes on
        store.pool_call(pool_look(), lambda found: replace(count_up(found), events=()))
        assert number_in(store.pool_look(pool_look()).state) == 8

    def test_H5_a_refold_that_raises_leaves_all_as_it_was(self, tmp_path: Path) -> None:
        store = self.filled(tmp_path)
        before = sorted_rows(store.pool_rows(POOL))

        def refold(since: Sequence[Positioned], stored: PoolRows | None) -> PoolRows:
            raise ArithmeticError("damaged")

        with pytest.raises(ArithmeticError):
            store.pool_rebuild(POOL, 0, refold)
        assert sorted_rows(store.pool_rows(POOL)) == before
        call(store, PoolWrites(events=[pool_event(3)]))

    def test_H5_a_pool_without_rows_gets_all_of_them(self, tmp_path: Path) -> None:
        store = self.filled(tmp_path)
        rows = store.pool_rows(POOL)
        copy = "workerPool:copy"
        store.pool_rebuild(copy, 0, lambda since, stored: replace(rows, position=len(since)))
        assert sorted_rows(store.pool_rows(copy)) == sorted_rows(replace(rows, position=0))
        assert copy in store.pool_jobs()

    def test_H5_no_call_comes_between_the_read_and_the_swap(self, tmp_path: Path) -> None:
        store = self.filled(tmp_path)
        started = threading.Event()

        def add(_: object) -> PoolWrites:
            return PoolWrites(events=[pool_event(3)], trail=[TrailRow(9, 9, SHARED, 3)])

        def calls() -> None:
            started.set()
            store.pool_call(pool_look(), add)

        caller = threading.Thread(target=calls)

        def refold(since: Sequence[Positioned], stored: PoolRows | None) -> PoolRows:
            caller.start()
            started.wait()
            assert stored is not None
            return replace(stored, trail=[])

        store.pool_rebuild(POOL, 0, refold)
        caller.join()
        assert [*store.pool_rows(POOL).trail] == [TrailRow(9, 9, SHARED, 3)]
