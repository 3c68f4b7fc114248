"""Sending an event to a Task: T1, T2, T3 and T12."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support import START, Ctx, Order, Paid, Placed, Staging, order_task
from wakelog import ExecutionError, SendResult, ValidationError
from wakelog.core.events import EventReceived, ExecutionFailed


def boom(ctx: Ctx, event: Any) -> None:
    raise ValueError(f"boom {event}")


# -- T1, T2 ----------------------------------------------------------------------------------------


def test_T1_a_send_answers_created_scheduled_at_event_count_duplicate_and_deferred(
    stage: Staging,
) -> None:
    # given
    job = stage(task=order_task())
    # then
    assert job.send(Placed()) == SendResult(
        instance_id="task:job:a",
        version=4,
        created=True,
        scheduled_at=START + timedelta(minutes=5),
        event_count=1,
        deferred=False,
        duplicate=False,
    )
    assert job.send(Paid()) == SendResult(
        instance_id="task:job:a",
        version=7,
        created=False,
        scheduled_at=None,
        event_count=2,
        deferred=False,
        duplicate=False,
    )
    assert job.state() == Order(status="paid")


def test_T1_an_event_may_be_given_as_plain_data_too(stage: Staging) -> None:
    job = stage(task=order_task())
    job.send({"kind": "placed"})
    assert job.state() == Order(status="pending")


@pytest.mark.parametrize("when", [{"delay": "1h"}, {"at": START + timedelta(hours=1)}])
def test_T1_a_delayed_event_is_accepted_and_recorded_now_and_handled_then(
    stage: Staging, when: dict[str, Any]
) -> None:
    # given
    seen: list[Any] = []
    job = stage(lambda ctx, event: seen.append(ctx.now))
    # when
    sent = job.send(1, **when)
    # then
    assert (sent.created, sent.deferred, sent.event_count) == (True, True, 1)
    assert job.names() == ["Started", "EventReceived"]
    [received] = job.found(EventReceived)
    assert (received.deferred, received.payload) == (True, "1")
    job.sim.advance("59m")
    assert seen == []
    job.sim.advance("1m")
    assert seen == [START + timedelta(hours=1)]
    assert job.names()[2:] == ["EventHandled"]


def test_T1_delayed_events_do_not_hold_back_others_and_come_in_order_of_their_time(
    stage: Staging,
) -> None:
    # given
    seen: list[int] = []
    job = stage(lambda ctx, event: seen.append(event))
    # when
    job.send(3, delay="3h")
    job.send(1, delay="1h")
    assert not job.send(0).deferred
    job.send(2, delay="2h")
    job.sim.advance("90m")
    assert not job.send(1.5).deferred
    job.sim.run_until_idle()
    # then
    assert seen == [0, 1, 1.5, 2, 3]


@pytest.mark.parametrize("when", [{"delay": 0}, {"at": START - timedelta(days=1)}])
def test_T1_a_delay_of_nothing_or_a_time_in_the_past_is_handled_at_once(
    stage: Staging, when: dict[str, Any]
) -> None:
    job = stage()
    assert job.send({"set_state": 1}, **when).deferred
    job.sim.advance(0)
    assert job.state() == 1


def test_T1_wait_answers_when_the_delayed_event_has_been_handled(stage: Staging) -> None:
    job = stage()
    sent = job.send({"set_state": 1}, delay="1h", wait=True)
    assert sent.deferred
    assert job.state() == 1
    assert job.sim.now == START + timedelta(hours=1)


def test_T1_wait_is_nothing_where_the_event_was_handled_at_once(stage: Staging) -> None:
    job = stage()
    assert not job.send({"set_state": 1}, wait=True, timeout=0).deferred


def test_T2_created_is_true_for_the_first_event_of_a_life_only(stage: Staging) -> None:
    job = stage()
    created = [job.send().created, job.send().created]
    job.clear()
    created += [job.send().created, job.send().created]
    assert created == [True, False, True, False]


def test_T2_it_is_the_first_event_while_no_state_was_set_when_the_handler_starts(
    stage: Staging,
) -> None:
    # given
    seen: list[bool] = []

    def on_event(ctx: Ctx, event: Any) -> None:
        seen.append(ctx.is_first_event)
        if event == "set":
            ctx.set_state(1)
            seen.append(ctx.is_first_event)
        if event == "unset":
            ctx.clear_state()

    job = stage(on_event)
    # when
    for event in ("nothing", "set", "nothing", "unset", "nothing"):
        job.send(event)
    # then
    assert seen == [True, True, True, False, False, True]


def test_T2_event_count_counts_accepted_events_the_current_one_included(stage: Staging) -> None:
    # given
    seen: list[int] = []

    def on_event(ctx: Ctx, event: str) -> None:
        seen.append(ctx.event_count)
        if event == "bad":
            raise ValueError("boom")

    job = stage(on_event)
    # when
    counts = [job.send("good").event_count]
    with pytest.raises(ExecutionError):
        job.send("bad")
    counts.append(job.send("good").event_count)
    # then
    assert counts == [1, 2]
    assert seen == [1, 2, 2]
    assert (job.status().event_count, job.status().failure_count) == (2, 1)


# -- T3, T12 ---------------------------------------------------------------------------------------


def test_T3_a_first_send_that_raises_leaves_no_trace(stage: Staging) -> None:
    # given
    job = stage(boom)
    # when
    with pytest.raises(ExecutionError):
        job.send(1)
    # then
    assert job.names() == []
    assert job.status().status == "not_found"
    assert job.sim.list() == []


def test_T3_a_later_one_leaves_the_failure_with_its_payload_and_an_unchanged_count(
    stage: Staging,
) -> None:
    # given
    job = stage()
    job.send({"set_state": 1, "schedule": "1h"})
    # when
    with pytest.raises(ExecutionError):
        job.send({"raise": "boom"})
    # then
    assert job.names()[4:] == ["ExecutionFailed"]
    [failure] = job.found(ExecutionFailed)
    assert failure.payload == '{"raise":"boom"}'
    assert (failure.handler, failure.error_type) == ("on_event", "ValueError")
    status = job.status()
    assert (status.event_count, status.failure_count, status.status) == (1, 1, "active")


def test_T3_after_a_clear_a_refused_send_is_a_first_event_again(stage: Staging) -> None:
    job = stage()
    job.send()
    job.clear()
    with pytest.raises(ExecutionError):
        job.send({"raise": "boom"})
    assert job.names() == ["Started", "EventReceived", "Cleared"]


def test_T3_the_key_of_a_refused_send_is_free(stage: Staging) -> None:
    # given a handler that fails once
    fails = [True, False]

    def on_event(ctx: Ctx, event: Any) -> None:
        if fails.pop(0):
            raise ValueError("boom")

    job = stage(on_event)
    with pytest.raises(ExecutionError):
        job.send(1, event_id="k")
    # when
    again = job.send(1, event_id="k")
    # then
    assert not again.duplicate
    assert again.event_count == 1
    assert job.send(1, event_id="k").duplicate


def test_T3_with_an_on_error_that_ends_well_the_send_is_accepted(stage: Staging) -> None:
    # given
    job = stage(boom, on_error=lambda ctx, error: ctx.set_state(str(error)))
    # when
    sent = job.send(1, event_id="k")
    # then
    assert (sent.created, sent.event_count) == (True, 1)
    assert job.state() == "boom 1"
    assert job.names() == ["Started", "EventReceived", "ExecutionFailed", "StateSet"]
    assert job.found(ExecutionFailed)[0].recovered
    assert (job.status().status, job.status().failure_count) == ("idle", 1)
    assert job.send(1, event_id="k").duplicate


def test_T12_a_failing_on_event_raises_execution_error_with_the_original_as_cause(
    stage: Staging,
) -> None:
    # given
    original = LookupError("no such sku")

    def on_event(ctx: Ctx, event: Any) -> None:
        raise original

    job = stage(on_event)
    # when
    with pytest.raises(ExecutionError) as raised:
        job.send(1)
    # then
    assert raised.value.__cause__ is original
    error = raised.value
    assert (error.instance_id, error.handler) == ("task:job:a", "on_event")
    assert (error.error_type, error.message) == ("LookupError", "no such sku")


def test_T12_of_an_on_error_that_fails_both_are_recorded_and_raised_chained(stage: Staging) -> None:
    # given
    def on_error(ctx: Ctx, error: BaseException) -> None:
        raise KeyError("worse")

    job = stage(on_error=on_error)
    job.send()
    # when
    with pytest.raises(ExecutionError) as raised:
        job.send({"raise": "boom"})
    # then
    assert raised.value.handler == "on_error"
    worse = raised.value.__cause__
    assert isinstance(worse, KeyError)
    assert isinstance(worse.__cause__, ValueError)
    assert [(f.handler, f.error_type) for f in job.found(ExecutionFailed)] == [
        ("on_event", "ValueError"),
        ("on_error", "KeyError"),
    ]
    assert (job.status().event_count, job.status().failure_count) == (1, 2)


def test_T12_an_on_error_that_raises_what_it_was_given_makes_no_circle(stage: Staging) -> None:
    # given
    def on_error(ctx: Ctx, error: BaseException) -> None:
        raise error

    job = stage(boom, on_error=on_error)
    # when
    with pytest.raises(ExecutionError) as raised:
        job.send(1)
    # then the chain has an end
    assert isinstance(raised.value.__cause__, ValueError)
    assert raised.value.__cause__.__cause__ is None


def test_T12_the_cause_that_on_error_names_itself_is_kept(stage: Staging) -> None:
    # given
    cause = OSError("disk")

    def on_error(ctx: Ctx, error: BaseException) -> None:
        raise KeyError("worse") from cause

    job = stage(boom, on_error=on_error)
    # when
    with pytest.raises(ExecutionError) as raised:
        job.send(1)
    # then
    assert raised.value.__cause__ is not None
    assert raised.value.__cause__.__cause__ is cause


def test_T12_a_wrong_schedule_or_state_is_a_failure_of_the_handler(stage: Staging) -> None:
    job = stage(state=int)
    for wrong in ({"schedule": "soon"}, {"schedule": -1}, {"set_state": "many"}):
        with pytest.raises(ExecutionError) as raised:
            job.send(wrong)
        assert isinstance(raised.value.__cause__, ValidationError)
    assert job.names() == []
