"""A run now: trigger (T7)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.support import START, Ctx, Staging, elsewhere
from wakelog import Backoff, Retry, TriggerResult, WaitTimeoutError, WakelogError
from wakelog.core.events import RunStarted

HOUR = timedelta(hours=1)


def test_T7_a_missing_instance_is_not_triggered_and_nothing_is_appended(stage: Staging) -> None:
    job = stage()
    assert job.trigger() == TriggerResult(
        instance_id="task:job:a", version=0, triggered=False, reason="not_found"
    )
    assert job.names() == []


def test_T7_nor_is_one_that_was_cleared(stage: Staging) -> None:
    job = stage()
    job.send()
    job.clear()
    result = job.trigger()
    assert (result.triggered, result.reason, result.version) == (False, "not_found", 3)


def test_T7_a_run_now_answers_when_it_has_ended(stage: Staging) -> None:
    # given
    job = stage(execute=lambda ctx: ctx.set_state("ran"))
    job.send()
    # when
    result = job.trigger()
    # then
    assert result == TriggerResult(instance_id="task:job:a", version=6, triggered=True)
    assert job.state() == "ran"
    assert job.found(RunStarted)[0].trigger == "manual"


def test_T7_without_wait_it_answers_at_once_and_the_run_comes(stage: Staging) -> None:
    job = stage(execute=lambda ctx: ctx.set_state("ran"))
    job.send()
    result = job.trigger(wait=False)
    assert (result.triggered, result.version) == (True, 3)
    assert job.state() is None
    job.sim.advance(0)
    assert job.state() == "ran"


def test_T7_the_schedule_stays(stage: Staging) -> None:
    # given
    seen: list[Any] = []
    job = stage(execute=lambda ctx: seen.append((ctx.trigger, ctx.scheduled_at)))
    job.send({"schedule": "1h"})
    # when
    job.trigger()
    # then
    assert job.status().scheduled_at == START + HOUR
    job.sim.advance("1h")
    assert seen == [("manual", START + HOUR), ("alarm", None)]


def test_T7_unless_it_is_consumed(stage: Staging) -> None:
    job = stage()
    job.send({"schedule": "1h"})
    job.trigger(consume_alarm=True)
    assert (job.status().status, job.status().scheduled_at) == ("idle", None)
    assert job.sim.run_until_idle() == 0
    assert job.status().execute_count == 1


def test_T7_to_consume_an_alarm_that_is_not_there_is_no_mistake(stage: Staging) -> None:
    job = stage()
    job.send()
    assert job.trigger(consume_alarm=True).triggered
    assert "ScheduleCancelled" not in job.names()


def test_T7_while_a_run_is_open_nothing_is_triggered(stage: Staging) -> None:
    # given a run during which another process triggers
    answers: list[TriggerResult] = []

    def execute(ctx: Ctx) -> None:
        answers.append(elsewhere(job, lambda task: task.trigger("a")))

    job = stage(execute=execute)
    job.send({"schedule": "1h"})
    # when
    job.sim.advance("1h")
    # then
    assert [(a.triggered, a.reason) for a in answers] == [(False, "running")]
    assert "trigger" not in [e.data.get("action") for e in job.sim.history("task:job:a")]


def test_T7_a_trigger_that_waits_for_a_worker_already_is_joined(stage: Staging) -> None:
    # given
    job = stage()
    job.send()
    job.trigger(wait=False)
    # when
    result = job.trigger()
    # then one run was made
    assert result.triggered
    assert len(job.found(RunStarted)) == 1


def test_T7_one_that_joins_another_consumes_the_alarm_all_the_same(stage: Staging) -> None:
    # given a trigger that waits for a worker, and a schedule
    job = stage()
    job.send({"schedule": "1h"})
    job.trigger(wait=False)
    assert job.status().scheduled_at is not None
    # when
    result = job.trigger(consume_alarm=True)
    # then one run was made, and no other comes
    assert result.triggered
    assert job.status().scheduled_at is None
    job.sim.run_until_idle()
    assert len(job.found(RunStarted)) == 1


def test_T7_so_does_one_that_starts_a_failed_run_again(stage: Staging) -> None:
    # given a run whose next attempt is not due yet, and a schedule
    failures = [LookupError("gone")]

    def execute(ctx: Ctx) -> None:
        if failures:
            raise failures.pop()

    job = stage(execute=execute, retry=Retry(max_attempts=2, delay=Backoff.constant("10m")))
    job.send({"schedule": "1h"})
    assert job.trigger().failed
    # when
    assert not job.trigger(consume_alarm=True).failed
    # then
    assert (job.status().scheduled_at, job.status().retry_at) == (None, None)
    assert job.status().execute_count == 1


def test_T7_a_run_that_fails_is_told_and_does_not_raise(stage: Staging) -> None:
    # given
    def execute(ctx: Ctx) -> None:
        raise LookupError("gone")

    job = stage(execute=execute)
    job.send()
    # when
    result = job.trigger()
    # then
    assert (result.triggered, result.failed, result.cleared) == (True, True, False)
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("LookupError", "gone")
    assert result.retry_at is None


def test_T7_one_that_on_error_recovers_has_not_failed(stage: Staging) -> None:
    def execute(ctx: Ctx) -> None:
        raise LookupError("gone")

    job = stage(execute=execute, on_error=lambda ctx, error: ctx.set_state("recovered"))
    job.send()
    result = job.trigger()
    assert (result.triggered, result.failed, result.error) == (True, False, None)
    assert job.state() == "recovered"


def test_T7_one_whose_on_error_fails_too_has(stage: Staging) -> None:
    # given
    def execute(ctx: Ctx) -> None:
        raise LookupError("gone")

    def on_error(ctx: Ctx, error: BaseException) -> None:
        raise OSError("worse")

    job = stage(execute=execute, on_error=on_error)
    job.send()
    # when
    result = job.trigger()
    # then it is the run's own error that is told; the last one is in the status
    assert result.failed
    assert result.error is not None
    assert result.error.type == "LookupError"
    last_error = job.status().last_error
    assert last_error is not None
    assert (last_error.handler, last_error.type) == ("on_error", "OSError")
    assert result.version == job.status().version


@pytest.mark.parametrize("where", ["execute", "on_error", "on_idle"])
def test_T7_a_run_that_ends_the_life_says_so(stage: Staging, where: str) -> None:
    # given
    def clear(ctx: Ctx, *error: BaseException) -> None:
        ctx.clear("done")

    def fail(ctx: Ctx) -> None:
        raise LookupError("gone")

    handlers: dict[str, Any] = {where: clear}
    if where == "on_error":
        handlers["execute"] = fail
    job = stage(**handlers)
    job.send({"schedule": "1h"})
    # when
    result = job.trigger(consume_alarm=True)
    # then
    assert (result.triggered, result.cleared, result.failed) == (True, True, False)


def test_T7_waiting_for_a_run_that_takes_too_long_ends_at_the_timeout(stage: Staging) -> None:
    # given a run that takes an hour of virtual time
    async def execute(ctx: Ctx) -> None:
        await asyncio.sleep(3600)
        ctx.set_state("ran")

    job = stage(execute=execute)
    job.send()
    # when
    with pytest.raises(WaitTimeoutError) as raised:
        job.trigger(timeout="5s")
    # then what was asked for is done all the same
    assert (raised.value.instance_id, raised.value.timeout_s) == ("task:job:a", 5)
    assert isinstance(raised.value, TimeoutError)
    assert isinstance(raised.value, WakelogError)
    job.sim.run_until_idle()
    assert job.state() == "ran"
    assert "ExecutionLost" not in job.names()


def test_T1_waiting_for_an_event_that_is_due_later_ends_at_the_timeout(stage: Staging) -> None:
    job = stage()
    with pytest.raises(WaitTimeoutError):
        job.send({"set_state": 1}, delay="1h", wait=True, timeout="5s")
    assert job.sim.now == START + timedelta(seconds=5)
    job.sim.advance("1h")
    assert job.state() == 1


def test_T7_a_trigger_of_a_task_without_execute_fails_and_says_what_to_do(stage: Staging) -> None:
    job = stage(execute=None)
    job.send()
    result = job.trigger()
    assert result.failed
    assert result.error is not None
    assert result.error.type == "UnknownActionError"
    assert "execute" in result.error.message
