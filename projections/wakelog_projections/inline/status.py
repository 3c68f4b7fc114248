"""The status view: how each instance stands. Written in the append's own transaction."""

from __future__ import annotations

import json

from msgspec.structs import asdict

from wakelog.core.instance import Instance, next_wake
from wakelog.kinds import BEHAVIOURS
from wakelog.ports.rows import StatusRow

__all__ = ["row", "word"]


def word(instance: Instance) -> str:
    """How it stands, in one word; `not_found` where no life is going on."""
    return BEHAVIOURS[instance.id.kind].status(instance)


def row(instance: Instance, hash: str) -> StatusRow:
    """The status row of `instance`, whose newest event has `hash`."""
    wake = next_wake(instance)
    error, reason = instance.last_error, instance.blocked_reason
    id = instance.id
    return StatusRow(
        stream=f"{id.kind}:{id.name}:{id.id}",
        kind=id.kind,
        name=id.name,
        id=id.id,
        version=instance.version,
        hash=hash,
        status=word(instance),
        executing=instance.run is not None,
        due_us=instance.due_us,
        retry_us=None if instance.retry is None else instance.retry.due_us,
        clear_us=instance.clear_at_us,
        wake_us=None if wake is None else wake.due_us,
        created_us=instance.started_us,
        updated_us=instance.recorded_us,
        event_count=instance.event_count,
        run_count=instance.run_count,
        failure_count=instance.failure_count,
        deferred_count=len(instance.deferred),
        reason=None if reason is None else reason.replace("\0", "\\x00"),  # as any store takes it
        last_error=None if error is None else json.dumps(asdict(error), ensure_ascii=False),
        state=instance.state,
    )
