"""Absurd: a task without steps. One that is done stays, with its run."""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
from absurd_sdk import AsyncAbsurd
from absurdctl import BUNDLED_SCHEMA_SQL

from tests.bench.peers.protocol import CONNECTIONS, JOB, QUEUE, SLOTS, Count, until

__all__ = ["make"]


@asynccontextmanager
async def make(url: str, began: Callable[[], None]) -> AsyncIterator[AbsurdPeer]:
    """With so many clients that spawn, since each has one connection; a worker has another one.

    They are given their connections: a client would make several at a time if it were used by
    several tasks before it has one.
    """
    runs = Count(began)
    async with AsyncExitStack() as stack:

        async def connected() -> psycopg.AsyncConnection:
            connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
            return await stack.enter_async_context(connection)

        clients = [AsyncAbsurd(await connected(), queue_name=QUEUE) for _ in range(CONNECTIONS)]
        worker = AsyncAbsurd(await connected(), queue_name=QUEUE)

        @worker.register_task(JOB)
        async def job(params: object, context: object) -> None:
            runs.one_more()

        yield AbsurdPeer(clients, worker, await connected(), runs)


class AbsurdPeer:
    """Spawns by the clients in turn."""

    def __init__(
        self,
        clients: Sequence[AsyncAbsurd],
        worker: AsyncAbsurd,
        connection: psycopg.AsyncConnection,
        runs: Count,
    ) -> None:
        self._clients, self._worker, self._connection = clients, worker, connection
        self._runs = runs

    async def prepare(self) -> None:
        """By the schema that its command brings, which would call `psql` to apply it."""
        await self._connection.execute(BUNDLED_SCHEMA_SQL.encode())
        await self._worker.create_queue()

    async def send(self, number: int) -> None:
        client = self._clients[number % len(self._clients)]
        await client.spawn(JOB, {"number": number}, queue=QUEUE)

    async def send_batch(self, numbers: Sequence[int]) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._worker.start_worker(concurrency=SLOTS))
        try:
            yield
        finally:
            self._worker.stop_worker()
            await task

    async def drain(self, count: int) -> None:
        async with self.working():
            await until(lambda: self._runs.number >= count)
            while await self.unfinished():
                pass

    async def unfinished(self) -> int:
        found = await self._connection.execute(
            f"SELECT count(*) FROM absurd.t_{QUEUE} WHERE state <> 'completed'".encode()
        )
        [number] = await found.fetchone() or [0]
        return int(number)
