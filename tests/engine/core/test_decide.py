"""decide: given an instance, when something is asked, then these events and this call. No I/O."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.support import moment_at
from wakelog.core.calls import HandlerEnded, HandlerFailed, Outcome, RunGivenBack, Settle
from wakelog.core.commands import CancelSchedule, Command, Emit, ScheduleAt, SetState
from wakelog.core.decide import Decision, decide
from wakelog.core.events import (
    Cleared,
    DeadLettered,
    Event,
    EventHandled,
    EventReceived,
    Executed,
    ExecutionFailed,
    ExecutionLost,
    MessageSent,
    RetryExhausted,
    RunStarted,
    ScheduleCancelled,
    Scheduled,
    Started,
    StateSet,
)
from wakelog.core.evolve import fold
from wakelog.core.instance import Instance, next_wake
from wakelog.core.requests import (
    CancelClear,
    Claim,
    Clear,
    HandleDeferred,
    Rearm,
    Receive,
    Request,
    TriggerRun,
)
from wakelog.errors import QueueFullError
from wakelog.ids import InstanceId
from wakelog.kinds.behaviour import BoundPolicy
from wakelog.kinds.task import TaskBehaviour

T0 = 1_767_225_600_000_000
HOUR = 3_600_000_000
ID = InstanceId("task", "job", "a")
BEGUN = (Started(kind="task", name="job", id="a"), EventReceived(payload="{}"))
RUN = RunStarted(run=1, due_us=T0, worker="w")
BOOM = HandlerFailed(ValueError("boom"), "ValueError", "boom", "…", T0)


def given(*events: Event) -> Instance:
    """The instance after these events, recorded at T0."""
    return fold(Instance(ID), events, T0)


def asked(
    instance: Instance, request: Request, *handlers: str, now_us: int = T0, limit: int = 10_000
) -> Decision:
    """What is decided for a Task with `on_event`, `execute` and the `handlers` named."""
    names = frozenset({"on_event", "execute", *handlers})
    return decide(instance, request, BoundPolicy(TaskBehaviour(), names, limit), now_us)


def settled(
    instance: Instance, request: Request, *outcomes: Outcome, handlers: tuple[str, ...] = ()
) -> list[Event]:
    """All events of a unit whose handlers end with `outcomes`, one after the other."""
    decision = asked(instance, request, *handlers)
    events = list(decision.events)
    for outcome in outcomes:
        assert decision.call is not None
        decision = asked(decision.after, Settle(decision.call, outcome), *handlers)
        events = list(decision.events) if decision.starts_over else events + list(decision.events)
    assert decision.call is None
    assert decision.after == fold(instance, events, T0), "the answer is the fold of its events"
    return events


# -- receiving -------------------------------------------------------------------------------------


def test_U1_an_event_leads_to_one_call_of_on_event_with_what_was_sent() -> None:
    # when
    decision = asked(Instance(ID), Receive("1", "k"))
    # then
    assert decision.events == (BEGUN[0], EventReceived(event_id="k", payload="1"))
    assert decision.call is not None
    assert (decision.call.handler, decision.call.payload) == ("on_event", "1")


def test_T2_the_second_event_begins_no_life() -> None:
    assert asked(given(*BEGUN), Receive("2")).events == (EventReceived(payload="2"),)


@pytest.mark.parametrize(
    ("commands", "events"),
    [
        ([ScheduleAt(1, None), ScheduleAt(2, None)], [Scheduled(due_us=2)]),
        ([CancelSchedule(), ScheduleAt(2, 1)], [Scheduled(due_us=2, asked_us=1)]),
        ([ScheduleAt(2, None), CancelSchedule()], [ScheduleCancelled()]),
        ([SetState("1", 1), SetState("2", 1)], [StateSet(state="2")]),
        ([SetState("1", 1), SetState(None, 1)], [StateSet()]),
        ([], []),
        (
            [Emit("t", "1"), SetState("1", 1), Emit("t", "2")],
            [
                MessageSent(topic="t", payload="1"),
                MessageSent(topic="t", payload="2"),
                StateSet(state="1"),
            ],
        ),
    ],
)
def test_T4_the_last_word_on_state_and_schedule_counts_and_every_message(
    commands: list[Command], events: list[Event]
) -> None:
    # given
    instance = given(*BEGUN, Scheduled(due_us=T0 + HOUR))
    # when
    recorded = settled(instance, Receive("2"), HandlerEnded(tuple(commands)))
    # then
    assert recorded == [EventReceived(payload="2"), *events]


def test_T4_cancelling_what_is_not_there_records_nothing() -> None:
    recorded = settled(given(*BEGUN), Receive("2"), HandlerEnded((CancelSchedule(),)))
    assert recorded == [EventReceived(payload="2")]


def test_T8_a_clear_drops_state_and_schedule_and_keeps_the_messages() -> None:
    commands = (SetState("1", 1), Emit("t", "1"), ScheduleAt(T0, None))
    recorded = settled(
        given(*BEGUN), Receive("2"), HandlerEnded(commands, True, "done"), handlers=("on_idle",)
    )
    assert recorded == [
        EventReceived(payload="2"),
        MessageSent(topic="t", payload="1"),
        Cleared(reason="done", by="handler"),
    ]


def test_T3_a_failing_first_event_leaves_nothing() -> None:
    assert settled(Instance(ID), Receive("1"), BOOM) == []


def test_T3_a_later_one_leaves_only_the_failure_with_its_payload() -> None:
    # given
    before = given(*BEGUN)
    # when
    decision = asked(before, Receive("2"))
    assert decision.call is not None
    decision = asked(decision.after, Settle(decision.call, BOOM))
    # then
    failed = ExecutionFailed(
        handler="on_event", error_type="ValueError", message="boom", traceback="…", payload="2"
    )
    assert decision.events == (failed,)
    assert decision.starts_over
    assert decision.raises == (BOOM,)
    assert decision.after.event_count == before.event_count


def test_U5_on_error_is_given_the_instance_as_before_the_failing_handler() -> None:
    # given a handler that set a state and then failed
    before = given(*BEGUN, StateSet(state="1"))
    decision = asked(before, Receive("2"), "on_error")
    assert decision.call is not None
    # when
    recovering = asked(decision.after, Settle(decision.call, BOOM), "on_error")
    # then
    assert recovering.call is not None
    assert recovering.call.handler == "on_error"
    assert recovering.after.state == "1"
    assert (recovering.call.error, recovering.call.source) == (BOOM.error, "on_event")


def test_T3_with_an_on_error_that_ends_well_the_event_is_accepted() -> None:
    recorded = settled(
        Instance(ID), Receive("{}"), BOOM, HandlerEnded((SetState("9", 1),)), handlers=("on_error",)
    )
    assert [type(event) for event in recorded] == [
        Started,
        EventReceived,
        ExecutionFailed,
        StateSet,
    ]
    assert isinstance(recorded[2], ExecutionFailed)
    assert recorded[2].recovered


def test_T12_of_an_on_error_that_fails_too_both_are_recorded_and_told() -> None:
    # given
    worse = replace(BOOM, error=KeyError("worse"), error_type="KeyError", message="worse")
    decision = asked(given(*BEGUN), Receive("2"), "on_error")
    for outcome in (BOOM, worse):
        assert decision.call is not None
        decision = asked(decision.after, Settle(decision.call, outcome), "on_error")
    # then
    failures = [e for e in decision.events if isinstance(e, ExecutionFailed)]
    assert [(f.handler, f.error_type) for f in failures] == [
        ("on_event", "ValueError"),
        ("on_error", "KeyError"),
    ]
    assert decision.raises == (BOOM, worse)


# -- idle ------------------------------------------------------------------------------------------


def test_T6_on_idle_comes_after_a_handler_that_left_nothing_to_wait_for() -> None:
    # when
    decision = asked(given(*BEGUN), Receive("2"), "on_idle")
    assert decision.call is not None
    decision = asked(decision.after, Settle(decision.call, HandlerEnded()), "on_idle")
    # then
    assert decision.call is not None
    assert (decision.call.handler, decision.call.source) == ("on_idle", "on_event")


@pytest.mark.parametrize(
    "pending",
    [
        Scheduled(due_us=T0 + HOUR),
        Scheduled(due_us=T0, action="trigger"),
        EventReceived(deferred=True, handle_at_us=T0 + HOUR),
    ],
)
def test_T6_not_while_an_alarm_or_an_event_waits(pending: Event) -> None:
    recorded = settled(given(*BEGUN, pending), Receive("2"), HandlerEnded(), handlers=("on_idle",))
    assert recorded == [EventReceived(payload="2")]


def test_T6_once_per_unit_whatever_it_asks_for() -> None:
    recorded = settled(
        given(*BEGUN),
        Receive("2"),
        HandlerEnded(),
        HandlerEnded((SetState("1", 1),)),
        handlers=("on_idle",),
    )
    assert recorded == [EventReceived(payload="2"), StateSet(state="1")]


def test_T6_a_failing_on_idle_keeps_the_rest_and_calls_no_on_error() -> None:
    recorded = settled(
        given(*BEGUN),
        Receive("2"),
        HandlerEnded((SetState("1", 1),)),
        BOOM,
        handlers=("on_idle", "on_error"),
    )
    assert [type(event) for event in recorded] == [EventReceived, StateSet, ExecutionFailed]


# -- deferral --------------------------------------------------------------------------------------


def test_T15_an_event_that_meets_an_open_run_is_deferred_and_calls_nothing() -> None:
    decision = asked(given(*BEGUN, RUN), Receive("2"))
    assert decision.events == (EventReceived(deferred=True, payload="2"),)
    assert decision.call is None


def test_T15_so_is_one_that_meets_a_waiting_event() -> None:
    instance = given(*BEGUN, EventReceived(deferred=True, payload="2"))
    assert asked(instance, Receive("3")).call is None


def test_T15_a_delayed_event_holds_nobody_back_until_its_time() -> None:
    instance = given(*BEGUN, EventReceived(deferred=True, handle_at_us=T0 + HOUR))
    assert asked(instance, Receive("3")).call is not None
    assert asked(instance, Receive("3"), now_us=T0 + HOUR).call is None


def test_T15_a_time_in_the_past_does_not_overtake_those_who_wait() -> None:
    # given one that waits
    instance = given(*BEGUN, EventReceived(deferred=True, payload="2"))
    # when another is to be handled an hour ago
    after = asked(instance, Receive("3", handle_at_us=T0 - HOUR)).after
    # then
    first = after.ready_deferred(T0)
    assert first is not None
    assert first.version == 3


def test_T15_the_queue_is_bounded() -> None:
    instance = given(*BEGUN, EventReceived(deferred=True, payload="2"))
    with pytest.raises(QueueFullError) as raised:
        asked(instance, Receive("3"), limit=1)
    assert raised.value.limit == 1


def test_T15_handling_it_says_so_in_the_same_unit() -> None:
    instance = given(*BEGUN, EventReceived(deferred=True, payload="2"))
    recorded = settled(instance, HandleDeferred(3, "2"), HandlerEnded((SetState("1", 1),)))
    assert recorded == [EventHandled(event_version=3), StateSet(state="1")]


def test_T15_one_that_fails_is_dead_lettered() -> None:
    instance = given(*BEGUN, EventReceived(deferred=True, payload="2"))
    recorded = settled(instance, HandleDeferred(3, "2"), BOOM)
    assert [type(event) for event in recorded] == [ExecutionFailed, DeadLettered]
    assert recorded[1] == DeadLettered(
        event_version=3, reason="handler_failed", error_type="ValueError", message="boom"
    )


def test_T15_what_is_not_waiting_is_not_handled() -> None:
    assert asked(given(*BEGUN), HandleDeferred(2, "{}")) == Decision((), given(*BEGUN))


def test_T9_an_event_that_waited_at_a_clear_opens_the_next_life() -> None:
    # given
    waited = EventReceived(deferred=True, payload="2")
    instance = given(*BEGUN, waited, Cleared(by="handler"))
    assert not instance.exists
    # when
    recorded = settled(instance, HandleDeferred(3, "2"), HandlerEnded())
    # then
    assert recorded == [BEGUN[0], EventHandled(event_version=3)]


# -- runs ------------------------------------------------------------------------------------------


def test_T5_a_claim_consumes_the_alarm_and_calls_execute() -> None:
    # given
    instance = given(*BEGUN, Scheduled(due_us=T0))
    # when
    decision = asked(instance, Claim("w"), now_us=T0 + HOUR)
    # then
    assert decision.events == (
        RunStarted(run=1, attempt=1, trigger="alarm", due_us=T0, late_us=HOUR, worker="w"),
    )
    assert decision.after.due_us is None
    assert decision.call is not None
    assert decision.call.handler == "execute"


def test_A1_a_claim_that_comes_too_early_takes_nothing() -> None:
    instance = given(*BEGUN, Scheduled(due_us=T0 + 1))
    assert asked(instance, Claim("w")) == Decision((), instance)


def test_T5_a_run_that_ends_well_without_scheduling_leaves_nothing_scheduled() -> None:
    recorded = settled(given(*BEGUN, Scheduled(due_us=T0)), Claim("w"), HandlerEnded(now_us=T0 + 5))
    assert recorded == [
        RunStarted(run=1, due_us=T0, worker="w"),
        Executed(run=1, started_us=T0, duration_us=5),
    ]


def test_T13_a_failing_run_is_recorded_and_the_instance_failed() -> None:
    events = settled(given(*BEGUN, Scheduled(due_us=T0)), Claim("w"), BOOM)
    after = given(*BEGUN, Scheduled(due_us=T0), *events)
    assert [type(event) for event in events] == [RunStarted, ExecutionFailed]
    assert after.failed
    assert after.last_error is not None
    assert TaskBehaviour().status(after) == "failed"


def test_T9_the_outcome_of_a_run_that_was_cleared_or_lost_is_stale() -> None:
    # given a run
    started = asked(given(*BEGUN, Scheduled(due_us=T0)), Claim("w"))
    assert started.call is not None
    settle = Settle(started.call, HandlerEnded())
    for end in (Cleared(), ExecutionLost(run=1, worker="w")):
        # when it ends after its life did, or after it was given up
        decision = asked(fold(started.after, [end], T0), settle)
        # then
        assert decision.stale
        assert decision.events == ()


def test_U3_an_outcome_goes_on_top_of_what_was_deferred_meanwhile() -> None:
    # given
    started = asked(given(*BEGUN, Scheduled(due_us=T0)), Claim("w"))
    assert started.call is not None
    meanwhile = fold(started.after, [EventReceived(deferred=True, payload="2")], T0)
    # when
    decision = asked(meanwhile, Settle(started.call, HandlerEnded((SetState("1", 1),))))
    # then
    assert [type(event) for event in decision.events] == [Executed, StateSet]
    assert decision.after.version == meanwhile.version + 2


def test_K2_a_run_that_is_given_back_is_due_again_at_once_and_costs_no_loss() -> None:
    # when
    recorded = settled(given(*BEGUN, Scheduled(due_us=T0)), Claim("w"), RunGivenBack())
    after = given(*BEGUN, Scheduled(due_us=T0), *recorded)
    # then
    assert recorded[-1] == ExecutionLost(run=1, worker="w", reason="shutdown")
    wake = next_wake(after)
    assert wake is not None
    assert moment_at(wake.due_us) == moment_at(T0)
    assert after.losses == 0
    assert after.last_error is None


def test_R6_a_lost_run_runs_again_under_its_number_until_it_has_cost_too_many() -> None:
    # given an open run whose lease has ended
    instance = given(*BEGUN, Scheduled(due_us=T0), RUN)
    # when
    again = asked(instance, Claim("v", takes_over=True, max_lost=2))
    # then
    assert again.events == (
        ExecutionLost(run=1, worker="w"),
        RunStarted(run=1, attempt=2, trigger="recovery", due_us=T0, worker="v"),
    )
    # when it happens again
    given_up = asked(again.after, Claim("u", takes_over=True, max_lost=2))
    # then
    assert given_up.events[-1] == RetryExhausted(run=1, attempts=2, reason="lost")
    assert given_up.call is None
    assert given_up.after.failed


# -- operators -------------------------------------------------------------------------------------


def test_T7_a_trigger_stands_beside_the_schedule_unless_it_consumes_it() -> None:
    instance = given(*BEGUN, Scheduled(due_us=T0 + HOUR))
    asked_for = Scheduled(due_us=T0, action="trigger", by="operator")
    assert asked(instance, TriggerRun()).events == (asked_for,)
    assert asked(instance, TriggerRun(consume_alarm=True)).events == (
        ScheduleCancelled(by="operator"),
        asked_for,
    )


@pytest.mark.parametrize(
    "events", [(), (*BEGUN, RUN), (*BEGUN, Scheduled(due_us=T0, action="trigger"))]
)
def test_T7_a_trigger_of_nothing_or_of_what_runs_records_nothing(events: tuple[Event, ...]) -> None:
    assert asked(given(*events), TriggerRun()).events == ()


def test_T8_a_clear_says_how_many_waiting_events_went_with_it() -> None:
    waiting = EventReceived(deferred=True, payload="2")
    decision = asked(given(*BEGUN, waiting, waiting), Clear("done"))
    assert decision.events == (Cleared(reason="done", discarded=2),)
    assert not decision.after.deferred


def test_T8_a_clear_of_nothing_records_nothing() -> None:
    assert asked(Instance(ID), Clear()).events == ()
    assert asked(given(*BEGUN, Cleared()), Clear()).events == ()
    assert asked(given(*BEGUN), CancelClear()).events == ()


def test_T8_a_delayed_clear_is_an_alarm_that_can_be_taken_back() -> None:
    # given
    later = asked(given(*BEGUN), Clear("done", T0 + HOUR))
    assert later.events == (
        Scheduled(due_us=T0 + HOUR, action="clear", by="operator", reason="done"),
    )
    # when it is due
    due = asked(later.after, Claim("w"), now_us=T0 + HOUR)
    # then
    assert due.events == (Cleared(reason="done"),)
    assert due.call is None
    # when it is taken back
    assert asked(later.after, CancelClear()).after.clear_at_us is None


def test_A4_a_sweep_ends_a_run_without_a_lease_and_re_arms_work_without_an_alarm() -> None:
    running, waiting = given(*BEGUN, RUN), given(*BEGUN, Scheduled(due_us=T0 + HOUR))
    assert asked(running, Rearm(running.version)).events == (
        ExecutionLost(run=1, worker="w", reason="no_lease"),
    )
    assert asked(waiting, Rearm(waiting.version)).events == (
        Scheduled(due_us=T0 + HOUR, by="sweep"),
    )
    begun = given(*BEGUN)
    assert asked(begun, Rearm(begun.version)).events == ()
    # nor for one that has moved on since the sweep looked at it
    assert asked(running, Rearm(running.version - 1)).events == ()


def test_the_same_question_has_always_the_same_answer() -> None:
    instance = given(*BEGUN, Scheduled(due_us=T0))
    for request in (Receive("2"), Claim("w"), TriggerRun(), Clear(), Rearm(1)):
        assert asked(instance, request) == asked(instance, request)
