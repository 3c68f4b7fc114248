"""How an instance stands, as clients see it. All values are frozen; times are aware, in UTC."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wakelog.core.instance import Failure, Instance
from wakelog.core.time import as_datetime, moment
from wakelog.ports.rows import StatusRow

__all__ = [
    "ContinuousStatus",
    "DebounceStatus",
    "LastError",
    "Status",
    "TaskStatus",
    "continuous_status",
    "debounce_status",
    "failure_of",
    "last_error",
    "status_word",
    "task_status",
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
    reason: str | None = None
    """Why it is paused or stopped, where somebody said so."""
    last_error: LastError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousStatus:
    """How a Continuous instance stands."""

    instance_id: str
    version: int
    status: str
    """As a Task's, without `idle`; once `failed`, nothing runs until somebody acts."""
    running: bool = False
    next_run_at: datetime | None = None
    retry_at: datetime | None = None
    run_count: int = 0
    """Runs that have begun; attempts do not count."""
    failure_count: int = 0
    last_executed_at: datetime | None = None
    """When the newest run ended, well or not."""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    stop_reason: str | None = None
    """Why it was stopped or paused."""
    last_error: LastError | None = None


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
    reason: str | None = None
    """Why it is paused, where somebody said so."""
    last_error: LastError | None = None


Status = TaskStatus | ContinuousStatus | DebounceStatus
"""How an instance of any type of job stands."""


def task_status(stream: str, row: StatusRow | None, *, unhandled: bool) -> TaskStatus:
    """The answer for a status row; None stands for an instance that never was."""
    if row is None:
        return TaskStatus(instance_id=stream, version=0, status="not_found")
    return TaskStatus(
        instance_id=row.stream,
        version=row.version,
        status=status_word(row.status, unhandled),
        executing=row.executing,
        scheduled_at=moment(row.due_us),
        retry_at=moment(row.retry_us),
        clear_at=moment(row.clear_us),
        created_at=moment(row.created_us),
        updated_at=moment(row.updated_us),
        event_count=row.event_count,
        execute_count=row.run_count,
        failure_count=row.failure_count,
        deferred_count=row.deferred_count,
        reason=row.reason,
        last_error=last_error(row.last_error),
    )


def continuous_status(
    stream: str, instance: Instance, row: StatusRow | None, *, unhandled: bool
) -> ContinuousStatus:
    """The answer for an instance and its status row; None stands for one that never was."""
    if row is None:
        return ContinuousStatus(instance_id=stream, version=0, status="not_found")
    return ContinuousStatus(
        instance_id=row.stream,
        version=row.version,
        status=status_word(row.status, unhandled),
        running=row.executing,
        next_run_at=moment(row.due_us),
        retry_at=moment(row.retry_us),
        run_count=row.run_count,
        failure_count=row.failure_count,
        last_executed_at=moment(instance.last_run_us),
        created_at=moment(row.created_us),
        updated_at=moment(row.updated_us),
        stop_reason=row.reason,
        last_error=last_error(row.last_error),
    )


def debounce_status(instance: Instance, row: StatusRow | None) -> DebounceStatus:
    """The answer for an instance and its status row; None stands for one that never was."""
    windows = instance.windows
    pending = next((each for each in windows if not each.taken), None)
    return DebounceStatus(
        instance_id=str(instance.id),
        version=instance.version,
        status="not_found" if row is None else row.status,
        event_count=instance.unfinished,
        window_count=len(windows),
        deferred_count=len(instance.deferred),
        started_at=moment(windows[0].opened_us) if windows else None,
        will_flush_at=moment(pending.due_us) if pending else None,
        retry_at=moment(instance.retry.due_us) if instance.retry else None,
        clear_at=moment(instance.clear_at_us),
        created_at=moment(instance.started_us),
        updated_at=moment(instance.recorded_us) if instance.version else None,
        execute_count=instance.run_count,
        failure_count=instance.failure_count,
        reason=None if row is None else row.reason,
        last_error=failure_of(instance.last_error) if instance.last_error else None,
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


def status_word(recorded: str, unhandled: bool) -> str:
    """`unhandled` goes before `active` and `idle` only (T10)."""
    return "unhandled" if unhandled and recorded in ("active", "idle") else recorded
