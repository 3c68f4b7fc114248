"""Several workers share the partitions of a pool (P2, K1), and idle ones leave the store alone."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.engine.pools.live import audited, ended, opened, pool_of, until
from tests.support import WAIT_S
from wakelog import Jobs, NewEvent, RetryExhaustedError
from wakelog.app import App
from wakelog.client.results import ErrorInfo
from wakelog.ports.pools import Plan, PoolLook

pytestmark = pytest.mark.anyio

LEASE = "400ms"
MAX_CALLS = 12
"""Calls of the store that a pool may make for a few events, and while nothing can be taken."""


async def test_P2_two_apps_share_the_partitions_and_nothing_is_done_twice(pool_url: str) -> None:
    ran: list[tuple[int, Any]] = []

    def worker(number: int) -> Any:
        async def execute(ctx: Any, event: Any) -> None:
            ran.append((number, event))
            await asyncio.sleep(0.002)

        return pool_of(execute, concurrency=4)

    # given two workers on one store
    async with AsyncExitStack() as stack:
        opening = [opened(pool_url, worker(n), check=False, lease=LEASE) for n in range(2)]
        first, second = [await stack.enter_async_context(each) for each in opening]

        async def is_shared() -> bool:
            status = await first.status()
            holders = Counter(each.worker for each in status.partitions)
            return None not in holders and sorted(holders.values()) == [2, 2]

        # when there is work for both, for as long as it takes
        done: list[str] = []

        async def has_worked() -> bool:
            many = [NewEvent(event=n, partition_key=f"{n % 16}") for n in range(64)]
            accepted = await second.enqueue_many(many)
            done.extend(each.event_id for each in await ended(
                first, [each.event_id for each in accepted]))  # fmt: skip
            return await is_shared()

        # then each comes to hold two of the four
        await until(has_worked)
        ran.clear()
        await has_worked()
        assert {number for number, _ in ran} == {0, 1}
    assert audited(pool_url).ends() == {"completed": len(done)}


async def test_K1_what_a_worker_held_is_taken_over_when_its_lease_is_gone(pool_url: str) -> None:
    go, begun = asyncio.Event(), asyncio.Event()
    attempts: list[int] = []

    async def execute(ctx: Any, event: Any) -> None:
        attempts.append(ctx.attempts)
        if len(attempts) == 1:
            begun.set()
            await go.wait()
            await ctx.step("too late", lambda: attempts.append(99))

    pool = pool_of(execute, concurrency=1)
    async with Jobs(pool=pool).open(pool_url, worker=True, lease=LEASE) as app:
        client = app.worker_pool(pool)
        one = await client.enqueue("a")
        await asyncio.wait_for(begun.wait(), WAIT_S)
        # when its lease is taken away
        store = app.application.store
        [lease] = store.pool_look(PoolLook("workerPool:pool", 0, leases=True)).leases
        store.release(lease.owner, [(lease.stream, lease.token)])
        go.set()
        # then it is done again, and what the first one still does is not recorded
        [event] = await ended(client, [one.event_id])
        assert event.status == "completed"
    assert attempts == [1, 2]
    assert audited(pool_url).ends() == {"completed": 1}


async def test_K4_the_worker_that_has_the_code_takes_what_waits_for_it(pool_url: str) -> None:
    ran: list[str] = []

    def of(name: str, type_: Any) -> Jobs:
        execute = functools.partial(_told, ran, name)
        return Jobs(pool=pool_of(execute, event=type_, concurrency=2))

    # given an event that a worker of today cannot read, and goes on
    async with of("new", int).open(pool_url, worker=True, lease=LEASE) as app:
        async with of("old", str).open(pool_url) as before:
            await before.worker_pool("pool").enqueue("a", id="a")
        client = app.worker_pool("pool")
        await until(lambda: _waits_for_code(client))
        # when a worker that can comes, beside it
        both = of("both", int | str)
        async with both.open(pool_url, worker=True, lease=LEASE) as other:
            last = await client.enqueue(1)
            await ended(other.worker_pool("pool"), ["a", last.event_id])
        history = await client.history("a")
    # then that one takes it, and nothing else is recorded about it
    assert [each.event for each in history] == [
        "EventsReceived", "RunsStarted", "RunsReturned", "RunsStarted", "RunsExecuted",
    ]  # fmt: skip
    assert "both a" in ran
    assert audited(pool_url).ends() == {"completed": 2}


async def _told(ran: list[str], name: str, ctx: Any, event: Any) -> None:
    ran.append(f"{name} {event}")


async def _waits_for_code(client: Any) -> bool:
    status = await client.status()
    return bool(status.waiting_for_code == 1 and not status.pending)


@pytest.mark.parametrize("fails", [False, True])
async def test_P5_R6_a_dead_letter_after_a_loss_is_told_like_any_other(
    pool_url: str, fails: bool
) -> None:
    told: list[tuple[Any, ...]] = []

    async def execute(ctx: Any, event: Any) -> None:
        if event == "lost":
            await lose_lease(app)

    def dead(ctx: Any, event: Any, error: BaseException) -> None:
        said = isinstance(error, RetryExhaustedError) and error.reason
        told.append((event, said, ctx.attempts, ctx.event_id))
        if fails:
            raise ValueError("no")
        ctx.emit("dead", {"id": ctx.event_id})

    pool = pool_of(execute, concurrency=1, on_dead_letter=dead)
    async with Jobs(pool=pool).open(pool_url, worker=True, lease=LEASE, max_lost=1) as app:
        client = app.worker_pool(pool)
        await client.enqueue("lost", id="a")
        await client.enqueue("next", id="b")
        lost, other = await ended(client, ["a", "b"])
        assert (lost.status, lost.error, other.status) == (
            "dead", ErrorInfo(type="ExecutionLost", message="its worker was lost"), "completed",
        )  # fmt: skip
        [letter] = await client.dead_letters(error="ExecutionLost")
        assert (letter.reason, letter.attempts) == ("lost", 1)
        # then what it did, and how it ended, is recorded with it
        events = [entry.event for entry in await client.history("a")]
        assert events == [
            "EventsReceived", "RunsStarted", "RunsLost", "DeadLettered",
            "ExecutionFailed" if fails else "MessageSent",
        ]  # fmt: skip
    assert told == [("lost", "lost", 1, "a")]
    assert audited(pool_url).ends() == {"completed": 1, "dead": 1}


async def test_R6_an_on_dead_letter_that_costs_its_worker_is_not_called_for_ever(
    pool_url: str,
) -> None:
    told: list[Any] = []

    async def execute(ctx: Any, event: Any) -> None:
        if event == "lost":
            await lose_lease(app)

    async def dead(ctx: Any, event: Any, error: BaseException) -> None:
        told.append(event)
        await lose_lease(app)

    pool = pool_of(execute, concurrency=1, on_dead_letter=dead)
    async with Jobs(pool=pool).open(pool_url, worker=True, lease=LEASE, max_lost=2) as app:
        client = app.worker_pool(pool)
        await client.enqueue("lost", id="a")
        await client.enqueue("next", id="b")
        lost, other = await ended(client, ["a", "b"])
        assert (lost.status, other.status) == ("dead", "completed")
    assert told == ["lost", "lost"]


async def lose_lease(app: App) -> None:
    """The one partition's lease is gone, as if its worker had died."""
    store = app.application.store
    [lease] = store.pool_look(PoolLook("workerPool:pool", 0, leases=True)).leases
    store.release(lease.owner, [(lease.stream, lease.token)])


