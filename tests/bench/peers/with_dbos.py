"""DBOS: a workflow without steps, on a queue. One that is done stays, with its output."""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import psycopg
from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions

from tests.bench.peers.protocol import CONNECTIONS, JOB, QUEUE, Count, until

__all__ = ["make"]

GRACE_S = 10


@asynccontextmanager
async def make(url: str, began: Callable[[], None]) -> AsyncIterator[DBOSPeer]:
    """With so many connections; the rest is as it comes: a queue is looked at every second."""
    config = DBOSConfig(
        name="bench",
        system_database_url=url,
        sys_db_pool_size=CONNECTIONS,
        application_version="1",
        log_level="CRITICAL",
    )
    DBOS(config=config)
    runs = Count(began)

    @DBOS.workflow(name=JOB)
    async def job(number: int) -> None:
        runs.one_more()

    peer = DBOSPeer(url, runs)
    try:
        yield peer
    finally:
        await asyncio.to_thread(peer.close)


class DBOSPeer:
    """Enqueues by a client, which runs nothing; launches DBOS to work."""

    def __init__(self, url: str, runs: Count) -> None:
        self._url, self._runs = url, runs
        self._client: DBOSClient | None = None

    async def prepare(self) -> None:
        await asyncio.to_thread(DBOS.launch)

    async def send(self, number: int) -> None:
        client = self._client = self._client or DBOSClient(
            system_database_url=self._url, system_database_pool_size=CONNECTIONS
        )
        await client.enqueue_async(EnqueueOptions(workflow_name=JOB, queue_name=QUEUE), number)

    async def send_batch(self, numbers: Sequence[int]) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """`close` ends it."""
        await asyncio.to_thread(DBOS.launch)
        await DBOS.register_queue_async(QUEUE)
        yield

    async def drain(self, count: int) -> None:
        async with self.working():
            await until(lambda: self._runs.number >= count)
            while await self.unfinished():
                pass

    async def unfinished(self) -> int:
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            found = await connection.execute(
                "SELECT count(*) FROM dbos.workflow_status WHERE status <> 'SUCCESS'"
            )
            [number] = await found.fetchone() or [0]
            return int(number)

    def close(self) -> None:
        """End what runs in threads."""
        if self._client is not None:
            self._client.destroy()
        DBOS.destroy(workflow_completion_timeout_sec=GRACE_S)
