"""I4: parts of a run, each with a name; what one has recorded, no later attempt does again."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest

from tests.support import START, WAIT_S, Ctx, Stage, Staging, elsewhere
from tests.support_steps import Way, World, both_ways, errors, executing, started
from wakelog import Backoff, GiveUp, InvalidStateError, Jobs, LeaseLostError, Retry, RetryAfter
from wakelog.core.events import ExecutionFailed, RunStarted, StepCompleted
from wakelog.testing import SimulatedCrash, Simulation
from wakelog.worker.claims import rearm

Point = Literal["before_write", "after_write"]


# -- recorded --------------------------------------------------------------------------------------


@both_ways
def test_I4_a_result_is_recorded_when_it_is_there_in_an_append_of_its_own(
    stage: Staging, way: Way
) -> None:
    # given
    def body(ctx: Ctx) -> Any:
        ctx.set_state("not yet")
        first = yield lambda step: step("one", operator.add, 1, 2)
        assert job.names()[-1] == "StepCompleted"
        second = yield lambda step: step("two", str.upper, "done")
        ctx.set_state([first, second])

    job = started(stage, executing(way, body))
    # when
    job.sim.advance("1m")
    # then
    assert job.commits()[1:] == [
        ["RunStarted"],
        ["StepCompleted"],
        ["StepCompleted"],
        ["Executed", "StateSet"],
    ]
    assert [(e.run, e.step, e.result) for e in job.found(StepCompleted)] == [
        (1, "one", "3"),
        (1, "two", '"DONE"'),
    ]
    assert job.state() == [3, "DONE"]
    assert job.sim.history("task:job:a")[5].description == (
        "step 'two' of run 1 ended with \"DONE\""
    )
    run = job.recorded()[3]
    assert isinstance(run.event, RunStarted)
    assert job.recorded()[4].cause == f"task:job:a@{run.version}"


@both_ways
def test_I4_the_next_attempt_is_answered_from_the_log(stage: Staging, way: Way) -> None:
    # given a run that fails twice after its first step, and once more after its second
    world = World()
    seen: list[Any] = []

    def body(ctx: Ctx) -> Any:
        for number, name in enumerate(("one", "two", "three"), start=1):
            seen.append((yield lambda step, name=name: step(name, world.do, name)))
            if ctx.attempt == number:
                raise ValueError(name)

    job = started(stage, executing(way, body), retry=Retry(max_attempts=4))
    # when
    job.sim.run_until_idle()
    # then
    assert world.done == ["one", "two", "three"]
    assert seen == [
        f"{name} done"
        for attempt in (["one"], ["one", "two"], ["one", "two", "three"], ["one", "two", "three"])
        for name in attempt
    ]
    assert job.status().status == "idle"


@both_ways
def test_I4_so_is_a_run_that_somebody_starts_again(stage: Staging, way: Way) -> None:
    # given a run that has failed for good
    world = World()
    keys: list[str] = []

    def body(ctx: Ctx) -> Any:
        keys.append(ctx.step_key("one"))
        yield lambda step: step("one", world.do, "one")
        if len(keys) < 3:
            raise ValueError("not yet")

    job = started(stage, executing(way, body))
    job.sim.advance("1m")
    # when an operator asks for it again, and a trigger does
    job.sim.task(job.task).retry("a")
    job.trigger()
    # then
    assert world.done == ["one"]
    assert keys == ["task:job:a@4:one"] * 3
    assert job.status().status == "idle"


@both_ways
def test_I4_the_next_run_does_it_again_under_another_key(stage: Staging, way: Way) -> None:
    world = World()

    def body(ctx: Ctx) -> Any:
        yield lambda step: step("one", world.do, "one", ctx.step_key("one"))

    job = started(stage, executing(way, body))
    job.sim.advance("1m")
    job.trigger()
    job.clear()
    job.send({"schedule": "1m"})
    job.sim.advance("1m")
    assert world.done == ["one"] * 3
    assert len(world.keys["one"]) == 3


def test_I4_a_step_among_many_other_events_is_found(
    stage: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a run, open for long
    monkeypatch.setattr("wakelog.worker.step_recorder.PAGE", 4)
    world = World()

    async def execute(ctx: Ctx) -> None:
        await ctx.step("one", world.do, "one")
        if ctx.attempt == 1:
            elsewhere(job, lambda task: [task.send("a", {}) for _ in range(11)])
            await ctx.step("two", world.do, "two")
            raise ValueError("again")
        await ctx.step("two", world.do, "two")

    job = started(stage, execute, retry=Retry())
    # when
    job.sim.run_until_idle()
    # then
    assert world.done == ["one", "two"]
    assert job.status().event_count == 12


# -- crashes ---------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("point", ["before_write", "after_write"])
@pytest.mark.parametrize("write", range(5), ids=["begin", "one", "two", "three", "end"])
def test_I4_K1_killed_at_any_write_of_a_run_no_recorded_step_is_done_again(
    stage: Staging, way: Way, point: Point, write: int
) -> None:
    # given a run of three steps, in which the process dies
    world = World()

    def body(ctx: Ctx) -> Any:
        for name in ("one", "two", "three"):
            key = ctx.step_key(name)
            answer = yield lambda step, n=name, k=key: step(n, world.do, n, k)
            assert answer == f"{name} done"
        ctx.set_state("done")

    job = started(stage, executing(way, body))
    crash_at(job, write, point)
    with pytest.raises(SimulatedCrash):
        job.sim.advance("1m")
    recorded = [e.step for e in job.found(StepCompleted)]
    before = list(world.done)
    # when
    job.sim.restart()
    job.sim.run_until_idle()
    # then what was recorded is not done again; what was done but not recorded is, with its key
    assert before[: len(recorded)] == recorded
    assert len(before) - len(recorded) == (point == "before_write" and write in (1, 2, 3))
    assert recorded + world.done[len(before) :] == ["one", "two", "three"]
    assert [len(keys) for keys in world.keys.values()] == [1, 1, 1]
    assert [e.step for e in job.found(StepCompleted)] == ["one", "two", "three"]
    assert job.state() == "done"


def crash_at(job: Stage, number: int, point: Point) -> None:
    """Let the simulated process die at its write of that number, from 0."""
    store: Any = job.sim.application.store
    original, left = store.append, number

    def append(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if left == 0:
            job.sim.crash_next(point)
            return store.append(*args, **kwargs)
        left -= 1
        return original(*args, **kwargs)

    store.append = append


# -- others meanwhile ------------------------------------------------------------------------------


@both_ways
def test_I4_U3_a_result_goes_on_top_of_what_others_append_meanwhile(
    stage: Staging, way: Way
) -> None:
    # given
    def meanwhile() -> str:
        assert elsewhere(job, lambda task: task.send("a", {"set_state": "later"})).deferred
        elsewhere(job, lambda task: task.pause("a"))
        return "done"

    def body(ctx: Ctx) -> Any:
        yield lambda step: step("one", meanwhile)

    job = started(stage, executing(way, body))
    # when
    job.sim.advance("1m")
    # then
    assert job.names()[3:] == ["RunStarted", "EventReceived", "Paused", "StepCompleted", "Executed"]


@both_ways
def test_I4_T9_a_step_after_a_clear_records_nothing_and_the_run_ends(
    stage: Staging, way: Way
) -> None:
    # given a run whose life is ended in the middle of a step, and that does not want to know
    world = World()

    def body(ctx: Ctx) -> Any:
        with pytest.raises(LeaseLostError) as lost:
            yield lambda step: step("one", elsewhere, job, lambda task: task.clear("a") and None)
        assert (lost.value.instance_id, lost.value.run) == ("task:job:a", 1)
        with pytest.raises(LeaseLostError):
            yield lambda step: step("two", world.do, "two")
        ctx.set_state("late")

    job = started(stage, executing(way, body))
    # when
    with pytest.raises(LeaseLostError):
        job.sim.advance("1m")
    # then
    assert world.done == []
    assert job.names()[3:] == ["RunStarted", "Cleared"]


@both_ways
def test_I4_T9_nor_does_one_of_an_earlier_life(stage: Staging, way: Way) -> None:
    # given a run, cleared in a step, while the next life has an open run of the same number
    def next_life() -> None:
        elsewhere(job, lambda task: task.clear("a"))
        elsewhere(job, lambda task: task.send("a", {"schedule": 0}))
        in_another_simulation(job, lambda sim: sim.fire("task:job:a"))

    def body(ctx: Ctx) -> Any:
        if job.found(StepCompleted) == [] and not begun:
            begun.append(1)
            yield lambda step: step("one", next_life)
        else:
            yield lambda step: step("one", str)

    begun: list[int] = []
    job = started(stage, executing(way, body))
    # when
    with pytest.raises(LeaseLostError):
        job.sim.advance("1m")
    # then
    assert [e.result for e in job.found(StepCompleted)] == ['""']


@both_ways
def test_I4_U2_a_step_after_a_takeover_records_nothing(stage: Staging, way: Way) -> None:
    # given a worker that stalls in a step until another one has taken its run over
    world = World()

    def stalls() -> str:
        in_another_simulation(job, lambda sim: sim.advance("31s"))
        return "late"

    def body(ctx: Ctx) -> Any:
        yield lambda step: step("one", world.do, "one", ctx.step_key("one"))
        slow = stalls if ctx.attempt == 1 else functools.partial(world.do, "in time")
        ctx.set_state((yield lambda step: step("two", slow)))

    job = started(stage, executing(way, body))
    # when
    with pytest.raises(LeaseLostError):
        job.sim.advance("1m")
    # then
    assert [(e.step, e.result) for e in job.found(StepCompleted)] == [
        ("one", '"one done"'),
        ("two", '"in time done"'),
    ]
    assert world.done == ["one", "in time"]
    assert job.state() == "in time done"


@both_ways
def test_I4_U2_nor_does_one_whose_lease_is_gone(stage: Staging, way: Way) -> None:
    def drops() -> str:
        [run] = [r for r in job.recorded() if isinstance(r.event, RunStarted)]
        held = [(run.stream, run.version)]
        job.sim.application.store.release("simulation", held)
        return "done"

    def body(ctx: Ctx) -> Any:
        yield lambda step: step("one", drops if ctx.attempt == 1 else str)

    job = started(stage, executing(way, body))
    # when
    with pytest.raises(LeaseLostError):
        job.sim.advance("1m")
    # then
    assert job.names()[3:] == ["RunStarted"]
    # and a sweep finds the run, which begins again
    version = job.recorded()[-1].version
    job.sim.run(rearm(job.sim.application, "task:job:a", version))
    job.sim.run_until_idle()
    assert [e.result for e in job.found(StepCompleted)] == ['""']


def in_another_simulation(job: Stage, do: Callable[[Simulation], Any]) -> None:
    """Let something happen in another process, at the same time."""

    def run() -> None:
        with Simulation(Jobs(job=job.task), url=job.url, start=job.sim.now, seed=9) as other:
            do(other)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(run).result(WAIT_S)


# -- failing ---------------------------------------------------------------------------------------


@both_ways
def test_I4_a_step_that_raises_is_not_recorded(stage: Staging, way: Way) -> None:
    seen: list[int] = []

    def fails_once() -> str:
        seen.append(1)
        if len(seen) == 1:
            raise ConnectionError("gone")
        return "sent"

    def body(ctx: Ctx) -> Any:
        ctx.set_state((yield lambda step: step("mail", fails_once)))

    job = started(stage, executing(way, body), retry=Retry())
    job.sim.run_until_idle()
    assert errors(job) == ["ConnectionError"]
    assert [e.result for e in job.found(StepCompleted)] == ['"sent"']
    assert job.state() == "sent"


@both_ways
def test_I4_with_retry_it_is_tried_again_in_the_same_attempt(stage: Staging, way: Way) -> None:
    # given
    tries: list[datetime] = []

    def fails_twice() -> str:
        tries.append(job.sim.now)
        if len(tries) < 3:
            raise ConnectionError("gone")
        return "sent"

    retry = Retry(max_attempts=3, delay=Backoff.exponential("2s"), jitter=0)

    def body(ctx: Ctx) -> Any:
        ctx.set_state((yield lambda step: step("mail", fails_twice, retry=retry)))

    job = started(stage, executing(way, body))
    # when
    job.sim.run_until_idle()
    # then it waited in between, as long as it should, and nothing of it is recorded
    first = START + timedelta(minutes=1)
    assert tries == [first, first + timedelta(seconds=2), first + timedelta(seconds=6)]
    assert job.commits()[1:] == [["RunStarted"], ["StepCompleted"], ["Executed", "StateSet"]]
    assert job.state() == "sent"


@both_ways
@pytest.mark.parametrize(
    ("retry", "tried"),
    [
        (Retry(max_attempts=2), 2),
        (Retry(max_attempts=9, delay="10s", jitter=0, max_duration="25s"), 3),
        (Retry(max_attempts=9, retry_if=ValueError), 1),
        (Retry(max_attempts=4, retry_if=lambda error: "gone" in str(error), delay=1), 4),
        (Retry(max_attempts=3, delay=lambda attempt: attempt), 3),
    ],
)
def test_I4_R1_what_is_left_when_no_try_is_left_is_the_last_error(
    stage: Staging, way: Way, retry: Retry, tried: int
) -> None:
    world = World()

    def fails() -> None:
        world.do("mail")
        raise ConnectionError(f"gone {len(world.done)}")

    def body(ctx: Ctx) -> Any:
        yield lambda step: step("mail", fails, retry=retry)

    job = started(stage, executing(way, body))
    job.sim.run_until_idle()
    assert len(world.done) == tried
    assert [e.message for e in job.found(ExecutionFailed)] == [f"gone {tried}"]
    assert job.found(StepCompleted) == []


@both_ways
def test_I4_R3_a_step_may_say_when_to_try_again_or_that_it_is_in_vain(
    stage: Staging, way: Way
) -> None:
    # given
    tries: list[float] = []

    def busy() -> None:
        tries.append((job.sim.now - START).total_seconds())
        if len(tries) == 1:
            raise RetryAfter("40s", ConnectionError("busy"))
        raise GiveUp(ConnectionError("closed down"))

    def body(ctx: Ctx) -> Any:
        yield lambda step: step("mail", busy, retry=Retry(max_attempts=5))

    job = started(stage, executing(way, body), retry=Retry(max_attempts=5))
    # when
    job.sim.run_until_idle()
    # then, without a try of the step or an attempt of the run after it gave up
    assert tries == [60, 100]
    assert [(e.error_type, e.message) for e in job.found(ExecutionFailed)] == [
        ("ConnectionError", "closed down")
    ]


@both_ways
def test_I4_R3_without_a_retry_of_its_own_it_says_so_to_the_run(stage: Staging, way: Way) -> None:
    tries: list[float] = []

    def busy() -> str:
        tries.append((job.sim.now - START).total_seconds())
        if len(tries) == 1:
            raise RetryAfter("1h")
        return "sent"

    def body(ctx: Ctx) -> Any:
        yield lambda step: step("mail", busy)

    job = started(stage, executing(way, body))
    job.sim.run_until_idle()
    assert tries == [60, 3660]
    assert job.names()[4:6] == ["ExecutionFailed", "RetryScheduled"]


@both_ways
def test_I4_U6_a_clear_inside_a_step_ends_the_life(stage: Staging, way: Way) -> None:
    # given a step that clears, and hides it
    world = World()

    def hides(ctx: Ctx) -> str:
        with contextlib.suppress(BaseException):
            ctx.clear("enough")
        return "hidden"

    def body(ctx: Ctx) -> Any:
        try:
            yield lambda step: step("one", hides, ctx, retry=Retry())
        finally:
            yield lambda step: step("two", world.do, "two")

    job = started(stage, executing(way, body))
    # when
    job.sim.advance("1m")
    # then
    assert world.done == []
    assert job.names()[3:] == ["RunStarted", "Executed", "Cleared"]


@both_ways
def test_I4_U6_after_it_nothing_is_tried_again(stage: Staging, way: Way) -> None:
    def clears(ctx: Ctx) -> None:
        try:
            ctx.clear("enough")
        finally:
            raise ValueError("hidden")

    def body(ctx: Ctx) -> Any:
        yield lambda step: step("one", clears, ctx, retry=Retry(delay="1h"))

    job = started(stage, executing(way, body))
    job.sim.advance("1m")
    assert job.names()[3:] == ["RunStarted", "Executed", "Cleared"]
    assert job.sim.now == START + timedelta(minutes=1)


@both_ways
def test_I4_U13_a_step_must_not_wait_for_the_app(stage: Staging, way: Way) -> None:
    def body(ctx: Ctx) -> Any:
        with pytest.raises(InvalidStateError, match="must not wait for the app"):
            yield lambda step: step("one", lambda: job.send())

    job = started(stage, executing(way, body))
    job.sim.advance("1m")
    assert job.status().status == "idle"
