"""Retry of deferred events (T15), and the last error, whatever it was (R8)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.engine.kinds.retrying import HOUR, MINUTE, SECOND, SOON, Cross, Recoverer, Run, every
from tests.support import START, Ctx, Staging, moment_at
from wakelog import ExecutionError, GiveUp, Retry, RetryAfter, RetryExhaustedError
from wakelog.core.events import DeadLettered, EventHandled, RetryScheduled
from wakelog.errors import WakelogError
from wakelog.testing import SimulatedCrash

# -- the last error --------------------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self) -> str:
        raise Cross


class Exiting(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Odd(Exception):
    def __getattribute__(self, name: str) -> Any:
        if name == "__notes__":
            raise Cross
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    ("raised", "type", "message"),
    [
        (KeyError("k"), "KeyError", "'k'"),
        (Cross(1, {"a": 2}), "Cross", "(1, {'a': 2})"),
        (Cross(), "Cross", ""),
        (Unprintable(), "Unprintable", "(its message cannot be shown: Cross)"),
        (Exiting(), "Exiting", "(its message cannot be shown: SystemExit)"),
        (Odd("n"), "Odd", "n"),
        (ExceptionGroup("two", [Cross("a"), Cross("b")]), "ExceptionGroup", "two (2 sub-exc"),
        (SystemExit(3), "SystemExit", "3"),
        (GeneratorExit(), "GeneratorExit", ""),
        (Cross("\x00\ud800"), "Cross", "\\x00\\ud800"),
        (type("Bad", (Exception,), {"__qualname__": "B\0d"})("x"), "B\\x00d", "x"),
        (WakelogError("ours"), "WakelogError", "ours"),
        (RetryExhaustedError("task:job:a", "lost", 2), "RetryExhaustedError", "task:job:a gave"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
@pytest.mark.parametrize("retry", [None, every(max_attempts=2)])
def test_R8_the_real_last_error_is_kept_whatever_it_was(
    stage: Staging, raised: BaseException, type: str, message: str, retry: Retry | None
) -> None:
    run = Run(raised)
    job = stage(execute=run, retry=retry)
    job.send(SOON)
    job.sim.run_until_idle()
    assert len(run.seen) == (1 if retry is None else 2)
    status = job.status()
    assert (status.status, status.failure_count) == ("failed", len(run.seen))
    assert status.last_error is not None
    assert status.last_error.type.rpartition(".")[2] == type
    assert status.last_error.message.startswith(message)
    assert status.last_error.at == moment_at(job.recorded()[-1].at_us)


def test_R8_it_stays_when_the_run_is_exhausted_or_given_back(stage: Staging) -> None:
    job = stage(execute=Run(Cross("one"), Cross("two")), retry=every(max_attempts=2))
    job.send(SOON)
    job.sim.run_until_idle()
    error = job.status().last_error
    assert error is not None
    assert (error.handler, error.message) == ("execute", "two")
    assert "Cross: two" in error.traceback


# -- deferred events -------------------------------------------------------------------------------


class Handler:
    """An `on_event` that fails for the events "bad" so many times."""

    def __init__(self, failures: int, raised: BaseException | None = None) -> None:
        self.failures = failures
        self.raised = raised or Cross("not yet")
        self.seen: list[Any] = []
        self.at: list[timedelta] = []

    def __call__(self, ctx: Ctx, event: Any) -> None:
        self.seen.append(event)
        self.at.append(ctx.now - START)
        if event == "bad" and self.failures:
            self.failures -= 1
            raise self.raised


def test_T15_a_deferred_event_that_fails_is_tried_again_and_those_behind_it_wait(
    stage: Staging,
) -> None:
    on_event = Handler(2)
    job = stage(on_event, retry=every("10s"))
    for event in ("bad", "good"):
        job.send(event, delay="1m")
    # when the first has failed once
    job.sim.advance("65s")
    # then all that come wait behind it
    assert job.send("late").deferred
    assert on_event.seen == ["bad"]
    assert (job.status().deferred_count, job.status().status) == (3, "active")
    job.sim.run_until_idle()
    assert on_event.seen == ["bad", "bad", "bad", "good", "late"]
    assert on_event.at[:3] == [MINUTE, MINUTE + 10 * SECOND, MINUTE + 20 * SECOND]
    assert [r.attempt for r in job.found(RetryScheduled)] == [2, 3]
    assert len(job.found(EventHandled)) == 3
    assert job.found(DeadLettered) == []


def test_T15_one_that_fails_for_good_is_dead_lettered_and_the_next_goes_on(stage: Staging) -> None:
    on_event = Handler(99)
    job = stage(on_event, retry=every("10s"))
    bad = job.send("bad", delay=0)
    job.send("good")
    job.sim.run_until_idle()
    assert on_event.seen == ["bad", "bad", "bad", "good"]
    [dead] = job.found(DeadLettered)
    assert (dead.event_version, dead.reason, dead.attempts) == (bad.version, "max_attempts", 3)
    assert (dead.error_type, dead.message) == ("Cross", "not yet")
    assert job.status().failure_count == 3


@pytest.mark.parametrize(
    ("raised", "retry", "attempts", "reason"),
    [
        (Cross("x"), None, 1, "handler_failed"),
        (GiveUp(Cross("x")), every(), 1, "not_retryable"),
        (GiveUp(Cross("x")), None, 1, "handler_failed"),
        (RetryAfter(1, Cross("x")), every("1h"), 3, "max_attempts"),
        (Cross("x"), every("40s", max_attempts=9, max_duration="1m"), 2, "max_duration"),
    ],
)
def test_T15_its_policy_judges_it_as_it_does_a_run(
    stage: Staging, raised: BaseException, retry: Retry | None, attempts: int, reason: str
) -> None:
    on_event = Handler(99, raised)
    job = stage(on_event, retry=retry)
    job.send("bad", delay=0)
    job.sim.run_until_idle()
    [dead] = job.found(DeadLettered)
    assert (dead.attempts, dead.reason, dead.error_type) == (attempts, reason, "Cross")
    assert len(on_event.seen) == attempts


def test_T15_on_error_may_recover_its_last_attempt(stage: Staging) -> None:
    on_error = Recoverer()
    job = stage(Handler(99), on_error=on_error, retry=every(max_attempts=2))
    job.send("bad", delay=0)
    job.sim.run_until_idle()
    assert [source for source, *_ in on_error.told] == ["on_event"]
    assert (job.state(), len(job.found(EventHandled))) == ("recovered", 1)
    assert job.found(DeadLettered) == []


def test_T15_a_send_that_waits_waits_through_the_retries(stage: Staging) -> None:
    job = stage(Handler(2), retry=every("10s"))
    sent = job.send("bad", delay=0, wait=True)
    assert job.found(EventHandled) == [EventHandled(event_version=sent.version)]
    assert job.sim.now == START + 20 * SECOND
    # and hears of the error where there is no other attempt
    job = stage(Handler(99), retry=every("10s", max_attempts=2))
    with pytest.raises(ExecutionError, match="Cross: not yet"):
        job.send("bad", id="b", delay=0, wait=True)


@pytest.mark.parametrize("point", ["before_write", "after_write"])
def test_T15_its_attempts_survive_a_crash(stage: Staging, point: Any) -> None:
    handler = Handler(99)

    def on_event(ctx: Ctx, event: Any) -> None:
        if not handler.seen:
            job.sim.crash_next(point)
        handler(ctx, event)

    job = stage(on_event, retry=every("10s"))
    job.send("bad", delay="1s")
    with pytest.raises(SimulatedCrash):
        job.sim.advance("1s")
    job.sim.restart()
    job.sim.run_until_idle()
    # an attempt whose outcome was not recorded did not count
    assert len(handler.seen) == (4 if point == "before_write" else 3)
    assert job.found(DeadLettered)[0].attempts == 3


def test_T15_schedules_and_runs_go_on_while_an_event_waits_for_its_next_try(
    stage: Staging,
) -> None:
    run = Run(None)
    job = stage(Handler(1), execute=run, retry=every("1h"))
    job.send("bad", delay=0)
    job.sim.advance("1s")
    job.trigger()
    assert run.at == [SECOND]
    job.sim.run_until_idle()
    assert job.sim.now == START + HOUR
