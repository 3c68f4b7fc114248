"""What callers receive as answers: frozen values, times as aware datetimes in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from wakelog.client.status import LastError, last_error, status_word
from wakelog.core.time import as_datetime, moment
from wakelog.ports.rows import StatusRow

__all__ = [
    "AddResult",
    "ClearResult",
    "ErrorInfo",
    "FlushResult",
    "InstanceRow",
    "JobCount",
    "PauseResult",
    "ResumeResult",
    "RetryResult",
    "SendResult",
    "StartResult",
    "StopResult",
    "TerminateResult",
    "TriggerResult",
    "Work",
    "WorkerStatus",
    "instance_row",
]


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
    error: ErrorInfo | None = None
    retry_at: datetime | None = None
    """When the failed flush is tried again, if it is."""
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
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
    error: ErrorInfo | None = None
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
    """Why it was not: `not_found`, `running`, `paused`, `stopped` or `not_failed`. `parked` goes
    with `retried`: what was set aside as unreadable is read again, and no run was owed."""
    cleared: bool = False
    """The run ended the life."""
    failed: bool = False
    error: ErrorInfo | None = None
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
    """The reason given; or why nothing happened: `not_found`, or as it stood before, `paused` or
    `stopped`."""
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
    cancelled: bool = False
    """A delayed clear was taken back."""
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartResult:
    """What became of a `start`."""

    instance_id: str
    version: int
    created: bool
    """Whether a life began with it."""
    status: str
    next_run_at: datetime | None
    resumed: bool = False
    """It had been stopped, and goes on."""
    cleared: bool = False
    """The first run ended the life."""
    failed: bool = False
    """The first run failed: the next one comes nonetheless, unless the policy says otherwise."""
    error: ErrorInfo | None = None
    retry_at: datetime | None = None
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StopResult:
    """What became of a `stop`."""

    instance_id: str
    version: int
    stopped: bool
    reason: str | None = None
    """The reason given; or why nothing happened: `not_found` or `stopped` (it was before)."""
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateResult:
    """What became of a `terminate`."""

    instance_id: str
    version: int
    terminated: bool
    reason: str | None = None
    """The reason given; or `not_found`."""
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """One line of a list of instances."""

    instance_id: str
    status: str
    executing: bool
    version: int
    scheduled_at: datetime | None
    retry_at: datetime | None
    updated_at: datetime
    event_count: int
    execute_count: int
    failure_count: int
    deferred_count: int
    reason: str | None
    last_error: LastError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCount:
    """How many living instances of one job there are, and how they stand."""

    type: str
    name: str
    total: int
    running: int
    """How many of them have a run open."""
    statuses: dict[str, int]
    """How many for each status that there is; together they are the total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a worker has in hand: a run, or events that waited and are being handled."""

    instance_id: str
    run: int | None
    """The number of the run; None while events are handled."""
    attempt: int | None
    since: datetime | None
    """When the run began."""
    lease_ends_at: datetime
    """From then on another worker takes it over; renewed as long as the worker lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A worker: one that lives, or one that is silent and still holds something."""

    name: str
    alive: bool
    """It was heard of within the length of its lease."""
    host: str | None = None
    """This and what follows is None where nothing but its leases is known of it any more."""
    pid: int | None = None
    jobs: tuple[str, ...] | None = None
    """The jobs it works on, as in `task:order`."""
    concurrency: int | None = None
    started_at: datetime | None = None
    seen_at: datetime | None = None
    """Its last heartbeat."""
    work: tuple[Work, ...] = ()


def instance_row(row: StatusRow, *, unhandled: bool) -> InstanceRow:
    """The list entry for a status row."""
    return InstanceRow(
        instance_id=row.stream,
        status=status_word(row.status, unhandled),
        executing=row.executing,
        version=row.version,
        scheduled_at=moment(row.due_us),
        retry_at=moment(row.retry_us),
        updated_at=as_datetime(row.updated_us),
        event_count=row.event_count,
        execute_count=row.run_count,
        failure_count=row.failure_count,
        deferred_count=row.deferred_count,
        reason=row.reason,
        last_error=last_error(row.last_error),
    )
