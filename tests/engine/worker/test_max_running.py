"""A definition may say how many of its runs there are at a time, over all workers (A6)."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support import START, WAIT_S, Ctx, Staging, nothing, task_of
from wakelog import Jobs, Task, ValidationError
from wakelog.core.events import RunStarted
from wakelog.testing import SimulatedCrash
from wakelog.worker.claims import claim_due
from wakelog.worker.next_look import ENDED_US, NextLook
from wakelog.worker.runs import work

LIMIT = 3


class Crowd:
    """An `execute` that notes how many of it there are, and ends when it is let go."""

    def __init__(self) -> None:
        self.inside: set[str] = set()
        self.most = 0
        self.entered: asyncio.Queue[str] = asyncio.Queue()
        self.doors: dict[str, asyncio.Event] = {}

    async def execute(self, ctx: Ctx) -> None:
        self.inside.add(ctx.id)
        self.most = max(self.most, len(self.inside))
        gateway = self.doors.setdefault(ctx.id, asyncio.Event())
        self.entered.put_nowait(ctx.id)
        await gateway.wait()
        self.inside.remove(ctx.id)

    async def next(self) -> str:
        async with asyncio.timeout(WAIT_S):
            return await self.entered.get()


@pytest.mark.anyio
async def test_A6_never_more_over_all_workers_and_all_get_their_turn(shared_url: str) -> None:
    # given three workers, and far more due than the limit allows
    crowd = Crowd()
    jobs = Jobs(job=task_of(execute=crowd.execute, max_running=LIMIT))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(jobs.open(shared_url))
        ids = [f"i{n:02}" for n in range(20)]
        for id in ids:
            await client.task("job").send(id, {"schedule": 0})
        for _ in range(3):
            await stack.enter_async_context(jobs.open(shared_url, worker=True))
        # when each run ends only after as many have begun as may
        begun = [await crowd.next() for _ in range(LIMIT)]
        for id in list(ids):
            if len(begun) < len(ids):
                assert len(crowd.inside) == LIMIT
            crowd.doors[begun[ids.index(id)]].set()
            if len(begun) < len(ids):
                begun.append(await crowd.next())
        # then
        assert Counter(begun) == Counter(ids)
        assert crowd.most == LIMIT


@pytest.mark.anyio
async def test_A6_others_are_not_held_up_by_a_job_at_its_limit(shared_url: str) -> None:
    # given a job at its limit, with a thousand behind
    crowd, ran = Crowd(), asyncio.Event()
    jobs = Jobs(
        limited=task_of(execute=crowd.execute, max_running=1),
        other=task_of(execute=lambda ctx: loop.call_soon_threadsafe(ran.set)),
    )
    loop = asyncio.get_running_loop()
    async with jobs.open(shared_url, worker=True, concurrency=2) as app:
        sends = [app.task("limited").send(f"i{n}", {"schedule": 0}) for n in range(1000)]
        await asyncio.gather(*sends)
        first = await crowd.next()
        # when
        await app.task("other").send("a", {"schedule": 0})
        # then it runs, and so does an event that waits at an instance of the limited job
        async with asyncio.timeout(WAIT_S):
            await ran.wait()
        sent = app.task("limited").send("later", {"set_state": 1}, delay=0, wait=True)
        async with asyncio.timeout(WAIT_S):
            assert (await sent).deferred
        assert await app.task("limited").get_state("later") == 1
        assert crowd.inside == {first}
        crowd.doors[first].set()
        await crowd.next()
        await app.close(grace=0)


@pytest.mark.anyio
async def test_A6_a_worker_at_the_limit_does_not_keep_looking(shared_url: str) -> None:
    # given
    crowd = Crowd()
    jobs = Jobs(job=task_of(execute=crowd.execute, max_running=1))
    async with jobs.open(shared_url, worker=True, lease="1h") as app:
        for id in "abc":
            await app.task("job").send(id, {"schedule": 0})
        await crowd.next()
        # when a look has got nothing
        now_us = app.application.clock.now_us()
        look = NextLook(app.application, ["task:job"])
        look.begin()
        look.claimed(now_us, 0, None, is_full=False)
        next_us = await asyncio.to_thread(look.next_us, now_us)
        # then that is at the next poll, though two are due; and soon, for a run may end elsewhere
        assert next_us is not None
        assert now_us + min(app.application.store.poll_us or 0, ENDED_US) <= next_us
        assert next_us <= now_us + ENDED_US
        await app.close(grace=0)


def test_A6_a_simulation_keeps_to_it_and_gets_done(stage: Staging) -> None:
    # given a worker that died in the run of the only one that may run
    job = stage(max_running=1)
    for id in "abc":
        job.send({"schedule": "1h"}, id=id)
    job.sim.crash_next("after_write")
    with pytest.raises(SimulatedCrash):
        job.sim.advance("1h")
    job.sim.restart()
    # when
    job.sim.run_until_idle()
    # then it was taken up when its lease had ended, and the others after it
    attempts = {id: [e.attempt for e in job.found(RunStarted, id)] for id in "abc"}
    assert sorted(attempts.values()) == [[1], [1], [1, 2]]
    assert (job.sim.now - START).total_seconds() == 3630


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "5"])
def test_A6_a_limit_is_a_whole_number_from_1(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="max_running"):
        Task(state=int, event=int, max_running=wrong)


def test_A6_a_limit_goes_with_its_definition() -> None:
    limited = task_of(execute=nothing, max_running=2)
    jobs = Jobs(one=limited, two=limited.with_resources(1), three=task_of())
    assert jobs.registry.limits() == {"task:one": 2, "task:two": 2}


@pytest.mark.anyio
async def test_A6_what_was_claimed_for_something_else_is_no_run_more(store_url: str) -> None:
    async with Jobs(job=task_of(max_running=1)).open(store_url) as app:
        # given an instance that was claimed to be cleared, beside a run
        application, job = app.application, app.task("job")
        await job.send("a", {"schedule": 3600})
        await job.clear("a", after=0)
        await job.send("a", {"schedule": 0})
        await job.send("b", {"schedule": 0})
        claimed, _ = await asyncio.to_thread(
            claim_due,
            application,
            worker="w1",
            jobs=["task:job"],
            limit=9,
            now_us=application.clock.now_us(),
        )
        a, b = sorted(claimed, key=lambda each: each.stream)
        assert (a.due.run, b.due.run) == (False, True)
        # when it is due for a run when it begins
        await job.cancel_clear("a")
        await work(application, a)
        # then it waits until the other one has ended
        assert "RunStarted" not in [entry.event for entry in await app.history("task:job:a")]
        assert await asyncio.to_thread(application.store.lease_tokens, [a.stream]) == [None]
        await work(application, b)
        row = await asyncio.to_thread(application.store.status, [a.stream])
        assert row[0] is not None
        assert row[0].wake_us is not None
