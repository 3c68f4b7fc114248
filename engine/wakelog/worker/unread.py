"""What waits for code that can read it: a worker that can lets it go on (K4)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from wakelog.application import Application
from wakelog.core.instance import Instance
from wakelog.core.requests import Reread
from wakelog.errors import HistoryError, StoreUnavailableError
from wakelog.ids import InstanceId, job_of
from wakelog.ports.rows import Listing
from wakelog.runtime.unit_records import Origin
from wakelog.worker.runs import recorded_payloads

__all__ = ["Rereader"]

_LOG = logging.getLogger("wakelog.worker")

PAGE = 500
"""Instances looked at in one read."""
MAX_TRIED = 10_000
"""Instances of which is remembered that this code cannot read them; others are tried again in each
sweep."""
_ORIGIN = Origin(actor="worker")


class Rereader:
    """Tries, when a worker opens and in every sweep, what no code could read so far.

    The code of a process does not change, so each version of an instance is tried once.
    """

    def __init__(
        self, app: Application, jobs: Sequence[str], pools: Callable[[], Awaitable[int]]
    ) -> None:
        """`pools`: tries the events of worker pools, and answers how many go on."""
        self._app = app
        self._jobs = frozenset(jobs)
        self._pools = pools
        self._tried: dict[str, int] = {}
        """The version at which each instance could not be read."""

    async def __call__(self) -> int:
        """Re-arm the instances of these jobs that this code can read, and let workers take such
        events of pools; answers how many."""
        listing, count = Listing(unread=True, limit=PAGE), await self._pools()
        while True:
            rows = await self._app.threads.browse(self._app.store.list, listing)
            for row in rows:
                if job_of(row.stream) in self._jobs and self._tried.get(row.stream) != row.version:
                    count += await self._reread_alone(row.stream)
            if len(rows) < PAGE:
                return count
            listing = replace(listing, after=rows[-1].stream)

    async def _reread_alone(self, stream: str) -> bool:
        """As `_reread`; one that another session keeps locked has its turn in the next sweep."""
        try:
            return await self._reread(stream)
        except HistoryError:  # it is parked, or will be
            return False
        except StoreUnavailableError as error:
            if error.reason != "locked":
                raise
            _LOG.error("%s waited for code, and cannot go on yet: %s", stream, error)
            return False

    async def _reread(self, stream: str) -> bool:
        app, id = self._app, InstanceId.parse(stream)
        instance = (await app.instances.load(stream)).instance
        error = await self._error(stream, instance)
        if error is not None:
            _LOG.debug("%s waits for code that can read it: %s", stream, type(error).__name__)
            if len(self._tried) < MAX_TRIED or stream in self._tried:
                self._tried[stream] = instance.version
            return False
        self._tried.pop(stream, None)
        request = Reread(instance.version)
        outcome = await app.request(app.registry.of(id), id, request, origin=_ORIGIN)
        return outcome.after is not None

    async def _error(self, stream: str, instance: Instance) -> Exception | None:
        """Why this code cannot read what the instance holds; None if it can."""
        payloads = await recorded_payloads(self._app, stream, instance.unread_events)
        definition = self._app.registry.of(instance.id)
        return definition.check_readable(instance.state, payloads)
