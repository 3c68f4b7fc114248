"""What is given back while a step is being recorded (P6, I4)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.engine.pools.live import ended, opened, pool_of, warm
from tests.support import WAIT_S
from tests.support_stores import writes_blocked

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
