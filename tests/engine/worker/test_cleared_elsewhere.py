"""U14: a clear by another process ends the work on the instance soon, long before a heartbeat."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, task_of
from wakelog import Jobs, LeaseLostError

pytestmark = pytest.mark.anyio

SOON_S = 5.0
"""At the default lease a heartbeat comes after 10 s."""


async def test_U14_a_run_that_was_cleared_elsewhere_is_cancelled(shared_url: str) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def execute(ctx: Ctx) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    jobs = Jobs(job=task_of(execute=execute))
    async with jobs.open(shared_url, worker=True) as app, jobs.open(shared_url) as other:
        await app.task("job").send("a", {"schedule": 0})
        async with asyncio.timeout(WAIT_S):
            await begun.wait()
        # when another application ends its life, and begins the next one
        await other.task("job").clear("a")
        await other.task("job").send("a", {})
        # then
        async with asyncio.timeout(SOON_S):
            await cancelled.wait()
        status = await other.task("job").status("a")
        assert (status.executing, status.failure_count, status.execute_count) == (False, 0, 0)


async def test_U14_no_further_step_begins_after_a_clear_elsewhere(shared_url: str) -> None:
    begun, cleared, lost = threading.Event(), threading.Event(), threading.Event()
    called: list[str] = []

    def execute(ctx: Ctx) -> None:
        ctx.step_blocking("one", called.append, "one")
        begun.set()
        assert cleared.wait(WAIT_S)
        try:
            ctx.step_blocking("two", called.append, "two")
        except LeaseLostError:
            lost.set()
            raise

    jobs = Jobs(job=task_of(execute=execute))
    async with jobs.open(shared_url, worker=True) as app, jobs.open(shared_url) as other:
        await app.task("job").send("a", {"schedule": 0})
        assert await asyncio.to_thread(begun.wait, WAIT_S)
        await other.task("job").clear("a")
        cleared.set()
        assert await asyncio.to_thread(lost.wait, WAIT_S)
    assert called == ["one"]


async def test_U14_a_step_in_a_loop_is_not_called_after_a_clear_elsewhere(shared_url: str) -> None:
    begun, go_on, lost = asyncio.Event(), asyncio.Event(), asyncio.Event()
    called: list[Any] = []

    async def execute(ctx: Ctx) -> None:
        begun.set()
        await go_on.wait()
        try:
            await ctx.step("one", called.append, "one")
        except LeaseLostError:
            lost.set()
            raise

    jobs = Jobs(job=task_of(execute=execute))
    async with jobs.open(shared_url, worker=True) as app, jobs.open(shared_url) as other:
        await app.task("job").send("a", {"schedule": 0})
        async with asyncio.timeout(WAIT_S):
            await begun.wait()
            await other.task("job").clear("a")
            go_on.set()
            await lost.wait()
    assert called == []
