"""Debounce with a real worker: adds from many sides while batches are flushed (D4, D5, U2)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing

import pytest

from tests.auditing import audit_all
from tests.engine.kinds.debouncing import fates
from tests.support import WAIT_S
from wakelog import AddResult, App, Debounce, DebounceContext, Jobs, Retry
from wakelog.core.events import DeadLettered, Flushed
from wakelog.jobs import open_store
from wakelog.log.records import Recorded

ADDERS, EACH, MAX_EVENTS = 8, 40, 7

pytestmark = pytest.mark.anyio


class Sink:
    """Where batches go; every third attempt fails, and one batch always does."""

    def __init__(self, poison: int) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.attempts = 0
        self.running = 0
        self.poison = poison

    def job(self) -> Debounce[int, int]:
        job = Debounce(
            event=int,
            state=int,
            flush_after="20ms",
            max_events=MAX_EVENTS,
            retry=Retry(max_attempts=4, delay="1ms"),
        )

        @job.on_event
        async def count(ctx: DebounceContext[int, int], event: int) -> int:
            before = ctx.state or 0
            await asyncio.sleep(0)
            return before + 1

        @job.execute
        async def take(ctx: DebounceContext[int, int]) -> None:
            self.attempts += 1
            self.running += 1
            try:
                assert self.running == 1, "two flushes at a time"
                assert ctx.state == len(ctx.events) == ctx.event_count <= MAX_EVENTS
                await asyncio.sleep(0)
                if self.attempts % 3 == 0 or self.poison in ctx.events:
                    raise OSError("down")
                self.batches.append(tuple(ctx.events))
            finally:
                self.running -= 1

        return job


async def quiet(app: App, id: str) -> None:
    """Wait until everything that was added is flushed. It is asked for once: each further time
    would start a batch that keeps failing anew, at attempt 1 (R7)."""
    client = app.debounce("job")
    async with asyncio.timeout(WAIT_S):
        await client.flush(id)
        while (await client.status(id)).event_count:
            pass


async def test_d4_no_add_is_lost_or_doubled_while_batches_are_flushed(store_url: str) -> None:
    sink = Sink(poison=123)
    jobs = Jobs(job=sink.job())
    async with jobs.open(store_url, worker=True) as app:
        client = app.debounce("job")

        async def adder(number: int) -> list[AddResult]:
            return [await client.add("a", number * EACH + n) for n in range(EACH)]

        answers = await asyncio.gather(*map(adder, range(ADDERS)))
        await quiet(app, "a")
        status = await client.status("a")
        history = _audited(store_url)
    # then each event is in one batch, and all answers were of one story
    assert status.status == "idle"
    fate = fates(history, MAX_EVENTS)
    assert len(fate) == ADDERS * EACH
    assert set(fate.values()) <= {"Flushed", "DeadLettered"}
    flushed = [n for batch in sink.batches for n in batch]
    assert len(set(flushed)) == len(flushed) == sum(f == "Flushed" for f in fate.values())
    dead = [each.event for each in history if isinstance(each.event, DeadLettered)]
    assert len(dead) == 1, "the one that holds the poison"
    assert 123 not in flushed
    created = sum(answer.created for adder in answers for answer in adder)
    batches = [each for each in history if isinstance(each.event, Flushed)]
    assert created == len(batches) + len(dead)


async def test_d6_a_flush_waits_for_a_real_worker_and_joins_an_open_one(store_url: str) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    job = Debounce(event=str, flush_after="1h")

    @job.execute
    async def slow(ctx: DebounceContext[str, str]) -> None:
        entered.set()
        await leave.wait()

    async with asyncio.timeout(WAIT_S), Jobs(job=job).open(store_url, worker=True) as app:
        client = app.debounce(job)
        await client.add("a", "x")
        first = asyncio.create_task(client.flush("a"))
        await entered.wait()
        joined = asyncio.create_task(client.flush("a"))
        assert (await client.status("a")).status == "flushing"
        late = await client.add("a", "y")
        assert (late.created, late.deferred) == (True, True)
        leave.set()
        assert [(await each).flushed for each in (first, joined)] == [True, True]
        assert (await client.flush("a")).event_count == 1


def _audited(url: str) -> Sequence[Recorded]:
    with closing(open_store(url)) as factory:
        return audit_all(factory.application_recorder())["debounce:job:a"]
