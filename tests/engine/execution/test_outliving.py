"""A request whose `def` is in a thread goes on when its caller is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, task_of
from wakelog import App, ExecutionError, HandlerTimeoutError, Jobs

pytestmark = pytest.mark.anyio


class Held:
    """Handlers that keep the event and, if it is "holds", wait until they are released."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()

    def blocking(self, ctx: Ctx, event: str) -> None:
        ctx.set_state(event)
        if event == "holds":
            self.begun.set()
            assert self.release.wait(WAIT_S)

    async def waiting(self, ctx: Ctx, event: str) -> None:
        ctx.set_state(event)
        if event == "holds":
            self.begun.set()
            await asyncio.to_thread(self.release.wait, WAIT_S)


async def cancelled_and_going_on(app: App, held: Held, id: str = "b", word: str = "other") -> None:
    """Cancel a caller in its handler; then the same task goes on to use the app."""

    async def call() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app.task("job").send("a", "holds")
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        await app.task("job").send(id, word)

    caller = asyncio.create_task(call())
    assert await asyncio.to_thread(held.begun.wait, WAIT_S)
    caller.cancel()
    await asyncio.wait_for(caller, WAIT_S)


@pytest.mark.parametrize("kind", ["def", "async def beside a def", "def that returns a coroutine"])
async def test_U6_what_a_def_does_for_a_caller_that_is_cancelled_is_recorded(
    shared_url: str, kind: str
) -> None:
    held = Held()

    def returns(ctx: Ctx, event: str) -> Awaitable[None]:
        return held.waiting(ctx, event)

    job = {
        "def": task_of(held.blocking),
        "async def beside a def": task_of(held.waiting, on_idle=lambda ctx: None),
        "def that returns a coroutine": task_of(returns),
    }[kind]
    async with Jobs(job=job).open(shared_url) as app:
        # given
        await app.task("job").send("a", "first")
        # when
        await cancelled_and_going_on(app, held)
        # then the turn is not over, and the next one waits for it
        behind = asyncio.create_task(app.task("job").send("a", "behind"))
        held.release.set()
        assert (await behind).event_count == 3
        assert await app.task("job").get_state("a") == "behind"
        assert await app.task("job").get_state("b") == "other"


async def test_E3_closing_waits_for_a_request_whose_caller_has_gone(sqlite_url: str) -> None:
    held = Held()
    jobs = Jobs(job=task_of(held.blocking))
    async with jobs.open(sqlite_url) as app:
        await cancelled_and_going_on(app, held)
        held.release.set()
    async with jobs.open(sqlite_url) as app:
        assert await app.task("job").get_state("a") == "holds"


async def test_U10_a_timeout_is_not_felt_by_a_caller_that_has_gone(shared_url: str) -> None:
    held = Held()
    async with Jobs(job=task_of(held.blocking, timeout="50ms")).open(shared_url) as app:
        # given a caller that has left a handler that is stuck, and goes on
        # when the handler's time is over: the next one has its turn
        await cancelled_and_going_on(app, held, "a", "behind")
        # then
        assert await app.task("job").get_state("a") == "behind"
        held.release.set()


async def test_U10_a_def_that_was_short_and_is_stuck_times_out(shared_url: str) -> None:
    held = Held()
    async with Jobs(job=task_of(held.blocking, timeout="50ms")).open(shared_url) as app:
        for _ in range(100):
            await app.task("job").send("a", "short")
        with pytest.raises(ExecutionError) as raised:
            await app.task("job").send("a", "holds")
        assert isinstance(raised.value.__cause__, HandlerTimeoutError)
        held.release.set()


async def test_U6_a_coroutine_of_a_def_that_cancels_its_task_has_failed(sqlite_url: str) -> None:
    async def cancels() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    def on_event(ctx: Ctx, event: Any) -> Awaitable[None]:
        return cancels()

    async with Jobs(job=task_of(on_event)).open(sqlite_url) as app:
        with pytest.raises(ExecutionError, match="CancelledError"):
            await app.task("job").send("a", 1)
