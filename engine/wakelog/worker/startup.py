"""What a worker does when it opens: start what runs by itself, let changed rules take effect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from wakelog.application import Application
from wakelog.core.requests import Retime, Start
from wakelog.definitions.definition import Definition
from wakelog.ids import InstanceId
from wakelog.ports.rows import Listing
from wakelog.runtime.unit_of_work import Origin

__all__ = ["autostart", "retime"]

PAGE = 500
_ORIGIN = Origin(actor="worker")


async def autostart(app: Application, jobs: Sequence[str]) -> None:
    """Start what the definitions of `jobs` name and what has not begun (C10)."""
    for definition in _definitions(app, jobs):
        for id, text in definition.autostarted.items():
            instance = InstanceId(definition.kind, definition.name, id)
            if not (await app.load(instance)).instance.exists:
                await app.ask(definition, instance, Start(text), origin=_ORIGIN)


async def retime(app: Application, jobs: Sequence[str]) -> int:
    """Let schedules that a policy has set under an older rule follow the rule of today, each
    recorded (C10); answers how many did. Slow where there are many: each is looked at."""
    count = 0
    for definition in _definitions(app, jobs):
        if not definition.has_rule:
            continue
        async for instance in _scheduled(app, definition):
            asked = await app.ask(definition, instance, Retime(), origin=_ORIGIN)
            count += asked.after is not None
    return count


async def _scheduled(app: Application, definition: Definition) -> AsyncIterator[InstanceId]:
    """The instances whose schedule the policy would set otherwise."""
    listing = Listing(kind=definition.kind, name=definition.name, limit=PAGE)
    policy = definition.policy
    while policy is not None:
        rows = await app.browse(app.store.list, listing)
        for row in rows:
            if row.due_us is not None or row.event_count:  # what waits behind a batch has no alarm
                id = InstanceId.parse(row.stream)
                instance = (await app.load(id)).instance
                if policy.retimed(instance, app.now_us(instance)).events:
                    yield id
        if len(rows) < PAGE:
            return
        listing = Listing(
            kind=definition.kind, name=definition.name, limit=PAGE, after=rows[-1].stream
        )


def _definitions(app: Application, jobs: Sequence[str]) -> list[Definition]:
    return [each for each in app.registry if each.job in jobs]