def counting(store: Any) -> Callable[[], int]:
    """Count the calls of a store's pools from now on."""
    calls = 0
    pool_call = store.pool_call

    def counted(look: PoolLook, plan: Plan) -> Sequence[Any]:
        nonlocal calls
        calls += 1
        slices: Sequence[Any] = pool_call(look, plan)
        return slices

    store.pool_call = counted
    return lambda: calls


@pytest.mark.parametrize("why", ["rate", "paused partition", "key", "cancelled retry", "later"])
async def test_P9_a_worker_that_can_take_nothing_does_not_keep_the_store_busy(
    pool_url: str, why: str
) -> None:
    go = asyncio.Event()

    async def execute(ctx: Any, event: Any) -> None:
        if event == "slow":
            await go.wait()

    options: dict[str, Any] = {"rate_limit": (1, "1h")} if why == "rate" else {}
    pool = pool_of(execute, concurrency=2, **options)
    async with Jobs(pool=pool).open(pool_url, worker=True) as app:
        client = app.worker_pool(pool)
        first = await client.enqueue("first")
        await ended(client, [first.event_id])
        calls = counting(app.application.store)
        # given something that waits, and that no partition may take now
        match why:
            case "rate":
                await client.enqueue_many(["a", "b"])
            case "paused partition":
                await client.pause(0)
                keyed = await client.enqueue("a", partition_key="k0")
                await client.enqueue("b", partition_key="k1")
                assert keyed.partition is not None
            case "key":
                many = [NewEvent(event=name, partition_key="k") for name in ("slow", "a")]
                await client.enqueue_many(many)
            case "cancelled retry":
                soon = await client.enqueue("soon", delay="100ms")
                await client.enqueue("later", delay="1h")
                await client.cancel_event(soon.event_id)
            case _:
                await client.enqueue_many([NewEvent(event="later", delay="1h")] * 3)
        # when time passes
        before = calls()
        await asyncio.sleep(0.5)
        # then
        assert calls() - before < MAX_CALLS
        go.set()
        await client.resume(0)


async def test_P2_a_keyed_event_is_taken_at_once_by_an_idle_worker(pool_url: str) -> None:
    pool = pool_of(lambda ctx, event: None, concurrency=8)
    async with opened(pool_url, pool) as client:
        first = await client.enqueue("first")
        await ended(client, [first.event_id])
        for number in range(24):
            one = await client.enqueue(number, partition_key=f"{number}")
            await ended(client, [one.event_id], within_s=0.9)
