"""Retry of runs and of deferred events, in the simulation (R2 to R8, T13, T15)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.engine.kinds.retrying import MINUTE, SECOND, SOON, Cross, Recoverer, Run, every
from tests.support import START, Ctx, Staging, elsewhere, moment_at
from wakelog import ExecutionError, GiveUp, Jobs, Retry, RetryAfter, Task, ValidationError
from wakelog.core.events import (
    Cleared,
    Executed,
    ExecutionFailed,
    ExecutionLost,
    RetryExhausted,
    RetryScheduled,
    RunStarted,
)
from wakelog.settings import Settings
from wakelog.testing import SimulatedCrash

# -- attempts --------------------------------------------------------------------------------------


def test_R2_max_attempts_counts_all_executions_and_delay_k_follows_attempt_k(
    stage: Staging,
) -> None:
    run = Run(Cross("always"))
    job = stage(execute=run, retry=every(lambda attempt: 10 * attempt))
    job.send(SOON)
    job.sim.run_until_idle()
    assert run.at == [timedelta(0), 10 * SECOND, 30 * SECOND]
    assert run.seen == [(1, 1, False, "alarm"), (1, 2, True, "retry"), (1, 3, True, "retry")]
    assert job.found(RetryExhausted) == [RetryExhausted(run=1, attempts=3, reason="max_attempts")]
    status = job.status()
    assert (status.status, status.execute_count, status.failure_count) == ("failed", 1, 3)


def test_R4_between_two_attempts_it_is_retrying_and_says_when(stage: Staging) -> None:
    job = stage(execute=Run(Cross("once"), None), retry=every("10s"))
    job.send(SOON)
    # when its first attempt has failed
    job.sim.advance(0)
    status = job.status()
    assert (status.status, status.retry_at, status.scheduled_at) == (
        *("retrying", START + 10 * SECOND),
        None,
    )
    assert status.last_error is not None
    assert (status.last_error.type, status.last_error.message) == ("Cross", "once")
    assert job.commits()[-1] == ["ExecutionFailed", "RetryScheduled"]
    assert [failure.will_retry for failure in job.found(ExecutionFailed)] == [True]
    # when its second has not
    job.sim.advance("10s")
    assert (job.status().status, job.status().retry_at) == ("idle", None)
    assert job.state() == "kept by attempt 2"
    assert job.found(Executed)[0].attempt == 2


def test_R2_max_duration_is_checked_before_the_next_attempt_is_scheduled(stage: Staging) -> None:
    run = Run(Cross())
    job = stage(execute=run, retry=every("20s", max_attempts=9, max_duration="50s"))
    job.send(SOON)
    job.sim.run_until_idle()
    assert run.at == [timedelta(0), 20 * SECOND, 40 * SECOND]
    assert job.found(RetryExhausted)[0].reason == "max_duration"
    assert job.sim.now == START + 40 * SECOND


def test_R1_retry_if_says_which_failures_are_worth_it(stage: Staging) -> None:
    run = Run(OSError("away"), Cross("wrong"))
    job = stage(execute=run, retry=every(retry_if=OSError))
    job.send(SOON)
    job.sim.run_until_idle()
    assert len(run.seen) == 2
    assert job.found(RetryExhausted)[0] == RetryExhausted(run=1, attempts=2, reason="not_retryable")


def test_R2_jitter_differs_by_instance_and_keeps_to_its_share(stage: Staging) -> None:
    job = stage(execute=Run(Cross()), retry=Retry(delay="100s", jitter=0.5))
    for id in "abc":
        job.send(SOON, id)
    job.sim.advance(0)
    dues = {moment_at(job.found(RetryScheduled, id)[0].due_us) - START for id in "abc"}
    assert len(dues) == 3
    assert all(50 * SECOND <= due <= 150 * SECOND for due in dues)


# -- RetryAfter, GiveUp ----------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [None, every("1h")])
def test_R3_retry_after_says_when_with_and_without_a_policy(
    stage: Staging, retry: Retry | None
) -> None:
    run = Run(RetryAfter("30s", Cross("busy")), None)
    job = stage(execute=run, retry=retry)
    job.send(SOON)
    job.sim.advance(0)
    status = job.status()
    assert status.retry_at == START + 30 * SECOND
    assert status.last_error is not None
    assert (status.last_error.type, status.last_error.message) == ("Cross", "busy")
    job.sim.advance("30s")
    assert job.state() == "kept by attempt 2"


def test_R3_retry_after_without_a_policy_has_no_bound(stage: Staging) -> None:
    run = Run(*[RetryAfter("1s")] * 50, None)
    job = stage(execute=run)
    job.send(SOON)
    job.sim.run_until_idle()
    assert (len(run.seen), job.state()) == (51, "kept by attempt 51")


def test_R3_retry_after_keeps_to_the_bounds_of_a_policy(stage: Staging) -> None:
    run = Run(RetryAfter("1s"))
    job = stage(execute=run, retry=every("1h", max_attempts=2))
    job.send(SOON)
    job.sim.run_until_idle()
    assert (len(run.seen), job.found(RetryExhausted)[0].reason) == (2, "max_attempts")


@pytest.mark.parametrize(
    ("raised", "shown"),
    [(GiveUp(Cross("wrong card")), ("Cross", "wrong card")), (GiveUp(), ("GiveUp", GiveUp()))],
)
@pytest.mark.parametrize("retry", [None, every()])
def test_R3_give_up_ends_it_with_and_without_a_cause_or_a_policy(
    stage: Staging, retry: Retry | None, raised: BaseException, shown: tuple[str, object]
) -> None:
    job = stage(execute=Run(raised), retry=retry)
    job.send(SOON)
    job.sim.run_until_idle()
    status = job.status()
    assert (status.status, status.execute_count) == ("failed", 1)
    assert status.last_error is not None
    assert (status.last_error.type, status.last_error.message) == (shown[0], str(shown[1]))
    given_up = [event.reason for event in job.found(RetryExhausted)]
    assert given_up == ([] if retry is None else ["not_retryable"])


def test_R3_raised_from_something_that_is_the_cause(stage: Staging) -> None:
    def execute(ctx: Ctx) -> None:
        try:
            raise Cross("deep down")
        except Cross as error:
            raise GiveUp from error

    job = stage(execute=execute)
    job.send(SOON)
    job.sim.run_until_idle()
    error = job.status().last_error
    assert error is not None
    assert (error.type, error.message) == ("Cross", "deep down")
    assert "deep down" in error.traceback


def test_T3_in_a_send_they_are_failures_with_their_cause(stage: Staging) -> None:
    def on_event(ctx: Ctx, event: Any) -> None:
        raise RetryAfter("1s", Cross("no"))

    job = stage(on_event, retry=every())
    with pytest.raises(ExecutionError) as caught:
        job.send()
    assert isinstance(caught.value.__cause__, Cross)
    assert job.names() == []


# -- what a retry survives -------------------------------------------------------------------------


def test_R4_a_retry_survives_a_restart(stage: Staging) -> None:
    run = Run(Cross(), None)
    job = stage(execute=run, retry=every("10s"))
    job.send(SOON)
    job.sim.advance("5s")
    job.sim.restart()
    job.sim.advance("5s")
    assert (run.at, job.state()) == ([timedelta(0), 10 * SECOND], "kept by attempt 2")


@pytest.mark.parametrize(
    ("point", "attempts"),
    [("before_write", [1, 2, 3]), ("after_write", [1, 2])],
)
def test_R4_a_crash_at_the_failure_leaves_a_retry_or_a_lost_attempt(
    stage: Staging, point: Any, attempts: list[int]
) -> None:
    seen: list[int] = []

    def execute(ctx: Ctx) -> None:
        seen.append(ctx.attempt)
        if ctx.attempt == 1:
            job.sim.crash_next(point)
        if len(seen) < len(attempts):
            raise Cross

    job = stage(execute=execute, retry=every("10s"))
    job.send(SOON)
    with pytest.raises(SimulatedCrash):
        job.sim.advance(0)
    job.sim.restart()
    job.sim.run_until_idle()
    assert seen == attempts
    assert len(job.found(ExecutionLost)) == (point == "before_write")
    assert [event.attempt for event in job.found(RunStarted)] == attempts
    assert job.status().status == "idle"


def test_R4_a_retry_never_replaces_the_schedule_which_waits_for_it(stage: Staging) -> None:
    # given a schedule that falls due while a run is retried
    run = Run(Cross(), Cross(), None)
    job = stage(execute=run, retry=every("1m"))
    job.send({"schedule": "90s"})
    job.trigger(wait=False)
    job.sim.advance("61s")
    status = job.status()
    assert (status.scheduled_at, status.retry_at) == (START + 90 * SECOND, START + 2 * MINUTE)
    # when all of that happens
    job.sim.run_until_idle()
    # then it fires once the run has ended with all its retries, late
    assert run.at == [timedelta(0), MINUTE, 2 * MINUTE, 2 * MINUTE]
    assert [seen[:2] for seen in run.seen] == [(1, 1), (1, 2), (1, 3), (2, 1)]
    assert job.found(RunStarted)[-1].late_us == 30_000_000


def test_R4_schedule_and_cancel_schedule_leave_a_retry_alone(stage: Staging) -> None:
    run = Run(Cross(), None)
    job = stage(execute=run, retry=every("1m"))
    job.send(SOON)
    job.sim.advance("1s")
    for event in ({"schedule": "10s"}, {"cancel_schedule": None}, {"schedule": "5s"}):
        assert not job.send(event).deferred
    status = job.status()
    assert (status.status, status.retry_at) == ("retrying", START + MINUTE)
    job.sim.run_until_idle()
    assert [seen[:2] for seen in run.seen] == [(1, 1), (1, 2), (2, 1)]


def test_R4_events_are_handled_between_two_attempts(stage: Staging) -> None:
    seen: list[Any] = []

    def execute(ctx: Ctx) -> None:
        seen.append((ctx.attempt, ctx.state))
        if ctx.state != "mended":
            raise Cross

    job = stage(execute=execute, retry=every("1m"))
    job.send({"set_state": "broken", "schedule": 0})
    job.sim.advance("1s")
    job.send({"set_state": "mended"})
    job.sim.run_until_idle()
    assert seen == [(1, "broken"), (2, "mended")]


# -- on_error, on_retry_exhausted, exhaustion ------------------------------------------------------


def test_R5_on_error_is_for_the_attempt_that_is_not_tried_again(stage: Staging) -> None:
    on_error, idle = Recoverer(), []
    run = Run(Cross("one"), Cross("two"))
    job = stage(
        execute=run,
        on_error=on_error,
        on_idle=lambda ctx: idle.append(ctx.idle_reason),
        retry=every(max_attempts=2),
    )
    job.send({"set_state": "before", "schedule": 0})
    job.sim.run_until_idle()
    # then it saw the state as before the attempt, and the run is recovered: no policy applies
    assert on_error.told == [("execute", "two", "before")]
    assert (job.state(), job.status().status, idle) == ("recovered", "idle", ["execute"])
    assert job.found(RetryExhausted) == []
    assert [f.recovered for f in job.found(ExecutionFailed)] == [False, True]


def test_R5_on_retry_exhausted_takes_its_place_for_runs_only(stage: Staging) -> None:
    def on_event(ctx: Ctx, event: Any) -> None:
        if event == "bad":
            raise Cross("the event")
        ctx.schedule(0)

    on_error, exhausted = Recoverer(), Recoverer()
    job = stage(
        on_event,
        execute=Run(Cross("the run")),
        on_error=on_error,
        on_retry_exhausted=exhausted,
        retry=every(max_attempts=1),
    )
    job.send("good")
    job.sim.run_until_idle()
    job.send("bad")
    assert (on_error.told[0][1], len(on_error.told)) == ("the event", 1)
    assert (exhausted.told[0][1], len(exhausted.told)) == ("the run", 1)
    assert job.status().status == "idle"


def test_R5_one_that_fails_leaves_the_run_to_the_policy_and_both_are_recorded(
    stage: Staging,
) -> None:
    def fails(ctx: Ctx) -> None:
        raise Cross("the recoverer")

    job = stage(
        execute=Run(Cross("the run")),
        on_retry_exhausted=Recoverer(fails),
        retry=every(max_attempts=1),
    )
    job.send(SOON)
    job.sim.run_until_idle()
    assert job.commits()[-1] == ["ExecutionFailed", "ExecutionFailed", "RetryExhausted"]
    assert job.status().status == "failed"


@pytest.mark.parametrize(
    ("then", "status"), [("fail", "failed"), ("continue", "active"), ("clear", "not_found")]
)
def test_R5_what_an_exhausted_task_does_is_its_policys(
    stage: Staging, then: Any, status: str
) -> None:
    job = stage(execute=Run(Cross()), retry=every(max_attempts=2, on_exhausted=then))
    job.send({"set_state": "kept", "schedule": "1h"})
    job.trigger()
    job.sim.advance("30s")
    assert job.found(RetryExhausted)[0].then == then
    assert job.status().status == status
    assert len(job.found(Cleared)) == (then == "clear")
    assert job.state() == (None if then == "clear" else "kept")
    # and the schedule is still there unless the life has ended
    assert (job.status().scheduled_at is None) == (then == "clear")


def test_R5_nothing_is_cleared_unless_asked_for(stage: Staging) -> None:
    assert Retry().on_exhausted is None
    job = stage(execute=Run(Cross()), retry=every())
    job.send({"set_state": 1, "schedule": 0})
    job.sim.run_until_idle()
    assert (job.state(), job.found(RetryExhausted)[0].then) == (1, "fail")


def test_R5_a_task_has_no_batch_to_keep_as_a_dead_letter() -> None:
    task: Task[int, int] = Task(state=int, event=int, retry=Retry(on_exhausted="dead_letter"))
    task.on_event(lambda ctx, event: None)
    with pytest.raises(ValidationError, match="dead-letter"):
        Jobs(job=task)


def test_T13_without_a_policy_a_failing_run_is_failed_until_something_ends_well(
    stage: Staging,
) -> None:
    job = stage(execute=Run(Cross("first"), Cross("second"), None))
    job.send(SOON)
    job.sim.run_until_idle()
    assert job.status().status == "failed"
    job.send()  # a handler that ends well
    assert job.status().status == "idle"
    job.trigger()
    assert job.status().status == "failed"
    assert not job.retry().failed
    assert job.status().status == "idle"


# -- lost attempts ---------------------------------------------------------------------------------


def lose(job: Any) -> None:
    """Let the worker die with the claim that comes next."""
    job.sim.crash_next("after_write")
    with pytest.raises(SimulatedCrash):
        job.sim.advance("1h")
    job.sim.restart()


@pytest.mark.parametrize(
    ("retry", "lost", "reason"),
    [
        (None, 3, "lost"),
        (every(max_attempts=9), 3, "lost"),
        (every(max_attempts=2), 2, "max_attempts"),
        (every(max_attempts=9, max_duration="40s"), 2, "max_duration"),
    ],
)
def test_R6_a_lost_attempt_counts_and_too_many_of_them_exhaust_the_run(
    stage: Staging, retry: Retry | None, lost: int, reason: Any
) -> None:
    job = stage(execute=Run(None), retry=retry, sim={"settings": Settings(max_lost=3)})
    job.send(SOON)
    for _ in range(lost):
        lose(job)
    job.sim.advance("1h")
    assert job.found(RetryExhausted) == [RetryExhausted(run=1, attempts=lost, reason=reason)]
    assert job.status().status == "failed"
    assert [r.attempt for r in job.found(RunStarted)] == [*range(1, lost + 1)]


def test_R6_losses_in_a_row_are_counted_anew_after_an_attempt_that_ended(stage: Staging) -> None:
    job = stage(
        execute=Run(Cross(), None),
        retry=every("1s", max_attempts=9),
        sim={"settings": Settings(max_lost=2)},
    )
    job.send(SOON)
    lose(job)
    job.sim.advance("30s")  # attempt 2 fails
    lose(job)  # attempt 3
    job.sim.run_until_idle()
    assert job.found(RetryExhausted) == []
    assert job.state() == "kept by attempt 4"


def test_R6_what_is_exhausted_by_losses_is_cleared_if_the_policy_says_so(stage: Staging) -> None:
    job = stage(execute=Run(None), retry=every(max_attempts=1, on_exhausted="clear"))
    job.send(SOON)
    lose(job)
    job.sim.advance("1h")
    assert job.status().status == "not_found"
    assert job.commits()[-1] == ["ExecutionLost", "RetryExhausted", "Cleared"]


def test_R6_one_who_waits_for_a_lost_run_hears_of_its_end(stage: Staging) -> None:
    job = stage(execute=Run(None), retry=every(max_attempts=1))
    job.send()
    job.trigger(wait=False)
    lose(job)
    result = job.trigger(wait=False)  # the run is still open
    assert (result.triggered, result.reason) == (False, "running")
    job.sim.advance("1h")
    assert job.status().last_error is not None
    assert not job.retry().failed


# -- trigger and retry -----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["trigger", "retry"])
@pytest.mark.parametrize("attempts", [1, 2], ids=["failed", "retrying"])
def test_R7_the_run_is_started_again_at_attempt_1_under_its_number(
    stage: Staging, verb: str, attempts: int
) -> None:
    # given a run that has failed for good, or that waits for its next attempt
    run = Run(Cross(), None)
    job = stage(execute=run, retry=every("1h", max_attempts=attempts))
    job.send(SOON)
    job.sim.advance("1s")
    stream = "task:job:a"
    known = job.sim.application.instances.peek(stream)
    assert known is not None
    before = known.instance
    # when
    result = getattr(job, verb)()
    # then
    assert run.seen == [(1, 1, False, "alarm"), (1, 1, False, "manual")]
    assert (result.failed, result.retry_at, job.status().status) == (False, None, "idle")
    known = job.sim.application.instances.peek(stream)
    assert known is not None
    after = known.instance
    assert (after.run_count, after.run_version) == (1, before.run_version)
    # and nothing is left of the retry
    assert job.sim.run_until_idle() == 0


def test_R7_started_again_it_has_all_its_attempts_and_all_its_time(stage: Staging) -> None:
    run = Run(Cross())
    job = stage(execute=run, retry=every("20s", max_attempts=3, max_duration="45s"))
    job.send(SOON)
    job.sim.run_until_idle()
    job.sim.advance("1h")
    answer = job.retry()
    assert (answer.retried, answer.failed) == (True, True)
    assert answer.retry_at == job.sim.now + 20 * SECOND
    assert answer.error is not None
    assert answer.error.type == "Cross"
    job.sim.run_until_idle()
    assert [seen[1] for seen in run.seen] == [1, 2, 3, 1, 2, 3]


def test_R7_asked_for_again_it_is_retrying_not_failed(stage: Staging) -> None:
    job = stage(execute=Run(Cross(), None))
    job.send(SOON)
    job.sim.advance(0)
    assert job.status().status == "failed"
    answer = job.retry(wait=False, actor="ann")
    assert (answer.retried, answer.reason) == (True, None)
    assert (job.status().status, job.status().retry_at) == ("retrying", job.sim.now)
    [again] = job.found(RetryScheduled)
    assert (again.attempt, again.by, job.recorded()[-1].actor) == (1, "operator", "ann")


def test_R7_a_trigger_may_consume_the_schedule_of_a_failed_instance(stage: Staging) -> None:
    job = stage(execute=Run(Cross(), None))
    job.send({"schedule": "1h"})
    job.trigger()
    assert job.status().status == "failed"
    job.trigger(consume_alarm=True)
    assert (job.status().status, job.status().scheduled_at) == ("idle", None)


def test_R7_retry_does_nothing_where_no_run_has_failed(stage: Staging) -> None:
    job = stage()
    assert job.retry().reason == "not_found"
    job.send({"schedule": "1h"})
    before = job.names()
    answer = job.retry()
    assert (answer.retried, answer.reason) == (False, "not_failed")
    job.pause()
    assert job.retry().reason == "paused"
    assert job.names() == [*before, "Paused"]


def test_R7_during_a_run_nothing_is_retried(stage: Staging) -> None:
    answers: list[Any] = []

    def execute(ctx: Ctx) -> None:
        answers.append(elsewhere(job, lambda task: task.retry("a")))

    job = stage(execute=execute)
    job.send()
    job.trigger()
    assert [(a.retried, a.reason) for a in answers] == [(False, "running")]


def test_R7_a_clear_removes_the_retry(stage: Staging) -> None:
    run = Run(Cross())
    job = stage(execute=run, retry=every("10s"))
    job.send(SOON)
    job.sim.advance("1s")
    job.clear()
    job.send()
    assert (job.status().retry_at, job.status().status) == (None, "idle")
    assert job.sim.run_until_idle() == 0
    assert len(run.seen) == 1


def test_I1_a_retry_with_a_key_is_done_once(stage: Staging) -> None:
    run = Run(Cross())
    job = stage(execute=run)
    job.send(SOON)
    job.sim.run_until_idle()
    first = job.retry(wait=False, idempotency_key="k")
    again = job.retry(wait=False, idempotency_key="k")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert (first.version, first.retried) == (again.version, again.retried)
    assert len(job.found(RetryScheduled)) == 1
