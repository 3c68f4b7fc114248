"""A pool that is paused as a job, like any other (A5, P7)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.pools.live import audited, ended, pool_of
from wakelog import Jobs

pytestmark = pytest.mark.anyio


async def test_A5_P7_a_paused_job_takes_nothing_until_it_is_resumed(pool_url: str) -> None:
    ran: list[Any] = []
    pool = pool_of(lambda ctx, event: ran.append(event), concurrency=2)
    async with Jobs(pool=pool).open(pool_url, worker=True) as app:
        client = app.worker_pool(pool)
        first = await client.enqueue("first")
        await ended(client, [first.event_id])
        # when
        await app.pause(pool)
        second = await client.enqueue("second", partition_key="k")
        status = await client.status()
        assert (status.paused, status.pending) == (True, 1)
        assert (await client.why(second.event_id)).cause == "paused"
        # then it waits for the resume, and no longer
        await app.resume(pool)
        await ended(client, [second.event_id], within_s=3)
    assert ran == ["first", "second"]
    assert audited(pool_url).ends() == {"completed": 2}
