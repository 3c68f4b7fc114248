"""One pool: of a registered job, to make a request; or of any job, to read its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wakelog.app import App
from wakelog.client.pool.results import PoolStatus
from wakelog.jobs import Jobs
from wakelog_adapters.cli.app import stdout_to_stderr
from wakelog_adapters.cli.context import Where, with_app
from wakelog_adapters.cli.environment import load_jobs
from wakelog_adapters.cli.exit_codes import UsageError
from wakelog_adapters.cli.job_types import POOL, pool_name, sound
from wakelog_adapters.cli.reports import PoolsReport
from wakelog_adapters.cli.target import loaded

__all__ = ["PoolTarget", "all_pools", "find_pool", "pool_status"]


@dataclass(frozen=True, slots=True)
class PoolTarget:
    """A registered pool, and its store."""

    jobs: Jobs
    url: str
    name: str
    settings: Mapping[str, Any]
    """How the store is opened."""

    def run(self, verb: str, *values: Any, **options: Any) -> Any:
        """Open the store, call the method `verb` of the pool's client, and close the store.

        Raises what that method raises, and as `opened` does.
        """

        async def call(app: App) -> Any:
            return await getattr(app.worker_pool(self.name), verb)(*values, **options)

        return with_app(self.url, self.jobs, call, **self.settings)

    def event(self, text: str) -> Any:
        """The event with this JSON text. Raises `ValidationError` with each issue."""
        definition = self.jobs.registry.find(self.name, POOL)
        return loaded(definition.event, text, f"event of {self.name!r}")


def find_pool(where: Where, job: str, **settings: Any) -> PoolTarget:
    """The pool with this name, or this job, as in `workerPool:emails`.

    Raises `UsageError` and `UnknownJobError`.
    """
    name = pool_name(job)
    if not where.reference():
        raise UsageError(
            "no jobs are named, and this command needs the pool's definition: give --jobs "
            f"orders:jobs, or set WAKELOG_JOBS; 'wakelog pool status {name}' and "
            f"'wakelog history workerPool:{name}:EVENT' need none"
        )
    with stdout_to_stderr():
        url = where.store_url()
        jobs = where.needed_jobs()
    jobs.registry.find(name, POOL)
    return PoolTarget(jobs, url, name, settings)


def all_pools(where: Where) -> PoolsReport:
    """The pools that the store has, in numbers. Raises as `opened` does."""
    return with_app(where.store_url(), None, _all)


async def _all(app: App) -> PoolsReport:
    return PoolsReport(pools=await app.pools())


def pool_status(where: Where, job: str) -> PoolStatus:
    """A pool in numbers. If jobs are named it is one of theirs, also if nothing was recorded of it;
    else one that the store has. Raises `UsageError`, `UnknownJobError` and as `opened` does."""
    name, reference = pool_name(job), where.reference()
    jobs = None if reference is None else load_jobs(reference)
    if jobs is not None and (where.jobs is not None or name in jobs.names(POOL)):
        jobs.registry.find(name, POOL)

        async def registered(app: App) -> PoolStatus:
            return await app.worker_pool(name).status()

        return with_app(where.store_url(), jobs, registered)
    for status in all_pools(where).pools:
        if status.name == name:
            return sound(status)
    raise UsageError(f"the store has no pool {name!r}: see wakelog pool status")
