"""What holds for jobs of every type: retry (R1 to R8), pause and resume (A5), keys (I1), and
steps (I4).

A `Doer` is a job of one type whose next run is due; what its runs do is the test's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from tests.auditing import audit_all
from tests.support import START, moment_at
from wakelog import (
    Continuous,
    Debounce,
    GiveUp,
    IdempotencyConflictError,
    Jobs,
    Retry,
    RetryAfter,
    Task,
)
from wakelog.core import events as e
from wakelog.settings import Settings
from wakelog.testing import SimulatedCrash, Simulation

KINDS = ["task", "continuous", "debounce"]
every_type = pytest.mark.parametrize("kind", KINDS)
Handlers = dict[str, Callable[..., Any]]


class Cross(Exception):
    """Whatever user code raises."""


@dataclass
class Doer:
    """A simulation of one job of some type, `job`, and its instance `a`."""

    kind: str
    sim: Simulation
    seen: list[tuple[int, int, timedelta]]
    """Run, attempt, and when it began, of each call of `execute`."""

    @property
    def client(self) -> Any:
        return getattr(self.sim, self.kind)("job")

    @property
    def instance(self) -> str:
        return f"{self.kind}:job:a"

    def begin(self, id: str = "a") -> None:
        """Let a run be due now."""
        match self.kind:
            case "task":
                self.client.send(id, 0)
            case "continuous":
                self.client.start(id, 0, wait=False)
            case _:
                self.client.add(id, 0)

    def found(self, kind: type[Any]) -> list[Any]:
        recorded = self.sim.events(self.instance)
        return [each.event for each in recorded if isinstance(each.event, kind)]

    @property
    def attempts(self) -> list[tuple[int, int]]:
        return [(run, attempt) for run, attempt, _ in self.seen]

    @property
    def status(self) -> Any:
        return self.client.status("a")


Making = Callable[..., Doer]


@pytest.fixture
def doer(store_url: str) -> Iterator[Making]:
    """Makes doers on one store; at the end all that lies in it must add up."""
    with ExitStack() as closing:
        made: list[Doer] = []

        def make(
            kind: str,
            execute: Callable[[Any], Any],
            *,
            handlers: Handlers | None = None,
            settings: Settings | None = None,
            **options: Any,
        ) -> Doer:
            seen: list[tuple[int, int, timedelta]] = []

            async def run(ctx: Any) -> None:
                seen.append((ctx.run_count, ctx.attempt, ctx.now - START))
                answer = execute(ctx)
                if answer is not None:
                    await answer

            job = job_of(kind, run, **options)
            for name, handler in (handlers or {}).items():
                getattr(job, name)(handler)
            sim = Simulation(Jobs(job=job), url=store_url, start=START, settings=settings)
            made.append(Doer(kind, closing.enter_context(sim), seen))
            return made[-1]

        yield make
        for each in made:
            audit_all(each.sim.application.store)


def job_of(kind: str, run: Callable[[Any], Any], **options: Any) -> Any:
    job: Any
    match kind:
        case "task":
            job = Task(state=int, event=int, **options)
            job.on_event(lambda ctx, event: ctx.schedule(0))
        case "continuous":
            job = Continuous(state=int, every="100d", **options)
        case _:
            job = Debounce(event=int, flush_after="1d", max_events=1, **options)
    job.execute(run)
    return job


def cross(ctx: Any) -> None:
    raise Cross(f"attempt {ctx.attempt}")


def every_minute(attempts: int, **options: Any) -> Retry:
    return Retry(max_attempts=attempts, delay="1m", jitter=0, **options)


def minutes(*numbers: int) -> list[timedelta]:
    return [timedelta(minutes=number) for number in numbers]


# -- retry -----------------------------------------------------------------------------------------


@every_type
def test_R2_R4_every_type_is_tried_again_over_restarts(doer: Making, kind: str) -> None:
    job = doer(kind, cross, retry=every_minute(3))
    job.begin()
    job.sim.advance(0)
    assert (job.status.status, job.status.retry_at) == ("retrying", START + timedelta(minutes=1))
    job.sim.restart()
    job.sim.advance("1m")
    job.sim.restart()
    job.sim.advance("1h")
    assert job.attempts == [(1, 1), (1, 2), (1, 3)]
    assert [at for _, _, at in job.seen] == minutes(0, 1, 2)
    assert [(x.attempts, x.reason) for x in job.found(e.RetryExhausted)] == [(3, "max_attempts")]


@every_type
def test_R2_max_duration_bounds_every_type(doer: Making, kind: str) -> None:
    job = doer(kind, cross, retry=every_minute(99, max_duration="150s"))
    job.begin()
    job.sim.advance("1h")
    assert [at for _, _, at in job.seen] == minutes(0, 1, 2)
    assert [each.reason for each in job.found(e.RetryExhausted)] == ["max_duration"]


@every_type
@pytest.mark.parametrize("retry", [None, every_minute(5, retry_if=OSError)])
def test_R3_a_run_of_every_type_overrules_its_policy(
    doer: Making, kind: str, retry: Retry | None
) -> None:
    def execute(ctx: Any) -> None:
        raise RetryAfter("7m", Cross("busy")) if ctx.attempt == 1 else GiveUp(Cross("no more"))

    job = doer(kind, execute, retry=retry)
    job.begin()
    job.sim.advance("1h")
    assert [at for _, _, at in job.seen] == minutes(0, 7)
    assert (job.status.last_error.type, job.status.last_error.message) == ("Cross", "no more")


@every_type
@pytest.mark.parametrize("signal", [GiveUp, lambda why: RetryAfter("1m", why)])
def test_R3_a_text_says_why_and_the_signal_is_the_failure(
    doer: Making, kind: str, signal: Callable[[str], BaseException]
) -> None:
    told: list[BaseException] = []

    def execute(ctx: Any) -> None:
        raise signal("no money")

    job = doer(
        kind,
        execute,
        retry=every_minute(2),
        handlers={"on_error": lambda ctx, error: told.append(error)},
    )
    job.begin()
    job.sim.advance("1h")
    assert [type(each) for each in told] == [type(signal(""))]
    [*_, failed] = job.found(e.ExecutionFailed)
    assert failed.error_type in ("GiveUp", "RetryAfter")
    assert failed.message.endswith("no money")
    assert "no money" in failed.traceback


@every_type
def test_R3_a_delay_beyond_the_end_of_time_is_a_year(doer: Making, kind: str) -> None:
    def execute(ctx: Any) -> None:
        raise RetryAfter("2920000d")

    job = doer(kind, execute)
    job.begin()
    job.sim.advance(0)
    assert job.status.retry_at == START + timedelta(days=366)


@every_type
def test_R5_on_error_of_every_type_is_for_the_last_attempt(doer: Making, kind: str) -> None:
    told: list[str] = []
    handlers: Handlers = {"on_error": lambda ctx, error: told.append(str(error))}
    job = doer(kind, cross, retry=every_minute(2), handlers=handlers)
    job.begin()
    job.sim.advance("1h")
    assert (told, job.found(e.RetryExhausted)) == (["attempt 2"], [])
    assert [each.recovered for each in job.found(e.ExecutionFailed)] == [False, True]


@every_type
def test_R5_on_retry_exhausted_of_every_type_takes_its_place(doer: Making, kind: str) -> None:
    told: list[str] = []
    handlers: Handlers = {
        "on_error": lambda ctx, error: told.append("on_error"),
        "on_retry_exhausted": lambda ctx, error: told.append(str(error)),
    }
    job = doer(kind, cross, retry=every_minute(2), handlers=handlers)
    job.begin()
    job.sim.advance("1h")
    assert told == ["attempt 2"]


@every_type
@pytest.mark.parametrize("then", [None, "fail", "continue", "clear"])
def test_R5_what_becomes_of_every_type(doer: Making, kind: str, then: Any) -> None:
    job = doer(kind, cross, retry=every_minute(1, on_exhausted=then))
    job.begin()
    job.sim.advance(0)
    default = {"task": "fail", "continuous": "continue", "debounce": "dead_letter"}[kind]
    assert [each.then for each in job.found(e.RetryExhausted)] == [then or default]
    goes_on = {"task": "idle", "continuous": "active", "debounce": "idle"}[kind]
    stands = {"fail": "failed", "clear": "not_found"}.get(then or default, goes_on)
    assert job.status.status == stands
    assert len(job.found(e.Cleared)) == (then == "clear")


@every_type
def test_R6_a_lost_attempt_of_every_type_counts_and_too_many_exhaust_it(
    doer: Making, kind: str
) -> None:
    def execute(ctx: Any) -> None:
        job.sim.crash_next("before_write")

    job = doer(kind, execute, settings=Settings(max_lost=3))
    job.begin()
    for _ in range(3):
        with pytest.raises(SimulatedCrash):
            job.sim.advance("1m")
        job.sim.restart()
    job.sim.advance("1m")
    assert job.attempts == [(1, 1), (1, 2), (1, 3)]
    assert [each.attempt for each in job.found(e.ExecutionLost)] == [1, 2, 3]
    assert [each.reason for each in job.found(e.RetryExhausted)] == ["lost"]
    assert job.status.last_error.type == "ExecutionLost"
    assert [each.reason for each in job.found(e.DeadLettered)] == ["lost"] * (kind == "debounce")


@every_type
@pytest.mark.parametrize("verb", ["retry", "trigger"])
def test_R7_every_type_is_started_again_at_attempt_1(doer: Making, kind: str, verb: str) -> None:
    job = doer(kind, cross, retry=Retry(max_attempts=2, delay="1h", jitter=0, on_exhausted="fail"))
    job.begin()
    job.sim.advance(0)
    getattr(job.client, verb)("a")
    assert (job.attempts, job.status.status) == ([(1, 1), (1, 1)], "retrying")
    job.sim.advance("1h")
    assert job.status.status == "failed"
    getattr(job.client, verb)("a")
    assert job.attempts == [(1, 1), (1, 1), (1, 2), (1, 1)]
    ended = getattr(job.client, "terminate" if kind == "continuous" else "clear")("a")
    assert ended.version == job.sim.events(job.instance)[-1].version
    assert (job.status.status, job.sim.alarms()) == ("not_found", [])


@every_type
def test_R8_the_last_error_of_every_type_is_shown(doer: Making, kind: str) -> None:
    job = doer(kind, cross, retry=every_minute(2, on_exhausted="fail"))
    job.begin()
    job.sim.advance("1h")
    error = job.status.last_error
    assert (error.handler, error.type, error.message) == ("execute", "Cross", "attempt 2")
    assert "raise Cross" in error.traceback


# -- pause, resume, retry --------------------------------------------------------------------------


@every_type
def test_A5_every_type_is_paused_and_resumed(doer: Making, kind: str) -> None:
    job = doer(kind, lambda ctx: None)
    job.begin()
    paused = job.client.pause("a", reason="lunch", actor="ann")
    assert (paused.paused, paused.reason, job.status.status) == (True, "lunch", "paused")
    assert (job.client.pause("a").paused, job.client.pause("a").reason) == (False, "paused")
    job.sim.restart()
    job.sim.advance("1h")
    assert (job.seen, job.client.trigger("a").reason) == ([], "paused")
    assert job.client.resume("a", reason="back").reason == "back"
    assert job.client.resume("a").reason == "not_paused"
    assert [job.client.resume("x").reason, job.client.pause("x").reason] == ["not_found"] * 2
    job.sim.advance(0)
    assert job.attempts == [(1, 1)]


@every_type
def test_A5_a_run_of_every_type_that_is_paused_ends_and_starts_nothing(
    doer: Making, kind: str
) -> None:
    def execute(ctx: Any) -> None:
        ctx.pause("enough")
        if kind == "task":
            ctx.schedule(0)

    job = doer(kind, execute)
    for _ in range(2):  # of a debounce: two windows
        job.begin()
    job.sim.advance("200d")
    assert (job.status.status, len(job.found(e.Executed))) == ("paused", 1)
    job.client.resume("a")
    job.sim.advance(0)
    assert job.attempts == [(1, 1), (2, 1)]


@every_type
def test_A5_a_job_of_every_type_is_held_as_a_whole(doer: Making, kind: str) -> None:
    job = doer(kind, lambda ctx: None)
    job.sim.pause("job", reason="the bank is down")
    job.begin()
    job.begin("b")
    job.sim.advance("1h")
    assert (job.seen, job.status.status) == ([], "paused")
    recorded = job.sim.events(job.instance)
    for verb in ["trigger", "retry", *(["flush"] if kind == "debounce" else [])]:
        assert getattr(job.client, verb)("a").reason == "paused"
    assert job.sim.events(job.instance) == recorded
    assert [hold.job for hold in job.sim.job_pauses()] == [f"{kind}:job"]
    job.sim.resume("job")
    job.sim.advance(0)
    assert job.attempts == [(1, 1), (1, 1)]


@every_type
def test_A5_A6_every_type_is_changed_in_bulk_by_filter(doer: Making, kind: str) -> None:
    job = doer(kind, cross, retry=every_minute(1, on_exhausted="fail"))
    for id in "abc":
        job.begin(id)
    assert job.sim.bulk("pause", type=kind, id_prefix="a").done == 1
    job.sim.advance(0)
    failed = job.sim.bulk("retry", type=kind, status="failed", error="Cross")
    assert (failed.done, failed.instance_ids) == (2, (f"{kind}:job:b", f"{kind}:job:c"))
    assert job.sim.bulk("resume", type=kind, status="paused").instance_ids == (job.instance,)
    job.sim.advance(0)
    assert sorted(job.attempts) == [(1, 1)] * 5
    assert job.sim.bulk("clear", name="job").done == 3
    assert job.sim.list() == []


# -- keys and steps --------------------------------------------------------------------------------

VERBS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "task": [("trigger", {}), ("clear", {"after": "1h"}), ("cancel_clear", {}), ("clear", {})],
    "continuous": [
        ("trigger", {}),
        ("stop", {"reason": "why"}),
        ("start", {"input": 5}),
        ("terminate", {"reason": "why"}),
        ("start", {"input": 6}),
    ],
    "debounce": [
        ("flush", {}),
        ("trigger", {}),
        ("clear", {"after": "1h"}),
        ("cancel_clear", {}),
        ("clear", {}),
    ],
}
OF_ALL: list[tuple[str, dict[str, Any]]] = [
    ("pause", {"reason": "why"}),
    ("resume", {}),
    ("retry", {"wait": False}),
]


@every_type
def test_I1_every_command_of_every_type_takes_a_key(doer: Making, kind: str) -> None:
    job = doer(kind, lambda ctx: None)
    job.begin()
    job.sim.advance(0)
    for number, (verb, options) in enumerate([*OF_ALL, *VERBS[kind]]):
        ask = getattr(job.client, verb)
        first = ask("a", idempotency_key=f"k{number}", **options)
        before = job.sim.events(job.instance)
        again = ask("a", idempotency_key=f"k{number}", **options)
        assert (first.duplicate, again) == (False, dataclasses.replace(first, duplicate=True))
        assert job.sim.events(job.instance) == before
        other = "pause" if verb != "pause" else "resume"
        asked = "flush" if (kind, verb) == ("debounce", "trigger") else verb
        with pytest.raises(IdempotencyConflictError, match=f"for '{asked}'"):
            getattr(job.client, other)("a", idempotency_key=f"k{number}")
        assert job.client.forget_key("a", f"k{number}") is True


@every_type
def test_I4_a_recorded_step_of_every_type_is_not_done_again(doer: Making, kind: str) -> None:
    done: list[str] = []
    keys: list[str] = []

    def do(key: str) -> int:
        done.append(key)
        return 7

    async def execute(ctx: Any) -> None:
        keys.append(ctx.step_key("one"))
        assert await ctx.step("one", do, keys[-1]) == 7
        if ctx.attempt < 3:
            raise Cross

    job = doer(kind, execute, retry=every_minute(3))
    job.begin()
    job.sim.advance("1m")
    job.sim.restart()
    job.sim.advance("1m")
    begun = next(r for r in job.sim.events(job.instance) if isinstance(r.event, e.RunStarted))
    assert done == [f"{job.instance}@{begun.version}:one"]
    assert keys == 3 * done
    assert [each.result for each in job.found(e.StepCompleted)] == ["7"]
    assert len(job.found(e.Executed)) == 1
    assert moment_at(begun.at_us) == START
