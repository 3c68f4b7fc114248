"""One request is one unit of work: all of its outcome is appended, or nothing (U1, U3, U4, U5)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

from tests.support import START, Ctx, Staging, elsewhere
from wakelog import ExecutionError, InvalidIdError, LeaseLostError, ValidationError
from wakelog.core.events import EventReceived, ExecutionFailed
from wakelog.testing import SimulatedCrash


class Line(BaseModel):
    sku: str
    amount: int = Field(gt=0)


class Basket(BaseModel):
    lines: list[Line]


# -- U1 --------------------------------------------------------------------------------------------


def test_U1_a_send_appends_event_state_schedule_and_idle_in_one_commit(stage: Staging) -> None:
    # given
    job = stage(on_idle=lambda ctx: ctx.emit("idle", ctx.state))
    # when one that leaves an alarm, and one that does not
    job.send({"set_state": 1, "schedule": "5m"})
    job.send({"set_state": 2, "cancel_schedule": None})
    # then
    assert job.commits() == [
        ["Started", "EventReceived", "StateSet", "Scheduled"],
        ["EventReceived", "StateSet", "ScheduleCancelled", "MessageSent"],
    ]


def test_U1_a_run_is_announced_before_it_is_called_and_settled_at_once(
    stage: Staging,
) -> None:
    # given a run that looks at the log
    seen: list[list[str]] = []

    def execute(ctx: Ctx) -> None:
        seen.append(job.names())
        ctx.set_state(2)
        ctx.schedule("1h")

    job = stage(execute=execute)
    job.send({"schedule": "5m"})
    # when
    job.sim.advance("5m")
    # then
    assert seen[0][-1] == "RunStarted"
    assert job.commits()[1:] == [["RunStarted"], ["Executed", "StateSet", "Scheduled"]]


@pytest.mark.parametrize("point", ["before_write", "after_write"])
def test_U1_no_state_without_its_alarm_wherever_it_is_killed(stage: Staging, point: Any) -> None:
    # given
    job = stage()
    job.sim.crash_next(point)
    # when
    with pytest.raises(SimulatedCrash):
        job.send({"set_state": 1, "schedule": "5m"})
    job.sim.restart()
    # then
    alarms = [alarm.instance_id for alarm in job.sim.alarms()]
    there = point == "after_write"
    assert (job.state(), alarms) == ((1, ["task:job:a"]) if there else (None, []))


def test_U1_every_event_of_a_unit_carries_its_commit_and_no_other_unit_does(stage: Staging) -> None:
    job = stage()
    for _ in range(3):
        job.send({"set_state": 1})
    job.send({"set_state": 1}, id="b")
    commits = {r.commit for id in "ab" for r in job.recorded(id)}
    assert len(commits) == 4


def test_U1_a_unit_ends_although_each_of_its_handlers_asks_for_more(stage: Staging) -> None:
    # given a Task whose every handler leaves nothing to wait for, or fails
    calls: list[str] = []

    def failing(ctx: Ctx, event: Any) -> None:
        calls.append("on_event")
        raise ValueError("boom")

    job = stage(
        failing,
        on_error=lambda ctx, error: calls.append("on_error"),
        on_idle=lambda ctx: calls.append("on_idle"),
    )
    # when
    job.send()
    # then
    assert calls == ["on_event", "on_error", "on_idle"]


# -- U3 --------------------------------------------------------------------------------------------


def test_U3_on_event_is_redone_on_the_fresh_state_when_another_process_was_faster(
    stage: Staging,
) -> None:
    # given two processes on one store; while the first is in its handler the second writes
    tries: list[int] = []

    def add(ctx: Ctx, event: int) -> None:
        tries.append(event)
        if tries == [1]:
            elsewhere(job, lambda task: task.send("a", 10))
        ctx.set_state((ctx.state or 0) + event)

    job = stage(add)
    # when
    job.send(1)
    # then
    assert tries == [1, 10, 1]
    assert job.state() == 11
    assert [e.payload for e in job.found(EventReceived)] == ["10", "1"]


def test_U3_a_handler_that_is_redone_gets_an_event_that_it_has_not_changed(stage: Staging) -> None:
    # given a handler that changes its event, and loses to another process the first time
    seen: list[list[str]] = []
    basket = Basket(lines=[Line(sku="mine", amount=1)])

    def add(ctx: Ctx, event: Basket) -> None:
        seen.append([line.sku for line in event.lines])
        event.lines[0].sku = "changed"
        if len(seen) == 1:
            elsewhere(job, lambda task: task.send("a", Basket(lines=[])))

    job = stage(lambda ctx, event: add(ctx, event) if event.lines else None, event=Basket)
    # when
    job.send(basket)
    # then each call got the event as it was sent, and the sender's own is untouched
    assert seen == [["mine"], ["mine"]]
    assert basket.lines[0].sku == "mine"
    assert [e.payload for e in job.found(EventReceived)][1] == basket.model_dump_json()


def test_U3_an_event_that_loses_ten_times_is_accepted_as_deferred(stage: Staging) -> None:
    # given another process that is always faster
    tries: list[int] = []

    def add(ctx: Ctx, event: int) -> None:
        tries.append(event)
        if event == 1 and tries.count(1) <= 10:
            elsewhere(job, lambda task: task.send("a", 10))
        ctx.set_state((ctx.state or 0) + event)

    job = stage(add)
    # when
    sent = job.send(1)
    # then
    assert sent.deferred
    assert tries.count(1) == 10
    assert job.state() == 100
    # and is handled by a worker
    job.sim.run_until_idle()
    assert job.state() == 101


def test_U3_a_run_is_never_redone_its_outcome_goes_on_top(stage: Staging) -> None:
    # given a run during which another process sends, twice
    runs: list[Any] = []

    def execute(ctx: Ctx) -> None:
        runs.append(ctx.state)
        elsewhere(job, lambda task: task.send("a", {"set_state": 2}))
        elsewhere(job, lambda task: task.send("a", {"set_state": 3}))
        ctx.set_state(1)
        ctx.schedule("1h")

    job = stage(execute=execute)
    job.send({"set_state": 0, "schedule": "5m"})
    # when
    job.sim.advance("5m")
    # then the run was called once, the sends were deferred, and handled after it
    assert runs == [0]
    assert job.names()[4:] == [
        *("RunStarted", "EventReceived", "EventReceived"),
        *("Executed", "StateSet", "Scheduled"),
        *("EventHandled", "StateSet", "EventHandled", "StateSet"),
    ]
    assert job.state() == 3


def test_U3_the_handlers_that_settle_a_run_are_not_called_twice_either(stage: Staging) -> None:
    # given an on_idle that is called, and then finds that another process was faster
    calls: list[str] = []

    def on_idle(ctx: Ctx) -> None:
        calls.append(ctx.idle_reason)
        if len(calls) == 2:
            elsewhere(job, lambda task: task.send("a", {}))

    job = stage(on_idle=on_idle)
    job.send()
    # when
    job.trigger()
    job.sim.run_until_idle()
    # then: on_event, the run (which now leaves an event to wait for), the deferred event
    assert calls == ["on_event", "execute", "on_event"]


def test_U3_the_late_commit_of_a_run_that_was_cleared_is_rejected(stage: Staging) -> None:
    # given a run during which another process clears
    def execute(ctx: Ctx) -> None:
        elsewhere(job, lambda task: task.clear("a"))
        ctx.set_state(5)

    job = stage(execute=execute)
    job.send({"set_state": 0, "schedule": "5m"})
    # when
    with pytest.raises(LeaseLostError):
        job.sim.advance("5m")
    # then
    assert job.names()[-1] == "Cleared"
    assert job.status().status == "not_found"


# -- U4 --------------------------------------------------------------------------------------------


def test_U4_an_invalid_event_is_refused_with_each_issue_before_anything_is_appended(
    stage: Staging,
) -> None:
    # given
    job = stage(lambda ctx, event: None, event=Basket)
    # when
    with pytest.raises(ValidationError) as raised:
        job.send({"lines": [{"sku": "x", "amount": 0}, {"sku": 7, "amount": "many"}]})
    # then
    assert [issue["loc"] for issue in raised.value.issues] == [
        "lines.0.amount",
        "lines.1.sku",
        "lines.1.amount",
    ]
    assert job.names() == []
    assert job.status().status == "not_found"


def test_U4_an_event_object_that_was_changed_into_nonsense_is_refused(stage: Staging) -> None:
    job = stage(lambda ctx, event: None, event=Basket)
    basket = Basket(lines=[Line(sku="x", amount=1)])
    basket.lines[0].amount = -1
    with pytest.raises(ValidationError):
        job.send(basket)
    assert job.names() == []


@pytest.mark.parametrize(
    "options",
    [
        {"event_id": ""},
        {"event_id": "\ud800"},
        {"event_id": "x" * 256},
        {"event_id": 5},
        {"delay": "soon"},
        {"delay": -1},
        {"delay": "1h", "at": START},
        {"at": START.replace(tzinfo=None)},
        {"at": "tomorrow"},
        {"wait": True, "timeout": "a while"},
        {"wait": True, "delay": "1h", "timeout": -1},
        {"actor": "\ud800"},
        {"actor": 5},
        {"correlation_id": "\udfff"},
    ],
)
def test_U4_every_argument_is_judged_before_anything_is_appended(
    stage: Staging, options: dict[str, Any]
) -> None:
    job = stage()
    with pytest.raises(ValidationError):
        job.send({}, **options)
    assert job.names() == []


@pytest.mark.parametrize("id", ["", "x" * 256, "a\nb", "\ud800", None])
def test_U4_so_is_every_id(stage: Staging, id: Any) -> None:
    job = stage()
    for ask in (job.send, job.trigger, job.clear, job.cancel_clear, job.status, job.state):
        with pytest.raises(InvalidIdError):
            ask(id=id)
    assert job.sim.list() == []


def test_U4_so_are_the_arguments_of_trigger_and_clear(stage: Staging) -> None:
    # given
    job = stage()
    job.send()
    trigger: list[dict[str, Any]] = [
        {"timeout": "soon"},
        {"idempotency_key": "\x00"},
        {"actor": "\ud800"},
    ]
    clear: list[dict[str, Any]] = [{"after": -1}, {"after": "never"}, {"reason": "\ud800"}]
    # when
    for options in trigger:
        with pytest.raises(ValidationError):
            job.trigger(**options)
    for options in clear:
        with pytest.raises(ValidationError):
            job.clear(**options)
    # then
    assert job.names() == ["Started", "EventReceived"]


@pytest.mark.parametrize("id", ["a:b", "::", "🦄", " ", "Ω" * 255, "task:job:a"])
def test_U4_and_an_odd_id_works_everywhere(stage: Staging, id: str) -> None:
    job = stage()
    job.send({"set_state": id, "schedule": "5m"}, id=id)
    job.sim.advance("5m")
    assert job.state(id=id) == id
    assert job.status(id).instance_id == f"task:job:{id}"
    assert [entry.event for entry in job.sim.history(f"task:job:{id}")] == job.names(id)
    assert job.clear(id=id).cleared


# -- U5 --------------------------------------------------------------------------------------------


def test_U5_what_a_failing_handler_asked_for_is_dropped_and_the_failure_appended(
    stage: Staging,
) -> None:
    # given
    job = stage()
    job.send({"set_state": 1, "schedule": "1h"})
    before = job.status()
    # when
    with pytest.raises(ExecutionError):
        job.send({"set_state": 2, "emit_nothing": None, "raise": "boom"})
    with pytest.raises(ExecutionError):
        job.send({"set_state": 2, "schedule": "2h", "raise": "boom"})
    # then
    assert job.state() == 1
    assert job.status().scheduled_at == before.scheduled_at
    assert job.names()[4:] == ["ExecutionFailed", "ExecutionFailed"]


def test_U5_on_error_sees_the_state_before_and_its_own_commands_are_kept(stage: Staging) -> None:
    # given
    seen: list[Any] = []

    def on_error(ctx: Ctx, error: BaseException) -> None:
        seen.append((ctx.state, ctx.scheduled_at, ctx.error_source, str(error)))
        ctx.set_state("recovered")
        ctx.schedule("2h")

    job = stage(on_error=on_error)
    job.send({"set_state": "good"})
    # when
    job.send({"set_state": "bad", "schedule": "1h", "raise": "boom"})
    # then
    assert seen == [("good", None, "on_event", "boom")]
    assert job.state() == "recovered"
    assert job.names()[3:] == ["EventReceived", "ExecutionFailed", "StateSet", "Scheduled"]


def test_U5_a_message_of_a_failing_handler_is_not_sent(stage: Staging) -> None:
    def on_event(ctx: Ctx, event: Any) -> None:
        ctx.emit("paid", event)
        if event == "bad":
            raise ValueError("boom")

    job = stage(on_event)
    job.send("good")
    with pytest.raises(ExecutionError):
        job.send("bad")
    assert job.names().count("MessageSent") == 1


def test_U5_the_failure_is_kept_in_bounds_whatever_was_raised(stage: Staging) -> None:
    # given errors whose text is huge, cannot be shown, or cannot be encoded
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    errors = {
        "huge": ValueError("x" * 1_000_000),
        "unprintable": Unprintable(),
        "surrogate": ValueError("\ud800 and \x00"),
        "empty": ValueError(),
    }

    def on_event(ctx: Ctx, event: str) -> None:
        if event in errors:
            raise errors[event]

    job = stage(on_event)
    job.send("good")
    # when
    for name in errors:
        with pytest.raises(ExecutionError):
            job.send(name)
    # then
    failures = job.found(ExecutionFailed)
    assert [f.message for f in failures[1:]] == [
        "(its message cannot be shown: RuntimeError)",
        "\\ud800 and \\x00",
        "",
    ]
    assert all(len(f.message) <= 2_000 and len(f.traceback) <= 8_000 for f in failures)
    last_error = job.status().last_error
    assert last_error is not None
    assert last_error.type == "ValueError"


# -- U12 -------------------------------------------------------------------------------------------


def test_U12_every_answer_says_which_instance_and_which_version(stage: Staging) -> None:
    job = stage()
    answers: list[Any] = [
        job.send({"schedule": "1h"}),
        job.trigger(),
        job.clear(after="1h"),
        job.cancel_clear(),
        job.status(),
        job.clear(),
    ]
    assert {answer.instance_id for answer in answers} == {"task:job:a"}
    assert [answer.version for answer in answers] == [3, 6, 7, 8, 8, 9]


def test_U12_a_read_shows_what_any_process_recorded_before_it(stage: Staging) -> None:
    # given an instance that one process has at hand
    job = stage()
    job.send({"set_state": 1})
    # when another process changes it
    elsewhere(job, lambda task: task.send("a", {"set_state": 2}))
    # then
    assert job.state() == 2
    assert job.sim.task("job").get_state("a", stale_ok=True) in (1, 2)
    assert job.status().event_count == 2
    assert [row.event_count for row in job.sim.list()] == [2]


def test_U12_who_asked_and_in_what_course_is_recorded_in_every_event(stage: Staging) -> None:
    # given
    who = {"actor": "ann", "correlation_id": "c-1"}
    job = stage(execute=lambda ctx: None)
    # when
    job.send({"set_state": 1, "schedule": "1h"}, **who)
    job.send({"set_state": 1}, delay="1m", **who)
    job.trigger(wait=False, **who)
    job.clear(after="2h", **who)
    job.cancel_clear(**who)
    job.sim.advance("1m")
    job.clear(**who)
    # then: all but what a worker did by itself
    own = [r for r in job.recorded() if type(r.event).__name__ not in ("RunStarted", "Executed")]
    assert {(r.actor, r.correlation) for r in own} == {("ann", "c-1")}
    # and what followed from something says from what
    handled = next(r for r in own if type(r.event).__name__ == "EventHandled")
    assert handled.cause == "task:job:a@5"
    executed = next(r for r in job.recorded() if type(r.event).__name__ == "Executed")
    started = next(r for r in job.recorded() if type(r.event).__name__ == "RunStarted")
    assert executed.cause == f"task:job:a@{started.version}"


def test_recorded_time_never_goes_back_within_a_stream(stage: Staging) -> None:
    # given a process whose clock is an hour behind that of the first
    job = stage()
    job.sim.advance("1h")
    job.send({"set_state": 1})
    seen: list[Any] = []
    late = stage(lambda ctx, event: seen.append(ctx.now))
    # when
    late.send()
    # then
    times = [r.at_us for r in job.recorded()]
    assert times == sorted(times)
    assert seen == [START]
