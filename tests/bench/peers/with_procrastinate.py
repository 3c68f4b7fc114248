"""Procrastinate on psycopg. A job that is done stays, with its events."""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from procrastinate import App, PsycopgConnector
from procrastinate.tasks import Task

from tests.bench.peers.protocol import CONNECTIONS, JOB, QUEUE, SLOTS

__all__ = ["make"]


@asynccontextmanager
async def make(url: str, began: Callable[[], None]) -> AsyncIterator[ProcrastinatePeer]:
    """With a pool, and so many jobs at a time."""
    connector = PsycopgConnector(conninfo=url, min_size=CONNECTIONS, max_size=CONNECTIONS)
    app = App(connector=connector)

    @app.task(name=JOB, queue=QUEUE)
    async def job(number: int) -> None:
        began()

    async with app.open_async():
        yield ProcrastinatePeer(app, job)


class ProcrastinatePeer:
    """Defers and works on one pool."""

    def __init__(self, app: App, job: Task[..., Any, Any]) -> None:
        self._app, self._job = app, job

    async def prepare(self) -> None:
        await self._app.schema_manager.apply_schema_async()

    async def send(self, number: int) -> None:
        await self._job.defer_async(number=number)

    async def send_batch(self, numbers: Sequence[int]) -> None:
        await self._job.batch_defer_async(*({"number": number} for number in numbers))

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._work(wait=True))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def drain(self, count: int) -> None:
        await self._work(wait=False)

    async def _work(self, *, wait: bool) -> None:
        await self._app.run_worker_async(
            queues=[QUEUE], concurrency=SLOTS, wait=wait, install_signal_handlers=False
        )

    async def unfinished(self) -> int:
        found = await self._app.connector.execute_query_one_async(
            "SELECT count(*) AS number FROM procrastinate_jobs WHERE status <> 'succeeded'"
        )
        return int(found["number"])
