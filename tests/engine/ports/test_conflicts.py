"""Given what is recorded, which units of a group are refused, and why."""

from __future__ import annotations

import copy

import pytest
from msgspec.structs import replace

from wakelog.errors import StoreUnavailableError
from wakelog.ports.conflicts import (
    RecordedFacts,
    conflict_of,
    find_conflicts,
    has_expired,
    has_gap,
    unseen_events,
)
from wakelog.ports.records import Newest
from wakelog.ports.units import (
    Appended,
    JobPaused,
    KeptReply,
    KeyTaken,
    Lease,
    LeaseGone,
    Unit,
    VersionConflict,
)
from wakelog_adapters.conformance.units import NOW, UnitBuilder, kept_reply, kinds

NOTHING = RecordedFacts({}, {}, {})
LEASE = Lease("w1", NOW + 9, 3, True)


def found(facts: RecordedFacts, *units: Unit) -> list[type[Exception] | None]:
    """The kind of each unit's error."""
    return kinds(Appended(find_conflicts(units, facts), None))


def begun(id: str = "o-1") -> tuple[UnitBuilder, RecordedFacts]:
    """An instance at version 2 under a lease, and what is recorded of it."""
    builder = UnitBuilder(id)
    builder.begin()
    return builder, RecordedFacts(
        {builder.stream: Newest(2, builder.hash)}, {builder.stream: LEASE.token}, {}
    )


# -- one unit


def test_a_new_stream_is_at_version_0() -> None:
    builder = UnitBuilder()
    assert found(NOTHING, builder.begin()) == [None]
    assert found(NOTHING, builder.receive()) == [VersionConflict]


def test_a_unit_is_refused_if_its_stream_is_at_another_version() -> None:
    builder, facts = begun()
    unit = builder.receive()
    assert found(facts, unit) == [None]
    [error] = find_conflicts(
        [unit], replace(facts, newest={unit.stream: Newest(5, unit.base_hash)})
    )
    assert isinstance(error, VersionConflict)
    assert str(error) == "task:order:o-1 is at version 5, not at 2"


def test_a_unit_is_refused_if_its_stream_has_another_event_at_its_base() -> None:
    builder, facts = begun()
    unit = builder.receive()
    [error] = find_conflicts([unit], replace(facts, newest={unit.stream: Newest(2, "other")}))
    assert isinstance(error, VersionConflict)
    assert str(error) == "version 2 of task:order:o-1 has another hash"


def test_events_that_the_status_row_does_not_show_are_damage() -> None:
    builder, _ = begun()
    error = unseen_events(builder.receive())
    assert (error.stream, error.version) == ("task:order:o-1", 3)


@pytest.mark.parametrize(("token", "expected"), [(3, None), (2, LeaseGone), (4, LeaseGone)])
def test_a_unit_under_a_lease_needs_the_lease_with_that_token(
    token: int, expected: type[Exception] | None
) -> None:
    builder, facts = begun()
    assert found(facts, builder.receive(lease_token=token)) == [expected]


def test_a_unit_under_a_lease_is_refused_if_there_is_none() -> None:
    builder, facts = begun()
    assert found(replace(facts, lease_tokens={}), builder.receive(lease_token=3)) == [LeaseGone]


@pytest.mark.parametrize(
    ("expires_us", "expected"),
    [(None, KeyTaken), (NOW + 1, KeyTaken), (NOW, None), (NOW - 1, None)],
)
def test_a_key_is_used_until_its_reply_expires(
    expires_us: int | None, expected: type[Exception] | None
) -> None:
    builder, facts = begun()
    facts = replace(facts, reply_expiries={(builder.stream, "k"): expires_us})
    assert found(facts, builder.fork().receive(kept_reply=kept_reply("k"))) == [expected]
    assert found(facts, builder.fork().receive(kept_reply=kept_reply("l"))) == [None]


def test_a_key_of_another_stream_is_another_key() -> None:
    builder, facts = begun()
    facts = replace(facts, reply_expiries={("task:order:o-2", "k"): None})
    assert found(facts, builder.receive(kept_reply=kept_reply("k"))) == [None]


