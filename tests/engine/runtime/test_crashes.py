"""A process may die before or after any write, and nothing that was promised is lost (K1)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import pytest

from tests.support import START, Ctx, Stage, Staging, staged, task_of
from wakelog.core.events import ExecutionLost, RunStarted
from wakelog.ports.pools import PoolSeen, PoolWrites
from wakelog.testing import SimulatedCrash
from wakelog.testing.crash import crash_next, revive
from wakelog_adapters.conformance.pool.units import call, count_up, number_in, pool_look
from wakelog_adapters.conformance.units import UnitBuilder
from wakelog_adapters.memory import open_store

Point = Literal["before_write", "after_write"]
POINTS: list[Point] = ["before_write", "after_write"]


def story(job: Stage) -> list[Callable[[], Any]]:
    """A life with everything in it. Each step has a key, so that asking again is safe."""
    return [
        lambda: job.send({"set_state": ["placed"], "schedule": "5m"}, event_id="1"),
        lambda: job.send({}, event_id="2", delay="10m"),
        lambda: job.sim.advance_to(START + timedelta(minutes=5)),
        lambda: job.trigger(idempotency_key="3"),
        lambda: job.send({"set_state": ["paid"]}, event_id="4"),
        lambda: job.sim.advance_to(START + timedelta(hours=1)),
        lambda: job.send({"schedule": "1m"}, event_id="5"),
        job.sim.run_until_idle,
        lambda: job.clear(idempotency_key="6"),
        lambda: job.send({"set_state": ["again"]}, event_id="7"),
    ]


def execute(ctx: Ctx) -> None:
    ctx.set_state([*ctx.state, f"run {ctx.run_count}"])


@pytest.mark.parametrize("point", POINTS)
def test_K1_killed_at_any_write_the_story_goes_on_to_the_same_end(point: Point) -> None:
    # given the story, without a crash
    calm = staged(task_of(execute=execute), "memory://")
    with calm.sim:
        for step in story(calm):
            step()
        end = _end(calm)
    # when it is told again, with a crash at the first write, the second, the third …
    crashes = 0
    for crash_at in range(100):
        job = staged(calm.task, "memory://")
        with job.sim:
            crashed = _with_crash(job, crash_at, point)
            # then it has the same end, and what was appended is whole
            assert _end(job) == end
            job.audit()
        if not crashed:
            break
        crashes += 1
    assert 12 < crashes < 100, "the story has some twenty writes"


def _with_crash(job: Stage, crash_at: int, point: Point) -> bool:
    """Tell the story with a crash at one write; False if it has not that many."""
    store: Any = job.sim.application.store
    writes = 0

    def counted(name: Literal["append", "claim"]) -> Callable[..., Any]:
        original = getattr(store, name)

        def write(*args: Any, **kwargs: Any) -> Any:
            nonlocal writes
            if writes < crash_at:
                writes += 1
                return original(*args, **kwargs)
            crash_next(store, point, name)
            return getattr(store, name)(*args, **kwargs)

        return write

    store.append, store.claim = counted("append"), counted("claim")
    crashed = False
    steps = story(job)
    while steps:
        try:
            steps[0]()
        except SimulatedCrash:
            assert not crashed
            crashed = True
            job.sim.restart()
            job.sim.advance("30s")  # the dead process's lease
        else:
            steps.pop(0)
    return crashed


def _end(job: Stage) -> Any:
    """How the story ended, and what it was made of but for what the crash itself has left.

    A run may come a lease later, and then what came after it goes before it.
    """
    told = [name for name in job.names() if name not in ("ExecutionLost", "RunStarted")]
    return job.state(), job.status().event_count, job.status().status, sorted(told)


@pytest.mark.parametrize("point", POINTS)
def test_K1_an_acknowledged_send_is_there_and_an_unanswered_one_whole_or_not(
    stage: Staging, point: Point
) -> None:
    # given
    job = stage()
    job.send({"set_state": 1, "schedule": "1h"})
    job.sim.crash_next(point)
    with pytest.raises(SimulatedCrash):
        job.send({"set_state": 2})
    # when
    job.sim.restart()
    # then
    assert job.state() == (2 if point == "after_write" else 1)
    assert job.commits()[0] == ["Started", "EventReceived", "StateSet", "Scheduled"]
    assert job.commits()[1:] == ([["EventReceived", "StateSet"]] if point == "after_write" else [])


def test_K1_a_process_that_has_died_writes_nothing_more(stage: Staging) -> None:
    job = stage()
    job.send({"set_state": 1})
    job.sim.crash_next("before_write")
    for _ in range(3):
        with pytest.raises(SimulatedCrash):
            job.send({"set_state": 2})
    job.sim.restart()
    assert job.state() == 1
    assert job.send({"set_state": 2}).event_count == 2


def test_K1_the_open_run_of_a_dead_worker_is_taken_up_when_its_lease_ends(stage: Staging) -> None:
    # given a worker that dies right after it has begun a run
    job = stage(execute=execute)
    job.send({"set_state": [], "schedule": "5m"})
    job.sim.crash_next("after_write")
    with pytest.raises(SimulatedCrash):
        job.sim.advance("5m")
    job.sim.restart()
    assert job.status().executing
    # when its lease is still good
    job.sim.advance("29s")
    assert job.status().executing
    assert job.send({}).deferred
    # when it has ended
    job.sim.advance("1s")
    # then
    assert job.state() == ["run 1"]
    [lost] = job.found(ExecutionLost)
    assert (lost.run, lost.attempt, lost.reason) == (1, 1, "lease_expired")
    assert [(e.run, e.attempt, e.trigger) for e in job.found(RunStarted)] == [
        (1, 1, "alarm"),
        (1, 2, "recovery"),
    ]
    status = job.status()
    assert (status.status, status.execute_count, status.deferred_count) == ("idle", 1, 0)


def test_K1_a_run_whose_outcome_was_not_recorded_runs_again(stage: Staging) -> None:
    # given a run that dies before its outcome is on the disk
    seen: list[int] = []

    def dies_once(ctx: Ctx) -> None:
        seen.append(ctx.attempt)
        if len(seen) == 1:
            job.sim.crash_next("before_write")
        ctx.set_state(ctx.attempt)

    job = stage(execute=dies_once)
    job.send({"schedule": "5m"})
    with pytest.raises(SimulatedCrash):
        job.sim.advance("5m")
    job.sim.restart()
    # when
    job.sim.run_until_idle()
    # then
    assert seen == [1, 2]
    assert job.state() == 2


def test_K1_one_whose_outcome_was_recorded_does_not(stage: Staging) -> None:
    seen: list[int] = []

    def dies(ctx: Ctx) -> None:
        seen.append(ctx.attempt)
        job.sim.crash_next("after_write")
        ctx.set_state(ctx.attempt)

    job = stage(execute=dies)
    job.send({"schedule": "5m"})
    with pytest.raises(SimulatedCrash):
        job.sim.advance("5m")
    job.sim.restart()
    job.sim.run_until_idle()
    assert (seen, job.state()) == ([1], 1)


@pytest.mark.parametrize("point", POINTS)
def test_K1_a_deferred_event_survives_the_process_that_was_handling_it(
    stage: Staging, point: Point
) -> None:
    # given a worker that dies while it handles what waits
    handled: list[int] = []

    def on_event(ctx: Ctx, event: int) -> None:
        handled.append(event)
        if handled == [1]:
            job.sim.crash_next(point)
        ctx.set_state([*(ctx.state or []), event])

    job = stage(on_event)
    for n in (1, 2, 3):
        job.send(n, delay="1h")
    with pytest.raises(SimulatedCrash):
        job.sim.advance("1h")
    job.sim.restart()
    # when
    job.sim.run_until_idle()
    # then each is applied once, in order
    assert job.state() == [1, 2, 3]
    assert job.status().deferred_count == 0


def test_K1_commit_ids_never_repeat_over_restarts_and_processes(stage: Staging) -> None:
    # given
    job = stage()
    for _ in range(3):
        job.send()
        job.sim.restart()
        job.send()
    with staged(job.task, job.url, start=START).sim as other:
        other.task("job").send("a", {})
    # then
    assert len({r.commit for r in job.recorded()}) == 7


def test_K1_a_run_that_kills_its_process_does_not_circle_for_ever(stage: Staging) -> None:
    # given
    seen: list[int] = []

    def kills(ctx: Ctx) -> None:
        seen.append(ctx.attempt)
        job.sim.crash_next("before_write")

    job = stage(execute=kills)
    job.send({"schedule": "5m"})
    # when
    for _ in range(5):
        with pytest.raises(SimulatedCrash):
            job.sim.advance("1h")
        job.sim.restart()
    job.sim.run_until_idle()
    # then
    assert seen == [1, 2, 3, 4, 5]
    assert job.status().status == "failed"


@pytest.mark.parametrize("point", POINTS)
def test_K1_a_call_of_a_pool_dies_before_or_after_its_write(point: Point) -> None:
    store, builder = open_store("memory://").application_recorder(), UnitBuilder()
    crash_next(store, point)
    call(store, PoolWrites(due_us=1))  # it writes nothing
    with pytest.raises(ValueError, match="no plan"):
        store.pool_call(pool_look(), _no_plan)
    with pytest.raises(SimulatedCrash):
        store.pool_call(pool_look(), count_up)
    written = 0 if point == "before_write" else 1
    assert number_in(store.pool_look(pool_look()).state) == written
    # it is dead
    for write in (lambda: call(store, PoolWrites()), lambda: store.append([builder.begin()])):
        with pytest.raises(SimulatedCrash):
            write()
    revive(store)
    store.pool_call(pool_look(), count_up)
    assert number_in(store.pool_look(pool_look()).state) == written + 1


def test_K1_the_next_write_dies_be_it_an_append_or_a_call_of_a_pool() -> None:
    store, builder = open_store("memory://").application_recorder(), UnitBuilder()
    crash_next(store, "after_write")
    with pytest.raises(SimulatedCrash):
        store.append([builder.begin()])
    with pytest.raises(SimulatedCrash):
        store.pool_call(pool_look(), count_up)
    assert store.pool_look(pool_look()).state is None


def _no_plan(seen: PoolSeen) -> PoolWrites:
    raise ValueError("no plan")
