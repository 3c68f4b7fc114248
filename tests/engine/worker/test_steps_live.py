"""I4 with real threads, a real disk and real time: what an app does with steps."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import WAIT_S, Ctx, task_of
from wakelog import (
    App,
    InvalidStateError,
    Jobs,
    Retry,
    StoreUnavailableError,
    Task,
    ValidationError,
)
from wakelog.core.decide import decide
from wakelog.core.events import Executed, ExecutionFailed
from wakelog.core.instance import Instance, OpenRun
from wakelog.core.policy import Policy
from wakelog.core.requests import RecordStep
from wakelog.definitions.steps import step_key
from wakelog.ids import InstanceId, check_step
from wakelog.log.records import Recorded
from wakelog.ports.units import Appended, Unit

pytestmark = pytest.mark.anyio

AGAIN = Retry(max_attempts=2, delay=0)


def names_of(history: Any) -> list[str]:
    return [entry.event for entry in history]


async def ran(app: App, id: str = "a") -> list[str]:
    """Let the run that is due come to its end, with all its attempts; what is recorded then."""
    triggered = await app.task("job").trigger(id, wait=False)

    def find(recorded: Recorded) -> bool | None:
        event = recorded.event
        failed = isinstance(event, ExecutionFailed) and not event.will_retry
        return True if failed or isinstance(event, Executed) else None

    wait_us = int(WAIT_S * 1_000_000)
    await app.application.stream_watch.watch(f"task:job:{id}", triggered.version, find, wait_us)
    return names_of(await app.history(f"task:job:{id}"))


def timed(execute: Callable[..., Any]) -> Task[Any, Any]:
    """A task whose runs may take a moment, and no longer."""
    task = task_of(execute=None)
    task.execute(timeout="100ms")(execute)
    return task


# -- threads ---------------------------------------------------------------------------------------


async def test_I4_U10_a_def_under_an_async_def_runs_in_a_thread(sqlite_url: str) -> None:
    # given a step that only ends when the loop goes on
    begun, go = asyncio.Event(), threading.Event()

    def waits(loop: asyncio.AbstractEventLoop) -> int:
        loop.call_soon_threadsafe(begun.set)
        assert go.wait(WAIT_S)
        return threading.get_ident()

    async def execute(ctx: Ctx) -> None:
        step = asyncio.ensure_future(ctx.step("one", waits, asyncio.get_running_loop()))
        await begun.wait()
        go.set()
        assert await step != threading.get_ident()
        ctx.set_state("done")

    task = task_of(execute=execute)
    async with Jobs(job=task).open(sqlite_url, worker=True) as app:
        await app.task("job").send("a", {})
        # when, then
        assert (await ran(app))[-3:] == ["StepCompleted", "Executed", "StateSet"]


async def test_I4_step_blocking_calls_in_the_handlers_own_thread(sqlite_url: str) -> None:
    def execute(ctx: Ctx) -> None:
        assert ctx.step_blocking("one", threading.get_ident) == threading.get_ident()
        with pytest.raises(InvalidStateError, match="step_blocking"):
            ctx.step("two", threading.get_ident)
        if ctx.attempt == 1:
            raise ValueError("again")
        ctx.set_state("done")

    # the second attempt may be in another thread, and is answered what the first one was
    def again(ctx: Ctx) -> None:
        seen.append(ctx.step_blocking("one", threading.get_ident))
        if ctx.attempt == 1:
            raise ValueError("again")

    seen: list[int] = []
    for handler in (execute, again):
        task = task_of(execute=handler, retry=AGAIN)
        async with Jobs(job=task).open(sqlite_url, worker=True) as app:
            await app.task("job").send("a", {})
            await ran(app)
    assert len(seen) == 2
    assert seen[0] == seen[1]


@pytest.mark.parametrize("is_async", [True, False])
async def test_I4_U10_a_step_that_ends_after_its_runs_timeout_records_nothing(
    sqlite_url: str, is_async: bool
) -> None:
    # given steps that outlast their run, in a thread
    go, ended = threading.Event(), threading.Event()
    refused: list[BaseException] = []

    def slow() -> str:
        assert go.wait(WAIT_S)
        return "late"

    def blocking(ctx: Ctx) -> None:
        try:
            ctx.step_blocking("one", slow)
        except BaseException as error:
            refused.append(error)
            raise
        finally:
            ended.set()

    async def on_loop(ctx: Ctx) -> None:
        await ctx.step("one", slow)

    execute = on_loop if is_async else blocking
    task = timed(execute)
    async with Jobs(job=task).open(sqlite_url, worker=True) as app:
        await app.task("job").send("a", {})
        # when the run has failed, and its step ends
        events = await ran(app)
        go.set()
        if not is_async:
            assert await asyncio.to_thread(ended.wait, WAIT_S)
            assert [type(error) for error in refused] == [InvalidStateError]
        # then
        assert events[-1] == "ExecutionFailed"
        assert names_of(await app.history("task:job:a")) == events
        assert (await app.task("job").status("a")).last_error.type == "HandlerTimeoutError"  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]


async def test_I4_a_thread_that_waits_for_another_try_is_told_that_its_run_is_over(
    sqlite_url: str,
) -> None:
    # given a step that would be tried again in a day
    ended = threading.Event()
    refused: list[BaseException] = []

    def execute(ctx: Ctx) -> None:
        try:
            ctx.step_blocking("one", fails, retry=Retry(delay="1d"))
        except BaseException as error:
            refused.append(error)
        ended.set()

    def fails() -> None:
        raise ConnectionError("gone")

    async with Jobs(job=timed(execute)).open(sqlite_url, worker=True) as app:
        await app.task("job").send("a", {})
        await ran(app)
        # then
        assert await asyncio.to_thread(ended.wait, WAIT_S)
    assert [type(error) for error in refused] == [InvalidStateError]


async def test_I4_what_would_end_the_process_fails_the_run(sqlite_url: str) -> None:
    def execute(ctx: Ctx) -> None:
        ctx.step_blocking("one", leave)

    async def on_loop(ctx: Ctx) -> None:
        await ctx.step("one", leave)

    def leave() -> None:
        raise SystemExit(3)

    for handler in (execute, on_loop):
        async with Jobs(job=task_of(execute=handler)).open(sqlite_url, worker=True) as app:
            await app.task("job").send("a", {})
            assert (await ran(app))[-1] == "ExecutionFailed"
            assert (await app.task("job").status("a")).last_error.type == "SystemExit"  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]


# -- cancelled -------------------------------------------------------------------------------------


def signalled(owner: Any, method: str) -> asyncio.Event:
    """An event that is set when this method is called, on whatever thread."""
    called, loop = asyncio.Event(), asyncio.get_running_loop()
    original = getattr(owner, method)

    def call(*args: Any, **kwargs: Any) -> Any:
        loop.call_soon_threadsafe(called.set)
        return original(*args, **kwargs)

    setattr(owner, method, call)
    return called


@pytest.mark.parametrize(("times", "is_overtaken"), [(1, False), (2, False), (1, True)])
async def test_I4_a_cancellation_neither_loses_nor_doubles_what_is_being_appended(
    sqlite_url: str, times: int, is_overtaken: bool
) -> None:
    # given a step whose result is on its way to a disk that somebody else holds up
    calls: list[int] = []

    async def execute(ctx: Ctx) -> None:
        if ctx.attempt == 2:
            ctx.set_state(await ctx.step("one", do))
            return
        if is_overtaken:  # the first try of the append is in vain: it has to be done again
            await asyncio.get_running_loop().run_in_executor(None, send_from_elsewhere)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            appending = signalled(app.application.store, "append")
            step = asyncio.ensure_future(ctx.step("one", do))
            await appending.wait()
            # when it is cancelled, perhaps more than once
            for _ in range(times):
                step.cancel()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            other.execute("ROLLBACK")
        await asyncio.wait([step])
        assert step.cancelled()
        raise ValueError("again")

    async def do() -> str:
        calls.append(1)
        return "done"

    def send_from_elsewhere() -> None:
        with jobs.open(sqlite_url) as other:
            assert other.task("job").send("a", {}).deferred

    file = sqlite_url.removeprefix("sqlite:///")
    jobs = Jobs(job=task_of(execute=execute, retry=AGAIN))
    async with jobs.open(sqlite_url, worker=True) as app:
        await app.task("job").send("a", {})
        events = await ran(app)
        # then
        assert await app.task("job").get_state("a") == "done"
    assert calls == [1]
    assert events.count("StepCompleted") == 1


async def test_I4_a_step_that_is_cancelled_at_its_end_cancels_nothing_else(
    sqlite_url: str,
) -> None:
    # given steps in threads, each cancelled a little later than the one before
    turns = range(12)
    ends: list[bool] = []

    def ending(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> str:
        loop.call_soon_threadsafe(ended.set)
        return "done"

    async def execute(ctx: Ctx) -> None:
        for turn in turns:
            ended = asyncio.Event()
            step = asyncio.ensure_future(
                ctx.step(f"{turn}", ending, asyncio.get_running_loop(), ended)
            )
            await ended.wait()
            for _ in range(turn):
                await asyncio.sleep(0)
            step.cancel()
            await asyncio.wait([step])
            ends.append(step.cancelled())
            # then the next one knows nothing of it
            assert await ctx.step(f"after {turn}", str.upper, "x") == "X"

    async with Jobs(job=task_of(execute=execute)).open(sqlite_url, worker=True) as app:
        await app.task("job").send("a", {})
        events = await ran(app)
    assert events[-1] == "Executed"
    assert any(ends)
    assert len(turns) <= events.count("StepCompleted") <= 2 * len(turns)


async def test_I4_K2_a_shutdown_waits_for_a_step_in_a_thread_and_keeps_its_result(
    sqlite_url: str,
) -> None:
    # given a run with a step in a thread
    begun, go = asyncio.Event(), threading.Event()
    calls: list[str] = []

    async def execute(ctx: Ctx) -> None:
        loop = asyncio.get_running_loop()
        first = await ctx.step("one", slow, loop)
        calls.append("after")
        ctx.set_state([first, await ctx.step("two", str.upper, "two")])

    def slow(loop: asyncio.AbstractEventLoop) -> str:
        calls.append("one")
        loop.call_soon_threadsafe(begun.set)
        assert go.wait(WAIT_S)
        return "one"

    task = task_of(execute=execute)
    async with Jobs(job=task).open(sqlite_url, worker=True, lease="1h", grace=0) as app:
        await app.task("job").send("a", {"schedule": 0})
        await begun.wait()
        # when the app closes, and the step ends only then
        stopped = signalled(app.application.handler_runner, "stop")
        closing_down = asyncio.create_task(app.close())
        await stopped.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not closing_down.done()
        go.set()
        await closing_down
    # then it is recorded, the run was given back, and the next worker goes on behind it
    async with Jobs(job=task).open(sqlite_url, worker=True) as app:
        events = await ran(app)
        assert await app.task("job").get_state("a") == ["one", "TWO"]
    assert events[3:6] == ["RunStarted", "StepCompleted", "ExecutionLost"]
    assert calls == ["one", "after"]


# -- the store is away -----------------------------------------------------------------------------


def refusing(app: App, reason: Any, times: int) -> list[Unit]:
    """Let the store be away for so many appends of steps; those that came in vain."""
    store: Any = app.application.store
    append: Callable[..., Appended] = store.append
    refused: list[Unit] = []

    def write(units: list[Unit]) -> Appended:
        topics = [event.topic for unit in units for event in unit.events]
        if "wakelog.StepCompleted" in topics and len(refused) < times:
            refused.extend(units)
            raise StoreUnavailableError(reason, "it is away")
        return append(units)

    store.append = write
    return refused


async def test_I4_K3_a_step_waits_for_a_store_that_is_away(sqlite_url: str) -> None:
    calls: list[int] = []

    async def execute(ctx: Ctx) -> None:
        ctx.set_state([await ctx.step("one", calls.append, 1)])

    async with Jobs(job=task_of(execute=execute)).open(sqlite_url, worker=True) as app:
        await app.task("job").send("a", {})
        refused = refusing(app, "unreachable", 2)
        events = await ran(app)
    assert (len(refused), calls) == (2, [1])
    assert events[-3:] == ["StepCompleted", "Executed", "StateSet"]


async def test_I4_a_result_that_the_store_does_not_take_fails_the_run(sqlite_url: str) -> None:
    async def execute(ctx: Ctx) -> None:
        await ctx.step("one", str.upper, "much")

    async with Jobs(job=task_of(execute=execute)).open(sqlite_url, worker=True) as app:
        await app.task("job").send("a", {})
        refusing(app, "refused", 1)
        events = await ran(app)
        status = await app.task("job").status("a")
    assert events[-1] == "ExecutionFailed"
    assert status.last_error is not None
    assert status.last_error.type == "StoreUnavailableError"


# -- plain values ----------------------------------------------------------------------------------


def instance(id: str, run_version: int = 0, run: OpenRun | None = None) -> Instance:
    return Instance(InstanceId("task", "job", id), version=run_version, started_us=1, run=run,
                    run_version=run_version)  # fmt: skip


def open_run(token: int, number: int = 1) -> OpenRun:
    return OpenRun(number, 1, "alarm", 0, 0, "w", token)


@pytest.mark.parametrize("run", [None, open_run(9), open_run(5, number=2)])
def test_I4_a_step_of_a_run_that_is_not_open_is_stale(run: OpenRun | None) -> None:
    policy: Policy = task_of().registered("job").policy  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    request = RecordStep(open_run(4), "one", "1")
    decision = decide(instance("a", 4, run), request, policy, 0)
    assert (decision.stale, decision.events) == (True, ())


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12),
    st.text("a@:1", min_size=1, max_size=9),
)


@given(
    st.tuples(TEXTS, st.integers(1, 200), TEXTS),
    st.tuples(TEXTS, st.integers(1, 200), TEXTS),
)
def test_I4_no_two_steps_have_one_key(
    one: tuple[str, int, str], other: tuple[str, int, str]
) -> None:
    """Versions tell the runs and lives of an instance apart; here they may be any."""
    keys: list[str] = []
    for id, version, name in (one, other):
        try:
            check_step(name)
        except ValidationError:
            return
        keys.append(step_key(instance(id, version), name))
    assert (keys[0] == keys[1]) == (one == other)


def test_I4_a_key_that_could_be_read_in_two_ways_is_refused() -> None:
    assert step_key(instance("a"), "b@0:c") == step_key(instance("a@0:b"), "c")
    with pytest.raises(ValidationError):
        check_step("b@0:c")