def test_the_most_final_conflict_is_named() -> None:
    builder, _ = begun()
    builder.receive()
    two, three = Newest(2, "another"), Newest(3, builder.hash)
    unit = builder.receive(lease_token=9, kept_reply=kept_reply("k"))
    for newest, token, is_key_used, is_paused, expected in (
        (two, 3, True, True, LeaseGone),
        (two, 9, True, True, JobPaused),
        (two, 9, True, False, KeyTaken),
        (two, 9, False, False, VersionConflict),
        (three, 9, False, False, type(None)),
    ):
        conflict = conflict_of(unit, newest, token, is_key_used, is_paused)
        assert isinstance(conflict, expected)


def test_a_unit_that_starts_a_run_of_a_paused_job_is_refused_with_those_after_it() -> None:
    builder, facts = begun()
    facts = replace(facts, paused_jobs=frozenset(["task:order"]))
    other, after = UnitBuilder("o-2"), builder.fork()
    units = [builder.run("w1", NOW + 9), other.begin(), builder.receive()]
    assert found(facts, *units) == [JobPaused, None, VersionConflict]
    assert found(facts, after.receive()) == [None]


# -- a group


def test_a_unit_that_passes_counts_for_those_after_it() -> None:
    builder, facts = begun()
    group = [
        builder.receive(),
        builder.run("w2", NOW + 9),
        builder.receive(lease_token=4, kept_reply=kept_reply("k")),
        builder.receive(ends_lease=True),
    ]
    assert found(facts, *group) == [None] * 4
    assert found(facts, *group, builder.receive(lease_token=4)) == [*[None] * 4, LeaseGone]
    used = builder.fork().receive(kept_reply=kept_reply("k"))
    assert found(facts, *group, replace(used, base_version=6)) == [*[None] * 4, KeyTaken]


def test_after_a_refused_unit_its_stream_is_refused_and_no_other() -> None:
    (one, facts), other = begun(), UnitBuilder("o-2")
    late = one.fork()
    group = [one.receive(), late.receive(), other.begin(), one.receive(), other.receive()]
    conflict = VersionConflict
    assert found(facts, *group) == [None, conflict, None, conflict, None]


def test_a_refused_unit_changes_nothing_for_others() -> None:
    builder, facts = begun()
    stale = UnitBuilder().begin(kept_reply=kept_reply("k"), take=Lease("w2", NOW, 1, True))
    errors = find_conflicts([stale], facts)
    assert [type(error) for error in errors] == [VersionConflict]
    assert found(facts, builder.receive(lease_token=3, kept_reply=kept_reply("k"))) == [None]


def test_the_facts_stay_as_they_are() -> None:
    builder, facts = begun()
    before = copy.deepcopy(facts)
    find_conflicts([builder.run("w2", NOW), builder.receive(kept_reply=kept_reply("k"))], facts)
    assert facts == before


def test_a_known_fault_refuses_its_unit_unless_that_is_in_conflict() -> None:
    builder, facts = begun()
    fault = StoreUnavailableError("refused", "too large")
    units = [builder.receive(), builder.receive()]
    first, second = find_conflicts(units, facts, {0: fault})
    assert first is fault
    assert isinstance(second, VersionConflict)
    first, second = find_conflicts(units, facts, {1: fault})
    assert (first, second) == (None, fault)
    [error] = find_conflicts(units[:1], NOTHING, {0: fault})
    assert isinstance(error, VersionConflict)


# -- parts of the rule


def test_a_reply_without_an_end_never_expires() -> None:
    assert not has_expired(None, 1 << 62)
    assert not has_expired(NOW + 1, NOW)
    assert has_expired(NOW, NOW)


def test_a_gap_is_found_in_events_and_instance() -> None:
    builder = UnitBuilder()
    unit = builder.begin()
    assert not has_gap(unit)
    assert not has_gap(builder.unit())
    assert has_gap(replace(unit, events=unit.events[:1]))
    assert has_gap(replace(unit, base_version=1))
    assert has_gap(replace(unit, events=[*unit.events[:1], *unit.events[:1]]))


def test_replies_of_any_action_share_the_key() -> None:
    builder, facts = begun()
    facts = replace(facts, reply_expiries={(builder.stream, "k"): None})
    other = KeptReply("k", "clear", "f2", "{}", None)
    assert found(facts, builder.receive(kept_reply=other)) == [KeyTaken]
