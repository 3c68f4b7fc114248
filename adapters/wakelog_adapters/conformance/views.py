"""The exam of a store's status view."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import asdict

from wakelog.core.events import (
    Cleared,
    DeadLettered,
    EventReceived,
    ExecutionFailed,
    Returned,
    RunStarted,
    Scheduled,
)
from wakelog.ports.rows import Listing, StatusCount
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder

__all__ = ["ViewsExam"]


class ViewsExam(ExamBase):
    """The status row of an instance is that of its newest event."""

    def test_status_rows_come_in_the_order_of_the_streams(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder("o-1"), UnitBuilder("o-2")]
        store.append([builder.begin() for builder in builders])
        streams = [builders[1].stream, "task:order:none", builders[0].stream, builders[1].stream]
        rows = store.status(streams)
        assert [row and row.id for row in rows] == ["o-2", None, "o-1", "o-2"]
        assert store.status([]) == []

    def test_a_status_row_has_all_that_a_status_shows(self, tmp_path: Path) -> None:
        store, digest = self.open(tmp_path), UnitBuilder("d-1", "digest", kind="debounce")
        units = [digest.begin()]
        for window, due_us in ((1, NOW + 5), (1, NOW + 6), (2, NOW + 9)):
            flush = Scheduled(due_us=due_us, action="flush", window=window)
            units.append(digest.unit(EventReceived(payload="1", window=window), flush))
        store.append(units)
        assert store.status([digest.stream]) == [digest.row]
        flush_run = RunStarted(run=1, due_us=NOW + 6, worker="w1", events=(3, 5))
        failed = ExecutionFailed(handler="execute", error_type="Oops", message="", run=1)
        store.append([digest.unit(flush_run, at_us=NOW + 7), digest.unit(failed, at_us=NOW + 8)])
        assert store.status([digest.stream]) == [digest.row]
        row = asdict(digest.row)
        rare = ("last_run_us", "window_opened_us", "flush_due_us", "error_type", "last_error")
        assert all(row[column] for column in (*rare, "unfinished_count", "window_count"))
        store.append([digest.unit(Cleared(), at_us=NOW + 9)])
        assert store.status([digest.stream]) == [digest.row]
        assert (digest.row.unfinished_count, digest.row.error_type) == (0, None)

    def test_a_cleared_instance_keeps_its_row_but_is_not_listed(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(NOW), builder.unit(Cleared())])
        assert store.status([builder.stream]) == [builder.row]
        assert store.list(Listing()) == []
        assert store.next_due_us([ORDERS], NOW) is None
        store.append([builder.begin(NOW)])
        assert [row.version for row in store.list(Listing())] == [7]

    def test_what_must_be_woken_can_be_listed_living_or_not(self, tmp_path: Path) -> None:
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

    def test_A9_dead_letters_are_listed_and_counted_living_or_not(self, tmp_path: Path) -> None:
        store, builders = self.open(tmp_path), [UnitBuilder(f"o-{i}") for i in range(3)]
        waits, dead = EventReceived(deferred=True), DeadLettered(event_version=2, reason="x")
        units = [each.begin() for each in builders]
        units += [each.unit(waits, dead, dead) for each in builders[:2]]
        store.append([*units, builders[0].unit(Cleared(by="handler"))])
        rows = store.list(Listing(dead=True))
        assert rows == [builders[0].row, builders[1].row]
        assert [(row.id, row.dead_count) for row in rows] == [("o-0", 2), ("o-1", 2)]
        counted = store.count(Listing(dead=True), NOW)
        assert sum(group.dead_letters for group in counted) == 4
        store.append([builders[1].unit(Cleared())])
        assert store.list(Listing(dead=True)) == [builders[0].row]

    def test_K4_what_waits_for_code_is_listed_with_the_reason(self, tmp_path: Path) -> None:
        store, waits, other = self.open(tmp_path), UnitBuilder("o-1"), UnitBuilder("o-2")
        back = Returned(event_version=2, error_type="E", message='a "quoted" \\u0000 ☃')
        store.append([waits.begin(), other.begin(), waits.unit(back)])
        [row] = store.list(Listing(unread=True))
        assert (row, row.status) == (waits.row, "waiting_for_code")
        ahead = Scheduled(due_us=NOW, action="deferred", by="sweep")  # the clock was ahead
        store.append([waits.unit(ahead)])
        assert store.list(Listing(unread=True)) == [waits.row]
        readable = Scheduled(due_us=NOW, action="deferred", by="sweep", reason="readable")
        store.append([waits.unit(readable)])
        assert store.list(Listing(unread=True)) == []

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

    def test_instances_are_counted_by_job_and_status(self, tmp_path: Path) -> None:
        store, now_us = self.open(tmp_path), NOW + 5
        builders = [UnitBuilder(f"o-{i}") for i in range(6)]
        mail = UnitBuilder("m-1", name="mail")
        store.append([builder.begin(NOW + 9 * (i % 2)) for i, builder in enumerate(builders[:4])])
        store.append([builders[4].begin(), builders[5].begin(), mail.begin(at_us=NOW + 3)])
        store.append([builders[5].unit(Cleared()), builders[4].run("w1", NOW + 9)])
        order = "task", "order"
        assert sorted(store.count(Listing(), now_us)) == [
            StatusCount("task", "mail", "idle", False, False, 1, 0),
            StatusCount(*order, "active", False, False, 2, 0),
            StatusCount(*order, "active", False, True, 2, 0),
            StatusCount(*order, "idle", True, False, 1, 0),
        ]
        some = Listing(name="order", status="active", limit=1, after=builders[2].stream)
        assert sum(group.number for group in store.count(some, now_us)) == 4
        late = Listing(updated_after_us=NOW)
        assert store.count(late, now_us) == [
            StatusCount("task", "mail", "idle", False, False, 1, 0)
        ]
        for none in (Listing(id_prefix="x"), Listing(id_prefix="\0"), Listing(error_type="\0")):
            assert store.count(none, now_us) == []
            assert store.list(none) == []
