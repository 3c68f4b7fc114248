"""Given the units of one append, these rows are written."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from wakelog.core.events import Cleared, ScheduleCancelled, Scheduled
from wakelog.log.rebuild import kept_head
from wakelog.ports.conflicts import NO_EVENT
from wakelog.ports.records import Newest, StoredSnapshot
from wakelog.ports.units import Lease
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder, kept_reply
from wakelog_projections.inline.alarms import AlarmRow
from wakelog_projections.inline.append_rows import SOON_US, AppendRows, ReplyRow, TakenLease


def lease(token: int, owner: str = "w1") -> Lease:
    return Lease(owner, NOW + 9, token, True)


# -- events and views


def test_events_are_written_in_the_order_of_the_units() -> None:
    one, two = UnitBuilder("o-1"), UnitBuilder("o-2")
    units = [one.begin(), two.begin(), one.receive()]
    rows = AppendRows(units)
    assert rows.events == [event for unit in units for event in unit.events]
    assert rows.bases == {one.stream: NO_EVENT, two.stream: NO_EVENT}


def test_of_the_views_only_the_last_state_of_each_stream_is_written() -> None:
    one, two = UnitBuilder("o-1"), UnitBuilder("o-2")
    before = Newest(2, one.begin().hash)
    rows = AppendRows([one.receive(), two.begin(NOW + 7), one.unit(Scheduled(due_us=NOW + 5))])
    assert rows.status_rows == [one.row, two.row]
    assert rows.bases == {one.stream: before, two.stream: NO_EVENT}
    assert rows.alarm_rows == [
        AlarmRow(one.stream, ORDERS, NOW + 5, "execute"),
        AlarmRow(two.stream, ORDERS, NOW + 7, "execute"),
    ]
    assert (rows.unset_alarms, rows.next_due_us) == ([], NOW + 5)


def test_an_instance_that_waits_for_nothing_has_no_alarm() -> None:
    one, two = UnitBuilder("o-1"), UnitBuilder("o-2")
    rows = AppendRows([one.begin(NOW), one.unit(ScheduleCancelled()), two.begin()])
    assert (rows.alarm_rows, rows.unset_alarms) == ([], [one.stream, two.stream])
    assert rows.next_due_us is None


def test_a_cleared_instance_keeps_its_status_row() -> None:
    builder = UnitBuilder()
    rows = AppendRows([builder.begin(NOW), builder.unit(Cleared())])
    assert [row.status for row in rows.status_rows] == ["not_found"]
    assert (rows.absent, rows.unset_alarms) == ([], [builder.stream])


def test_what_never_was_an_instance_gets_no_status_row() -> None:
    builder = UnitBuilder()
    rows = AppendRows([builder.unit(kept_reply=kept_reply("k"))])
    assert (rows.status_rows, rows.absent) == ([], [builder.stream])
    assert rows.bases == {builder.stream: NO_EVENT}


def test_snapshots_and_replies_are_written_with_their_stream() -> None:
    builder, shot = UnitBuilder(), StoredSnapshot(2, b"s")
    rows = AppendRows([builder.begin(at_us=NOW + 3, snapshot=shot, kept_reply=kept_reply("k"))])
    assert rows.snapshots == [(builder.stream, shot)]
    assert rows.kept_replies == [ReplyRow(builder.stream, kept_reply("k"), NOW + 3)]


def test_nothing_is_written_for_no_units() -> None:
    rows = AppendRows([])
    assert not any(vars(rows).values())


# -- leases


def test_a_lease_that_is_needed_and_not_changed_is_only_required() -> None:
    builder = UnitBuilder()
    builder.begin()
    rows = AppendRows([builder.receive(lease_token=3), builder.receive(lease_token=3)])
    assert rows.required_leases == [(builder.stream, 3)]
    assert (rows.taken_leases, rows.dropped_leases) == ([], [])


def test_a_lease_is_dropped_by_its_holder() -> None:
    builder = UnitBuilder()
    builder.begin()
    rows = AppendRows([builder.receive(lease_token=3, ends_lease=True)])
    assert rows.required_leases == [(builder.stream, 3)]
    assert (rows.taken_leases, rows.dropped_leases) == ([], [builder.stream])


def test_of_several_moves_the_last_is_written() -> None:
    builder = UnitBuilder()
    builder.begin()
    rows = AppendRows(
        [
            builder.receive(lease_token=3, ends_lease=True),
            builder.unit(take=lease(3), at_us=NOW + 1),
            builder.receive(lease_token=3, at_us=NOW + 2),
            builder.unit(take=lease(4, "w2"), at_us=NOW + 3),
        ]
    )
    assert rows.required_leases == [(builder.stream, 3)]
    assert rows.taken_leases == [TakenLease(builder.stream, ORDERS, lease(4, "w2"), NOW + 3)]
    assert rows.dropped_leases == []


def test_a_lease_taken_and_dropped_by_one_group_was_not_required() -> None:
    builder = UnitBuilder()
    builder.begin()
    taken = builder.unit(take=lease(2))
    rows = AppendRows([taken, builder.receive(lease_token=2, ends_lease=True)])
    assert (rows.required_leases, rows.taken_leases) == ([], [])
    assert rows.dropped_leases == [builder.stream]


# -- units that do not fit together


def test_a_unit_with_a_gap_is_an_error() -> None:
    unit = UnitBuilder().begin()
    with pytest.raises(ValueError, match="have a gap"):
        AppendRows([replace(unit, events=unit.events[:1])])


def test_units_of_one_stream_follow_each_other() -> None:
    builder = UnitBuilder()
    first = builder.begin()
    builder.receive()
    with pytest.raises(ValueError, match="do not follow each other"):
        AppendRows([first, builder.receive()])


@pytest.mark.parametrize("token", [2, 4])
def test_two_units_work_under_the_same_lease_or_one_that_the_group_takes(token: int) -> None:
    builder = UnitBuilder()
    builder.begin()
    taking = builder.unit(take=lease(3))
    with pytest.raises(ValueError, match="cannot hold the same lease"):
        AppendRows([taking, builder.receive(lease_token=token)])
    other = builder.fork()
    with pytest.raises(ValueError, match="cannot hold the same lease"):
        AppendRows([other.receive(lease_token=3), other.receive(lease_token=token)])


def test_after_a_drop_no_unit_works_under_a_lease() -> None:
    builder = UnitBuilder()
    builder.begin()
    with pytest.raises(ValueError, match="cannot hold the same lease"):
        AppendRows([builder.receive(ends_lease=True), builder.receive(lease_token=3)])


def test_a_key_is_used_once_in_a_group() -> None:
    builder, other = UnitBuilder(), UnitBuilder("o-2")
    first = builder.begin(kept_reply=kept_reply("k"))
    AppendRows([first, other.begin(kept_reply=kept_reply("k"))])
    with pytest.raises(ValueError, match="have the same key"):
        AppendRows([first, builder.receive(kept_reply=kept_reply("k"))])


# -- runs


def test_the_jobs_are_collected_of_which_runs_start() -> None:
    orders, mail = [UnitBuilder("o-1"), UnitBuilder("o-2")], UnitBuilder(name="mail")
    rows = AppendRows([builder.begin() for builder in (*orders, mail)])
    assert rows.started_jobs == []
    units = [orders[0].run("w1", NOW + 9), mail.receive(), orders[1].run("w1", NOW + 9)]
    assert AppendRows(units).started_jobs == [ORDERS]
    assert AppendRows([*units, mail.run("w1", NOW + 9)]).started_jobs == [ORDERS, "task:mail"]


def test_the_head_of_an_instance_is_kept_if_its_alarm_is_due_soon() -> None:
    soon, later, never = UnitBuilder("soon"), UnitBuilder("later"), UnitBuilder("never")
    rows = AppendRows([soon.begin(NOW + SOON_US), later.begin(NOW + SOON_US + 1), never.begin()])
    assert rows.heads == {soon.stream: kept_head(soon.instance, soon.hash)}
