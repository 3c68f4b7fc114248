"""What a second pair of eyes has found: bounds of a look, odd words, large payloads, odd ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.engine.pools.live import AGAIN, audited, ended, opened, pool_of, simulated
from wakelog import Backoff, IdempotencyConflictError, Jobs, NewEvent, Retry, ValidationError
from wakelog.pools.accept import MAX_BATCH_BYTES

pytestmark = pytest.mark.anyio


async def _done(ctx: Any, event: Any) -> None:
    pass


async def test_P4_more_than_a_look_shows_were_moved_out_of_a_lane(pool_url: str) -> None:
    pool = pool_of(_done, concurrency=8)
    # given more than a look shows of what is to be skipped, and several partitions in one call
    async with Jobs(pool=pool).open(pool_url) as app:
        client = app.worker_pool(pool)
        ids = [each.event_id for each in await client.enqueue_many(list(range(1_300)))]
        assert len((await client.set_priority(-1, ids[:1_200])).events) == 1_200
        # then a worker works off all of it
        async with opened(pool_url, pool, check=False):
            await ended(client, ids)
    audited(pool_url)


async def test_P7_a_reason_with_NUL_does_not_stop_a_pool(pool_url: str) -> None:
    async with opened(pool_url, pool_of(_done)) as client:
        assert (await client.pause(reason="a\0b")).done
        assert (await client.pause(1, reason="a\0b")).done
        assert (await client.status()).reason == "a\N{REPLACEMENT CHARACTER}b"
        assert (await client.resume()).done
        assert (await client.resume(1)).done
        await ended(client, [(await client.enqueue(1)).event_id])


@pytest.mark.parametrize("ids", [True, False])
async def test_P9_large_events_are_recorded_a_few_together(pool_url: str, ids: bool) -> None:
    large = "x" * (MAX_BATCH_BYTES // 3)
    async with opened(pool_url, pool_of(_done), worker=False) as client:
        accepted = await client.enqueue_many(
            [NewEvent(event=large, id=f"e{n}" if ids else None) for n in range(7)]
        )
        assert [each.position for each in accepted] == list(range(7))
        history = await client.history(accepted[-1].event_id)
        assert history[0].version == 4  # 2 + 2 + 2 + 1


def test_P5_what_was_behind_a_cancelled_event_goes_on_at_once() -> None:
    ran: list[str] = []

    def execute(ctx: Any, event: str) -> None:
        ran.append(event)
        if event == "first":
            raise ConnectionError

    retry = Retry(max_attempts=2, delay=Backoff.constant("1h"), jitter=0)
    with simulated("memory://", pool_of(execute, ordered=True, retry=retry)) as sim:
        client = sim.worker_pool("pool")
        for event in ("first", "second", "third"):
            client.enqueue(event, id=event, partition_key="k")
        sim.advance("1s")
        assert client.why("second").cause == "behind_key"
        assert client.cancel_event("first").cancelled
        sim.advance("1s")
        assert ran == ["first", "second", "third"]


async def test_I1_an_id_stands_for_an_event_and_what_its_options_mean(pool_url: str) -> None:
    at = datetime(2099, 1, 1, tzinfo=UTC)
    async with opened(pool_url, pool_of(_done), worker=False) as client:
        await client.enqueue(1, id="no key")
        with pytest.raises(IdempotencyConflictError):
            await client.enqueue(1, id="no key", partition_key="None")
        await client.enqueue(1, id="delayed", delay="5m")
        assert (await client.enqueue(1, id="delayed", delay=timedelta(minutes=5))).duplicate
        await client.enqueue(1, id="dated", at=at)
        other = at.astimezone(timezone(timedelta(hours=2)))
        assert (await client.enqueue(1, id="dated", at=other)).duplicate


@pytest.mark.parametrize("id", ["#1.0", "#01.1", "#\u0661.\u0661", "#1." + "9" * 200])
async def test_P8_what_only_looks_like_a_place_names_nothing(pool_url: str, id: str) -> None:
    async with opened(pool_url, pool_of(_done), worker=False) as client:
        await client.enqueue(1)
        assert (await client.cancel_event(id)).status == "not_found"
        with pytest.raises(ValidationError):
            await client.enqueue(1, id=id)


async def test_P8_the_error_of_an_event_is_that_of_its_run(pool_url: str) -> None:
    async def fail(ctx: Any, event: Any) -> None:
        raise ConnectionError("its own")

    def fails_too(ctx: Any, event: Any, error: BaseException) -> None:
        raise RuntimeError("another one")

    pool = pool_of(fail, on_dead_letter=fails_too, retry=AGAIN)
    async with opened(pool_url, pool) as client:
        [event] = await ended(client, [(await client.enqueue(1)).event_id])
        assert event.error is not None
        assert event.error.type == "ConnectionError"


async def test_P5_what_was_behind_goes_on_without_waiting_for_the_next_poll(pool_url: str) -> None:
    async def execute(ctx: Any, event: int) -> None:
        if event == 0 and ctx.attempts == 1:
            raise ConnectionError

    # given a key of which many wait behind one that fails once, and idle partitions beside its own
    async with opened(pool_url, pool_of(execute, concurrency=6, ordered=True, retry=AGAIN)) as pool:
        events = [NewEvent(event=n, partition_key="b") for n in range(120)]
        ids = [each.event_id for each in await pool.enqueue_many(events)]
        # then they follow at once: at one release for each poll it would be 7 seconds and more
        await ended(pool, ids, within_s=4)
