"""What callers receive: frozen values, times as aware datetimes in UTC."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wakelog.core.instance import Failure
from wakelog.core.schedule import as_datetime
from wakelog.ports import StatusRow

__all__ = [
    "AddResult",
    "ClearResult",
    "DebounceStatus",
    "Failed",
    "FlushResult",
    "InstanceRow",
    "LastError",
    "PauseResult",
    "ResumeResult",
    "RetryResult",
    "SendResult",
    "TaskStatus",
    "TriggerResult",
    "failure_of",
    "instance_row",
    "moment",
    "task_status",
]


def moment(us: int | None) -> datetime | None:
    """An optional moment in microseconds as an aware datetime."""
    return None if us is None else as_datetime(us)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """What became of a `send`."""

    instance_id: str
    version: int
    """The version of the instance after it."""
    created: bool
    """Whether this was the first event of a life."""
    scheduled_at: datetime | None
    event_count: int
    """How many events this life has accepted, this one included."""
    deferred: bool
    """Accepted now, to be handled later: after the open run, after those before it, or when its
    delay has passed."""
    duplicate: bool = False
    """The key was used before: nothing was recorded, this is what was answered then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddResult:
    """What became of an `add`."""

    instance_id: str
    version: int
    """The version of the instance after it."""
    created: bool
    """Whether this event opened a window."""
    event_count: int
    """How many events its window holds, this one included."""
    will_flush_at: datetime | None
    """When its window is due; None where its reducer ended the life."""
    flush_started: bool
    """It was the last one that its window takes: the flush is due at once."""
    deferred: bool
    """Accepted now, to be reduced later: when the windows before its own are flushed, or when
    the events before it are reduced."""
    duplicate: bool = False
    """The key was used before: nothing was recorded, this is what was answered then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushResult:
    """What became of a `flush`."""

    instance_id: str
    version: int
    flushed: bool
    """The events were handed over, and `execute` ended well. Never, where nobody waited for it."""
    event_count: int = 0
    """How many events the window holds, or held when it was flushed."""
    reason: str | None = None
    """Why the window was flushed: `manual`, or what was first of `max_events`, `flush_after` and
    `max_wait`. Or why there is no flush: `empty`, `paused`, `parked`, `cleared`."""
    failed: bool = False
    error: Failed | None = None
    retry_at: datetime | None = None
    """When the failed flush is tried again, if it is."""
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DebounceStatus:
    """How a Debounce instance stands."""

    instance_id: str
    version: int
    status: str
    """The first that holds of `not_found`, `failed` (it cannot be read, or its policy wants a
    failed flush to stay), `paused`, `flushing`, `retrying`, `debouncing` and `idle`."""
    event_count: int = 0
    """How many accepted events are not flushed yet, those of later windows included."""
    window_count: int = 0
    """In how many windows they are."""
    deferred_count: int = 0
    """How many of them wait to be reduced."""
    started_at: datetime | None = None
    """When the first window was opened."""
    will_flush_at: datetime | None = None
    """When the first window is due that is not being flushed."""
    retry_at: datetime | None = None
    clear_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    execute_count: int = 0
    """How many flushes this life has had; attempts do not count."""
    failure_count: int = 0
    last_error: LastError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """How a handler failed, as recorded."""

    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerResult:
    """What became of a `trigger`."""

    instance_id: str
    version: int
    triggered: bool
    reason: str | None = None
    """Why it was not triggered: `not_found`, `running`, `paused`, `stopped` or `parked`."""
    cleared: bool = False
    """The run ended the life."""
    failed: bool = False
    error: Failed | None = None
    retry_at: datetime | None = None
    """When the failed run is tried again, if it is."""
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryResult:
    """What became of a `retry`."""

    instance_id: str
    version: int
    retried: bool
    reason: str | None = None
    """Why it was not: `not_found`, `running`, `paused`, `stopped` or `not_failed`."""
    cleared: bool = False
    """The run ended the life."""
    failed: bool = False
    error: Failed | None = None
    retry_at: datetime | None = None
    """When the failed run is tried again, if it is."""
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseResult:
    """What became of a `pause`."""

    instance_id: str
    version: int
    paused: bool
    reason: str | None = None
    """The reason given; or why nothing happened: `not_found` or `paused` (it was before)."""
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeResult:
    """What became of a `resume`."""

    instance_id: str
    version: int
    resumed: bool
    reason: str | None = None
    """The reason given; or why nothing happened: `not_found` or `not_paused`."""
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearResult:
    """What became of a `clear` or `cancel_clear`."""

    instance_id: str
    version: int
    cleared: bool
    """The life ended now."""
    clear_at: datetime | None = None
    """When a delayed clear is due."""
    discarded: int = 0
    """How many accepted events went with it unhandled."""
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LastError:
    """The last failure of an instance: what handler, what error, when."""

    handler: str
    type: str
    message: str
    traceback: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus:
    """How a Task instance stands."""

    instance_id: str
    version: int
    status: str
    """The first that holds of `not_found`, `failed`, `paused`, `stopped`, `retrying`,
    `unhandled` (its alarm is due and no living worker knows the job), `active` (something is
    scheduled or waits) and `idle`."""
    executing: bool = False
    """A run is open."""
    scheduled_at: datetime | None = None
    retry_at: datetime | None = None
    clear_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    event_count: int = 0
    execute_count: int = 0
    failure_count: int = 0
    deferred_count: int = 0
    """How many accepted events wait to be handled, delayed ones included."""
    last_error: LastError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """One line of a list of instances."""

    instance_id: str
    status: str
    executing: bool
    version: int
    scheduled_at: datetime | None
    updated_at: datetime
    event_count: int
    run_count: int
    failure_count: int
    deferred_count: int
    last_error: LastError | None


def task_status(stream: str, row: StatusRow | None, *, unhandled: bool) -> TaskStatus:
    """The answer for a status row; None stands for an instance that never was."""
    if row is None:
        return TaskStatus(instance_id=stream, version=0, status="not_found")
    return TaskStatus(
        instance_id=row.stream,
        version=row.version,
        status=_word(row, unhandled),
        executing=row.executing,
        scheduled_at=moment(row.due_us),
        retry_at=moment(row.retry_us),
        clear_at=moment(row.clear_us),
        created_at=moment(row.created_us),
        updated_at=moment(row.updated_us),
        event_count=row.event_count,
        execute_count=row.run_count,
        failure_count=row.failure_count,
        deferred_count=row.waiting_count,
        last_error=last_error(row.last_error),
    )


def instance_row(row: StatusRow, *, unhandled: bool) -> InstanceRow:
    """The list entry for a status row."""
    return InstanceRow(
        instance_id=row.stream,
        status=_word(row, unhandled),
        executing=row.executing,
        version=row.version,
        scheduled_at=moment(row.due_us),
        updated_at=as_datetime(row.updated_us),
        event_count=row.event_count,
        run_count=row.run_count,
        failure_count=row.failure_count,
        deferred_count=row.waiting_count,
        last_error=last_error(row.last_error),
    )


def last_error(text: str | None) -> LastError | None:
    """The last error out of a status row's JSON."""
    if text is None:
        return None
    said: dict[str, Any] = json.loads(text)
    return failure_of(Failure(**said))


def failure_of(failure: Failure) -> LastError:
    """A recorded failure as callers see it."""
    return LastError(
        handler=failure.handler,
        type=failure.error_type,
        message=failure.message,
        traceback=failure.traceback,
        at=as_datetime(failure.at_us),
    )


def _word(row: StatusRow, unhandled: bool) -> str:
    """`unhandled` goes before `active` and `idle` only (T10)."""
    return "unhandled" if unhandled and row.status in ("active", "idle") else row.status
