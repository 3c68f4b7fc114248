"""What exists, how it stands, who lives, and what runs where (A6)."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support import START, WAIT_S, Ctx, Stage, Staging, nothing, staged, task_of
from wakelog import App, Jobs, UnknownJobTypeError, ValidationError
from wakelog.testing import SimulatedCrash

REFUSED = (ValidationError, UnknownJobTypeError)


class Held:
    """A run that says that it has begun, and ends when it is let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.gateway = asyncio.Event()
        self.task = task_of(execute=self.execute)

    async def execute(self, ctx: Ctx) -> None:
        self.begun.set()
        await self.gateway.wait()

    async def running(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.begun.wait()


# -- counts ----------------------------------------------------------------------------------------


def lived(job: Stage) -> None:
    """Six instances that stand differently."""
    job.send({"schedule": "1h"}, id="a-1")
    job.send({"schedule": "2h"}, id="a-2")
    job.send({"schedule": "1m"}, id="failed")
    job.send({}, id="idle")
    job.send({}, id="cleared")
    job.clear("cleared")
    job.sim.advance("2m")


def test_A6_counts_by_job_and_status(stage: Staging) -> None:
    job = stage(execute=lambda ctx: 1 / 0)
    lived(job)
    [found] = job.sim.counts()
    assert (found.type, found.name, found.total, found.running) == ("task", "job", 4, 0)
    assert found.statuses == {"active": 2, "failed": 1, "idle": 1}


def test_A6_a_count_agrees_with_the_list_for_each_filter(stage: Staging) -> None:
    job = stage(execute=lambda ctx: 1 / 0)
    lived(job)
    filters: dict[str, tuple[dict[str, Any], set[str]]] = {
        "all": ({}, {"a-1", "a-2", "failed", "idle"}),
        "type": ({"type": "task"}, {"a-1", "a-2", "failed", "idle"}),
        "name": ({"name": "other"}, set()),
        "status": ({"status": "active"}, {"a-1", "a-2"}),
        "failed": ({"status": "failed"}, {"failed"}),
        "prefix": ({"id_prefix": "a-"}, {"a-1", "a-2"}),
        "due": ({"due_before": START + timedelta(minutes=90)}, {"a-1"}),
        "updated": ({"updated_after": START}, {"failed"}),
        "error": ({"error": "ZeroDivisionError"}, {"failed"}),
        "two": ({"id_prefix": "a-", "due_before": START + timedelta(hours=3)}, {"a-1", "a-2"}),
    }
    for name, (given, ids) in filters.items():
        rows = job.sim.list(**given)
        assert {row.instance_id.removeprefix("task:job:") for row in rows} == ids, name
        assert job.sim.count(**given) == len(ids), name


@pytest.mark.anyio
async def test_A6_a_count_knows_what_no_living_worker_can_take(shared_url: str) -> None:
    jobs = Jobs(job=task_of(execute=nothing), other=task_of(execute=nothing))
    async with jobs.open(shared_url) as app:
        await app.task("job").send("a", {"schedule": 0})
        await app.task("job").send("b", {"schedule": "1h"})
        assert [job.statuses for job in await app.counts()] == [{"active": 1, "unhandled": 1}]
        assert await app.count(status="unhandled") == 1
        assert await app.count(status="active") == 1
        async with jobs.open(shared_url, worker=True, only=["other"]):
            assert await app.count(status="unhandled") == 1


@pytest.mark.anyio
async def test_A6_a_count_says_what_runs(shared_url: str) -> None:
    held = Held()
    async with Jobs(job=held.task).open(shared_url, worker=True) as app:
        await app.task("job").send("a", {"schedule": 0})
        await app.task("job").send("b", {})
        await held.running()
        assert [(job.total, job.running) for job in await app.counts()] == [(2, 1)]
        held.gateway.set()


@pytest.mark.parametrize("ask", ["list", "count", "counts"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "sleeping"},
        {"type": "cron"},
        {"due_before": datetime(2026, 1, 1)},  # noqa: DTZ001  naive on purpose
        {"updated_after": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"id_prefix": "\ud800"},
    ],
    ids=str,
)
def test_A6_a_wrong_filter_is_refused(ask: str, wrong: dict[str, Any]) -> None:
    with Jobs(job=task_of()).open("memory://") as app, pytest.raises(REFUSED):
        getattr(app, ask)(**wrong)


