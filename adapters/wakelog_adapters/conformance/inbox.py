"""The exam of a store's inbox."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from wakelog.core.events import EventReceived
from wakelog.errors import InboxConnectionError
from wakelog.ports.inbox import InboxEntry, InboxHold, InboxRow
from wakelog.ports.pools import PoolWrites
from wakelog.ports.store import Store
from wakelog.ports.units import InboxGone
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.pool.units import pool_look
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder, kinds

__all__ = ["InboxExam"]

POOL = pool_look().pool


def entry(name: str, stream: str = f"{ORDERS}:o-1", job: str = ORDERS) -> InboxEntry:
    return InboxEntry(name, job, stream, '{"text":"a\\u0000b"}', NOW)


class InboxExam(ExamBase):
    """A row is there once its caller's transaction has committed, and goes with the unit that was
    made of it, once. A store without transactions of callers refuses every connection."""

    @contextmanager
    def caller(self, folder: Path) -> Generator[Any]:
        """A connection of a caller to the store of this folder, with `commit` and `rollback`; None
        if the store has no transactions of callers."""
        yield None

    def put(self, store: Store, folder: Path, *entries: InboxEntry) -> list[InboxRow]:
        """Rows that are committed; none if the store has no inbox."""
        with self.caller(folder) as connection:
            if connection is None:
                return []
            store.inbox_put(connection, entries)
            connection.commit()
        return self.found(store)

    def found(self, store: Store, now_us: int = NOW) -> list[InboxRow]:
        return [*store.inbox_rows([ORDERS, POOL], now_us, 99)]

    def test_E1_a_row_is_there_once_it_is_committed(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        with self.caller(tmp_path) as connection:
            if connection is None:
                with pytest.raises(InboxConnectionError, match="memory"):
                    store.inbox_put(object(), [entry("a")])
                return
            store.inbox_put(connection, [entry("a")])
            assert self.found(store) == []
            connection.rollback()
            assert self.found(store) == []
            store.inbox_put(connection, [entry("b"), entry("c")])
            store.inbox_put(connection, [entry("d")])
            connection.commit()
            rows = self.found(store)
        assert [row.id for row in rows] == ["b", "c", "d"]
        assert rows[0][1:] == ("b", ORDERS, f"{ORDERS}:o-1", entry("b").body, NOW, 0, None, False)
        assert store.inbox_rows([ORDERS], NOW, 2) == rows[:2]
        assert store.inbox_rows(["task:other"], NOW, 9) == []
        assert store.inbox_list(rows[0].n, 9) == rows[1:]

    def test_E1_a_unit_consumes_the_row_that_it_is_made_of(self, tmp_path: Path) -> None:
        store, one, other = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-2")
        rows = self.put(store, tmp_path, entry("a"), entry("b"))
        mine = tuple(row.n for row in rows[:1]) or (1,)
        late = one.fork()
        errors = kinds(store.append([one.begin(inbox=mine), other.begin()]))
        assert errors == [None if rows else InboxGone, None]
        assert self.found(store) == rows[1:]
        again = late.begin(inbox=mine)
        assert kinds(store.append([again, other.receive()])) == [InboxGone, None]
        assert store.status([one.stream])[0] == (one.row if rows else None)

    def test_E1_of_two_units_of_one_row_one_is_refused(self, tmp_path: Path) -> None:
        store, one, other = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-2")
        rows = self.put(store, tmp_path, entry("a"))
        mine = tuple(row.n for row in rows) or (1,)
        errors = kinds(store.append([one.begin(inbox=mine), other.begin(inbox=mine)]))
        assert errors == [None if rows else InboxGone, InboxGone]

    def test_E1_a_row_is_not_lost_with_a_unit_that_is_refused(self, tmp_path: Path) -> None:
        store, one = self.open(tmp_path), UnitBuilder()
        late = one.fork()
        store.append([one.begin()])
        rows = self.put(store, tmp_path, entry("a"))
        unit = late.unit(EventReceived(payload="{}"), inbox=tuple(row.n for row in rows))
        assert kinds(store.append([unit])) != [None]
        assert self.found(store) == rows

    def test_E1_a_row_that_is_held_back_holds_those_behind_it(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        entries = entry("a"), entry("b"), entry("c", f"{ORDERS}:o-2")
        rows = self.put(store, tmp_path, *entries)
        if not rows:
            assert not store.inbox_retry(1)
            assert not store.inbox_drop(1)
            return
        store.inbox_hold(InboxHold(rows[0].n, NOW + 5, "full", False))
        assert self.found(store) == rows[2:]
        assert [row.id for row in self.found(store, NOW + 5)] == ["a", "b", "c"]
        assert store.inbox_list(0, 1)[0] == rows[0]._replace(retry_us=NOW + 5, error="full")
        store.inbox_hold(InboxHold(rows[0].n, 0, "wrong", True))
        assert self.found(store) == rows[1:]
        assert store.inbox_retry(rows[0].n)
        assert [row.id for row in self.found(store)] == ["a", "b", "c"]
        assert store.inbox_drop(rows[0].n)
        assert not store.inbox_drop(rows[0].n)
        assert not store.inbox_retry(rows[0].n)
        assert self.found(store) == rows[1:]

    def test_E1_a_number_is_never_given_again(self, tmp_path: Path) -> None:
        """Else a worker that has looked before could delete another row by it."""
        store = self.open(tmp_path)
        before = self.put(store, tmp_path, entry("a"))
        for row in before:
            store.inbox_drop(row.n)
        after = self.put(store, tmp_path, entry("b"))
        assert [row.n for row in after] > [row.n for row in before] or not before

    def test_E1_a_call_of_a_pool_consumes_rows(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        rows = self.put(store, tmp_path, entry("a", POOL, POOL), entry("b", POOL, POOL))
        numbers = [row.n for row in rows] or [1, 2]
        seen: list[int] = []

        def plan(found: Any) -> PoolWrites:
            seen.extend(found.inbox)
            return PoolWrites(inbox=[each for each in numbers[:1] if each in found.inbox])

        look = replace(pool_look(), inbox=[*numbers, 10**6])
        store.pool_call(look, plan)
        assert sorted(seen) == [row.n for row in rows]
        assert self.found(store) == rows[1:]
        assert [*store.pool_look(look).inbox] == [row.n for row in rows[1:]]
