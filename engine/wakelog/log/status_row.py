"""The status row of an instance: made here alone, for the view that stores keep and for statuses
out of memory."""

from __future__ import annotations

import json
from zlib import crc32

from msgspec.json import Encoder
from msgspec.structs import asdict, force_setattr, replace

from wakelog.core.instance import Instance, Wake
from wakelog.kinds import BEHAVIOURS
from wakelog.ports.rows import StatusRow

__all__ = ["is_sound", "status_of", "status_row"]

_encode = Encoder().encode


def status_of(instance: Instance) -> str:
    """The status in one word, as its type of job has it; `not_found` between two lives."""
    return BEHAVIOURS[instance.id.kind].status(instance)


def status_row(
    instance: Instance, hash: str, wake: Wake | None, stream: str | None = None
) -> StatusRow:
    """The status row of `instance`, whose newest event has `hash`.

    `wake` is its `next_wake`, and `stream` its stream id, if the caller has that at hand.
    """
    id, retry, windows, error = instance.id, instance.retry, instance.windows, instance.last_error
    reason, error_type, last_error = instance.blocked_reason, None, None
    if reason is not None:
        reason = reason.replace("\0", "\\x00")  # not every store takes a NUL
    if error is not None:
        error_type = error.error_type.replace("\0", "\\x00")
        last_error = json.dumps(asdict(error), ensure_ascii=False)
    row = StatusRow(  # by position: by name it takes 0.5 us more for each unit of an append
        str(id) if stream is None else stream,
        id.kind,
        id.name,
        id.id,
        instance.version,
        hash,
        0,  # checksum
        status_of(instance),
        instance.run is not None,  # executing
        instance.due_us,
        retry.due_us if retry is not None and instance.is_retrying else None,
        instance.clear_at_us,
        None if wake is None else wake.due_us,
        instance.started_us,  # created_us
        instance.recorded_us,  # updated_us
        instance.last_run_us,
        instance.event_count,
        instance.run_count,
        instance.failure_count,
        len(instance.deferred),
        reason,
        instance.unfinished,
        len(windows),
        windows[0].opened_us if windows else None,
        next((w.due_us for w in windows if not w.taken), None) if windows else None,
        len(instance.dead),
        None if instance.unread is None else json.dumps(asdict(instance.unread)),
        error_type,
        last_error,
        instance.state,
    )
    force_setattr(row, "checksum", _checksum(row))  # of a row that nothing else refers to yet
    return row


def is_sound(row: StatusRow) -> bool:
    """Whether a row is as it was made here: nothing has changed a field of it since.

    A checksum finds damage; who changes a row on purpose can make another one.
    """
    return row.checksum == _checksum(replace(row, checksum=0))


def _checksum(row: StatusRow) -> int:
    try:
        return crc32(_encode(row))
    except UnicodeEncodeError:
        return 0  # a lone surrogate, which no database takes
