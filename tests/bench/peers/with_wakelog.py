"""wakelog: a Task whose event sets a state and schedules a run, as in W3. All of it stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from tests.bench.drain import recorded
from tests.bench.measuring import opened
from tests.bench.peers.protocol import Count, until
from tests.bench.sample import Tick, ticking
from wakelog.app import App
from wakelog.application import Application
from wakelog.core.events import Executed, Started
from wakelog.settings import WorkerSettings
from wakelog_adapters.alarm_scheduler import open_alarm_clock

__all__ = ["make"]


@asynccontextmanager
async def make(url: str, began: Callable[[], None]) -> AsyncIterator[WakelogPeer]:
    """With the settings as they come."""
    runs = Count(began)
    async with opened(ticking(first=0, on_run=runs.one_more), url) as (app, application):
        yield WakelogPeer(app, application, runs)


class WakelogPeer:
    """Sends each event to an instance of its own."""

    def __init__(self, app: App, application: Application, runs: Count) -> None:
        self._app, self._application, self._runs = app, application, runs
        self._ticker = app.task("ticker")

    async def prepare(self) -> None:
        """Nothing: an empty store is made when it is opened."""

    async def send(self, number: int) -> None:
        await self._ticker.send(f"t-{number}", Tick())

    async def send_batch(self, numbers: Sequence[int]) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Closing the app ends it."""
        await self._app.start_worker(WorkerSettings(), open_alarm_clock)
        yield

    async def drain(self, count: int) -> None:
        async with self.working():
            await until(lambda: self._runs.number >= count)
            while not self._app.is_idle:  # noqa: ASYNC110  as in W3
                await asyncio.sleep(0)

    async def unfinished(self) -> int:
        """Instances that have begun, and whose run is not recorded as ended well."""
        found = recorded(self._application, 0, (Started.TOPIC, Executed.TOPIC))
        ended = {each.stream for each in found if isinstance(each.event, Executed)}
        return len({each.stream for each in found} - ended)
