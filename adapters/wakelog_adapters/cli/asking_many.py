"""What the operator's commands ask of whole jobs and of many instances."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from wakelog.app import App
from wakelog.client.bulk import BulkResult
from wakelog.client.job_pause import JobPause
from wakelog.jobs import Jobs
from wakelog_adapters.cli.context import Where, opened
from wakelog_adapters.cli.selection import Matching

__all__ = [
    "JobPausesReport",
    "JobResumeReport",
    "bulk",
    "job_pauses",
    "look",
    "pause_job",
    "resume_job",
]

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPausesReport:
    """The jobs that are held as a whole."""

    holds: list[JobPause]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResumeReport:
    """What became of the resume of a whole job."""

    job: str
    resumed: bool
    held: JobPause | None
    """The hold that has ended."""


def pause_job(where: Where, job: str, *, reason: str | None, actor: str | None) -> JobPause:
    """Hold a whole job."""
    return _asked(where, lambda app: app.pause(job, reason=reason, actor=actor))


def resume_job(where: Where, job: str) -> JobResumeReport:
    """Let a held job go on."""

    async def ask(app: App) -> JobResumeReport:
        held = await app.resume(job)
        return JobResumeReport(job=job, resumed=held is not None, held=held)

    return _asked(where, ask)


def job_pauses(where: Where) -> JobPausesReport:
    """The jobs that are held."""

    async def ask(app: App) -> JobPausesReport:
        return JobPausesReport(holds=await app.job_pauses())

    return _asked(where, ask, Jobs())


def look(where: Where, action: Any, which: Matching) -> BulkResult:
    """Say which match."""
    return bulk(where, action, which, dry_run=True)


def bulk(where: Where, action: Any, which: Matching, **options: Any) -> BulkResult:
    """Do it to all that match."""
    asked: dict[str, Any] = {**which.filters, "limit": which.limit, **options}
    return _asked(where, lambda app: app.bulk(action, **asked))


def _asked(where: Where, ask: Callable[[App], Awaitable[R]], jobs: Jobs | None = None) -> R:
    url = where.store_url()
    needed = where.needed_jobs() if jobs is None else jobs

    async def asking() -> R:
        async with opened(needed, url) as app:
            return await ask(app)

    return asyncio.run(asking())
