"""Waiting for the outcome of a flush, which a worker will record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from wakelog.client.results import ErrorInfo, FlushResult
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

__all__ = []


class _Finder:
    """Reads what is recorded after a flush was asked for, until it tells what became of it."""

    def __init__(self, asked: FlushResult, first: int, newest: int) -> None:
        self._asked = asked
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
                return self._dead(recorded, event)
            case Flushed(events=events) if self._has(events):
                said = {"event_count": len(events), "reason": event.reason}
                if commit == self._failed:
                    return self._failure(recorded, **said)
                return self._end(recorded, flushed=True, **said)
            case Cleared():
                return self._end(recorded, reason="cleared")
            case _:
                pass
        return None

    def _dead(self, recorded: Recorded, event: DeadLettered) -> FlushResult | None:
        """The whole batch; or one event of it, perhaps the last that it had."""
        if self._has(event.events):
            self._error = ErrorInfo(type=event.error_type, message=event.message)
            return self._failure(recorded, event_count=len(event.events))
        if not event.events and event.event_version in self._range:
            self._lost += 1
            if self._lost == self._asked.event_count:
                return self._end(recorded, event_count=0, reason="empty")
        return None

    def _has(self, events: Sequence[int]) -> bool:
        return bool(events) and events[0] in self._range

    def _failure(self, recorded: Recorded, **said: Any) -> FlushResult:
        return self._end(recorded, failed=True, error=self._error, **said)

    def _end(self, recorded: Recorded, **said: Any) -> FlushResult:
        return dataclasses.replace(self._asked, version=recorded.version, **said)
