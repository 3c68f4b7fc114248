"""evolve: how one event changes an instance, on plain values."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from msgspec.structs import fields, replace

from wakelog.core.events import (
    EVENTS,
    Cancelled,
    Cleared,
    DeadLettered,
    Event,
    EventHandled,
    EventReceived,
    Executed,
    ExecutionFailed,
    ExecutionLost,
    Parked,
    Paused,
    Requeued,
    Resumed,
    RetryExhausted,
    RetryScheduled,
    Returned,
    RunStarted,
    ScheduleCancelled,
    Scheduled,
    Started,
    StateSet,
    Stopped,
)
from wakelog.core.evolve import evolve, fold
from wakelog.core.instance import Instance, Wake, next_wake
from wakelog.ids import InstanceId

T0 = 1_767_225_600_000_000
HOUR = 3_600_000_000
BEGUN = (Started(kind="task", name="job", id="a"), EventReceived(payload="{}"))
RUN = RunStarted(run=1, due_us=T0, worker="w")


def given(*events: Event, at_us: int = T0) -> Instance:
    return fold(Instance(InstanceId("task", "job", "a")), events, at_us)


def test_every_event_is_one_version_and_moves_the_clock() -> None:
    # given
    instance = given(*BEGUN)
    # when
    after = evolve(instance, StateSet(state="1"), T0 + HOUR)
    # then
    assert (instance.version, after.version) == (2, 3)
    assert after.recorded_us == T0 + HOUR


def test_an_instance_is_never_changed_only_followed() -> None:
    instance = given(*BEGUN)
    evolve(instance, StateSet(state="1"), T0)
    assert instance == given(*BEGUN)


def test_T2_counters_begin_at_nothing_and_count_accepted_events() -> None:
    assert given(BEGUN[0]).event_count == 0
    assert given(*BEGUN, EventReceived(deferred=True)).event_count == 2


def test_the_state_is_the_last_one_set_and_none_once_unset() -> None:
    instance = given(*BEGUN, StateSet(state="1"), StateSet(state="null"))
    assert instance.state == "null"
    assert evolve(instance, StateSet(), T0).state is None


def test_T5_a_run_started_by_the_alarm_consumes_it() -> None:
    instance = given(*BEGUN, Scheduled(due_us=T0), RUN)
    assert instance.due_us is None
    assert instance.run is not None
    assert instance.run.token == instance.version
    assert instance.run_count == 1


@pytest.mark.parametrize("trigger", ["manual", "retry", "recovery"])
def test_T7_a_run_started_otherwise_leaves_the_schedule(trigger: str) -> None:
    started = replace(RUN, trigger=trigger)
    assert given(*BEGUN, Scheduled(due_us=T0 + HOUR), started).due_us == T0 + HOUR


def test_the_schedule_and_the_retry_are_two() -> None:
    # given a failed run with a retry, and a schedule
    instance = given(
        *BEGUN, Scheduled(due_us=T0), RetryScheduled(run=1, attempt=2, due_us=T0 + HOUR)
    )
    # then the schedule waits for the retry, although it is due before it
    assert next_wake(instance) == Wake(T0 + HOUR, "execute")
    # and to cancel the one leaves the other alone
    assert evolve(instance, ScheduleCancelled(), T0).retry is not None
    assert evolve(instance, RetryExhausted(run=1, attempts=2, reason="max_attempts"), T0).due_us


def test_while_a_run_is_open_nothing_wakes_the_instance_but_its_end() -> None:
    # given
    running = given(*BEGUN, Scheduled(due_us=T0), RUN, EventReceived(deferred=True))
    # then
    assert next_wake(running) is None
    assert next_wake(evolve(running, Scheduled(due_us=T0, action="clear"), T0)) is not None
    assert next_wake(evolve(running, Executed(run=1, started_us=T0, duration_us=1), T0)) == Wake(
        T0, "deferred"
    )


@pytest.mark.parametrize("hold", [Paused(), Stopped(), Parked(reason="unreadable")])
def test_what_holds_an_instance_back_is_left_by_a_resume(hold: Event) -> None:
    held = given(*BEGUN, Scheduled(due_us=T0), hold)
    assert next_wake(held) is None
    assert next_wake(evolve(held, Resumed(), T0)) == Wake(T0, "execute")


@pytest.mark.parametrize(
    "end",
    [
        EventHandled(event_version=3),
        DeadLettered(event_version=3, reason="handler_failed"),
        Cancelled(event_version=3),
    ],
)
def test_T15_a_waiting_event_waits_until_something_became_of_it(end: Event) -> None:
    waiting = given(*BEGUN, EventReceived(deferred=True, payload="2"))
    assert [w.version for w in waiting.deferred] == [3]
    assert not evolve(waiting, end, T0).deferred


def test_a_requeued_event_waits_again_under_its_version() -> None:
    dead = given(*BEGUN, EventReceived(deferred=True), DeadLettered(event_version=3, reason="x"))
    assert [w.version for w in evolve(dead, Requeued(event_version=3, dead=4), T0).deferred] == [3]


def test_T15_waiting_events_are_ready_in_order_of_acceptance_and_of_their_delay() -> None:
    instance = given(
        *BEGUN,
        EventReceived(deferred=True, handle_at_us=T0 + HOUR),
        EventReceived(deferred=True),
        EventReceived(deferred=True),
    )
    first, later = instance.ready_deferred(T0), instance.ready_deferred(T0 + 2 * HOUR)
    assert first is not None
    assert later is not None
    assert (first.version, later.version) == (4, 4)
    rest = fold(instance, [EventHandled(event_version=4), EventHandled(event_version=5)], T0)
    assert rest.ready_deferred(T0) is None
    assert rest.ready_deferred(T0 + HOUR) is not None


AHEAD = T0 + 100 * HOUR
"""What a clock showed that was ahead for a moment."""
TO_NOW = Scheduled(due_us=T0, action="deferred", by="sweep")
READABLE = Scheduled(due_us=T0, action="deferred", by="sweep", reason="readable")


def test_U9_a_sweep_moves_waiting_events_and_leaves_what_waits_for_code() -> None:
    # given two events accepted while the clock was ahead, the first of which could not be read
    waiting = given(*BEGUN, *2 * [EventReceived(deferred=True)], at_us=AHEAD)
    unread = evolve(waiting, Returned(event_version=3, error_type="E", message="m"), AHEAD)
    # when
    moved = evolve(unread, TO_NOW, T0)
    # then
    assert [each.ready_us for each in moved.deferred] == [T0, T0]
    assert moved.unread == unread.unread
    assert next_wake(moved) is None


@pytest.mark.parametrize("by", ["operator", "sweep"])
def test_K4_what_can_be_read_again_is_due_even_if_it_came_while_the_clock_was_ahead(
    by: Literal["operator", "sweep"],
) -> None:
    waiting = given(*BEGUN, EventReceived(deferred=True), at_us=AHEAD)
    unread = evolve(waiting, Returned(event_version=3, error_type="E", message="m"), AHEAD)
    asked = READABLE if by == "sweep" else replace(TO_NOW, by=by)
    after = evolve(unread, asked, T0)
    assert after.unread is None
    assert next_wake(after) == Wake(T0, "deferred")


def test_K4_a_run_given_back_while_the_clock_was_ahead_is_due_when_it_can_be_read() -> None:
    back = Returned(run=1, attempt=1, error_type="E", message="m")
    unread = given(*BEGUN, Scheduled(due_us=T0), RUN, back, at_us=AHEAD)
    assert next_wake(evolve(unread, TO_NOW, T0)) is None
    after = evolve(unread, READABLE, T0)
    assert next_wake(after) == Wake(T0, "execute")
    assert after.retry is not None
    assert (after.retry.run, after.retry.attempt, after.retry.trigger) == (1, 1, "recovery")


def test_A4_a_run_given_back_keeps_its_trigger_when_a_sweep_re_arms_it() -> None:
    back = Returned(run=1, attempt=1, error_type="E", message="m")
    readable = given(*BEGUN, Scheduled(due_us=T0), RUN, back, READABLE)
    again = RetryScheduled(run=1, attempt=1, due_us=T0, by="sweep")
    after = evolve(readable, again, T0)
    assert (after.retry and after.retry.trigger) == "recovery"


def test_A9_a_requeued_event_is_behind_one_that_was_accepted_while_the_clock_was_ahead() -> None:
    dead = given(*BEGUN, EventReceived(deferred=True), DeadLettered(event_version=3, reason="x"))
    waiting = evolve(dead, EventReceived(deferred=True), AHEAD)
    both = evolve(waiting, Requeued(event_version=3, dead=4), T0)
    assert [each.version for each in both.deferred] == [5, 3]
    moved = evolve(both, TO_NOW, T0)
    assert [(each.version, each.ready_us) for each in moved.deferred] == [(5, T0), (3, T0)]


def test_T8_a_clear_forgets_all_but_version_and_lives() -> None:
    lived = given(*BEGUN, StateSet(state="1"), Scheduled(due_us=T0), RUN)
    assert evolve(lived, Cleared(), T0) == Instance(lived.id, lived.version + 1, T0, lives=1)


def test_T9_a_clear_by_the_handler_keeps_what_waits() -> None:
    lived = given(*BEGUN, EventReceived(deferred=True))
    assert not evolve(lived, Cleared(by="operator"), T0).deferred
    kept = evolve(lived, Cleared(by="handler"), T0)
    assert len(kept.deferred) == 1
    assert not kept.exists
    reborn = evolve(kept, BEGUN[0], T0)
    assert (reborn.event_count, reborn.lives) == (1, 2)


def test_T13_failed_is_left_by_the_next_thing_that_ends_well() -> None:
    # given
    failure = ExecutionFailed(handler="execute", error_type="E", message="m", run=1)
    failed = given(*BEGUN, RUN, failure)
    assert failed.failed
    assert (failed.failure_count, failed.run) == (1, None)
    # then
    well = (
        EventReceived(),
        EventHandled(event_version=9),
        Executed(run=1, started_us=T0, duration_us=1),
    )
    assert [evolve(failed, event, T0).failed for event in well] == [False, False, False]
    # and the last error stays to be seen
    assert evolve(failed, EventReceived(), T0).last_error is not None


@pytest.mark.parametrize("mark", ["recovered", "will_retry"])
def test_T13_a_run_that_was_recovered_or_will_be_retried_has_not_failed(mark: str) -> None:
    failure = ExecutionFailed(handler="execute", error_type="E", message="m", run=1)
    assert not given(*BEGUN, RUN, replace(failure, **{mark: True})).failed


def test_R6_a_loss_counts_and_is_owed_again_at_once() -> None:
    lost = given(*BEGUN, RUN, ExecutionLost(run=1, worker="w"))
    assert lost.losses == 1
    assert lost.retry is not None
    assert (lost.retry.run, lost.retry.attempt, lost.retry.due_us) == (1, 2, T0)
    assert next_wake(lost) == Wake(T0, "execute")


def test_every_event_type_can_be_folded() -> None:
    for cls in EVENTS.values():
        required: dict[str, Any] = {
            field.name: 1 if field.type is int else "x" for field in fields(cls) if field.required
        }
        event = cls(**required)
        assert evolve(given(*BEGUN), event, T0).version == 3
