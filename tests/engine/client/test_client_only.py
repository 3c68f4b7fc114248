"""Runs happen only in working processes: A7 and T14."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, scripted, task_of
from wakelog import ExecutionError, Jobs, WaitTimeoutError
from wakelog.core.time import moment_us

pytestmark = pytest.mark.anyio


class Where:
    """Handlers that note in which process (by its name as resources) they were called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.ran = threading.Event()
        self.task = task_of(self.on_event, execute=self.execute)

    def jobs(self, name: str) -> Jobs:
        return Jobs(job=self.task.with_resources(name))

    def on_event(self, ctx: Ctx, event: Any) -> None:
        self.calls.append((ctx.resources, "on_event"))
        scripted(ctx, event)

    def execute(self, ctx: Ctx) -> None:
        self.calls.append((ctx.resources, "execute"))
        self.ran.set()


async def test_A7_a_client_runs_on_event_of_its_own_sends_and_never_a_run(shared_url: str) -> None:
    # given
    where = Where()
    async with where.jobs("client").open(shared_url) as client:
        # when
        sent = await client.task("job").send("a", {"schedule": 0})
        await client.task("job").send("a", {}, delay=0)
        # then
        assert not sent.deferred
        assert where.calls == [("client", "on_event")]
        async with where.jobs("worker").open(shared_url, worker=True):
            await client.task("job").send("a", {}, wait=True, timeout=WAIT_S)
            await client.task("job").trigger("a", timeout=WAIT_S)
    # then the rest was done by the worker
    assert where.calls[1:].count(("worker", "execute")) == 2
    assert ("client", "execute") not in where.calls
    assert where.calls[1:].count(("worker", "on_event")) >= 1


async def test_A7_one_opened_without_handlers_defers_everything(shared_url: str) -> None:
    # given
    where = Where()
    async with where.jobs("client").open(shared_url, handlers=False) as client:
        jobs = client.task("job")
        # when
        first = await jobs.send("a", {"set_state": 1})
        second = await jobs.send("a", {"set_state": 2})
        # then
        assert (first.created, first.deferred, second.deferred) == (True, True, True)
        assert where.calls == []
        assert await jobs.get_state("a") is None
        async with where.jobs("worker").open(shared_url, worker=True):
            third = await jobs.send("a", {"set_state": 3}, wait=True, timeout=WAIT_S)
            assert third.event_count == 3
            assert await jobs.get_state("a") == 3
            with pytest.raises(ExecutionError, match="boom"):
                await jobs.send("a", {"raise": "boom"}, wait=True, timeout=WAIT_S)
    assert where.calls == [("worker", "on_event")] * 4


async def test_A7_waiting_where_nobody_works_ends_at_the_timeout_and_warns(
    shared_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Where().jobs("client").open(shared_url, handlers=False) as client:
        with pytest.raises(WaitTimeoutError):
            await client.task("job").send("a", {}, wait=True, timeout="50ms")
        assert (await client.task("job").status("a")).deferred_count == 1
    assert any("no living worker" in record.getMessage() for record in caplog.records)


def test_A7_a_blocking_worker_works_too(shared_url: str) -> None:
    # given
    ran = threading.Event()
    task = task_of(execute=lambda ctx: ran.set())
    with Jobs(job=task).open(shared_url, worker=True) as app:
        # when
        app.task(task).send("a", {"schedule": 0})
        # then
        assert ran.wait(WAIT_S)
        assert not app.task(task).trigger("a", timeout=WAIT_S).failed


async def test_T14_an_alarm_that_no_living_worker_can_take_stays_and_is_shown(
    shared_url: str,
) -> None:
    # given an alarm that is due, and a worker that knows another job only
    where = Where()
    other = task_of()
    both = Jobs(job=where.task, other=other)
    async with both.open(shared_url) as client:
        jobs = client.task("job")
        await jobs.send("a", {"schedule": 0})
        await jobs.send("later", {"schedule": "1h"})
        assert (await jobs.status("a")).status == "unhandled"
        async with both.open(shared_url, worker=True, only=["other"]):
            await client.task("other").send("a", {})
            await client.task("other").trigger("a", timeout=WAIT_S)
            # then
            assert (await jobs.status("a")).status == "unhandled"
            assert (await jobs.status("later")).status == "active"
            unhandled = [row.instance_id for row in await client.list(status="unhandled")]
            assert unhandled == ["task:job:a"]
        # when one comes that knows it
        async with both.open(shared_url, worker=True):
            # then it was never dropped
            assert await asyncio.to_thread(where.ran.wait, WAIT_S)
        assert (await jobs.status("a")).status == "idle"
        assert [entry.event for entry in await client.history("task:job:a")][-2:] == [
            "RunStarted",
            "Executed",
        ]


async def test_A1_a_due_alarm_fires_as_soon_as_a_worker_is_free_and_never_early(
    shared_url: str,
) -> None:
    # given a worker with one slot
    task = task_of(execute=lambda ctx: None)
    async with Jobs(job=task).open(shared_url, worker=True, concurrency=1) as app:
        jobs = app.task("job")
        # when
        await asyncio.gather(*(jobs.send(f"i{n}", {"schedule": "10ms"}) for n in range(20)))
        for n in range(20):
            await jobs.trigger(f"i{n}", timeout=WAIT_S)
        # then no run began before it was due
        for n in range(20):
            for entry in await app.history(f"task:job:i{n}"):
                if entry.event == "RunStarted":
                    assert moment_us(entry.at) >= entry.data["due_us"]
