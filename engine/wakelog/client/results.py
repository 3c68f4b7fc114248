"""Results of the requests that every type of job has: frozen values, times aware and in UTC.

The results of one type of job are beside its client.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from wakelog.core.time import as_datetime
from wakelog.errors import StoreUnavailableError

__all__ = [
    "ClearResult",
    "ErrorInfo",
    "PauseResult",
    "Result",
    "ResumeResult",
    "RetryResult",
    "RunResult",
    "TriggerResult",
    "stored_moment",
]


def stored_moment(us: int, what: str) -> datetime:
    """A moment in a row that has no checksum. Raises `StoreUnavailableError` ("damaged"), naming
    the row `what`, if something else has changed it."""
    try:
        return as_datetime(us)
    except (TypeError, OverflowError) as error:
        raise StoreUnavailableError("damaged", f"{what} cannot be read: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What all results have in common."""

    instance_id: str
    version: int
    """The version of the instance after it."""
    duplicate: bool = False
    """The key was used before: nothing was recorded, this is the reply of then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """How a handler failed, as recorded."""

    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult(Result):
    """What the results of a run that was waited for have in common."""

    cleared: bool = False
    """The run ended the life."""
    failed: bool = False
    error: ErrorInfo | None = None
    retry_at: datetime | None = None
    """When the failed run is tried again, if it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerResult(RunResult):
    """The result of a `trigger`."""

    triggered: bool
    reason: str | None = None
    """Why it was not triggered: `not_found`, `running`, `paused`, `stopped`, `parked` or
    `waiting_for_code`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryResult(RunResult):
    """The result of a `retry`."""

    retried: bool
    reason: str | None = None
    """Why it was not: `not_found`, `running`, `paused`, `stopped` or `not_failed`. `parked`
    and `waiting_for_code` go with `retried`: what could not be read is read again, and no run was
    owed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseResult(Result):
    """The result of a `pause`."""

    paused: bool
    reason: str | None = None
    """The reason given; or why nothing happened: `not_found`, or the status before, `paused` or
    `stopped`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeResult(Result):
    """The result of a `resume`."""

    resumed: bool
    reason: str | None = None
    """The reason given; or why nothing happened: `not_found` or `not_paused`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearResult(Result):
    """The result of a `clear` or `cancel_clear`."""

    cleared: bool
    """The life ended now."""
    clear_at: datetime | None = None
    """When a delayed clear is due."""
    discarded: int = 0
    """How many accepted events were discarded unhandled."""
    cancelled: bool = False
    """A delayed clear was cancelled."""
