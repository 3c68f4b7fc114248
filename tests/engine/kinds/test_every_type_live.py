"""Jobs of every type with a real worker and in real time: open runs that are paused, given back as
their worker shuts down, or take too long (A5, K2, R2, U10)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.engine.kinds.test_every_type import every_type, job_of
from tests.support import WAIT_S
from wakelog import App, Jobs, Retry

pytestmark = pytest.mark.anyio


class Runs:
    """Runs of a job that tell of themselves, and end when they are let."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.let_end = asyncio.Event()

    async def execute(self, ctx: Any) -> None:
        self.begun.put_nowait((ctx.run_count, ctx.attempt))
        await self.let_end.wait()


async def begin(app: App, kind: str) -> Any:
    """Let a run be due; the client of its job."""
    client: Any = getattr(app, kind)("job")
    match kind:
        case "task":
            await client.send("a", 0)
        case "continuous":
            await client.start("a", 0, wait=False)
        case _:
            await client.add("a", 0)
    return client


async def until(app: App, kind: str, event: str) -> list[str]:
    """Wait until this is recorded; all that is."""
    told: list[str] = []
    while event not in told:
        told = [entry.event for entry in await app.history(f"{kind}:job:a")]
    return told


@every_type
async def test_A5_a_run_that_is_open_at_a_pause_ends_and_no_other_begins(
    store_url: str, kind: str
) -> None:
    runs = Runs()
    jobs = Jobs(job=job_of(kind, runs.execute))
    async with jobs.open(store_url, worker=True) as app, asyncio.timeout(WAIT_S):
        client = await begin(app, kind)
        assert await runs.begun.get() == (1, 1)
        assert (await client.pause("a", reason="lunch")).paused is True
        assert (await client.status("a")).status == "paused"
        assert (await client.retry("a")).reason == "running"
        if kind != "continuous":
            await begin(app, kind)
        runs.let_end.set()
        await until(app, kind, "Executed")
        assert runs.begun.empty()
        assert (await client.status("a")).status == "paused"
        await client.resume("a")
        if kind == "continuous":
            await client.trigger("a", wait=False)
        assert await runs.begun.get() == (2, 1)


@every_type
async def test_K2_a_run_that_is_given_back_at_a_shutdown_goes_on_as_the_same(
    store_url: str, kind: str
) -> None:
    runs = Runs()
    jobs = Jobs(job=job_of(kind, runs.execute, retry=Retry(max_attempts=1)))
    async with asyncio.timeout(WAIT_S):
        async with jobs.open(store_url, worker=True, grace=0) as app:
            await begin(app, kind)
            assert await runs.begun.get() == (1, 1)
        runs.let_end.set()
        async with jobs.open(store_url, worker=True) as app:
            assert await runs.begun.get() == (1, 2)
            told = await until(app, kind, "Executed")
    assert (told.count("ExecutionLost"), told.count("RetryExhausted")) == (1, 0)
    assert told.count("Flushed") == (kind == "debounce")


@every_type
async def test_U10_R2_a_run_that_takes_too_long_is_tried_again(store_url: str, kind: str) -> None:
    runs = Runs()
    job = job_of(kind, runs.execute, retry=Retry(max_attempts=2, delay="10ms", jitter=0))
    job.handlers.pop("execute")
    job.execute(timeout="20ms")(runs.execute)
    async with Jobs(job=job).open(store_url, worker=True) as app, asyncio.timeout(WAIT_S):
        client = await begin(app, kind)
        assert [await runs.begun.get() for _ in range(2)] == [(1, 1), (1, 2)]
        await until(app, kind, "RetryExhausted")
        assert (await client.status("a")).last_error.type == "HandlerTimeoutError"
