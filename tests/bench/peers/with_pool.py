"""wakelog: a WorkerPool, as in W4. All of it stays, in the streams of the pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from tests.bench.measuring import opened
from tests.bench.peers.protocol import SLOTS, Make, until
from tests.bench.pools import until_processed
from tests.bench.sample import Mail, mailing
from wakelog.app import App
from wakelog.settings import WorkerSettings
from wakelog_adapters.alarm_scheduler import open_alarm_clock

__all__ = ["make"]


def make(handler: str) -> Make:
    """With an `async def` or a `def`, and the settings as they come."""
    return partial(_open, handler == "def")


@asynccontextmanager
async def _open(blocking: bool, url: str, began: Callable[[], None]) -> AsyncIterator[PoolPeer]:
    runs: list[None] = []  # an append is safe in whatever thread

    def one_more() -> None:
        runs.append(None)
        began()

    jobs = mailing(blocking=blocking, concurrency=SLOTS, on_run=one_more)
    async with opened(jobs, url) as (app, _):
        yield PoolPeer(app, runs)


class PoolPeer:
    """Enqueues and works in one pool."""

    def __init__(self, app: App, runs: Sequence[None]) -> None:
        self._app, self._runs = app, runs
        self._mails = app.worker_pool("mails")

    async def prepare(self) -> None:
        """Nothing: an empty store is made when it is opened."""

    async def send(self, number: int) -> None:
        await self._mails.enqueue(Mail(n=number))

    async def send_batch(self, numbers: Sequence[int]) -> None:
        await self._mails.enqueue_many([Mail(n=number) for number in numbers])

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Closing the app ends it."""
        await self._app.start_worker(WorkerSettings(), open_alarm_clock)
        yield

    async def drain(self, count: int) -> None:
        """Until the database shows that so many have ended well."""
        async with self.working():
            await until(lambda: len(self._runs) >= count)
            await until_processed(self._app, count)

    async def unfinished(self) -> int:
        """Events that are recorded neither as completed nor as given up."""
        status = await self._mails.status()
        return status.pending + status.processing + status.retrying + status.delayed
