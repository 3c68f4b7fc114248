"""I5: a step inside a step is refused, since a repetition of the outer one would find its name in
use; what a stopped run asks of its context afterwards (I4)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, Staging, task_of
from tests.support_steps import Way, World, both_ways, errors, executing, started
from wakelog import Debounce, Jobs, LeaseLostError, Retry, WorkerPool
from wakelog.core.events import ExecutionFailed, StepCompleted
from wakelog.testing import Simulation


@both_ways
def test_I5_a_step_inside_a_step_is_refused_at_once_whatever_its_policy(
    stage: Staging, way: Way
) -> None:
    # given
    world = World()

    def body(ctx: Ctx) -> Any:
        inner = nested(ctx, way, world)
        yield lambda step: step("outer", inner, retry=Retry(max_attempts=9, delay="1h"))

    job = started(stage, executing(way, body))
    # when
    job.sim.advance("1m")
    # then it is the first error, and the only one
    assert errors(job) == ["InvalidStateError"]
    [failed] = job.found(ExecutionFailed)
    assert failed.message.startswith("step 'inner' is inside step 'outer': ")
    assert world.done == ["outer"]
    assert job.found(StepCompleted) == []


@both_ways
def test_I5_a_step_after_a_step_is_not_inside_it(stage: Staging, way: Way) -> None:
    world = World()

    def body(ctx: Ctx) -> Any:
        for name in ("one", "two"):
            try:
                yield lambda step, name=name: step(name, nested(ctx, way, world))
            except Exception:
                world.do(f"{name} is refused")
        key = yield lambda step: step("key", lambda: ctx.step_key("key"))
        ctx.set_state(key)

    job = started(stage, executing(way, body))
    job.sim.advance("1m")
    assert world.done == ["outer", "one is refused", "outer", "two is refused"]
    assert job.state() == "task:job:a@4:key"


def nested(ctx: Ctx, way: Way, world: World) -> Callable[[], Any]:
    """A step's function that has a step of its own."""

    def blocking() -> Any:
        world.do("outer")
        return ctx.step_blocking("inner", world.do, "inner")

    async def on_loop() -> Any:
        world.do("outer")
        return await ctx.step("inner", world.do, "inner")

    return on_loop if way == "async" else blocking


@pytest.mark.parametrize("kind", ["debounce", "worker_pool"])
def test_I5_it_is_refused_in_a_batch_and_in_a_pool(kind: str) -> None:
    async def outer(ctx: Any) -> None:
        await ctx.step("inner", str)

    async def execute(ctx: Any, *event: int) -> None:
        await ctx.step("outer", outer, ctx, retry=Retry(delay="1h"))

    job: Any = Debounce(event=int, flush_after="1s") if kind == "debounce" else None
    job = job or WorkerPool(event=int, concurrency=1)
    job.execute(execute)
    with Simulation(Jobs(job=job)) as sim:
        if kind == "debounce":
            sim.debounce("job").add("a", 1)
            sim.advance("1s")
            error: Any = sim.debounce("job").status("a").last_error
        else:
            sim.worker_pool("job").enqueue(1, id="a")
            sim.advance("1s")
            error = sim.worker_pool("job").get("a").error
    assert error is not None
    assert (error.type, error.message[:36]) == (
        "InvalidStateError",
        "step 'inner' is inside step 'outer':",
    )


@pytest.mark.anyio
async def test_I5_a_function_in_a_thread_is_told_the_same(sqlite_url: str) -> None:
    failed: asyncio.Queue[str] = asyncio.Queue()

    async def execute(ctx: Ctx) -> None:
        for ask in (ctx.step, ctx.step_blocking):
            try:
                await ctx.step(f"outer {ask.__name__}", lambda ask=ask: ask("inner", str))
            except Exception as error:
                failed.put_nowait(str(error))

    async with Jobs(job=task_of(execute=execute)).open(sqlite_url, worker=True) as app:
        await app.task("job").send("a", {"schedule": 0})
        async with asyncio.timeout(WAIT_S):
            told = [await failed.get() for _ in range(2)]
    assert [text.split(":")[0] for text in told] == [
        "step 'inner' is inside step 'outer step'",
        "step 'inner' is inside step 'outer step_blocking'",
    ]


@pytest.mark.anyio
async def test_I4_a_step_of_a_run_that_was_cleared_here_says_that_the_lease_is_lost(
    store_url: str,
) -> None:
    # given a handler in a thread, whose worker has learned of the clear and does not wait for it
    begun, never, ended = threading.Event(), threading.Event(), threading.Event()
    told: list[str] = []

    def execute(ctx: Ctx) -> None:
        begun.set()
        while ctx.is_open:
            never.wait(0.001)
        for ask in (ctx.step_blocking, ctx.step):
            try:
                ask("one", str)
            except LeaseLostError as error:
                told.append(str(error))
        ended.set()

    async with Jobs(job=task_of(execute=execute)).open(store_url, worker=True) as app:
        await app.task("job").send("a", {"schedule": 0})
        assert await asyncio.to_thread(begun.wait, WAIT_S)
        await app.task("job").clear("a")
        assert await asyncio.to_thread(ended.wait, WAIT_S)
    # then
    assert [text.split(":")[0] for text in told] == ["run 1 of task"] * 2
