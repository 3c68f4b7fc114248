"""What a worker does when it opens: autostart; schedules whose rule has changed (C10)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from wakelog.application import Application
from wakelog.core.requests import Retime, Start
from wakelog.definitions.definition import Definition
from wakelog.ids import InstanceId
from wakelog.ports.rows import Listing
from wakelog.runtime.unit_records import Origin

__all__ = ["autostart", "retime"]

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
        if not definition.has_rule:
            continue
        async for instance in _outdated(app, definition):
            outcome = await app.request(definition, instance, Retime(), origin=_ORIGIN)
            count += outcome.after is not None
    return count


async def _outdated(app: Application, definition: Definition) -> AsyncIterator[InstanceId]:
    """The instances whose schedule the policy would set otherwise."""
    listing = Listing(kind=definition.kind, name=definition.name, limit=PAGE)
    policy = definition.policy
    while policy is not None:
        rows = await app.threads.browse(app.store.list, listing)
        for row in rows:
            if row.due_us is not None or row.event_count:  # what waits for a batch has no alarm
                instance = (await app.instances.load(row.stream)).instance
                if policy.retimed(instance, app.records.now_us(instance)).events:
                    yield instance.id
        if len(rows) < PAGE:
            return
        listing = replace(listing, after=rows[-1].stream)


def _definitions(app: Application, jobs: Sequence[str]) -> list[Definition]:
    return [each for each in app.registry if each.job in jobs]
