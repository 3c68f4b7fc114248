"""A worker of a pool whose store is away for a moment (K3, P5)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from tests.engine.pools.live import audited, ended, pool_of, until
from tests.support import WAIT_S
from wakelog import Jobs, NewEvent
from wakelog.errors import StoreUnavailableError
from wakelog.ports.pools import SegmentRow

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


async def test_K3_P6_what_the_store_refuses_to_read_waits_and_holds_up_no_other(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []

    async def execute(ctx: Any, event: str) -> None:
        ran.append(event)

    pool = pool_of(execute, concurrency=2)
    async with Jobs(pool=pool).open(sqlite_url, worker=True, lease="3s") as app:
        # given a store that refuses to read the first of two lanes
        store: Any = app.application.store
        read, refused = store.pool_slices, True

        def damaged(job: str, ranges: Sequence[tuple[int, int, int]]) -> Any:
            if refused and any(lane == 1 for lane, _, _ in ranges):
                raise StoreUnavailableError("refused", "the page is damaged")
            found: Sequence[tuple[SegmentRow, bytes]] = read(job, ranges)
            return found

        store.pool_slices = damaged
        client = app.worker_pool("pool")
        # when
        await client.enqueue_many(
            [NewEvent(event="bad", id="bad", priority=1), NewEvent(event="good", id="good")]
        )
        # then the other one is worked on, and that is told
        await ended(client, ["good"])

        async def is_told() -> bool:
            return "has taken cannot be read, and waits" in caplog.text

        await until(is_told)
        assert ran == ["good"]
        # and once it can be read the event is worked on, as if nothing had been
        refused = False
        await ended(client, ["bad"])
    assert ran == ["good", "bad"]
    audit = audited(sqlite_url)
    assert audit.ends() == {"completed": 2}
    assert sum(fate.dead for fate in audit.fates.values()) == 0


async def test_P6_K3_a_cancellation_that_is_recorded_is_not_said_to_have_failed(
    sqlite_url: str,
) -> None:
    """The store goes away while the worker is waited for that has taken the event."""
    began, go = asyncio.Event(), asyncio.Event()

    async def execute(ctx: Any, event: int) -> None:
        began.set()
        await go.wait()

    pool = pool_of(execute, concurrency=1)
    async with (
        Jobs(pool=pool).open(sqlite_url, worker=True) as app,
        Jobs(pool=pool).open(sqlite_url) as other,
    ):
        one = await app.worker_pool(pool).enqueue(1)
        await asyncio.wait_for(began.wait(), WAIT_S)
        store: Any = other.application.store
        call, calls = store.pool_call, itertools.count()

        def away(look: Any, plan: Any) -> Any:
            if next(calls):
                raise StoreUnavailableError("unreachable", "it is away")
            return call(look, plan)

        store.pool_call = away
        with pytest.raises(StoreUnavailableError, match=f"not known whether {one.event_id} was"):
            await other.worker_pool(pool).cancel_event(one.event_id)
        go.set()
