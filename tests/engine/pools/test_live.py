"""A pool, its client and its worker, in real time (P1 to P8)."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.auditing_pools import PoolAudit
from tests.engine.pools.live import AGAIN, JOB, audited, ended, opened, pool_of, until, warm
from tests.support import WAIT_S
from wakelog import (
    Backoff,
    IdempotencyConflictError,
    InvalidStateError,
    Jobs,
    NewEvent,
    QueueFullError,
    Retry,
    ValidationError,
    WaitTimeoutError,
)
from wakelog.core.pool.events import RunsReturned

pytestmark = pytest.mark.anyio


async def test_P1_concurrency_is_over_all_of_the_pool(pool_url: str) -> None:
    # given
    running, most = 0, 0

    async def execute(ctx: Any, event: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1

    # when
    async with opened(pool_url, pool_of(execute, concurrency=3)) as client:
        accepted = await client.enqueue_many([*range(20)])
        await ended(client, [each.event_id for each in accepted])
    # then
    assert most == 3


async def test_P1_a_def_runs_in_a_thread_and_sees_its_place(pool_url: str) -> None:
    seen: list[tuple[Any, ...]] = []

    def execute(ctx: Any, event: Any) -> None:
        here = threading.current_thread() is threading.main_thread()
        seen.append((event, ctx.event_id, ctx.partition, ctx.partition_key, ctx.attempts, here))

    async with opened(pool_url, pool_of(execute, concurrency=2)) as client:
        one = await client.enqueue("a", id="one", partition_key="k")
        await ended(client, ["one"])
    assert seen == [("a", "one", one.partition, "k", 1, False)]


async def test_P2_one_slow_run_holds_up_nothing_without_a_key(pool_url: str) -> None:
    go = asyncio.Event()

    async def execute(ctx: Any, event: Any) -> None:
        if event == "slow":
            await go.wait()

    async with opened(pool_url, pool_of(execute, concurrency=2)) as client:
        slow = await client.enqueue("slow")
        quick = [await client.enqueue(f"{n}") for n in range(5)]
        await ended(client, [each.event_id for each in quick])
        assert (await client.get(slow.event_id)).status == "processing"
        go.set()
        await ended(client, [slow.event_id])


async def test_P2_a_key_keeps_its_order_and_one_runs_at_a_time(pool_url: str) -> None:
    running: set[str] = set()
    order: dict[str, list[int]] = {}

    async def execute(ctx: Any, event: int) -> None:
        assert ctx.partition_key not in running
        running.add(ctx.partition_key)
        await asyncio.sleep(0)
        order.setdefault(ctx.partition_key, []).append(event)
        running.discard(ctx.partition_key)

    async with opened(pool_url, pool_of(execute, concurrency=4)) as client:
        accepted = await client.enqueue_many(
            [NewEvent(event=n, partition_key=f"{n % 7}") for n in range(70)]
        )
        await ended(client, [each.event_id for each in accepted])
    assert order == {f"{key}": [*range(key, 70, 7)] for key in range(7)}


async def test_P3_a_full_pool_accepts_nothing_of_a_call(pool_url: str) -> None:
    async with opened(pool_url, pool_of(lambda ctx, event: None, max_pending=3),
                      worker=False) as client:  # fmt: skip
        await client.enqueue_many(["a", "b"])
        with pytest.raises(QueueFullError):
            await client.enqueue_many(["c", "d"])
        assert (await client.status()).pending == 2
        assert (await client.enqueue("c")).position == 2


async def test_I1_an_id_is_accepted_once_and_conflicts_with_another_event(pool_url: str) -> None:
    ran: list[Any] = []
    pool = pool_of(lambda ctx, event: ran.append(event), concurrency=2)
    async with opened(pool_url, pool) as client:
        first = await client.enqueue("a", id="one")
        again = await client.enqueue_many([NewEvent(event="a", id="one"), "b"])
        assert [each.duplicate for each in (first, *again)] == [False, True, False]
        await ended(client, ["one", again[1].event_id])
        # when it has long ended
        assert (await client.enqueue("a", id="one")).duplicate
        with pytest.raises(IdempotencyConflictError, match="take another one"):
            await client.enqueue("other", id="one")
        assert (await client.get("one")).status == "completed"
    assert sorted(ran) == ["a", "b"]


async def test_P4_a_priority_can_be_changed_while_it_waits(pool_url: str) -> None:
    ran: list[Any] = []
    pool = pool_of(lambda ctx, event: ran.append(event), concurrency=1)
    async with opened(pool_url, pool) as client:
        await client.pause()
        accepted = await client.enqueue_many(["a", "b", "c", NewEvent(event="d", priority=1)])
        ids = [each.event_id for each in accepted]
        would = await client.set_priority(5, [ids[2], "#99.1"], dry_run=True)
        assert (would.events, would.skipped) == ((ids[2],), {"#99.1": "not_found"})
        did = await client.set_priority(5, [ids[2], ids[2], "#99.1"])
        assert (did.events, did.skipped) == ((ids[2],), {"#99.1": "not_found"})
        await client.resume()
        await ended(client, ids)
        skipped = await client.set_priority(1, ids[:1])
        assert skipped.skipped == {ids[0]: "not_found"}
    assert ran == ["c", "d", "a", "b"]


async def test_P4_the_priority_of_all_that_match_is_changed(pool_url: str) -> None:
    ran: list[Any] = []
    pool = pool_of(lambda ctx, event: ran.append(event), concurrency=1)
    async with opened(pool_url, pool) as client:
        await client.pause()
        at = {"a": ("k", 0), "b": (None, 0), "c": ("k", 2), "d": ("l", 2), "e": ("k", 5)}
        at |= {"f": ("k", 0), "g": ("k", 0)}
        for name, (key, priority) in at.items():
            await client.enqueue(name, id=name, partition_key=key, priority=priority)
        await client.enqueue("later", id="later", partition_key="k", delay="1h")
        await client.cancel_event("f")
        # when all of a key are moved, then those that wait, wherever they do, and had another one
        would = await client.set_priority(5, partition_key="k", dry_run=True)
        assert (set(would.events), would.skipped) == ({"a", "c", "g", "later"}, {})
        did = await client.set_priority(5, partition_key="k")
        assert (set(did.events), did.skipped, did.dry_run) == (set(would.events), {}, False)
        # again: there is nothing left to do
        assert (await client.set_priority(5, partition_key="k")).events == ()
        # by what they have now, and by both
        assert (await client.set_priority(1, partition_key="l", from_priority=0)).events == ()
        assert (await client.set_priority(7, from_priority=0)).events == ("b",)
        # and all
        assert set((await client.set_priority(3)).events) == {*"abcdeg", "later"}
        with pytest.raises(ValidationError):
            await client.set_priority(3, ["a"], from_priority=0)
        await client.cancel_event("later")
        await client.resume()
        await ended(client, [*"abcdeg"])
    assert ran == [*"abcdeg"]  # of one priority, in the order of acceptance


async def test_P4_more_than_one_transaction_moves_are_changed(pool_url: str) -> None:
    ran: list[Any] = []
    pool = pool_of(lambda ctx, event: ran.append(event), concurrency=1)
    async with opened(pool_url, pool) as client:
        await client.pause()
        accepted = await client.enqueue_many([*range(1_200)])
        first = await client.enqueue("first", priority=1)
        moved = await client.set_priority(-1, from_priority=0)
        assert [*moved.events] == [each.event_id for each in accepted]
        await client.resume()
        await ended(client, [first.event_id, accepted[-1].event_id])
    assert ran == ["first", *range(1_200)]


async def test_P5_a_retry_is_overtaken_without_ordered(pool_url: str) -> None:
    ran: list[tuple[Any, int]] = []

    async def execute(ctx: Any, event: Any) -> None:
        ran.append((event, ctx.attempts))
        if event == "a" and ctx.attempts == 1:
            raise ValueError("no")

    retry = Retry(max_attempts=2, delay=Backoff.constant("100ms"), jitter=0)
    async with opened(pool_url, pool_of(execute, concurrency=1, retry=retry)) as client:
        accepted = await client.enqueue_many(
            [NewEvent(event=name, partition_key="k") for name in "abc"]
        )
        await ended(client, [each.event_id for each in accepted])
    assert ran == [("a", 1), ("b", 1), ("c", 1), ("a", 2)]


@pytest.mark.parametrize("ends", ["well", "dead"])
async def test_P5_with_ordered_a_retry_holds_back_its_own_key_alone(
    pool_url: str, ends: str
) -> None:
    ran: list[tuple[Any, int]] = []

    async def execute(ctx: Any, event: Any) -> None:
        ran.append((event, ctx.attempts))
        if event == "a" and (ctx.attempts == 1 or ends == "dead"):
            raise ValueError("no")

    retry = Retry(max_attempts=2, delay=Backoff.constant("1s"), jitter=0)
    pool = pool_of(execute, concurrency=1, retry=retry, ordered=True)
    async with opened(pool_url, pool) as client:
        keys = {"a": "k", "b": "k", "c": "k", "x": "other", "y": None}
        accepted = await client.enqueue_many(
            [NewEvent(event=name, partition_key=key) for name, key in keys.items()]
        )
        await ended(client, [each.event_id for each in accepted], within_s=10)
    assert sorted(ran) == [("a", 1), ("a", 2), ("b", 1), ("c", 1), ("x", 1), ("y", 1)]
    order = [event for event, attempt in ran if (event, attempt) != ("a", 1)]
    assert [each for each in order if each in "abc"] == ["a", "b", "c"]
    assert set(order[:2]) == {"x", "y"}


async def test_P5_A9_an_exhausted_event_is_dead_lettered_and_the_next_goes_on(
    pool_url: str,
) -> None:
    told: list[tuple[Any, ...]] = []

    def dead(ctx: Any, event: Any, error: BaseException) -> None:
        told.append((event, type(error).__name__, str(error), ctx.attempts, ctx.event_id))

    async def execute(ctx: Any, event: Any) -> None:
        if event == "bad":
            raise ValueError("no")

    pool = pool_of(execute, concurrency=1, retry=AGAIN, on_dead_letter=dead)
    async with opened(pool_url, pool) as client:
        await client.enqueue("bad", id="bad")
        await client.enqueue("good", id="good")
        bad, good = await ended(client, ["bad", "good"])
        assert (bad.status, bad.attempts, good.status) == ("dead", 2, "completed")
        assert bad.error is not None
        assert (bad.error.type, bad.error.message) == ("ValueError", "no")
        [letter] = await client.dead_letters()
        assert (letter.event_id, letter.reason, letter.attempts) == ("bad", "handler_failed", 2)
        assert (letter.error_type, letter.error_message, letter.payload) == (
            "ValueError", "no", "bad",
        )  # fmt: skip
        status = await client.status()
        assert (status.dead, status.processed) == (1, 1)
    assert told == [("bad", "ValueError", "no", 2, "bad")]


async def test_P8_A9_a_requeued_event_starts_anew_and_keeps_its_history(pool_url: str) -> None:
    broken = True
    attempts: list[int] = []

    async def execute(ctx: Any, event: Any) -> None:
        attempts.append(ctx.attempts)
        if broken:
            raise ValueError("no")

    async with opened(pool_url, pool_of(execute, concurrency=1, retry=AGAIN)) as client:
        await client.enqueue("a", id="one")
        await client.enqueue("b", id="two")
        await ended(client, ["one", "two"])
        would = await client.requeue(dry_run=True)
        assert (set(would.events), would.skipped, would.dry_run) == ({"one", "two"}, {}, True)
        assert (await client.status()).dead == 2
        broken = False
        did = await client.requeue(["one", "unknown"])
        assert (did.events, did.skipped) == (("one",), {"unknown": "not_found"})
        [one] = await ended(client, ["one"])
        assert (one.status, attempts[-1]) == ("completed", 1)
        events = [entry.event for entry in await client.history("one")]
        assert events.count("RunsStarted") == 3
        assert events.count("DeadLettered") == 1
        assert events.count("EventsRequeued") == 1
        assert events[-1] == "RunsExecuted"
        assert (await client.discard(error="KeyError")).events == ()
        assert (await client.discard(error="ValueError", reason="old")).events == ("two",)
        two = await client.get("two")
        assert two.status == "discarded"
        assert (await client.status()).discarded == 1
    assert audited(pool_url).ends() == {"completed": 1, "discarded": 1}


def reasons(audit: PoolAudit) -> set[str]:
    """Why items were given back."""
    events = [recorded.event for history in audit.events.values() for recorded in history]
    return {event.reason for event in events if isinstance(event, RunsReturned)}


async def test_P6_what_has_not_begun_when_a_run_overstays_is_done_by_others(
    pool_url: str,
) -> None:
    go = asyncio.Event()

    async def execute(ctx: Any, event: Any) -> None:
        if event == "slow":
            await go.wait()

    async with opened(pool_url, pool_of(execute, concurrency=2)) as client:
        await warm(client, "quick")
        await client.pause()
        accepted = await client.enqueue_many(["slow", *(f"{n}" for n in range(5))])
        ids = [each.event_id for each in accepted]
        await client.resume()
        # then the others end while the slow one runs
        await ended(client, ids[1:])
        assert (await client.get(ids[0])).status == "processing"
        go.set()
        [slow] = await ended(client, ids[:1])
        assert slow.attempts == 1
    assert reasons(audited(pool_url)) == {"overstay"}


async def test_P6_U14_cancelling_one_that_is_taken_and_has_not_begun(pool_url: str) -> None:
    go, begun = asyncio.Event(), asyncio.Event()
    ran: list[Any] = []

    async def execute(ctx: Any, event: Any) -> None:
        ran.append(event)
        if event == "slow":
            begun.set()
            await go.wait()

    async with opened(pool_url, pool_of(execute, concurrency=1)) as client:
        await warm(client, "quick")
        await client.pause()
        slow, second, third = await client.enqueue_many(["slow", "second", "third"])
        await client.resume()
        await asyncio.wait_for(begun.wait(), WAIT_S)
        # when
        cancelled = await client.cancel_event(second.event_id, reason="no longer")
        # then
        assert cancelled.status == "cancelled"
        assert (await client.get(third.event_id)).status == "processing"
        go.set()
        await ended(client, [slow.event_id, third.event_id])
        assert (await client.get(second.event_id)).status == "cancelled"
        again = [await client.cancel_event(id) for id in (second.event_id, slow.event_id, "x")]
        assert [each.status for each in again] == [
            "already_completed", "already_completed", "not_found",
        ]  # fmt: skip
        told = [entry.event for entry in await client.history(second.event_id)]
        assert told == ["EventsReceived", "RunsStarted", "RunsReturned", "EventsCancelled"]
    assert "second" not in ran
    audit = audited(pool_url)
    assert audit.ends()["cancelled"] == 1
    # then that one alone was given back
    [back] = [r.event for history in audit.events.values() for r in history
              if isinstance(r.event, RunsReturned)]  # fmt: skip
    assert (back.reason, len(back.items)) == ("cancelled", 1)


@pytest.mark.parametrize("what", ["pool", "partition", "job", "handler"])
async def test_P6_P7_a_pause_reaches_what_is_taken_and_has_not_begun(
    pool_url: str, what: str
) -> None:
    go, begun = asyncio.Event(), asyncio.Event()
    ran: list[Any] = []

    async def execute(ctx: Any, event: Any) -> None:
        ran.append(event)
        if event == "slow":
            begun.set()
            await go.wait()
            if what == "handler":
                ctx.pause("enough")

    pool = pool_of(execute, concurrency=1)
    async with Jobs(pool=pool).open(pool_url, worker=True) as app:
        client = app.worker_pool(pool)
        await warm(client, "quick")
        await client.pause()
        ids = [each.event_id for each in await client.enqueue_many(["slow", "b", "c"])]
        await client.resume()
        await asyncio.wait_for(begun.wait(), WAIT_S)
        assert (await client.status()).processing == 3
        # when
        if what == "handler":
            go.set()
        elif what == "job":
            await app.pause(pool)
        else:
            await client.pause(0 if what == "partition" else None)
        # then what has not begun is given back, though the one before it runs
        await until(lambda: _counts(client, pending=2, processing=what != "handler"))
        go.set()
        await until(lambda: _counts(client, pending=2, processing=0))
        assert ran[40:] == ["slow"]
        # and it goes on with the resume
        await (
            app.resume(pool) if what == "job" else client.resume(0 if what == "partition" else None)
        )
        await ended(client, ids)
    assert ran[40:] == ["slow", "b", "c"]
    assert reasons(audited(pool_url)) == {"paused"}


async def test_U14_one_that_runs_is_already_processing(pool_url: str) -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def execute(ctx: Any, event: Any) -> None:
        begun.set()
        await go.wait()

    async with opened(pool_url, pool_of(execute, concurrency=1)) as client:
        one = await client.enqueue("a")
        await asyncio.wait_for(begun.wait(), WAIT_S)
        assert (await client.cancel_event(one.event_id)).status == "already_processing"
        go.set()
        [event] = await ended(client, [one.event_id])
        assert event.status == "completed"


async def test_P7_drain_finishes_what_is_there_and_accepts_nothing(pool_url: str) -> None:
    ran: list[Any] = []
    pool = pool_of(lambda ctx, event: ran.append(event), concurrency=1)
    async with opened(pool_url, pool) as client:
        await client.pause()
        accepted = await client.enqueue_many(["a", "b"])
        assert (await client.drain(reason="move")).done
        assert not (await client.drain()).done
        await client.resume()  # ends both the pause and the drain
        assert (await client.drain(reason="move")).done
        with pytest.raises(InvalidStateError):
            await client.enqueue("c")
        await ended(client, [each.event_id for each in accepted])
        status = await client.status()
        assert (status.draining, status.pending) == (True, 0)
        await client.resume()
        last = await client.enqueue("d")
        await ended(client, [last.event_id])
    assert ran == ["a", "b", "d"]


async def test_P7_a_paused_partition_takes_nothing_and_others_do(pool_url: str) -> None:
    where: list[int] = []
    pool = pool_of(lambda ctx, event: where.append(ctx.partition), concurrency=2)
    async with opened(pool_url, pool) as client:
        assert (await client.pause(0, reason="broken")).done
        again = await client.pause(0)
        assert (again.done, again.reason) == (False, "paused")
        accepted = await client.enqueue_many([*range(10)])
        await ended(client, [each.event_id for each in accepted])
        status = await client.status()
        assert [each.status for each in status.partitions] == ["paused", "idle"]
        assert (await client.resume(0)).done
        assert not (await client.resume(0)).done
    assert set(where) == {1}


async def test_P7_the_status_counts_what_there_is(pool_url: str) -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def execute(ctx: Any, event: Any) -> None:
        if event == "slow":
            begun.set()
            await go.wait()
        if event in ("bad", "worse"):
            raise ValueError("no")

    retry = Retry(max_attempts=2, delay=Backoff.constant("1h"), retry_if=lambda e: True)
    async with opened(pool_url, pool_of(execute, concurrency=1, retry=retry)) as client:
        bad = await client.enqueue("bad")
        await until(lambda: _counts(client, retrying=1))
        await client.enqueue("slow", id="slow")
        await asyncio.wait_for(begun.wait(), WAIT_S)
        await client.enqueue("later", delay="1h")
        await client.enqueue_many(["a", "b", "c"])
        status = await client.status()
        assert (status.pending, status.delayed, status.retrying, status.processing) == (3, 1, 1, 1)
        assert (status.active_partitions, status.processed) == (1, 0)
        assert status.partitions[0].status == "processing"
        assert status.oldest_pending_age is not None
        assert (await client.cancel_event(bad.event_id)).cancelled
        go.set()
        await until(lambda: _counts(client, processed=4, retrying=0, cancelled=1, pending=0))


async def _counts(client: Any, **expected: int) -> bool:
    status = await client.status()
    return all(getattr(status, name) == count for name, count in expected.items())


async def test_P8_results_are_kept_where_that_was_asked_for(pool_url: str) -> None:
    async def execute(ctx: Any, event: int) -> int:
        return event * 2

    pool = pool_of(execute, concurrency=2, event=int, keep_results=True)
    async with opened(pool_url, pool) as client:
        accepted = await client.enqueue_many([*range(5)])
        events = await ended(client, [each.event_id for each in accepted])
        assert [each.result for each in events] == [0, 2, 4, 6, 8]


async def test_P8_results_are_not_kept_otherwise(pool_url: str) -> None:
    async def execute(ctx: Any, event: int) -> int:
        return event * 2

    async with opened(pool_url, pool_of(execute, event=int)) as client:
        one = await client.enqueue(3)
        [event] = await ended(client, [one.event_id])
        assert (event.result, event.payload) == (None, 3)


async def test_I4_a_step_that_was_recorded_is_not_done_again_by_a_retry(pool_url: str) -> None:
    done: list[str] = []

    def step(name: str) -> str:
        done.append(name)
        return f"{name} done"

    async def execute(ctx: Any, event: Any) -> str:
        first: str = await ctx.step("one", step, f"{event} one")
        if ctx.attempts == 1:
            raise ValueError("no")
        second: str = await ctx.step("two", step, f"{event} two")
        return f"{first}, {second}"

    pool = pool_of(execute, concurrency=2, retry=AGAIN, keep_results=True)
    async with opened(pool_url, pool) as client:
        accepted = await client.enqueue_many(["a", "b"])
        events = await ended(client, [each.event_id for each in accepted])
        assert [each.result for each in events] == [
            f"{name} one done, {name} two done" for name in "ab"
        ]
    assert sorted(done) == ["a one", "a two", "b one", "b two"]


async def test_K2_a_shutdown_gives_back_what_has_not_begun_and_records_what_has(
    pool_url: str,
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    ran: list[Any] = []

    async def execute(ctx: Any, event: Any) -> None:
        ran.append(event)
        if event == "slow":
            begun.set()
            await go.wait()

    pool = pool_of(execute, concurrency=1)
    async with opened(pool_url, pool) as client:
        await warm(client, "quick")
        await client.pause()
        accepted = await client.enqueue_many(["slow", "b", "c"])
        await client.resume()
        await asyncio.wait_for(begun.wait(), WAIT_S)
        end_it = asyncio.ensure_future(_once_given_back(pool_url, accepted[1].event_id, go))
    await end_it
    # then
    audit = audited(pool_url)
    assert audit.ends() == {"completed": 41, None: 2}
    assert ran[40:] == ["slow"]
    assert all(each.take is None for each in audit.state.partitions)
    # when another worker lives
    async with opened(pool_url, pool_of(execute, concurrency=1)) as client:
        await ended(client, [each.event_id for each in accepted])
    assert ran[40:] == ["slow", "b", "c"]


async def _once_given_back(url: str, id: str, go: asyncio.Event) -> None:
    """Let the first one end when another process sees that this one waits again."""
    pool = pool_of(lambda ctx, event: None)
    async with opened(url, pool, worker=False, check=False) as other:

        async def is_pending() -> bool:
            return (await other.get(id)).status == "pending"

        await until(is_pending)
        go.set()


async def test_K2_what_does_not_end_within_the_grace_is_stopped_and_is_no_attempt(
    pool_url: str,
) -> None:
    begun = asyncio.Event()
    attempts: list[int] = []

    async def execute(ctx: Any, event: Any) -> None:
        attempts.append(ctx.attempts)
        if len(attempts) == 1:
            begun.set()
            await asyncio.Event().wait()

    pool = pool_of(execute, concurrency=1)
    async with opened(pool_url, pool, grace="50ms") as client:
        one = await client.enqueue("a")
        await asyncio.wait_for(begun.wait(), WAIT_S)
    assert audited(pool_url).ends() == {None: 1}
    async with opened(pool_url, pool_of(execute, concurrency=1)) as client:
        [event] = await ended(client, [one.event_id])
        assert event.status == "completed"
    assert attempts == [1, 1]


async def test_P8_who_waits_without_a_worker_is_told_that_there_is_none(
    pool_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    # given an event that is over, and one that no worker will take
    async def execute(ctx: Any, event: Any) -> None:
        """Nothing."""

    pool = pool_of(execute)
    async with opened(pool_url, pool) as client:
        over = await client.enqueue(1)
        await client.wait(over.event_id, timeout=WAIT_S)
    async with opened(pool_url, pool, worker=False) as client:
        waiting = await client.enqueue(2)
        # when both are waited for
        await client.wait(over.event_id)
        with pytest.raises(WaitTimeoutError):
            await client.wait(waiting.event_id, timeout=0.01)
    # then
    said = [each.getMessage() for each in caplog.records if each.name == "wakelog.client"]
    assert said == [
        f"waiting for {JOB}:{waiting.event_id}, but no living worker knows {JOB}: start one "
        "(wakelog worker MODULE:jobs, or jobs.open(url, worker=True))"
    ]
