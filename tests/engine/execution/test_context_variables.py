"""Context variables: a handler sees its sender's, a run sees none, and neither lets any out.

By an async app, whose requests run in their callers' own tasks; by a blocking one; in simulations.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, Staging, task_of
from wakelog import Continuous, Debounce, ExecutionError, Jobs, WorkerPool
from wakelog.testing import Simulation

REQUEST: ContextVar[str | None] = ContextVar("request", default=None)


class Seen:
    """What handlers saw in the variable, in order; each changes it."""

    def __init__(self, expected: int = 0) -> None:
        self.values: list[str | None] = []
        self.enough = asyncio.Event()
        self._expected = expected
        self._loop: asyncio.AbstractEventLoop | None = None

    def note(self, *_: object) -> None:
        self.values.append(REQUEST.get())
        REQUEST.set(f"leaked by call {len(self.values)}")
        if len(self.values) == self._expected and self._loop is not None:
            self._loop.call_soon_threadsafe(self.enough.set)

    def handler(self, is_async: bool, then: Callable[..., Any] | None = None) -> Any:
        async def on_loop(ctx: Ctx, *args: Any) -> Any:
            self.note()
            await asyncio.sleep(0)
            return then(ctx, *args) if then else None

        def on_thread(ctx: Ctx, *args: Any) -> Any:
            self.note()
            return then(ctx, *args) if then else None

        return on_loop if is_async else on_thread

    async def wait(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.enough.wait()

    def here(self) -> Seen:
        self._loop = asyncio.get_running_loop()
        return self


both = pytest.mark.parametrize("is_async", [True, False], ids=["async def", "def"])


@both
@pytest.mark.anyio
async def test_handlers_of_one_turn_share_nothing(store_url: str, is_async: bool) -> None:
    # given on_event and on_idle that both set a variable
    seen = Seen()
    task = task_of(seen.handler(is_async))
    task.on_idle(seen.handler(is_async))
    async with Jobs(job=task).open(store_url) as app:
        # when its sender has set it too
        for number in range(3):
            REQUEST.set(f"request {number}")
            await app.task("job").send("a", {})
            # then the sender's is unchanged
            assert REQUEST.get() == f"request {number}"
    # and each handler saw that one
    assert seen.values == [f"request {n}" for n in range(3) for _ in range(2)]


@both
@pytest.mark.anyio
async def test_a_handler_that_fails_and_its_recovery_change_nothing(
    store_url: str, is_async: bool
) -> None:
    seen = Seen()

    def fails(ctx: Ctx, *_: Any) -> None:
        raise ValueError("no")

    task = task_of(seen.handler(is_async, fails))
    task.on_error(seen.handler(is_async, fails))
    async with Jobs(job=task).open(store_url) as app:
        REQUEST.set("mine")
        with pytest.raises(ExecutionError):
            await app.task("job").send("a", {})
        assert REQUEST.get() == "mine"
    assert seen.values == ["mine", "mine"]


@both
@pytest.mark.anyio
async def test_a_run_sees_no_variable_of_who_has_asked_for_it(
    store_url: str, is_async: bool
) -> None:
    seen = Seen(3).here()
    task = task_of(lambda ctx, event: ctx.schedule(0), execute=seen.handler(is_async))
    REQUEST.set("opened by")
    async with Jobs(job=task).open(store_url, worker=True) as app:
        for number in range(3):
            REQUEST.set(f"request {number}")
            await app.task("job").send(f"i{number}", {})
        await seen.wait()
        assert REQUEST.get() == "request 2"
    assert set(seen.values) == {None}


@both
@pytest.mark.anyio
async def test_a_deferred_event_sees_no_variable_of_the_one_before(
    store_url: str, is_async: bool
) -> None:
    seen = Seen(3).here()
    task = task_of(seen.handler(is_async))
    jobs = Jobs(job=task)
    async with jobs.open(store_url, worker=True, handlers=False) as app:
        for number in range(3):
            REQUEST.set(f"request {number}")
            await app.task("job").send("a", {})
        await seen.wait()
    assert seen.values == [None] * 3


@both
@pytest.mark.anyio
async def test_events_of_a_pool_see_nothing_of_each_other(store_url: str, is_async: bool) -> None:
    seen = Seen(6).here()
    pool = WorkerPool(event=int, concurrency=2)
    pool.execute(seen.handler(is_async))
    async with Jobs(pool=pool).open(store_url, worker=True) as app:
        REQUEST.set("before")
        for number in range(6):
            REQUEST.set(f"request {number}")
            await app.worker_pool(pool).enqueue(number)
        await seen.wait()
        assert REQUEST.get() == "request 5"
    assert set(seen.values) == {None}


@both
def test_reducers_flushes_and_recurring_runs_share_nothing(is_async: bool) -> None:
    # given a simulation, which calls all handlers on one loop
    seen = Seen()
    debounce = Debounce(event=int, state=int, flush_after="1m")
    debounce.on_event(seen.handler(is_async, lambda ctx, event: event))
    debounce.execute(seen.handler(is_async))
    every = Continuous(state=int, every="1h", start_immediately=False)
    every.execute(seen.handler(is_async))
    with Simulation(Jobs(edits=debounce, every=every)) as sim:
        REQUEST.set("mine")
        sim.continuous(every).start("c", 0)
        sim.debounce(debounce).add("d", 1)
        sim.debounce(debounce).add("d", 2)
        assert seen.values == ["mine", "mine"]
        sim.advance("90m")
    assert seen.values[2:] == [None, None]
    assert REQUEST.get() == "mine"


@both
def test_a_step_sees_what_its_handler_has_set(stage: Staging, is_async: bool) -> None:
    found: list[str | None] = []

    def look() -> int:
        found.append(REQUEST.get())
        REQUEST.set("leaked by a step")
        return 1

    async def on_loop(ctx: Ctx) -> None:
        REQUEST.set("mine")
        await ctx.step("look", look)
        found.append(REQUEST.get())

    def on_thread(ctx: Ctx) -> None:
        REQUEST.set("mine")
        ctx.step_blocking("look", look)
        found.append(REQUEST.get())

    job = stage(lambda ctx, event: ctx.schedule(0), execute=on_loop if is_async else on_thread)
    job.send()
    job.sim.advance(0)
    assert found == ["mine", "mine"]


@pytest.mark.anyio
async def test_a_handler_may_reset_what_it_has_set(sqlite_url: str) -> None:
    # given a token, which only the context that made it takes back
    async def resets(ctx: Ctx, event: Any) -> None:
        token: Token[str | None] = REQUEST.set("for a while")
        await asyncio.sleep(0)
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            inner = group.create_task(asyncio.sleep(0, REQUEST.get()))
        assert inner.result() == "for a while"
        REQUEST.reset(token)
        ctx.set_state(REQUEST.get())

    async with Jobs(job=task_of(resets)).open(sqlite_url) as app:
        REQUEST.set("mine")
        await app.task("job").send("a", {})
        assert await app.task("job").get_state("a") == "mine"


def test_the_log_of_a_context_keeps_the_users_extra(
    stage: Staging, caplog: pytest.LogCaptureFixture
) -> None:
    def execute(ctx: Ctx) -> None:
        ctx.log.info("run", extra={"total": 17, "instance": "another"})

    def told(ctx: Ctx, event: Any) -> None:
        ctx.log.info("told", extra={"total": 16})
        ctx.log.info("plain")
        ctx.schedule(0)

    job = stage(told, execute=execute)
    with caplog.at_level(logging.INFO, "wakelog.job"):
        job.send()
        job.sim.advance(0)
    found = [vars(record) for record in caplog.records if record.name == "wakelog.job"]
    assert [(r["msg"], r.get("total"), r["instance"], r["run"], r["attempt"]) for r in found] == [
        ("told", 16, "task:job:a", None, None),
        ("plain", None, "task:job:a", None, None),
        ("run", 17, "task:job:a", 1, 1),
    ]
