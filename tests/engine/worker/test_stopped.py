"""What is stopped gives back what it holds, at whatever stage it is (K2)."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from tests.support import WAIT_S, Ctx, task_of
from wakelog import Jobs, LeaseLostError
from wakelog.app import App
from wakelog.ports.rows import Due
from wakelog.worker.begun import BegunWork
from wakelog.worker.claims import Claimed, claim_due
from wakelog.worker.leases import LeaseKey
from wakelog.worker.runs import Appending, Step, begin

pytestmark = pytest.mark.anyio
STREAM = "task:job:a"


def _unnoted(before: LeaseKey, after: LeaseKey) -> None: ...


class Work:
    """What a worker is working on, without the worker."""

    def __init__(self, app: App) -> None:
        self.app = app.application
        self.ended = asyncio.Event()
        self.begun = BegunWork(self.app, self._first_step, self._guarded, self._on_ended)

    def _first_step(self, claimed: Claimed) -> Appending | Step:
        return begin(self.app, claimed, _unnoted, _unnoted)

    async def _guarded(self, claimed: Claimed, step: Step) -> Appending | None:
        try:
            return await step
        except (LeaseLostError, asyncio.CancelledError):
            return None

    def _on_ended(self, claimed: Claimed) -> None:
        self.ended.set()

    async def claim(self) -> Claimed:
        [claimed], _ = await asyncio.to_thread(
            claim_due,
            self.app,
            worker="w1",
            jobs=["task:job"],
            limit=9,
            now_us=self.app.clock.now_us(),
        )
        return claimed

    async def leases(self) -> int:
        return len(await asyncio.to_thread(self.app.store.leases, self.app.clock.now_us(), 9))

    async def settled(self) -> None:
        """Wait until all has ended."""
        async with asyncio.timeout(WAIT_S):
            while len(self.begun):
                self.ended.clear()
                await self.ended.wait()


async def nothing(ctx: Ctx) -> None: ...


@pytest.fixture
async def app(store_url: str) -> AsyncIterator[App]:
    """One instance is due."""
    async with Jobs(job=task_of(execute=nothing)).open(store_url) as app:
        await app.task("job").send("a", {"schedule": 0})
        yield app


async def test_K2_what_is_stopped_before_its_task_begins_gives_its_lease_up(app: App) -> None:
    # given a claim of an instance that must be loaded first
    work = Work(app)
    claimed = await work.claim()
    app.application.instances.evict(STREAM)
    claimed.due = replace(claimed.due, head=None)
    work.begun.begin(claimed)
    # when it is stopped in the same turn of the event loop
    work.begun.stop_stream(STREAM)
    await work.settled()
    # then nothing is held, and nothing began
    assert await work.leases() == 0
    assert "RunStarted" not in [entry.event for entry in await app.history(STREAM)]


async def test_K2_a_run_that_is_stopped_before_its_task_begins_is_given_back(app: App) -> None:
    # given a run that has begun, and whose handler was not called yet
    work = Work(app)
    claimed = await work.claim()
    work.begun.begin(claimed)
    for _ in range(10_000):
        if claimed.stage == "begun":
            break
        await asyncio.sleep(0)
    # when it is stopped
    work.begun.stop_stream(STREAM)
    await work.settled()
    # then that is recorded, and nothing is held
    last = (await app.history(STREAM))[-1]
    assert (last.event, last.data.get("reason")) == ("ExecutionLost", "shutdown")
    assert await work.leases() == 0


async def test_K2_what_waits_for_an_older_handler_gives_its_lease_up(store_url: str) -> None:
    runs, go = threading.Event(), threading.Event()

    def execute(ctx: Ctx) -> None:
        runs.set()
        go.wait(WAIT_S)

    async with Jobs(job=task_of(execute=execute)).open(store_url) as app:
        # given a run in a thread, whose instance was cleared, and a claim of its next life
        work = Work(app)
        await app.task("job").send("a", {"schedule": 0})
        work.begun.begin(await work.claim())
        assert await asyncio.to_thread(runs.wait, WAIT_S)
        await app.task("job").clear("a")
        await app.task("job").send("a", {"schedule": 0})
        work.begun.begin(await work.claim())
        await asyncio.sleep(0)
        # when all is stopped, as far as it can be
        await work.begun.close(0, 0.1)
        held = len(work.begun), await work.leases()
        go.set()
        # then the claim is not held
        assert held == (1, 0)
        await work.settled()


async def test_K2_a_step_that_is_abandoned_before_it_has_begun_is_closed() -> None:
    async def nothing() -> Appending | None:
        return None

    async def guarded(_: Claimed, step: Step) -> Appending | None:
        return await step

    async with Jobs(job=task_of()).open("memory://") as app:
        # given a step whose task has not run yet
        step = nothing()
        ended = asyncio.Event()
        work = BegunWork(app.application, lambda _: step, guarded, lambda _: ended.set())
        work.begin(Claimed(STREAM, Due(STREAM, 0, 3, "hash", None), "w1", -1, 0))
        # when
        work.abandon()
        await ended.wait()
    # then Python has nothing to warn of
    assert inspect.getcoroutinestate(step) == inspect.CORO_CLOSED
