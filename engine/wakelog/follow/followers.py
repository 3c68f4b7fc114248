"""Wakes the jobs that follow a log when there is something for them (E2, I3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from wakelog.application import Application
from wakelog.core.requests import Receive
from wakelog.definitions.definition import Definition
from wakelog.errors import WakelogError
from wakelog.follow.feed import FOLLOWER
from wakelog.ids import InstanceId
from wakelog.runtime.stream_watch import EVERY_STREAM
from wakelog.runtime.unit_of_work import IdempotencyKey
from wakelog.threads import PAUSE_S, log_failure

__all__ = ["Followers"]

_LOG = logging.getLogger("wakelog.follow")

REST_S = 0.005
"""How long not to look again after a look: this process may append all the time."""


class Followers:
    """Those of one process. Used on the app's event loop."""

    def __init__(self, app: Application, on_wait: Callable[[], None]) -> None:
        """`on_wait` is called before it waits for something to follow."""
        self._app = app
        self._on_wait = on_wait
        self._upto: dict[str, int] = {}
        """The position up to which each has been told."""
        self._polling: asyncio.Task[None] | None = None

    def poll(self, jobs: tuple[str, ...]) -> None:
        """Look again and again, from now on, for those of these jobs: when this process has
        appended something, and several times a second."""
        if any(each.followed is not None and each.job in jobs for each in self._app.registry):
            self._on_wait()
            self._polling = self._app.handler_runner.start(self._poll(jobs))

    def stop(self) -> None:
        """Look no more."""
        if self._polling is not None:
            self._app.handler_runner.stop(self._polling)

    async def look(self, jobs: tuple[str, ...]) -> None:
        """Tell each that has something to follow. Raises what reading it raises."""
        for definition in self._app.registry:
            if definition.followed is not None and definition.job in jobs:
                await self._look(definition)

    async def _poll(self, jobs: tuple[str, ...]) -> None:
        async def look() -> None:
            await self.look(jobs)
            await asyncio.sleep(REST_S)

        while True:
            try:
                await self._app.stream_watch.until(EVERY_STREAM, look, None)
            except WakelogError as error:
                _LOG.debug("what is followed is looked at a little later: %s", error)
            except Exception as error:
                log_failure(_LOG, "what is followed cannot be read", error=error)
            await asyncio.sleep(PAUSE_S)

    async def _look(self, definition: Definition) -> None:
        app, job = self._app, definition.job
        id = InstanceId(definition.kind, definition.name, FOLLOWER)
        [row] = [None] if job in self._upto else await app.threads.read(app.store.status, [str(id)])
        if row is not None and row.state is not None:
            self._upto[job] = int(row.state)
        news = await app.threads.browse(definition.followed.news, app, self._upto.get(job, 0))
        if news.newest is not None:
            [row] = await app.threads.read(app.store.status, [str(id)])
            # one of all processes tells it of each position, once in each of its lives
            life = row and (row.created_us or row.version)
            key = IdempotencyKey(f"{news.newest} in {life}", "follow", "", lambda _: "null")
            await app.request(definition, id, Receive(str(news.newest), defer=True), key=key)
        self._upto[job] = news.upto
