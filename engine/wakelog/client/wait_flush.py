"""The result of a flush, and waiting for it: a worker will record the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from wakelog.client.results import ErrorInfo, Result
from wakelog.core.events import (
    Cleared,
    DeadLettered,
    ExecutionFailed,
    Flushed,
    RetryExhausted,
    RetryScheduled,
)
from wakelog.core.time import moment
from wakelog.log.records import Recorded

__all__ = ["FlushResult", "FlushWatcher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushResult(Result):
    """The result of a `flush`."""

    flushed: bool
    """The events were handed over, and `execute` ended well. Never true without `wait`."""
    event_count: int = 0
    """How many events the window holds, or held when it was flushed."""
    reason: str | None = None
    """Why the window was flushed: `manual`, or what was first of `max_events`, `flush_after` and
    `max_wait`. Or why there is no flush: `empty`, `paused`, `parked`,
    `waiting_for_code`, `cleared`."""
    failed: bool = False
    error: ErrorInfo | None = None
    retry_at: datetime | None = None
    """When the failed flush is tried again, if it is."""


class FlushWatcher:
    """Reads what is recorded after a flush was requested, until that tells the outcome."""

    def __init__(self, requested: FlushResult, first: int, newest: int) -> None:
        self._requested = requested
        self._range = range(first, newest + 1)
        """Versions between which only this window has events."""
        self._lost = 0
        """How many events of it could not be reduced."""
        self._failed = ""
        """The commit of the newest flush that did not end well."""
        self._error: ErrorInfo | None = None

    def __call__(self, recorded: Recorded) -> FlushResult | None:
        event, commit = recorded.event, recorded.commit
        match event:
            case ExecutionFailed(handler="execute", recovered=False):
                self._failed = commit
                self._error = ErrorInfo(type=event.error_type, message=event.message)
            case RetryScheduled(event_version=None, by="policy"):
                if commit == self._failed:
                    return self._failure(recorded, retry_at=moment(event.due_us))
            case RetryExhausted(then="fail"):
                return self._failure(recorded)
            case DeadLettered():
                return self._dead_lettered(recorded, event)
            case Flushed(events=events) if self._is_meant(events):
                fields = {"event_count": len(events), "reason": event.reason}
                if commit == self._failed:
                    return self._failure(recorded, **fields)
                return self._end(recorded, flushed=True, **fields)
            case Cleared():
                return self._end(recorded, reason="cleared")
            case _:
                pass
        return None

    def _dead_lettered(self, recorded: Recorded, event: DeadLettered) -> FlushResult | None:
        """The whole batch; or one event of it, perhaps the last that it had."""
        if self._is_meant(event.events):
            self._error = ErrorInfo(type=event.error_type, message=event.message)
            return self._failure(recorded, event_count=len(event.events))
        if not event.events and event.event_version in self._range:
            self._lost += 1
            if self._lost == self._requested.event_count:
                return self._end(recorded, event_count=0, reason="empty")
        return None

    def _is_meant(self, events: Sequence[int]) -> bool:
        """Whether these events are those of the window that is waited for."""
        return bool(events) and events[0] in self._range

    def _failure(self, recorded: Recorded, **fields: Any) -> FlushResult:
        return self._end(recorded, failed=True, error=self._error, **fields)

    def _end(self, recorded: Recorded, **fields: Any) -> FlushResult:
        return replace(self._requested, version=recorded.version, **fields)
