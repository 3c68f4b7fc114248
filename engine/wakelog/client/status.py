"""The status of an instance, made from its status row: what all types of job have in common.

All values are frozen; times are aware, in UTC. The status of one type of job is beside its client.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from wakelog.core.instance import Failure, Unread
from wakelog.core.time import as_datetime, moment
from wakelog.ports.rows import StatusRow

__all__ = [
    "LESS_THAN_UNHANDLED",
    "CommonFields",
    "InstanceStatus",
    "LastError",
    "WaitsForCode",
    "common_fields",
    "last_error",
    "status_word",
]


LESS_THAN_UNHANDLED = ("active", "idle", "waiting_for_code")
"""Statuses that an instance has only if a worker knows its job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastError:
    """The last failure of an instance: what handler, what error, when."""

    handler: str
    type: str
    message: str
    traceback: str
    where: str
    """The place in your code that it is from, as in `/srv/orders.py:41 in charge`; empty if it is
    from none."""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitsForCode:
    """What no code that has tried it could read: it waits, with its attempts untouched."""

    event_version: int | None
    """The version of the event, for a batch of its first one; None if it is the state."""
    type: str
    message: str
    """What did not fit, without the values."""
    since: datetime


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
    dead_letter_count: int = 0
    """How many events or batches were given up, and are neither requeued nor discarded."""
    waits_for_code: WaitsForCode | None = None
    """What waits for code that can read it; a worker that can takes it."""


class CommonFields(TypedDict):
    """The fields of `InstanceStatus` but its word."""

    instance_id: str
    version: int
    retry_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None
    failure_count: int
    last_error: LastError | None
    dead_letter_count: int
    waits_for_code: WaitsForCode | None


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
        dead_letter_count=row.dead_count,
        waits_for_code=_waits_for_code(row.code_error),
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
        where=failure.where,
        at=as_datetime(failure.at_us),
    )


def _waits_for_code(text: str | None) -> WaitsForCode | None:
    if text is None:
        return None
    unread = Unread(**json.loads(text))
    return WaitsForCode(
        event_version=unread.event_version,
        type=unread.error_type,
        message=unread.message,
        since=as_datetime(unread.at_us),
    )


def status_word(recorded: str, unhandled: bool) -> str:
    """`unhandled` takes precedence over `waiting_for_code`, `active` and `idle` only (T10)."""
    return "unhandled" if unhandled and recorded in LESS_THAN_UNHANDLED else recorded
