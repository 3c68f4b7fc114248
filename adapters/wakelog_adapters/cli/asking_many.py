"""What the operator's commands ask of whole jobs and of many instances."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from wakelog.app import App
from wakelog.jobs import Jobs
from wakelog.operate import BulkResult, Hold
from wakelog_adapters.cli.selecting import Matching
from wakelog_adapters.cli.surroundings import Where, opened

__all__ = ["Holds", "Unheld", "bulk", "hold", "holds", "look", "unhold"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """The jobs that are held as a whole."""

    holds: list[Hold]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unheld:
    """What became of the resume of a whole job."""

    job: str
    resumed: bool
    held: Hold | None
    """The hold that has ended."""


def hold(where: Where, job: str, *, reason: str | None, actor: str | None) -> Hold:
    """Hold a whole job."""
    return _asked(where, lambda app: app.pause(job, reason=reason, actor=actor))


def unhold(where: Where, job: str) -> Unheld:
    """Let a held job go on."""

    async def ask(app: App) -> Unheld:
        held = await app.resume(job)
        return Unheld(job=job, resumed=held is not None, held=held)

    return _asked(where, ask)


def holds(where: Where) -> Holds:
    """The jobs that are held."""

    async def ask(app: App) -> Holds:
        return Holds(holds=await app.holds())

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
