"""Many units of work go together in one append, and each answers for itself (K5)."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, counter_task, task_of
from tests.support_stores import direct_access, writes_blocked
from wakelog import App, Jobs, SendResult, StoreUnavailableError

pytestmark = pytest.mark.anyio


def appends_of(app: App) -> tuple[int, int]:
    """How many appends there were, and how many units went with them."""
    commits = app.application.commits
    return commits.appends, commits.units


def refuse_large_values(app: App, url: str) -> None:
    """From now on the database takes no value of two megabytes."""
    if url.startswith("sqlite:"):
        store: Any = app.application.store
        with store.writing() as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2_000_000)
    else:
        with direct_access(url) as do:
            do("ALTER TABLE {at}status ADD CHECK (length(state) < 2000000)")


class Counter:
    """A task that counts events, and says when it has decided on as many as were sent."""

    def __init__(self) -> None:
        self.task = task_of(self.add)
        self.to_decide = 0
        self.decided = asyncio.Event()

    async def add(self, ctx: Ctx, event: int) -> None:
        ctx.set_state((ctx.state or 0) + event)
        self.to_decide -= 1
        if self.to_decide == 0:
            self.decided.set()

    async def send_together(self, app: App, url: str, ids: list[str]) -> list[SendResult]:
        """Send 1 to each. Until all are decided somebody else holds the store: appends wait."""
        self.to_decide = len(ids)
        with writes_blocked(url):
            sends = [asyncio.ensure_future(app.task("job").send(id, 1)) for id in ids]
            async with asyncio.timeout(WAIT_S):
                await self.decided.wait()
        return await asyncio.gather(*sends)


async def test_K5_units_that_are_ready_together_are_appended_together(shared_url: str) -> None:
    counter = Counter()
    async with Jobs(job=counter.task).open(shared_url) as app:
        before = appends_of(app)
        # when
        await counter.send_together(app, shared_url, [f"i{n}" for n in range(100)])
        # then
        appends, units = (now - then for now, then in zip(appends_of(app), before, strict=True))
        assert units == 100
        assert appends <= 2  # what waited first, and all behind it


async def test_K5_the_losers_of_a_conflict_are_found_and_the_rest_commits_together(
    shared_url: str,
) -> None:
    # given two apps; what the first knows of two instances is overtaken by the second
    counter = Counter()
    jobs = Jobs(job=counter.task)
    ids = [f"i{n}" for n in range(40)]
    async with jobs.open(shared_url) as first, jobs.open(shared_url) as second:
        await asyncio.gather(*(first.task("job").send(id, 1) for id in ids))
        for id in ("i0", "i20"):
            await second.task("job").send(id, 10)
        before = appends_of(first)
        # when the first sends to all of them at once
        answers = await counter.send_together(first, shared_url, ids)
        # then all were recorded, the two losers on what the second had written
        states = [await first.task("job").get_state(id) for id in ids]
        assert states == [12 if id in ("i0", "i20") else 2 for id in ids]
        assert [a.event_count for a in answers] == [3 if s == 12 else 2 for s in states]
        # and it took the two appends, and one more for each loser at most
        assert appends_of(first)[0] - before[0] <= 4


async def test_K5_units_of_one_instance_build_on_each_other_inside_a_group(
    shared_url: str,
) -> None:
    counter = Counter()
    async with Jobs(job=counter.task).open(shared_url) as app:
        before = appends_of(app)
        # when
        answers = await counter.send_together(app, shared_url, ["a"] * 50)
        # then
        told = sorted((a.event_count, a.version) for a in answers)
        assert told == [(n, 2 * n + 1) for n in range(1, 51)]
        assert appends_of(app)[0] - before[0] <= 2  # what waited first, and all behind it


async def test_K5_they_fall_in_order_too_and_are_redone(shared_url: str) -> None:
    # given a chain of units on a version that another app has overtaken
    counter = counter_task(pause_s=0)
    jobs = Jobs(job=counter)
    async with jobs.open(shared_url) as first, jobs.open(shared_url) as second:
        await first.task(counter).send("a", 1)
        await second.task(counter).send("a", 1000)
        # when
        answers = await asyncio.gather(*(first.task(counter).send("a", 1) for _ in range(30)))
        # then each counts once, and no answer was given for what did not stand
        assert await first.task(counter).get_state("a") == 1031
        assert sorted(a.event_count for a in answers) == [*range(3, 33)]
        history = await second.history("task:job:a")
        assert [entry.version for entry in history] == [*range(1, len(history) + 1)]


async def test_K5_a_member_the_database_refuses_fails_alone(shared_url: str) -> None:
    # given a database that takes no large values
    task = task_of(lambda ctx, event: ctx.set_state("x" * event))
    async with Jobs(job=task).open(shared_url) as app:
        refuse_large_values(app, shared_url)
        sizes = [10, 10, 3_000_000, 10, 10]
        # when
        sends = [app.task("job").send(f"i{n}", size) for n, size in enumerate(sizes)]
        answers = await asyncio.gather(*sends, return_exceptions=True)
        # then
        assert [isinstance(a, SendResult) for a in answers] == [True, True, False, True, True]
        refused = answers[2]
        assert isinstance(refused, StoreUnavailableError)
        assert refused.reason == "refused"
        assert (await app.task("job").status("i2")).status == "not_found"
        # and the instance can be used
        assert (await app.task("job").send("i2", 10)).created


async def test_K5_a_run_whose_outcome_the_database_refuses_has_failed(shared_url: str) -> None:
    # given
    task = task_of(execute=lambda ctx: ctx.set_state("x" * 3_000_000))
    async with Jobs(job=task).open(shared_url, worker=True) as app:
        refuse_large_values(app, shared_url)
        await app.task("job").send("a", {"set_state": "small"})
        # when
        result = await app.task("job").trigger("a", timeout=WAIT_S)
        # then
        assert result.error is not None
        assert result.error.type == "StoreUnavailableError"
        assert await app.task("job").get_state("a") == "small"


async def test_K5_nothing_is_answered_before_the_commit(shared_url: str) -> None:
    # given a store that another process is writing to
    handled = asyncio.Event()

    async def on_event(ctx: Ctx, event: Any) -> None:
        handled.set()
        ctx.set_state(event)

    async with Jobs(job=task_of(on_event)).open(shared_url) as app:
        with writes_blocked(shared_url):
            # when
            sends = [asyncio.create_task(app.task("job").send(id, 1)) for id in "abc"]
            await handled.wait()
            for _ in range(20):
                await asyncio.sleep(0)
            # then
            assert not any(send.done() for send in sends)
            assert await app.list() == []
        # when it has ended
        assert len(await asyncio.gather(*sends)) == 3
