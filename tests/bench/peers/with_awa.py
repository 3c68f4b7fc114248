"""awa: workers in Rust that call a handler in Python. What is done is kept for a time."""

# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from awa import AsyncClient

from tests.bench.peers.protocol import CONNECTIONS, QUEUE, SLOTS, Count, until

__all__ = ["make"]


@dataclass
class Job:
    """What is enqueued."""

    number: int


@asynccontextmanager
async def make(url: str, began: Callable[[], None]) -> AsyncIterator[AwaPeer]:
    """With a pool, and so many jobs at a time."""
    client = AsyncClient(_with_host(url), max_connections=CONNECTIONS)
    runs = Count(began)

    @client.task(Job, queue=QUEUE)
    async def job(job: Any) -> None:
        runs.one_more()

    try:
        yield AwaPeer(client, runs)
    finally:
        await client.close()


def _with_host(url: str) -> str:
    """Its driver wants a host in its place even where `?host=` names the folder of a socket."""
    parts = urlsplit(url)
    if parts.hostname or "host" not in parse_qs(parts.query):
        return url
    host = f"{parts.netloc}localhost" if parts.netloc.endswith("@") else "localhost"
    return f"{parts.scheme}://{host}{parts.path}?{parts.query}"


class AwaPeer:
    """Inserts and works by one client."""

    def __init__(self, client: AsyncClient, runs: Count) -> None:
        self._client, self._runs = client, runs

    async def prepare(self) -> None:
        """With the storage that its documentation calls the one for new installations."""
        await self._client.migrate()
        await self._client.install_queue_storage()

    async def send(self, number: int) -> None:
        await self._client.insert(Job(number), queue=QUEUE)

    async def send_batch(self, numbers: Sequence[int]) -> None:
        await self._client.enqueue_many_copy([Job(number) for number in numbers], queue=QUEUE)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        await self._client.start([(QUEUE, SLOTS)])
        try:
            yield
        finally:
            await self._client.shutdown()

    async def drain(self, count: int) -> None:
        async with self.working():
            await until(lambda: self._runs.number >= count)
            while await self.unfinished():
                pass

    async def unfinished(self) -> int:
        return sum(
            stat.total_queued + stat.running
            for stat in await self._client.queue_stats()
            if stat.queue == QUEUE
        )
