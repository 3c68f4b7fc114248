"""Pause and resume of one instance (A5)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support import START, Ctx, Staging, elsewhere
from wakelog import IdempotencyConflictError, Retry, ValidationError
from wakelog.core.events import EventHandled, ExecutionLost, Paused, Resumed, RunStarted
from wakelog.testing import SimulatedCrash

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def test_A5_alarms_of_a_paused_instance_wait_and_fire_at_once_when_it_is_resumed(
    stage: Staging,
) -> None:
    job = stage(execute=lambda ctx: ctx.set_state("ran"))
    job.send({"schedule": "1h"})
    job.pause()
    assert job.sim.advance("2h") == 0
    status = job.status()
    assert (status.status, status.scheduled_at) == ("paused", START + HOUR)
    job.resume()
    assert job.sim.advance(0) == 1
    [run] = job.found(RunStarted)
    assert (job.state(), run.late_us) == ("ran", 3_600_000_000)


def test_A5_what_is_due_later_fires_in_its_time(stage: Staging) -> None:
    job = stage()
    job.send({"schedule": "1h"})
    job.pause()
    job.resume()
    assert job.sim.advance("59m") == 0
    assert job.sim.advance("1m") == 1


def test_A5_sends_to_a_paused_instance_are_deferred_in_order(stage: Staging) -> None:
    seen: list[Any] = []
    job = stage(lambda ctx, event: seen.append(event))
    job.send(1)
    job.pause()
    assert [job.send(n).deferred for n in (2, 3)] == [True, True]
    job.sim.advance("1h")
    assert (seen, job.status().deferred_count) == ([1], 2)
    job.resume()
    job.sim.run_until_idle()
    assert (seen, len(job.found(EventHandled))) == ([1, 2, 3], 2)
    assert not job.send(4).deferred


def test_A5_an_open_run_ends_but_nothing_is_started_after_it(stage: Staging) -> None:
    def execute(ctx: Ctx) -> None:
        paused = elsewhere(job, lambda task: task.pause("a"))
        assert paused.paused
        ctx.set_state("ended")
        ctx.schedule(0)

    job = stage(execute=execute)
    job.send({"schedule": 0})
    assert job.sim.advance("1h") == 1
    assert (job.state(), job.status().status, job.status().executing) == ("ended", "paused", False)


def test_A5_a_retry_waits_too(stage: Staging) -> None:
    def execute(ctx: Ctx) -> None:
        if ctx.attempt == 1:
            raise ValueError

    job = stage(execute=execute, retry=Retry(delay="10s", jitter=0))
    job.send({"schedule": 0})
    job.sim.advance("1s")
    job.pause()
    assert job.sim.advance("1h") == 0
    assert (job.status().status, job.status().retry_at) == ("paused", START + 10 * SECOND)
    job.resume()
    assert job.sim.advance(0) == 1
    assert job.status().status == "idle"


def test_A5_a_run_that_is_lost_while_it_is_paused_is_not_taken_up_before_it_is_resumed(
    stage: Staging,
) -> None:
    # given a run whose worker dies, and a pause
    job = stage()
    job.send({"schedule": 0})
    job.sim.crash_next("after_write")
    with pytest.raises(SimulatedCrash):
        job.sim.advance(0)
    job.sim.restart()
    assert job.pause().paused
    # when its lease ends
    job.sim.advance("1h")
    # then the loss is recorded, and nothing is started
    assert (len(job.found(ExecutionLost)), len(job.found(RunStarted))) == (1, 1)
    assert (job.status().status, job.status().executing) == ("paused", False)
    # until it is resumed
    job.resume()
    job.sim.advance(0)
    assert [(r.attempt, r.trigger) for r in job.found(RunStarted)] == [
        (1, "alarm"),
        (2, "recovery"),
    ]
    assert job.status().status == "idle"


def test_A5_a_handler_may_pause_its_own_instance(stage: Staging) -> None:
    job = stage(execute=lambda ctx: ctx.set_state("ran"))
    job.send({"set_state": 1, "schedule": "1m", "pause": "the card has expired"})
    status = job.status()
    assert (status.status, status.reason, job.state()) == ("paused", "the card has expired", 1)
    assert job.found(Paused) == [Paused(reason="the card has expired", by="handler")]
    assert job.send({"set_state": 2}).deferred
    assert job.sim.advance("1h") == 0
    job.resume(reason="a new card")
    job.sim.run_until_idle()
    assert (job.state(), job.status().reason) == ("ran", None)


def test_A5_what_a_failing_handler_asked_for_is_dropped_its_pause_too(stage: Staging) -> None:
    job = stage()
    job.send({"set_state": 1})
    with pytest.raises(Exception, match="no"):
        job.send({"pause": "x", "raise": "no"})
    assert job.status().status == "idle"


def test_A5_answers_echo_the_reason_and_say_why_nothing_happened(stage: Staging) -> None:
    job = stage()
    assert (job.pause().paused, job.pause().reason) == (False, "not_found")
    assert (job.resume().resumed, job.resume().reason) == (False, "not_found")
    job.send()
    assert (job.resume().resumed, job.resume().reason) == (False, "not_paused")
    paused = job.pause(reason="stock-taking", actor="ann", correlation_id="c-1")
    assert (paused.paused, paused.reason, paused.instance_id) == (
        True,
        "stock-taking",
        "task:job:a",
    )
    assert paused.version == job.recorded()[-1].version
    assert (job.recorded()[-1].actor, job.recorded()[-1].correlation) == ("ann", "c-1")
    again = job.pause(reason="lunch")
    assert (again.paused, again.reason) == (False, "paused")
    resumed = job.resume(reason="done", actor="bob")
    assert (resumed.resumed, resumed.reason) == (True, "done")
    assert (job.found(Resumed), job.recorded()[-1].actor) == ([Resumed(reason="done")], "bob")


def test_A5_status_and_list_show_the_reason(stage: Staging) -> None:
    job = stage()
    job.send()
    job.pause(reason="stock-taking")
    assert (job.status().status, job.status().reason) == ("paused", "stock-taking")
    [row] = job.sim.list(status="paused")
    assert (row.status, row.reason) == ("paused", "stock-taking")
    job.resume()
    assert job.status().reason is None
    assert job.sim.list(status="paused") == []


@pytest.mark.parametrize("verb", ["trigger", "retry"])
def test_A5_nothing_is_run_by_hand_while_it_is_paused(stage: Staging, verb: str) -> None:
    job = stage()
    job.send()
    job.pause()
    assert getattr(job, verb)().reason == "paused"


def test_A5_a_clear_ends_a_paused_life_and_the_next_one_is_not_paused(stage: Staging) -> None:
    job = stage()
    job.send()
    job.pause()
    job.clear(after="1m")
    job.sim.advance("1m")
    assert job.status().status == "not_found"
    assert not job.send().deferred
    assert job.status().status == "idle"


def test_I1_pause_and_resume_with_a_key_are_done_once(stage: Staging) -> None:
    job = stage()
    job.send()
    first = job.pause(reason="x", idempotency_key="k")
    job.resume(idempotency_key="l")
    again = job.pause(reason="x", idempotency_key="k")
    assert (first.duplicate, again.duplicate, again.version) == (False, True, first.version)
    assert job.status().status == "idle"
    assert job.resume(idempotency_key="l").duplicate
    with pytest.raises(IdempotencyConflictError):
        job.pause(reason="another", idempotency_key="k")
    with pytest.raises(IdempotencyConflictError):
        job.trigger(idempotency_key="k")


def test_U4_a_reason_that_cannot_be_recorded_is_refused_first(stage: Staging) -> None:
    job = stage()
    job.send()
    for verb in (job.pause, job.resume):
        with pytest.raises(ValidationError):
            verb(reason="\ud800")
    assert job.names() == ["Started", "EventReceived"]


def test_A5_a_reason_that_no_store_can_show_is_shown_in_words(stage: Staging) -> None:
    job = stage()
    job.send()
    assert job.pause(reason="a\x00b").reason == "a\x00b"
    assert job.status().reason == "a\\x00b"


@pytest.mark.parametrize("point", ["before_write", "after_write"])
def test_A5_a_crash_leaves_a_pause_or_none(stage: Staging, point: Any) -> None:
    job = stage()
    job.send({"schedule": "1m"})
    job.sim.crash_next(point)
    with pytest.raises(SimulatedCrash):
        job.pause()
    job.sim.restart()
    assert job.sim.advance("1h") == (1 if point == "before_write" else 0)
