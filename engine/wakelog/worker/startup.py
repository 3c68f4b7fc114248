"""What a worker does when it opens: autostart; schedules that are to be set anew (C10, U9)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from wakelog.application import Application
from wakelog.core.decide import decide
from wakelog.core.decide_runs import CLOCK_SKEW_US
from wakelog.core.instance import Instance
from wakelog.core.requests import Retime, Start
from wakelog.definitions.definition import Definition
from wakelog.errors import HistoryError, StoreUnavailableError
from wakelog.ids import InstanceId, job_of
from wakelog.ports.rows import Listing, StatusRow, WorkerRow
from wakelog.runtime.unit_records import Origin

__all__ = [
    "PAGE",
    "Retimed",
    "autostart",
    "retime",
    "retime_ahead",
    "retime_page",
    "worker_row",
]

_LOG = logging.getLogger("wakelog.worker")

PAGE = 500
"""Instances looked at in one read."""
_ORIGIN = Origin(actor="worker")


async def autostart(app: Application, jobs: Sequence[str]) -> None:
    """Start the instances that the definitions of `jobs` name and that do not live yet."""
    for definition in _definitions(app, jobs):
        for id, text in definition.autostarted.items():
            instance = InstanceId(definition.kind, definition.name, id)
            if not (await app.instances.load(str(instance))).instance.exists:
                await app.request(definition, instance, Start(text), origin=_ORIGIN)


class Retimed(NamedTuple):
    """What came of one page of instances."""

    seen: int
    """How many instances it had."""
    number: int
    """How many schedules were set anew."""
    last: str | None
    """The last stream of the page; None if it is the last page."""


async def retime(app: Application, jobs: Sequence[str]) -> int:
    """Let schedules of these jobs follow the present rule, each recorded; answers how many did.
    Slow for many instances: each is looked at."""
    count = 0
    for job in jobs:
        after, ended = None, False
        while not ended:
            page = await retime_page(app, job, after)
            count, after, ended = count + page.number, page.last, page.last is None
    return count


async def retime_page(app: Application, job: str, after: str | None, limit: int = PAGE) -> Retimed:
    """As `retime`, for the next `limit` instances of one job, those after the stream `after`."""
    kind, _, name = job.partition(":")
    listing = Listing(kind=kind, name=name, limit=limit, after=after)
    return await _set_anew(app, listing, (job,), Retime())


async def retime_ahead(app: Application, jobs: Sequence[str]) -> int:
    """Set anew what was set while the clock was ahead (U9), each recorded; answers how many. Only
    instances whose newest event lies in the future are looked at."""
    after_us, count = app.clock.now_us() + CLOCK_SKEW_US, 0
    listing = Listing(waking=True, updated_after_us=after_us, limit=PAGE)
    while True:
        page = await _set_anew(app, listing, jobs, Retime(by_rule=False))
        count += page.number
        if page.last is None:
            return count
        listing = replace(listing, after=page.last)


async def _set_anew(
    app: Application, listing: Listing, jobs: Sequence[str], request: Retime
) -> Retimed:
    """Re-time the instances of one page that need it, all at the same time: those that another
    session keeps locked hold up no other (K5)."""
    rows = await app.threads.browse(app.store.list, listing)
    streams = [row.stream for row in rows if _has_work(row) and job_of(row.stream) in jobs]
    instances = await asyncio.gather(*(_load(app, stream) for stream in streams))
    retimed = await asyncio.gather(*(_retimed(app, each, request) for each in instances if each))
    last = rows[-1].stream if len(rows) == listing.limit else None
    return Retimed(len(rows), sum(retimed), last)


async def _retimed(app: Application, instance: Instance, request: Retime) -> bool:
    """Re-time one instance, if it needs it. What fails for it alone is logged; the next sweep tries
    it again. Raises `StoreUnavailableError`."""
    definition = app.registry.of(instance.id)
    policy = definition.policy
    try:
        if policy and decide(instance, request, policy, app.clock.now_us()).events:
            outcome = await app.request(definition, instance.id, request, origin=_ORIGIN)
            return outcome.after is not None
    except (HistoryError, StoreUnavailableError) as error:
        if isinstance(error, StoreUnavailableError) and error.reason not in ("locked", "refused"):
            raise
        _LOG.error("the schedule of %s cannot be set anew: %s", instance.id, error)
    return False


def _has_work(row: StatusRow) -> bool:
    """What waits for a batch has no alarm."""
    return row.wake_us is not None or row.due_us is not None or bool(row.event_count)


async def _load(app: Application, stream: str) -> Instance | None:
    """None if it cannot be read: it is parked, or will be when it is due."""
    try:
        return (await app.instances.load(stream)).instance
    except HistoryError:
        return None


def _definitions(app: Application, jobs: Sequence[str]) -> list[Definition]:
    return [each for each in app.registry if each.job in jobs]


def worker_row(
    app: Application,
    name: str,
    jobs: tuple[str, ...],
    concurrency: int,
    started_us: int,
    rules: str,
) -> WorkerRow:
    """The row by which others see that a worker of this process is alive."""
    now_us = app.clock.now_us()
    return WorkerRow(
        worker=name,
        jobs=jobs,
        concurrency=concurrency,
        host=socket.gethostname(),
        pid=os.getpid(),
        started_us=started_us,
        seen_us=now_us,
        until_us=now_us + app.settings.lease_us,
        rules=rules,
    )
