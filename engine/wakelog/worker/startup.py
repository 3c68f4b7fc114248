"""What a worker does when it opens: autostart; schedules whose rule has changed (C10)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from wakelog.application import Application
from wakelog.core.decide import decide
from wakelog.core.decide_runs import CLOCK_SKEW_US
from wakelog.core.requests import Retime, Start
from wakelog.definitions.definition import Definition
from wakelog.errors import HistoryError
from wakelog.ids import InstanceId, job_of
from wakelog.ports.rows import Listing
from wakelog.runtime.unit_records import Origin

__all__ = ["autostart", "retime", "retime_ahead"]

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


async def retime(app: Application, jobs: Sequence[str]) -> int:
    """Let schedules that a policy has set under an older rule follow the present one, each
    recorded; answers how many did. Slow for many instances: each is looked at."""
    count = 0
    for definition in _definitions(app, jobs):
        if definition.has_rule:
            listing = Listing(kind=definition.kind, name=definition.name, limit=PAGE)
            count += await _set_anew(app, listing, (definition.job,))
    return count


async def retime_ahead(app: Application, jobs: Sequence[str]) -> int:
    """Set anew what was set while the clock was ahead (U9), each recorded; answers how many. Only
    instances whose newest event lies in the future are looked at."""
    after_us = app.clock.now_us() + CLOCK_SKEW_US
    return await _set_anew(app, Listing(waking=True, updated_after_us=after_us, limit=PAGE), jobs)


async def _set_anew(app: Application, listing: Listing, jobs: Sequence[str]) -> int:
    """Re-time the instances of a listing that need it; answers how many did."""
    count = 0
    async for instance in _outdated(app, listing, jobs):
        outcome = await app.request(app.registry.of(instance), instance, Retime(), origin=_ORIGIN)
        count += outcome.after is not None
    return count


async def _outdated(
    app: Application, listing: Listing, jobs: Sequence[str]
) -> AsyncIterator[InstanceId]:
    """The instances of a listing whose schedule would be set otherwise now."""
    while True:
        rows = await app.threads.browse(app.store.list, listing)
        for row in rows:
            # what waits for a batch has no alarm
            has_work = row.wake_us is not None or row.due_us is not None or row.event_count
            if has_work and job_of(row.stream) in jobs:
                try:
                    instance = (await app.instances.load(row.stream)).instance
                except HistoryError:
                    continue  # it is parked, or will be when it is due
                policy = app.registry.of(instance.id).policy
                if policy and decide(instance, Retime(), policy, app.clock.now_us()).events:
                    yield instance.id
        if len(rows) < PAGE:
            return
        listing = replace(listing, after=rows[-1].stream)


def _definitions(app: Application, jobs: Sequence[str]) -> list[Definition]:
    return [each for each in app.registry if each.job in jobs]