def test_A6_a_filter_that_is_none_is_a_mistake() -> None:
    with (
        Jobs(job=task_of()).open("memory://") as app,
        pytest.raises(ValidationError, match="stauts"),
    ):
        app.count(stauts="failed")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# -- pages -----------------------------------------------------------------------------------------


async def pages_of(app: App, size: int, meanwhile: Any) -> list[str]:
    """The ids on all pages; something happens between each two."""
    found: list[str] = []
    after: str | None = None
    while page := await app.list(limit=size, after=after):
        found += [row.instance_id.removeprefix("task:job:") for row in page]
        after = page[-1].instance_id
        await meanwhile()
    return found


@pytest.mark.anyio
async def test_A6_pages_show_each_that_stays_once_whatever_others_do(shared_url: str) -> None:
    # given
    staying = [f"s-{n:02}" for n in range(30)]
    async with Jobs(job=task_of()).open(shared_url) as app:
        job = app.task("job")
        for id in [*staying, *(f"t-{n}" for n in range(9))]:
            await job.send(id, {})
        new = iter(range(100))

        async def meanwhile() -> None:
            number = next(new)
            await job.send(f"a-{number}", {})  # before what was shown
            await job.send(f"s-{number:02}-new", {})
            await job.send(staying[number], {})
            await job.clear(f"t-{number % 9}")

        # when
        found = await pages_of(app, 4, meanwhile)
    # then
    counted = Counter(found)
    assert max(counted.values()) == 1
    assert found == sorted(found)
    assert set(staying) <= set(found)


# -- workers ---------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_A6_workers_say_who_lives_and_what_runs_where(store_url: str) -> None:
    # given a worker in the middle of a run
    held = Held()
    jobs = Jobs(job=held.task, other=task_of())
    async with jobs.open(store_url) as client:
        assert await client.workers() == []
        before = datetime.now(UTC)
        async with jobs.open(store_url, worker=True, concurrency=7, only=["job"]) as app:
            await app.task("job").send("a", {"schedule": 0})
            await held.running()
            # when
            [worker] = await client.workers()
            # then
            assert (worker.alive, worker.pid, worker.concurrency) == (True, os.getpid(), 7)
            assert worker.jobs == ("task:job",)
            assert worker.started_at is not None
            assert worker.seen_at is not None
            now = datetime.now(UTC)
            assert before <= worker.started_at <= worker.seen_at <= now
            [work] = worker.work
            assert (work.instance_id, work.run, work.attempt) == ("task:job:a", 1, 1)
            assert work.since is not None
            assert before <= work.since <= now
            assert now < work.lease_ends_at <= now + timedelta(seconds=31)
            held.gateway.set()
        # and when it has ended it is gone
        assert await client.workers() == []


def test_A6_the_blocking_app_knows_them_too(shared_url: str) -> None:
    with Jobs(job=task_of()).open(shared_url, worker=True) as app:
        assert [(worker.alive, worker.work) for worker in app.workers()] == [(True, ())]
        assert app.count() == 0
        assert app.counts() == []


@pytest.mark.anyio
async def test_A6_what_a_dead_worker_left_is_seen_until_it_is_taken_over(shared_url: str) -> None:
    # given a run whose process died long ago, and that no worker takes up
    task = task_of(execute=nothing)

    def die() -> None:
        job = staged(task, shared_url)
        with job.sim:
            job.send({"schedule": "1h"})
            job.sim.crash_next("after_write")
            with pytest.raises(SimulatedCrash):
                job.sim.advance("1h")

    await asyncio.to_thread(die)
    async with Jobs(job=task).open(shared_url) as app:
        # then
        [dead] = await app.workers()
        assert (dead.name, dead.alive, dead.seen_at) == ("simulation", False, None)
        [work] = dead.work
        assert (work.run, work.attempt, work.since) == (1, 1, START + timedelta(hours=1))
        assert work.lease_ends_at < datetime.now(UTC)
