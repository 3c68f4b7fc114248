"""What is given back while a call of the pool is under way (P6, I4, K2)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tests.engine.pools.live import audited, ended, opened, pool_of, until, warm
from tests.support import WAIT_S
from tests.support_stores import writes_blocked
from wakelog import Jobs
from wakelog.ports.pools import Plan, PoolLook, SegmentRow

pytestmark = pytest.mark.anyio

LONGER_S = 0.7
"""More than the time after which what has not begun is given back."""


async def test_P6_I4_an_overstay_while_a_step_waits_for_the_disk_gives_back_after_it(
    sqlite_url: str,
) -> None:
    go, stepping, blocked = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def step() -> str:
        stepping.set()
        await blocked.wait()
        return "done"

    async def execute(ctx: Any, event: Any) -> None:
        if event == "slow":
            await ctx.step("one", step)
            await go.wait()

    async with opened(sqlite_url, pool_of(execute, concurrency=2)) as client:
        await warm(client, "quick")
        await client.pause()
        accepted = await client.enqueue_many(["slow", "a", "b"])
        ids = [each.event_id for each in accepted]
        # given a step whose result cannot be recorded for longer than that
        await client.resume()
        await asyncio.wait_for(stepping.wait(), WAIT_S)
        with writes_blocked(sqlite_url):
            blocked.set()
            await asyncio.sleep(LONGER_S)
        # then the others end while the slow one still runs
        await ended(client, ids[1:])
        assert (await client.get(ids[0])).status == "processing"
        go.set()
        await ended(client, ids[:1])


async def test_K2_what_a_call_has_taken_while_a_shutdown_began_is_given_back(
    sqlite_url: str,
) -> None:
    began: list[Any] = []
    taken, go = asyncio.Event(), threading.Event()

    async def execute(ctx: Any, event: Any) -> None:
        began.append((event, app.application.stopping))

    pool = pool_of(execute, concurrency=1)
    loop = asyncio.get_running_loop()
    async with Jobs(pool=pool).open(sqlite_url, worker=True) as app:
        client = app.worker_pool(pool)
        await warm(client, "quick")
        store = app.application.store
        pool_call = store.pool_call

        # given a call that takes, whose answer comes late
        def late(look: PoolLook, plan: Plan) -> Sequence[tuple[SegmentRow, bytes]]:
            slices = pool_call(look, plan)
            if look.due_limit:
                loop.call_soon_threadsafe(taken.set)
                assert go.wait(WAIT_S)
            return slices

        store.pool_call = late  # type: ignore[method-assign]
        accepted = await client.enqueue_many(["a", "b", "c"])
        await asyncio.wait_for(taken.wait(), WAIT_S)

        # when the answer comes after the shutdown has begun
        async def stopping() -> bool:
            return app.application.stopping

        async def let_go() -> None:
            await until(stopping)
            go.set()

        ending = asyncio.ensure_future(let_go())
    await ending
    # then
    assert not [each for each in began if each[1]]
    assert audited(sqlite_url).ends() == {"completed": 40, None: len(accepted)}


async def test_P6_what_has_just_ended_is_not_kept_as_if_it_were_running(pool_url: str) -> None:
    # given handlers that block the loop: a timer fires only when one of them has ended
    ran: list[Any] = []

    async def execute(ctx: Any, event: Any) -> None:
        ran.append(event)
        if event != "quick":
            threading.Event().wait(LONGER_S / 2)

    async with opened(pool_url, pool_of(execute, concurrency=1)) as client:
        await warm(client, "quick")
        # when one take of them lasts longer than it may
        accepted = await client.enqueue_many([*range(5)])
        await ended(client, [each.event_id for each in accepted])
        # then the partition is free for others
        await ended(client, [(await client.enqueue("quick")).event_id])
        assert (await client.status()).processing == 0
    # and each ran once
    assert [event for event in ran if event != "quick"] == [*range(5)]
