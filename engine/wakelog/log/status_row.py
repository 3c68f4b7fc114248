"""The status row of an instance."""

from __future__ import annotations

import json

from msgspec.structs import asdict

from wakelog.core.instance import Instance, Wake, next_wake
from wakelog.kinds import BEHAVIOURS
from wakelog.ports.rows import StatusRow

__all__ = ["status_row"]


def status_row(instance: Instance, hash: str, wake: Wake | None = None) -> StatusRow:
    wake = wake or next_wake(instance)
    error, reason = instance.last_error, instance.blocked_reason
    id = instance.id
    first = instance.windows[0] if instance.windows else None
    pending = next((w for w in instance.windows if not w.taken), None)
    return StatusRow(
        stream=f"{id.kind}:{id.name}:{id.id}",
        kind=id.kind,
        name=id.name,
        id=id.id,
        version=instance.version,
        hash=hash,
        status=BEHAVIOURS[instance.id.kind].status(instance),
        executing=instance.run is not None,
        due_us=instance.due_us,
        retry_us=None if instance.retry is None else instance.retry.due_us,
        clear_us=instance.clear_at_us,
        wake_us=None if wake is None else wake.due_us,
        created_us=instance.started_us,
        updated_us=instance.recorded_us,
        last_run_us=instance.last_run_us,
        event_count=instance.event_count,
        run_count=instance.run_count,
        failure_count=instance.failure_count,
        deferred_count=len(instance.deferred),
        unfinished_count=instance.unfinished,
        window_count=len(instance.windows),
        window_opened_us=first.opened_us if first else None,
        flush_due_us=pending.due_us if pending else None,
        reason=None if reason is None else reason.replace("\0", "\\x00"),
        last_error=None if error is None else json.dumps(asdict(error), ensure_ascii=False),
        state=instance.state,
    )
