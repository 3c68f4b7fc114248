"""Looks, when something has changed in a pool, whether what was taken of it is to be given back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from wakelog.application import Application
from wakelog.errors import StoreUnavailableError
from wakelog.pools.settle import Recalled, recalled
from wakelog.pools.state import loaded
from wakelog.ports.pools import PoolLook

__all__ = ["TakenWatch"]

_LOG = logging.getLogger("wakelog.worker")

APART_S = 0.05
"""How far two looks are apart, at least. A worker whose partitions make calls needs none: the
answer of a call says it too."""


class TakenWatch:
    """The looks at one pool. Used on the event loop."""

    def __init__(
        self, app: Application, job: str, give_back: Callable[[Mapping[int, Recalled]], None]
    ) -> None:
        self._app = app
        self._job = job
        self._give_back = give_back
        self._task: asyncio.Task[None] | None = None
        self._is_wanted = False

    def look(self) -> None:
        """Look soon, once for all that asks for it meanwhile."""
        self._is_wanted = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._looks())

    async def _looks(self) -> None:
        try:
            while self._is_wanted:
                self._is_wanted = False
                seen = await self._app.pools.look(PoolLook(self._job, self._app.clock.now_us()))
                self._give_back(recalled(loaded(seen.state), is_job_paused=seen.is_paused))
                await asyncio.sleep(APART_S)
        except StoreUnavailableError as error:  # what was not begun is given back by time
            _LOG.debug("%s cannot be looked at: %s", self._job, error)
        finally:
            self._task = None

    def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
