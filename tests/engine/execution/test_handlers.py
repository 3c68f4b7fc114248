"""Handlers are def or async def, may take a timeout, and never hold up the loop (U10)."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, Staging, scripted, task_of
from wakelog import (
    ExecutionError,
    HandlerTimeoutError,
    InvalidStateError,
    Jobs,
    Task,
    UnknownJobError,
    UnknownJobTypeError,
    ValidationError,
)
from wakelog.testing import Simulation

SHORT = "50ms"


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["on_event", "execute"])
async def test_U10_a_def_never_blocks_the_event_loop(shared_url: str, where: str) -> None:
    # given a def that waits until the loop has done something else
    loop, begun, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def blocks(ctx: Ctx, event: Any = None) -> None:
        if ctx.id == "a":
            loop.call_soon_threadsafe(begun.set)
            assert go.wait(WAIT_S)
        ctx.set_state(threading.current_thread() is threading.main_thread())

    task = task_of(blocks) if where == "on_event" else task_of(execute=blocks)
    async with Jobs(job=task).open(shared_url, worker=True) as app:
        jobs = app.task("job")
        # when
        first = {} if where == "on_event" else {"schedule": 0}
        blocked = asyncio.create_task(jobs.send("a", first))
        async with asyncio.timeout(WAIT_S):
            await begun.wait()
        # then another instance is served meanwhile
        assert (await jobs.send("b", {})).created
        go.set()
        await blocked
        if where == "on_event":
            assert await jobs.get_state("a") is False


@pytest.mark.anyio
async def test_U10_many_defs_run_at_a_time(shared_url: str) -> None:
    barrier = threading.Barrier(8, timeout=WAIT_S)
    task = task_of(lambda ctx, event: barrier.wait())
    async with Jobs(job=task).open(shared_url) as app:
        await asyncio.gather(*(app.task("job").send(f"i{n}", 1) for n in range(8)))


def test_U10_handlers_may_be_of_any_callable_kind(stage: Staging) -> None:
    # given an object, a partial, a method, and a def that answers an awaitable
    class Adder:
        def __init__(self, by: int) -> None:
            self.by = by

        def __call__(self, ctx: Ctx, event: Any) -> None:
            ctx.set_state(self.by)

        async def method(self, ctx: Ctx, event: Any) -> None:
            await asyncio.sleep(0)
            ctx.set_state(self.by)

    class AsyncAdder(Adder):
        async def __call__(self, ctx: Ctx, event: Any) -> None:  # type: ignore[override]
            await self.method(ctx, event)

    async def add(by: int, ctx: Ctx, event: Any) -> None:
        ctx.set_state(by)

    def answers(ctx: Ctx, event: Any) -> Any:
        return add(6, ctx, event)

    handlers: list[Callable[..., Any]] = [
        Adder(1),
        AsyncAdder(2),
        Adder(3).method,
        functools.partial(add, 4),
        answers,
    ]
    # when
    jobs = [stage(handler) for handler in handlers]
    for n, job in enumerate(jobs):
        job.send(1, id=f"i{n}")
    # then
    assert [job.state(id=f"i{n}") for n, job in enumerate(jobs)] == [1, 2, 3, 4, 6]


@pytest.mark.parametrize("where", ["on_event", "execute", "on_idle", "on_error"])
def test_U10_every_handler_takes_a_timeout_in_virtual_time(stage: Staging, where: str) -> None:
    # given handlers that sleep for an hour of virtual time, with a minute at most
    async def slow(ctx: Ctx, *given: Any) -> None:
        ctx.set_state("dropped")
        await asyncio.sleep(3600)

    def fail(ctx: Ctx, event: Any) -> None:
        raise LookupError("gone")

    task: Task[Any, Any] = Task(state=Any, event=Any)
    task.on_event(fail if where == "on_error" else scripted)
    getattr(task, where)(timeout="1m")(slow)
    job = stage(task=task)
    # when
    if where in ("on_event", "on_error"):
        with pytest.raises(ExecutionError) as raised:
            job.send()
        cause = raised.value.__cause__
        assert isinstance(cause, HandlerTimeoutError)
        assert (cause.handler, cause.timeout_s) == (where, 60)
        assert isinstance(cause, TimeoutError)
    elif where == "execute":
        job.send()
        assert job.trigger().failed
    else:
        job.send()
    # then
    if where in ("execute", "on_idle"):
        error = job.status().last_error
        assert error is not None
        assert job.names().count("ExecutionFailed") == 1
        assert error.where.startswith(f"{__file__}:")
        assert error.where.endswith(" in slow")
    assert job.state() is None


@pytest.mark.parametrize("stubborn", ["returns", "raises", "catches all"])
def test_U10_an_async_def_that_catches_its_cancellation_has_failed_all_the_same(
    stage: Staging, stubborn: str
) -> None:
    # given
    async def on_event(ctx: Ctx, event: Any) -> None:
        try:
            await asyncio.sleep(3600)
        except BaseException:
            ctx.set_state("dropped")
            if stubborn == "raises":
                raise ValueError("instead") from None
            if stubborn == "catches all":
                await asyncio.sleep(3600)

    job = stage(on_event, timeout="1m")
    # when
    with pytest.raises(ExecutionError) as raised:
        job.send()
    # then
    assert isinstance(raised.value.__cause__, HandlerTimeoutError)
    assert job.names() == []


def test_U10_a_timeout_error_of_the_handlers_own_is_not_ours(stage: Staging) -> None:
    # given
    async def on_event(ctx: Ctx, event: Any) -> None:
        async with asyncio.timeout(1):
            await asyncio.sleep(3600)

    job = stage(on_event, timeout="1m")
    # when
    with pytest.raises(ExecutionError) as raised:
        job.send()
    # then
    assert type(raised.value.__cause__) is TimeoutError


def test_U10_a_handler_that_keeps_to_its_time_is_left_alone(stage: Staging) -> None:
    async def on_event(ctx: Ctx, event: Any) -> None:
        await asyncio.sleep(59)
        ctx.set_state("done")

    job = stage(on_event, timeout="1m")
    job.send()
    assert job.state() == "done"


@pytest.mark.parametrize("timeout", ["soon", -1, float("nan"), True])
def test_U10_a_timeout_is_judged_when_the_handler_is_given(timeout: Any) -> None:
    task: Task[Any, Any] = Task(state=Any, event=Any)
    with pytest.raises(ValidationError, match="timeout"):
        task.on_event(timeout=timeout)


@pytest.mark.anyio
async def test_U10_an_async_def_that_takes_too_long_is_cancelled_and_has_failed(
    shared_url: str,
) -> None:
    # given
    cancelled = asyncio.Event()

    async def execute(ctx: Ctx) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = task_of(execute=execute, timeout=SHORT)
    async with Jobs(job=task).open(shared_url, worker=True) as app:
        await app.task("job").send("a", {})
        # when
        result = await app.task("job").trigger("a", timeout=WAIT_S)
        # then
        assert cancelled.is_set()
        assert result.error is not None
        assert result.error.type == "HandlerTimeoutError"
        assert (await app.task("job").status("a")).status == "failed"


@pytest.mark.anyio
async def test_U10_a_def_that_takes_too_long_gives_up_its_lease_and_is_reported(
    shared_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    # given a run that is stuck in its thread
    loop, go, ended = asyncio.get_running_loop(), threading.Event(), asyncio.Event()
    late: list[BaseException] = []
    calls = 0

    def execute(ctx: Ctx) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            return
        assert go.wait(WAIT_S)
        uses: list[Callable[[], Any]] = [
            lambda: ctx.state,
            lambda: ctx.set_state("late"),
            lambda: ctx.schedule("1h"),
        ]
        for use in uses:
            try:
                use()
            except InvalidStateError as error:
                late.append(error)
        loop.call_soon_threadsafe(ended.set)

    task = task_of(execute=execute, timeout=SHORT)
    async with Jobs(job=task).open(shared_url, worker=True) as app:
        jobs = app.task("job")
        await jobs.send("a", {})
        # when
        result = await jobs.trigger("a", timeout=WAIT_S)
        # then it has failed, and the instance is free for others while the thread is still stuck
        assert result.error is not None
        assert result.error.type == "HandlerTimeoutError"
        assert not (await jobs.trigger("a", timeout=WAIT_S)).failed
        assert not (await jobs.send("a", {"set_state": "meanwhile"})).deferred
        stuck = [r for r in caplog.records if "stuck in its thread" in r.getMessage()]
        assert [(r.levelno, r.__dict__["instance"]) for r in stuck] == [
            (logging.ERROR, "task:job:a")
        ]
        before = (await jobs.status("a")).version
        # when the thread goes on
        go.set()
        async with asyncio.timeout(WAIT_S):
            await ended.wait()
        # then its context is closed, and nothing it does counts
        assert [str(error).split(" is ")[1][:6] for error in late] == ["closed"] * 3
        assert await jobs.get_state("a") == "meanwhile"
        assert (await jobs.status("a")).version == before


@pytest.mark.anyio
async def test_U10_so_does_a_def_on_event_and_the_next_send_is_not_held_up(shared_url: str) -> None:
    # given
    go = threading.Event()

    def on_event(ctx: Ctx, event: str) -> None:
        if event == "stuck":
            go.wait(WAIT_S)

    async with Jobs(job=task_of(on_event, timeout=SHORT)).open(shared_url) as app:
        jobs = app.task("job")
        await jobs.send("a", "first")
        # when
        stuck = asyncio.create_task(jobs.send("a", "stuck"))
        behind = asyncio.create_task(jobs.send("a", "behind"))
        # then
        with pytest.raises(ExecutionError, match="HandlerTimeoutError"):
            await stuck
        assert (await behind).event_count == 2
        go.set()


@pytest.mark.anyio
async def test_U10_the_time_of_a_def_begins_when_a_thread_takes_it_up(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    # given one thread, and a handler that holds it for longer than the next one may take
    loop, begun, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def holds(ctx: Ctx, event: Any) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert go.wait(WAIT_S)

    async def never(ctx: Ctx, event: Any) -> None:
        await asyncio.Event().wait()

    jobs = Jobs(
        holds=task_of(holds),
        job=task_of(lambda ctx, event: ctx.set_state(event), timeout=SHORT),
        longer=task_of(never, timeout="100ms"),
    )
    async with jobs.open(sqlite_url, threads=1) as app:
        holding = asyncio.create_task(app.task("holds").send("a", 1))
        async with asyncio.timeout(WAIT_S):
            await begun.wait()
        # when it waits for that thread until its time would be over
        waiting = asyncio.create_task(app.task("job").send("a", 1))
        with pytest.raises(ExecutionError, match="HandlerTimeoutError"):
            await app.task("longer").send("a", 1)
        go.set()
        # then it has its whole time
        assert (await waiting).created
        await holding
        assert await app.task("job").get_state("a") == 1
        assert not [r for r in caplog.records if "stuck" in r.getMessage()]


@pytest.mark.anyio
async def test_U10_one_that_waits_gets_a_thread_though_all_others_are_stuck(
    sqlite_url: str,
) -> None:
    # given one thread, which a handler does not give back, and a call behind it
    go = threading.Event()

    def on_event(ctx: Ctx, event: str) -> None:
        if event == "stuck":
            go.wait(WAIT_S)

    async with Jobs(job=task_of(on_event, timeout=SHORT)).open(sqlite_url, threads=1) as app:
        jobs = app.task("job")
        stuck = asyncio.create_task(jobs.send("a", "stuck"))
        behind = asyncio.create_task(jobs.send("b", "behind"))
        # when the handler is given up
        with pytest.raises(ExecutionError, match="HandlerTimeoutError"):
            await stuck
        # then another thread comes
        async with asyncio.timeout(WAIT_S):
            assert (await behind).created
        go.set()


@pytest.mark.parametrize("error", [StopIteration("none left"), StopAsyncIteration("none left")])
@pytest.mark.parametrize("bounded", [{}, {"timeout": "1m"}])
@pytest.mark.parametrize("inline", [True, False])
def test_U6_the_end_of_an_iterator_is_an_error_like_any_other(
    store_url: str, inline: bool, bounded: dict[str, Any], error: Exception
) -> None:
    # given a def that takes the next of nothing
    told: list[BaseException] = []

    def on_event(ctx: Ctx, event: Any) -> None:
        raise error

    def on_error(ctx: Ctx, error: BaseException) -> None:
        told.append(error)

    jobs = Jobs(
        job=task_of(on_event, **bounded), mends=task_of(on_event, on_error=on_error, **bounded)
    )
    with Simulation(jobs) if inline else jobs.open(store_url) as app:
        # when
        with pytest.raises(ExecutionError) as raised:
            app.task("job").send("a", 1)
        app.task("mends").send("a", 1)
        # then
        assert (raised.value.error_type, raised.value.message) == (
            type(error).__name__,
            "none left",
        )
        assert raised.value.__cause__ is error
        assert told == [error]


# -- U11 -------------------------------------------------------------------------------------------


def test_U11_an_unknown_job_or_type_is_a_typed_error_that_says_which_there_are() -> None:
    # given
    jobs = Jobs(order=task_of(), invoice=task_of())
    with jobs.open("memory://") as app:
        # when
        with pytest.raises(UnknownJobError) as by_name:
            app.task("nope")
        with pytest.raises(UnknownJobError):
            app.task(task_of())
        with pytest.raises(UnknownJobTypeError):
            app.names("cron")
        with pytest.raises(UnknownJobTypeError):
            app.list(type="cron")
        with pytest.raises(UnknownJobTypeError):
            app.history("cron:order:a")
    with pytest.raises(UnknownJobTypeError):
        jobs.names("cron")
    with (
        pytest.raises(UnknownJobError, match="nope"),
        jobs.open("memory://", worker=True, only=["nope"]),
    ):
        pass
    # then
    assert (by_name.value.name, by_name.value.known) == ("nope", ("order", "invoice"))


def test_U11_names_can_be_asked_for() -> None:
    jobs = Jobs(order=task_of(), invoice=task_of())
    assert "order" in jobs
    assert "nope" not in jobs
    assert jobs.names() == jobs.names("task") == ("order", "invoice")
    assert jobs.names("debounce") == ()
    with jobs.open("memory://") as app:
        assert "order" in app
        assert app.names() == ("order", "invoice")


def test_U11_what_is_no_definition_is_refused() -> None:
    with pytest.raises(ValidationError):
        Jobs(order="not a definition")  # type: ignore[arg-type]
    incomplete: Task[Any, Any] = Task(state=Any, event=Any)
    with pytest.raises(ValidationError, match="on_event"):
        Jobs(order=incomplete)
    with pytest.raises(ValidationError, match="callable"):
        incomplete.on_event("not callable")  # type: ignore[call-overload]


def test_U11_a_handler_that_comes_too_late_is_refused() -> None:
    task = task_of()
    Jobs(job=task)
    with pytest.raises(InvalidStateError, match="too late"):
        task.on_idle(lambda ctx: None)


def test_U11_what_can_be_no_name_is_refused_or_unknown() -> None:
    jobs = Jobs(job=task_of())
    assert [] not in jobs
    with jobs.open("memory://") as app:
        assert [] not in app
        with pytest.raises(ValidationError, match="expected a definition, or its name"):
            app.task(5)  # type: ignore[call-overload]
    for only in (None, 5, "job"):
        with pytest.raises(ValidationError, match="give a list"):
            jobs.open("memory://", worker=True, only=only)  # type: ignore[arg-type]
