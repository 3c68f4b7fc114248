"""Cancellation: whose it is, and what it does (U6)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, task_of
from wakelog import (
    ExecutionError,
    HandlerTimeoutError,
    InvalidStateError,
    Jobs,
    SendResult,
    Task,
)

pytestmark = pytest.mark.anyio


class Odd(BaseException):
    """No `Exception`, but no signal of the engine's either."""


async def test_U6_a_call_cancelled_by_its_caller_leaves_the_instance_usable(
    shared_url: str,
) -> None:
    # given a send that is in its handler
    begun = asyncio.Event()

    async def on_event(ctx: Ctx, event: str) -> None:
        ctx.set_state(event)
        if event == "hangs":
            begun.set()
            await asyncio.Event().wait()

    async with Jobs(job=task_of(on_event)).open(shared_url) as app:
        await app.task("job").send("a", "first")
        hanging = asyncio.create_task(app.task("job").send("a", "hangs"))
        behind = asyncio.create_task(app.task("job").send("a", "behind"))
        await begun.wait()
        # when
        hanging.cancel()
        # then nothing of it was recorded, and the one behind it is handled
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert (await behind).event_count == 2
        assert await app.task("job").get_state("a") == "behind"
        events = [entry.event for entry in await app.history("task:job:a")]
        assert events == ["Started", "EventReceived", "StateSet", "EventReceived", "StateSet"]


async def test_U6_a_call_cancelled_during_the_append_harms_nobody_in_its_group(
    shared_url: str,
) -> None:
    # given sends to two instances, all of which are handled and on their way to the disk
    handled: list[str] = []

    async def on_event(ctx: Ctx, event: int) -> None:
        ctx.set_state((ctx.state or 0) + 1)
        handled.append(ctx.id)
        if len(handled) == 40:
            for send in cancelled:
                send.cancel()

    async with Jobs(job=task_of(on_event)).open(shared_url) as app:
        sends = [asyncio.create_task(app.task("job").send("ab"[n % 2], n)) for n in range(40)]
        cancelled = sends[::3]
        # when every third is cancelled
        answers = await asyncio.gather(*sends, return_exceptions=True)
        # then the others are answered, and what they were answered is what is recorded
        kept = [a for a in answers if isinstance(a, SendResult)]
        assert len(kept) >= 40 - len(cancelled)
        assert not [a for a in answers if isinstance(a, Exception)]
        for id in "ab":
            status = await app.task("job").status(id)
            assert status.event_count == await app.task("job").get_state(id)
            counts = [a.event_count for a in kept if a.instance_id.endswith(f":{id}")]
            assert len(set(counts)) == len(counts)
            assert max(counts) <= status.event_count
        # and the next one goes on from there
        again = await app.task("job").send("a", 1)
        assert again.event_count == await app.task("job").get_state("a")


@pytest.mark.parametrize("kind", ["raised", "of a child", "of a future"])
async def test_U6_a_cancelled_error_of_the_handlers_own_is_its_failure(
    shared_url: str, kind: str
) -> None:
    # given
    async def handler(ctx: Ctx, event: Any = None) -> None:
        ctx.set_state("dropped")
        match kind:
            case "raised":
                raise asyncio.CancelledError("mine")
            case "of a child":
                child = asyncio.create_task(asyncio.Event().wait())
                asyncio.get_running_loop().call_soon(child.cancel)
                await child
            case _:
                future: asyncio.Future[None] = asyncio.Future()
                future.cancel()
                await future

    async with Jobs(job=task_of(execute=handler)).open(shared_url, worker=True) as app:
        # when it is in a run
        await app.task("job").send("a", {})
        result = await app.task("job").trigger("a", timeout=WAIT_S)
        # then
        assert result.failed
        assert result.error is not None
        assert result.error.type == "CancelledError"
        assert (await app.task("job").status("a")).status == "failed"
        assert await app.task("job").get_state("a") is None

    async with Jobs(other=task_of(handler)).open(shared_url) as app:
        # when it is in an on_event
        with pytest.raises(ExecutionError, match="CancelledError"):
            await app.task("other").send("a", 1)
        # then
        assert (await app.task("other").status("a")).status == "not_found"


async def test_U6_a_handler_that_cancels_the_task_it_runs_in_has_failed(shared_url: str) -> None:
    """It must not look like a shutdown: the run would be given back and taken again for ever."""
    runs: list[int] = []

    async def execute(ctx: Ctx) -> None:
        runs.append(ctx.attempt)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    async with Jobs(job=task_of(execute=execute)).open(shared_url, worker=True) as app:
        await app.task("job").send("a", {})
        result = await app.task("job").trigger("a", timeout=WAIT_S)
        assert result.failed
        assert runs == [1]


async def test_U6_so_has_a_deferred_one(shared_url: str) -> None:
    async def on_event(ctx: Ctx, event: str) -> None:
        if event == "cancels":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.Event().wait()

    async with Jobs(job=task_of(on_event)).open(shared_url, worker=True) as app:
        await app.task("job").send("a", "first")
        with pytest.raises(ExecutionError, match="CancelledError"):
            await app.task("job").send("a", "cancels", delay=0, wait=True, timeout=WAIT_S)
        assert (await app.task("job").send("a", "next")).event_count == 3


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("where", ["on_event", "on_client_get_state"])
def test_U6_nor_does_it_end_a_blocking_app(store_url: str, where: str, waits: bool) -> None:
    # given a handler that cancels the task it runs in, and meets that or just returns
    async def cancels(ctx: Ctx, given: Any) -> Any:
        if ctx.id == "cancels":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if waits:
                await asyncio.Event().wait()
        return given

    handlers: dict[str, Any] = {where: cancels}
    with Jobs(job=task_of(**handlers)).open(store_url) as app:
        jobs = app.task("job")
        ask = jobs.send if where == "on_event" else lambda id, _: jobs.get_state(id)
        if where == "on_client_get_state":
            jobs.send("cancels", {"set_state": 1})
        # when
        with pytest.raises(ExecutionError, match=f"{where} of task:job:cancels.*CancelledError"):
            ask("cancels", {})
        # then
        assert jobs.send("b", {}).created


