"""W2: one hot key: 64 senders, one instance whose handler reads and writes back one more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from tests.bench.measuring import AppendCounter, Plan, Round, Row, call_all, fresh_heap, opened, row
from tests.bench.sample import Count, Tick, counting
from wakelog.client.task import TaskClient

__all__ = ["measure"]

SENDERS = 64
SENDS = 8_000
TARGET = "≥ 1,500/s, none lost"


def measure(plan: Plan) -> Iterator[Row]:
    """One row. Raises `AssertionError` where a send was lost or counted twice."""
    for size in plan.sized(SENDS):
        rounds = [asyncio.run(_round(plan, size)) for _ in range(plan.rounds)]
        yield row(plan, "W2 hot key", f"{SENDERS} senders", size, "sends/s", rounds, TARGET)


async def _round(plan: Plan, size: int) -> Round:
    fresh_heap()
    url = plan.storage.fresh()
    async with opened(counting(), url) as (app, application):
        client: TaskClient[Count, Tick] = app.task("counter")

        async def send(_: int) -> None:
            await client.send("hot", Tick())

        await send(0)
        mark = plan.storage.mark(url)
        appends = AppendCounter(application)
        elapsed_s, each_s = await call_all(send, size, SENDERS)
        mean_batch = appends.mean_batch
        state = await client.get_state("hot")
    counted = state.n - 1 if state else 0
    if counted != size:
        raise AssertionError(f"{size} sends were answered and {counted} are counted")
    floor = plan.storage.floor(url, mark, mean_batch)
    return Round(size / elapsed_s, floor, mean_batch, each_s, {"counted": counted})
