"""The status of an instance, made from its status row: what all types of job have in common.

All values are frozen; times are aware, in UTC. The status of one type of job is beside its client.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from wakelog.core.instance import Failure
from wakelog.core.time import as_datetime, moment
from wakelog.ports.rows import StatusRow

__all__ = [
    "CommonFields",
    "InstanceStatus",
    "LastError",
    "common_fields",
    "last_error",
    "status_word",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LastError:
    """The last failure of an instance: what handler, what error, when."""

    handler: str
    type: str
    message: str
    traceback: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStatus:
    """What the statuses of all types of job have in common."""

    instance_id: str
    version: int
    status: str
    """One word: see the status of each type."""
    retry_at: datetime | None = None
    """When the failed run is tried again, if it is."""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    failure_count: int = 0
    last_error: LastError | None = None


class CommonFields(TypedDict):
    """The fields of `InstanceStatus` but its word."""

    instance_id: str
    version: int
    retry_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None
    failure_count: int
    last_error: LastError | None


def common_fields(row: StatusRow) -> CommonFields:
    """What every status takes from its row in the same way."""
    return CommonFields(
        instance_id=row.stream,
        version=row.version,
        retry_at=moment(row.retry_us),
        created_at=moment(row.created_us),
        updated_at=as_datetime(row.updated_us),
        failure_count=row.failure_count,
        last_error=last_error(row.last_error),
    )


def last_error(text: str | None) -> LastError | None:
    """The last error of a status row, which holds it as JSON."""
    if text is None:
        return None
    failure = Failure(**json.loads(text))
    return LastError(
        handler=failure.handler,
        type=failure.error_type,
        message=failure.message,
        traceback=failure.traceback,
        at=as_datetime(failure.at_us),
    )


def status_word(recorded: str, unhandled: bool) -> str:
    """`unhandled` takes precedence over `active` and `idle` only (T10)."""
    return "unhandled" if unhandled and recorded in ("active", "idle") else recorded