async def test_U6_a_handler_beside_a_def_that_cancels_its_task_has_failed(sqlite_url: str) -> None:
    """Where a `def` may follow, the request is in a task of the engine's own."""

    async def on_event(ctx: Ctx, event: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async with Jobs(job=task_of(on_event, on_idle=lambda ctx: None)).open(sqlite_url) as app:
        with pytest.raises(ExecutionError, match="CancelledError"):
            await app.task("job").send("a", "cancels")


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(
    "error",
    [ValueError("v"), SystemExit(1), Odd(), BaseExceptionGroup("b", [SystemExit()])],
)
async def test_U6_all_exceptions_are_treated_alike(
    shared_url: str, is_async: bool, error: BaseException
) -> None:
    # given
    def blocking(ctx: Ctx, event: Any = None) -> None:
        ctx.set_state("dropped")
        raise error

    async def waiting(ctx: Ctx, event: Any = None) -> None:
        blocking(ctx)

    handler = waiting if is_async else blocking
    jobs = Jobs(sends=task_of(handler), runs=task_of(execute=handler))
    async with jobs.open(shared_url, worker=True) as app:
        # when
        with pytest.raises(ExecutionError) as raised:
            await app.task("sends").send("a", 1)
        await app.task("runs").send("a", {})
        result = await app.task("runs").trigger("a", timeout=WAIT_S)
        # then
        assert raised.value.__cause__ is error
        assert result.error is not None
        assert result.error.type == type(error).__name__
        assert (await app.task("runs").status("a")).status == "failed"


async def test_U6_a_clear_from_outside_stops_a_run_and_drops_its_outcome(shared_url: str) -> None:
    # given a run that nobody waits for
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def execute(ctx: Ctx) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with Jobs(job=task_of(execute=execute)).open(shared_url, worker=True) as app:
        await app.task("job").send("a", {"schedule": 0})
        await begun.wait()
        # when
        cleared = await app.task("job").clear("a")
        # then
        assert cleared.cleared
        async with asyncio.timeout(WAIT_S):
            await stopped.wait()
        assert (await app.history("task:job:a"))[-1].event == "Cleared"
        assert (await app.task("job").send("a", {})).created


@pytest.mark.parametrize("way", ["except Exception", "TaskGroup", "gather", "thread"])
async def test_U6_ctx_clear_counts_on_the_real_app_however_it_is_wrapped(
    shared_url: str, way: str
) -> None:
    # given
    async def wrapped(ctx: Ctx) -> None:
        async def child() -> None:
            ctx.clear("done")

        match way:
            case "except Exception":
                try:
                    ctx.clear("done")
                except Exception:
                    raise AssertionError("an Exception caught it") from None
            case "TaskGroup":
                async with asyncio.TaskGroup() as group:
                    group.create_task(child())
            case _:
                await asyncio.gather(child(), asyncio.Event().wait())

    def in_thread(ctx: Ctx) -> None:
        ctx.clear("done")

    execute = in_thread if way == "thread" else wrapped
    async with Jobs(job=task_of(execute=execute)).open(shared_url, worker=True) as app:
        await app.task("job").send("a", {})
        # when
        result = await app.task("job").trigger("a", timeout=WAIT_S)
        # then
        assert (result.cleared, result.failed) == (True, False)
        assert (await app.history("task:job:a"))[-1].data == {"reason": "done", "by": "handler"}


# -- handlers that catch it


async def test_U10_a_timeout_ends_the_call_of_a_handler_that_catches_its_cancellation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # given a handler that does not end when it is cancelled
    monkeypatch.setattr("wakelog.execution.time_limit.CLEANUP_S", 0.01)
    let_end, ended = asyncio.Event(), asyncio.Event()

    async def stays(ctx: Any, event: Any) -> None:
        while not let_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_end.wait()
        with pytest.raises(InvalidStateError):
            ctx.set_state("late")
        ended.set()

    job = Task(state=str, event=dict)
    job.on_event(timeout="10ms")(stays)
    job.execute(lambda ctx: None)
    async with Jobs(job=job).open("memory://") as app, asyncio.timeout(WAIT_S):
        # when
        with pytest.raises(ExecutionError) as raised:
            await app.task(job).send("a", {})
        # then the sender has its error, and the handler goes on, for nothing
        assert isinstance(raised.value.__cause__, HandlerTimeoutError)
        assert not ended.is_set()
        let_end.set()
        await ended.wait()
        assert await app.task(job).get_state("a") is None
    assert "is stuck, having caught its cancellation" in caplog.text


async def test_U10_a_handler_may_clean_up_when_its_time_is_over() -> None:
    cleaned: list[str] = []

    async def tidies(ctx: Any, event: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(ctx.id)
            raise ValueError("while cleaning up")

    job = Task(state=str, event=dict)
    job.on_event(timeout="10ms")(tidies)
    job.execute(lambda ctx: None)
    async with Jobs(job=job).open("memory://") as app, asyncio.timeout(WAIT_S):
        with pytest.raises(ExecutionError) as raised:
            await app.task(job).send("a", {})
    assert cleaned == ["a"]
    late = raised.value.__cause__
    assert isinstance(late, HandlerTimeoutError)
    assert str(late.__cause__) == "while cleaning up"
