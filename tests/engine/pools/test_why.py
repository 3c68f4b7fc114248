"""Why an event is where it is (P12), and what is known of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.engine.pools.live import ended, opened, pool_of, until
from tests.support import WAIT_S
from wakelog import Backoff, InstanceNotFoundError, NewEvent, Retry

pytestmark = pytest.mark.anyio

HOUR = Retry(max_attempts=2, delay=Backoff.constant("1h"), jitter=0)


async def test_P12_no_worker_that_knows_the_pool(pool_url: str) -> None:
    async with opened(pool_url, pool_of(lambda ctx, event: None), worker=False) as client:
        one = await client.enqueue("a")
        assert (await client.why(one.event_id)).cause == "no_worker"
        with pytest.raises(InstanceNotFoundError):
            await client.why("unknown")
        with pytest.raises(InstanceNotFoundError):
            await client.get("#9.9")


async def test_P12_paused_and_by_which_reason(pool_url: str) -> None:
    async with opened(pool_url, pool_of(lambda ctx, event: None)) as client:
        await client.pause(reason="the provider is down")
        one = await client.enqueue("a")
        why = await client.why(one.event_id)
        assert (why.cause, "the provider is down" in why.text) == ("paused", True)


async def test_P12_delayed_until_when(pool_url: str) -> None:
    async with opened(pool_url, pool_of(lambda ctx, event: None)) as client:
        one = await client.enqueue("a", delay="1h")
        why, event = await client.why(one.event_id), await client.get(one.event_id)
        assert (why.cause, event.status) == ("delayed", "delayed")
        assert event.due_at is not None


async def test_P12_retrying_and_behind_which_event_of_its_key(pool_url: str) -> None:
    async def execute(ctx: Any, event: Any) -> None:
        raise ValueError("the provider says no")

    pool = pool_of(execute, concurrency=1, ordered=True, retry=HOUR)
    async with opened(pool_url, pool) as client:
        first = await client.enqueue("a", partition_key="k")

        async def is_retrying() -> bool:
            return (await client.get(first.event_id)).status == "retrying"

        await until(is_retrying)
        second = await client.enqueue("b", partition_key="k")
        why = await client.why(first.event_id)
        assert (why.cause, "the provider says no" in why.text) == ("retrying", True)

        async def is_behind() -> bool:
            why = await client.why(second.event_id)
            return why.cause == "behind_key" and first.event_id in why.text

        await until(is_behind)


async def test_P12_all_slots_are_taken_and_its_place(pool_url: str) -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def execute(ctx: Any, event: Any) -> None:
        begun.set()
        await go.wait()

    async with opened(pool_url, pool_of(execute, concurrency=1)) as client:
        first = await client.enqueue("a")
        await asyncio.wait_for(begun.wait(), WAIT_S)
        rest = await client.enqueue_many(["b", "c"])
        urgent = await client.enqueue("d", priority=1)
        whys = [await client.why(each.event_id) for each in (first, *rest, urgent)]
        assert [why.cause for why in whys] == ["running", *["slots_taken"] * 3]
        assert "number 2, after 1 of a higher priority" in whys[2].text
        go.set()
        await ended(client, [rest[1].event_id])
        assert (await client.why(first.event_id)).cause == "over"


async def test_P12_P10_the_rate_limit_and_until_when(pool_url: str) -> None:
    pool = pool_of(lambda ctx, event: None, concurrency=1, rate_limit=(1, "1h"))
    async with opened(pool_url, pool) as client:
        first, second = await client.enqueue_many(["a", "b"])
        await ended(client, [first.event_id])

        async def is_limited() -> bool:
            return (await client.why(second.event_id)).cause == "rate_limit"

        await until(is_limited)


async def test_P12_P11_the_place_and_the_share_of_its_key(pool_url: str) -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def execute(ctx: Any, event: Any) -> None:
        begun.set()
        await go.wait()

    pool = pool_of(execute, concurrency=1, fair=lambda event: event.partition("-")[0])
    async with opened(pool_url, pool) as client:
        await client.enqueue("a-1")
        await asyncio.wait_for(begun.wait(), WAIT_S)
        accepted = await client.enqueue_many(["a-2", "a-3", "b-1"])
        why = await client.why(accepted[1].event_id)
        assert "it is number 2 for a" in why.text
        assert "a had 1 of the last 1 starts" in why.text
        go.set()
        await ended(client, [each.event_id for each in accepted])


async def test_P8_get_says_where_it_is_and_what_it_was(pool_url: str) -> None:
    async with opened(pool_url, pool_of(lambda ctx, event: None), worker=False) as client:
        await client.enqueue_many([NewEvent(event={"n": 1}, id="one", partition_key="k")])
        event = await client.get("one")
        assert (event.status, event.payload, event.partition_key, event.attempts) == (
            "pending", {"n": 1}, "k", 0,
        )  # fmt: skip
        assert not event.is_over
        assert [entry.event for entry in await client.history("one")] == ["EventsReceived"]
