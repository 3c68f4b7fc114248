"""What a bug or an operator has stranded is found and re-armed (A4)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, Stage, staged, task_of
from tests.support_stores import direct_access
from wakelog import App, Jobs
from wakelog.testing import SimulatedCrash
from wakelog.worker import sweep as sweeping

pytestmark = pytest.mark.anyio

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Ran:
    """An `execute` that says when it was called."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.calls: asyncio.Queue[int] = asyncio.Queue()
        self.task = task_of(execute=self.execute)

    def execute(self, ctx: Ctx) -> None:
        self.loop.call_soon_threadsafe(self.calls.put_nowait, ctx.attempt)

    async def next(self) -> int:
        async with asyncio.timeout(WAIT_S):
            return await self.calls.get()


async def in_a_simulation(ran: Ran, url: str, *asks: Any) -> None:
    """What happened long ago, in another process."""

    def happen() -> None:
        job = staged(ran.task, url, start=LONG_AGO)
        with job.sim:
            for ask in asks:
                ask(job)

    await asyncio.to_thread(happen)


def vandalise(url: str, table: str) -> None:
    """Delete all rows of one of the store's tables."""
    with direct_access(url) as do:
        assert do(f"DELETE FROM {{at}}{table}") == 1


async def sweep(app: App) -> None:
    """What the worker's heartbeat does every half minute."""
    assert app.worker is not None
    await asyncio.to_thread(app.worker.sweep)


async def test_A4_an_alarm_that_was_lost_is_armed_again_and_recorded(shared_url: str) -> None:
    # given a schedule whose alarm row is gone
    ran = Ran()
    await in_a_simulation(ran, shared_url, lambda job: job.send({"schedule": "1h"}))
    vandalise(shared_url, "alarms")
    async with Jobs(job=ran.task).open(shared_url, worker=True) as app:
        # when
        await sweep(app)
        # then
        assert await ran.next() == 1
        swept = next(e for e in await app.history("task:job:a") if e.data.get("by") == "sweep")
        assert (swept.event, swept.actor) == ("Scheduled", "sweep")
        assert "sweep" in swept.description


async def test_A4_an_event_that_waits_without_an_alarm_is_armed_again(shared_url: str) -> None:
    # given
    ran = Ran()
    await in_a_simulation(ran, shared_url, lambda job: job.send({"schedule": 0}, delay="1h"))
    vandalise(shared_url, "alarms")
    async with Jobs(job=ran.task).open(shared_url, worker=True) as app:
        # when
        await sweep(app)
        # then it is handled, and what it scheduled runs
        assert await ran.next() == 1
        assert (await app.task("job").status("a")).deferred_count == 0


async def test_A4_a_run_without_a_lease_is_ended_and_taken_up(shared_url: str) -> None:
    # given a run whose process died, and whose lease row is gone
    ran = Ran()

    def die(job: Stage) -> None:
        job.send({"schedule": "1h"})
        job.sim.crash_next("after_write")
        with pytest.raises(SimulatedCrash):
            job.sim.advance("1h")

    await in_a_simulation(ran, shared_url, die)
    vandalise(shared_url, "leases")
    async with Jobs(job=ran.task).open(shared_url, worker=True) as app:
        # when
        await sweep(app)
        # then
        assert await ran.next() == 2
        lost = [e.data for e in await app.history("task:job:a") if e.event == "ExecutionLost"]
        assert [data["reason"] for data in lost] == ["no_lease"]


async def test_A4_a_lease_that_has_ended_needs_no_sweep(shared_url: str) -> None:
    ran = Ran()

    def die(job: Stage) -> None:
        job.send({"schedule": "1h"})
        job.sim.crash_next("after_write")
        with pytest.raises(SimulatedCrash):
            job.sim.advance("1h")

    await in_a_simulation(ran, shared_url, die)
    # no lease ends before a server has been up for as long, and this one may have just started
    async with Jobs(job=ran.task).open(shared_url, worker=True, lease="1s"):
        assert await ran.next() == 2


async def test_A4_a_sweep_leaves_alone_what_is_in_order(shared_url: str) -> None:
    # given instances that wait, that are idle, and that were cleared
    ran = Ran()
    await in_a_simulation(
        ran,
        shared_url,
        lambda job: job.send({"schedule": "36500d"}, id="waits"),
        lambda job: job.send({}, id="idle"),
        lambda job: job.send({}, id="cleared"),
        lambda job: job.clear("cleared"),
        lambda job: job.send({}, id="delayed", delay="36500d"),
    )
    ids = ("waits", "idle", "cleared", "delayed")
    async with Jobs(job=ran.task).open(shared_url, worker=True) as app:
        before = [(await app.task("job").status(id)).version for id in ids]
        # when
        await sweep(app)
        await app.task("job").send("other", {"schedule": 0})
        await ran.next()
        # then
        assert [(await app.task("job").status(id)).version for id in ids] == before


async def test_A3_a_worker_that_opens_after_years_fires_what_was_due_oldest_first(
    shared_url: str,
) -> None:
    # given
    order: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def execute(ctx: Ctx) -> None:
        loop.call_soon_threadsafe(order.put_nowait, ctx.id)

    ran = Ran()
    ran.task = task_of(execute=execute)
    for id, delay in (("c", "3h"), ("a", "1h"), ("b", "2h")):
        await in_a_simulation(
            ran, shared_url, lambda job, id=id, delay=delay: job.send({"schedule": delay}, id=id)
        )
    # when
    async with Jobs(job=ran.task).open(shared_url, worker=True, concurrency=1):
        # then
        async with asyncio.timeout(WAIT_S):
            assert [await order.get() for _ in range(3)] == ["a", "b", "c"]


# -- replies that have expired


def kept(url: str) -> int:
    """How many replies are kept."""
    with direct_access(url) as do:
        return do("UPDATE {at}kept_replies SET key = key")


async def test_I1_expired_replies_are_deleted_as_long_as_there_are_more(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given more than one sweep deletes
    monkeypatch.setattr(sweeping, "PURGE_LIMIT", 5)
    monkeypatch.setattr(sweeping, "PURGES", 2)
    jobs = Jobs(job=task_of())
    async with jobs.open(shared_url, idempotency_window="1us") as client:
        sends = (client.task("job").send("a", {}, event_id=f"k-{n}") for n in range(27))
        await asyncio.gather(*sends)
    assert kept(shared_url) == 27
    async with jobs.open(shared_url, worker=True) as app:
        # when
        await sweep(app)
        # then the looks of the heartbeat go on until nothing is left
        assert app.worker is not None
        for _ in range(2):
            await asyncio.to_thread(app.worker.look)
        assert kept(shared_url) == 0
