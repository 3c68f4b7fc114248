"""A worker of a pool whose store is away for a moment (K3, P5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.engine.pools.live import audited, ended, pool_of
from wakelog import Jobs, NewEvent
from wakelog.errors import StoreUnavailableError

pytestmark = pytest.mark.anyio


async def test_K3_P5_what_was_taken_is_worked_on_once_the_store_is_back(sqlite_url: str) -> None:
    ran: list[int] = []

    async def execute(ctx: Any, event: int) -> None:
        ran.append(event)

    pool = pool_of(execute, concurrency=1, ordered=True)
    async with Jobs(pool=pool).open(sqlite_url, worker=True) as app:
        # given a store that is away when a worker has taken events of a key, and is to read
        store: Any = app.application.store
        read = store.pool_blocked
        refused: list[str] = []

        def away(job: str, keys: Sequence[str]) -> Any:
            if len(refused) < 2:
                refused.extend(keys)
                raise StoreUnavailableError("unreachable", "it is away")
            return read(job, keys)

        store.pool_blocked = away
        # when
        many = [NewEvent(event=n, partition_key="k", id=f"{n}") for n in range(3)]
        client = app.worker_pool("pool")
        await client.enqueue_many(many)
        await ended(client, [each.id or "" for each in many])
    # then none of them was lost, nor done again
    assert (ran, refused) == ([0, 1, 2], ["k"] * 2)
    audit = audited(sqlite_url)
    assert audit.ends() == {"completed": 3}
    assert sum(fate.lost for fate in audit.fates.values()) == 0
