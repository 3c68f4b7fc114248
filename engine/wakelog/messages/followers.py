"""Wakes the jobs that follow other applications, when these have recorded something (E2)."""

from __future__ import annotations

import asyncio
import logging

from wakelog.application import Application
from wakelog.core.requests import Receive
from wakelog.definitions.definition import Definition
from wakelog.definitions.followed import FOLLOWER, Followed
from wakelog.errors import WakelogError
from wakelog.ids import InstanceId
from wakelog.runtime.unit_of_work import IdempotencyKey
from wakelog.threads import log_failure

__all__ = ["Followers"]

_LOG = logging.getLogger("wakelog.messages")

POLL_S = 0.2
"""How often a worker looks whether an application has recorded something."""


class Followers:
    """Those of one process. Used on the app's event loop."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._told: dict[str, int] = {}
        """The position of which each was told last."""
        self._polling: asyncio.Task[None] | None = None

    def poll(self, jobs: tuple[str, ...]) -> None:
        """Look again and again, from now on, for those of these jobs."""
        if any(each.followed is not None and each.job in jobs for each in self._app.registry):
            self._polling = self._app.handler_runner.start(self._poll(jobs))

    def stop(self) -> None:
        """Look no more."""
        if self._polling is not None:
            self._app.handler_runner.stop(self._polling)

    async def look(self, jobs: tuple[str, ...]) -> None:
        """Tell each that has something to follow. Raises what its application raises."""
        for definition in self._app.registry:
            if definition.followed is not None and definition.job in jobs:
                await self._look(definition, definition.followed)

    async def _poll(self, jobs: tuple[str, ...]) -> None:
        while True:
            try:
                await self.look(jobs)
            except WakelogError as error:
                _LOG.debug("the applications are looked at a little later: %s", error)
            except Exception as error:
                log_failure(_LOG, "an application that is followed cannot be read", error=error)
            await asyncio.sleep(POLL_S)

    async def _look(self, definition: Definition, followed: Followed) -> None:
        app, id = self._app, InstanceId(definition.kind, definition.name, FOLLOWER)
        newest = await app.threads.browse(followed.newest)
        if newest <= self._told.get(definition.job, 0):
            return
        [row] = await app.threads.read(app.store.status, [str(id)])
        is_up_to_date = row is not None and row.state is not None and int(row.state) >= newest
        if not is_up_to_date:
            # one of all processes tells it of each position, once in each of its lives
            life = row and (row.created_us or row.version)
            key = IdempotencyKey(f"followed@{newest} {life}", "follow", "", lambda _: "null")
            await app.request(definition, id, Receive(str(newest), defer=True), key=key)
        self._told[definition.job] = newest
