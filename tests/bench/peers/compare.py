"""One round of one library: enqueue, drain, and be idle until there is something to do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from statistics import median

from tests.bench.peers.process import Child, child, fresh_database
from tests.support_postgres import bare_connection

__all__ = [
    "Figures",
    "Sizes",
    "in_batches",
    "measured",
    "picked_up",
    "prepare",
    "prepared",
    "rate",
]

BATCH = 1_000
"""How many go with one call, where a library has such a call."""
CALM_S = 1.0
"""At most between two pick-ups. Random, since some libraries poll at fixed intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of each. No batch and nothing in flight is larger than what it is part of."""

    alone: int = 300
    in_flight: int = 3_000
    at_a_time: int = 256
    batches: int = 5_000
    due: int = 5_000
    pick_ups: int = 10
    calm_s: float = CALM_S

    def times(self, share: float) -> Sizes:
        """So much of the jobs; as many pick-ups."""
        return replace(
            self,
            alone=max(1, round(self.alone * share)),
            in_flight=max(1, round(self.in_flight * share)),
            batches=max(1, round(self.batches * share)),
            due=max(1, round(self.due * share)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a round has found: jobs a second, and milliseconds."""

    alone: float
    in_flight: float
    batches: float | None
    drain: float
    pick_up_ms: float


async def measured(name: str, server: str, sizes: Sizes) -> Figures:
    """A round, on three new databases. Raises `AssertionError` where jobs were lost or ran twice,
    and `RuntimeError` where they would not survive a crash of the server."""
    alone, in_flight, batches = await _enqueued(name, server, sizes)
    return Figures(
        alone=alone,
        in_flight=in_flight,
        batches=batches,
        drain=await _drained(name, server, sizes),
        pick_up_ms=await picked_up(name, server, sizes.pick_ups, sizes.calm_s),
    )


async def _enqueued(name: str, server: str, sizes: Sizes) -> tuple[float, float, float | None]:
    with fresh_database(server) as url:
        await prepare(name, url)
        async with child(name, url) as sender:
            await sender.ask("send", 1, 1)  # connections and plans
            alone = await rate(sender, sizes.alone, "send", sizes.alone, 1)
            at_a_time = min(sizes.at_a_time, sizes.in_flight)
            await sender.ask("send", at_a_time, at_a_time)
            in_flight = await rate(sender, sizes.in_flight, "send", sizes.in_flight, at_a_time)
            batch = min(BATCH, sizes.batches)
            return alone, in_flight, await in_batches(sender, sizes.batches, batch)


async def in_batches(child: Child, count: int, size: int) -> float | None:
    """Jobs a second, so many with each call; None if the library has no such call."""
    began_ended = await child.ask("send_batches", count, size)
    return None if began_ended is None else count / (began_ended[1] - began_ended[0])


async def rate(child: Child, count: int, *command: object) -> float:
    """Jobs a second, for a command whose answer is when it began and ended."""
    began_s: float
    ended_s: float
    began_s, ended_s = await child.ask(*command)
    return count / (ended_s - began_s)


async def _drained(name: str, server: str, sizes: Sizes) -> float:
    """By a process that knows nothing of the jobs yet, from the beginning of the first one."""
    with fresh_database(server) as url:
        await prepare(name, url)
        async with child(name, url) as sender:
            await sender.ask("send", sizes.due, min(sizes.at_a_time, sizes.due))
        async with child(name, url) as worker:
            return await rate(worker, sizes.due, "drain", sizes.due)


async def picked_up(name: str, server: str, pick_ups: int, calm_s: float) -> float:
    """From before the call of one process to the beginning of the job in another; the median."""
    calm = random.Random(1)
    took_s: list[float] = []
    with fresh_database(server) as url:
        await prepare(name, url)
        async with child(name, url) as worker, child(name, url) as sender:
            assert await worker.ask("work") == "working"
            for number in range(pick_ups + 1):
                await asyncio.sleep(calm.uniform(0, calm_s))
                sent_s, _ = await sender.ask("send", 1, 1)
                began_s = await worker.answer()
                if number:  # the first one waits for connections and plans
                    took_s.append(began_s - sent_s)
            assert await worker.ask("stop") == "idle"
    return median(took_s) * 1_000


async def prepare(name: str, url: str) -> None:
    """Make the tables. Raises as `prepared`."""
    async with prepared(name, url):
        pass


@asynccontextmanager
async def prepared(name: str, url: str) -> AsyncIterator[Child]:
    """A process that has made the tables.

    Raises `RuntimeError` where the server would not write them to its log.
    """
    async with child(name, url) as made:
        await made.ask("prepare")
        _see_that_it_is_durable(name, url)
        yield made


def _see_that_it_is_durable(name: str, url: str) -> None:
    with bare_connection(url) as connection:
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relpersistence = 'u' ORDER BY 1"
        ).fetchall()
    if found:
        raise RuntimeError(f"not durable: {name} has unlogged tables: {found}")
