"""PgQueuer on asyncpg. A job that is done leaves its queue, and three lines in a log."""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
from pgqueuer import AsyncpgDriver, AsyncpgPoolDriver, Job, PgQueuer, Queries
from pgqueuer.domain.types import QueueExecutionMode

from tests.bench.peers.protocol import CONNECTIONS, JOB, Make, payload

__all__ = ["make"]


def make(batch_size: int) -> Make:
    """With workers that take so many jobs at a time, and record as many outcomes."""
    return partial(_open, batch_size)


@asynccontextmanager
async def _open(
    batch_size: int, url: str, began: Callable[[], None]
) -> AsyncIterator[PgQueuerPeer]:
    async with asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        connection = await asyncpg.connect(url)
        try:
            worker = PgQueuer(AsyncpgDriver(connection))

            @worker.entrypoint(JOB)
            async def job(job: Job) -> None:
                began()

            yield PgQueuerPeer(pool, worker, batch_size)
        finally:
            await connection.close()


class PgQueuerPeer:
    """Sends on a pool, works on a connection of its own."""

    def __init__(self, pool: asyncpg.Pool, worker: PgQueuer, batch_size: int) -> None:
        self._pool, self._worker, self._batch_size = pool, worker, batch_size
        self._queries = Queries(AsyncpgPoolDriver(pool))

    async def prepare(self) -> None:
        await self._queries.install()

    async def send(self, number: int) -> None:
        await self._queries.enqueue(JOB, payload(number))

    async def send_batch(self, numbers: Sequence[int]) -> None:
        payloads: list[bytes | None] = [payload(number) for number in numbers]
        await self._queries.enqueue([JOB] * len(numbers), payloads, [0] * len(numbers))

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._worker.qm.run(batch_size=self._batch_size))
        try:
            yield
        finally:
            self._worker.shutdown.set()
            await task

    async def drain(self, count: int) -> None:
        """By its own mode for it: outcomes are else held back for up to 0.1 s at the end."""
        await self._worker.qm.run(mode=QueueExecutionMode.drain, batch_size=self._batch_size)

    async def unfinished(self) -> int:
        return int(await self._pool.fetchval("SELECT count(*) FROM pgqueuer"))
