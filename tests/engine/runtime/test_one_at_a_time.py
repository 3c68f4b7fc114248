"""One handler at a time per instance, on a real clock, a real file and real threads (U2)."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, counter_task, task_of
from wakelog import Jobs
from wakelog.core.events import EventReceived

pytestmark = pytest.mark.anyio

SENDS = 200


async def test_U2_200_concurrent_sends_that_read_wait_and_write_end_at_200(shared_url: str) -> None:
    # given an on_event that reads, awaits 2 ms and writes count + 1
    counter = counter_task(pause_s=0.002)
    async with Jobs(counter=counter).open(shared_url) as app:
        # when
        answers = await asyncio.gather(*(app.task(counter).send("a", 1) for _ in range(SENDS)))
        # then
        assert await app.task(counter).get_state("a") == SENDS
        assert sorted(answer.event_count for answer in answers) == [*range(1, SENDS + 1)]
        assert [answer.created for answer in answers].count(True) == 1


async def test_U2_so_they_do_from_four_apps_on_one_store(shared_url: str) -> None:
    # given four openings of the same store, one of which works
    counter = counter_task(pause_s=0.002)
    jobs = Jobs(counter=counter)
    async with AsyncExitStack() as stack:
        opened = [jobs.open(shared_url, worker=n == 0) for n in range(4)]
        apps = [await stack.enter_async_context(opening) for opening in opened]
        # when (a send that loses too often is handled by the worker: wait for that)
        sends = [
            apps[n % 4].task(counter).send("a", 1, wait=True, timeout=WAIT_S) for n in range(SENDS)
        ]
        await asyncio.gather(*sends)
        # then
        assert [await app.task(counter).get_state("a") for app in apps] == [SENDS] * 4
        events = [entry.event for entry in await apps[0].history("task:counter:a")]
        assert events.count(EventReceived.__name__) == SENDS
        assert events.count("StateSet") == SENDS


async def test_U2_handlers_of_different_instances_run_side_by_side(shared_url: str) -> None:
    # given handlers that end only when all of them have begun
    begun = asyncio.Barrier(5)

    async def on_event(ctx: Ctx, event: Any) -> None:
        await begun.wait()

    async with Jobs(job=task_of(on_event)).open(shared_url) as app:
        async with asyncio.timeout(WAIT_S):
            # when
            sends = [app.task("job").send(id, 1) for id in "abcde"]
            # then
            assert len(await asyncio.gather(*sends)) == 5


@pytest.mark.parametrize("is_async", [True, False])
async def test_U2_never_two_handlers_of_one_instance(shared_url: str, is_async: bool) -> None:
    # given handlers of all sorts that note who is inside
    inside: list[str] = []
    overlaps: list[list[str]] = []
    lock = threading.Lock()

    def enter(name: str) -> None:
        with lock:
            inside.append(name)
            if len(inside) > 1:
                overlaps.append(list(inside))

    def leave(name: str) -> None:
        with lock:
            inside.remove(name)

    def blocking(ctx: Ctx, event: Any = None) -> None:
        enter("blocking")
        ctx.set_state((ctx.state or 0) + 1)
        leave("blocking")

    async def waiting(ctx: Ctx, event: Any = None) -> None:
        enter("async")
        await asyncio.sleep(0)
        ctx.set_state((ctx.state or 0) + 1)
        leave("async")

    handler = waiting if is_async else blocking
    task = task_of(handler, execute=handler, on_idle=handler)
    async with Jobs(job=task).open(shared_url, worker=True) as app:
        jobs = app.task("job")
        # when sends, deferred sends and triggers come at once
        await jobs.send("a", 0)
        asks: list[Any] = [jobs.send("a", n, wait=True, timeout=WAIT_S) for n in range(30)]
        asks += [jobs.send("a", n, delay=0, wait=True, timeout=WAIT_S) for n in range(10)]
        asks += [jobs.trigger("a", timeout=WAIT_S) for _ in range(5)]
        await asyncio.gather(*asks)
        # then
        assert overlaps == []
        history = await app.history("task:job:a")
        assert await jobs.get_state("a") == [entry.event for entry in history].count("StateSet")
