"""What happens to jobs, as events for a tracker (A8): their names are those of the seeds.

Pure: a recorded event of the log gives none, one or more of them. An event that is about many items
of a pool gives one for each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from wakelog.core import events as e
from wakelog.core.pool import events as p
from wakelog.log.records import Recorded

__all__ = ["TOPICS", "TrackedEvent", "tracked"]

TrackedEvent = dict[str, Any]
"""JSON data: `id` (the same whenever it is posted), `type`, `jobType`, `jobName`, `instanceId`,
`timestamp` (milliseconds since 1970), and what is special to its type."""

_Parts = Iterable[tuple[str, dict[str, Any]]]


def tracked(recorded: Recorded) -> Iterator[TrackedEvent]:
    """The events that a recorded one is, in order."""
    kind, name, id = recorded.stream.split(":", 2)
    say = _SAY.get(type(recorded.event))
    parts = () if say is None else say(recorded.event, kind)
    for number, (type_, fields) in enumerate(parts):
        yield {
            "id": f"{recorded.stream}@{recorded.version}" + (f".{number}" if number else ""),
            "type": type_,
            "jobType": kind,
            "jobName": name,
            "instanceId": id,
            "timestamp": recorded.at_us // 1_000,
            **fields,
        }


def _started(event: e.Started, kind: str) -> _Parts:
    yield "job.started", {}
    yield f"{kind}.started", {}


def _received(event: e.EventReceived, kind: str) -> _Parts:
    yield f"{kind}.eventReceived", {"eventId": event.event_id}


def _scheduled(event: e.Scheduled, kind: str) -> _Parts:
    if event.action == "execute":
        yield f"{kind}.scheduled", {"nextRunAt": event.due_us // 1_000}


def _run_started(event: e.RunStarted, kind: str) -> _Parts:
    if event.events:
        yield f"{kind}.flushing", {"eventCount": len(event.events), "reason": event.trigger}


def _flushed(event: e.Flushed, kind: str) -> _Parts:
    yield f"{kind}.flushed", {"eventCount": len(event.events), "reason": event.reason}


def _executed(event: e.Executed, kind: str) -> _Parts:
    took_ms = event.duration_us / 1_000
    yield "job.executed", {"runCount": event.run, "attempt": event.attempt, "durationMs": took_ms}


def _failed(event: e.ExecutionFailed, kind: str) -> _Parts:
    error = {"error": event.message, "errorType": event.error_type, "attempt": event.attempt}
    if event.item is not None:
        yield f"{kind}.failed", {"eventId": event.item, **error, "willRetry": event.will_retry}
    else:
        yield "job.failed", {**error, "handler": event.handler, "willRetry": event.will_retry}


def _exhausted(event: e.RetryExhausted, kind: str) -> _Parts:
    about = {} if event.item is None else {"eventId": event.item}
    yield "job.retryExhausted", {**about, "attempts": event.attempts, "reason": event.reason}


def _dead(event: e.DeadLettered, kind: str) -> _Parts:
    about = {} if event.item is None else {"eventId": event.item}
    error = {"error": event.message, "errorType": event.error_type}
    yield f"{kind}.deadLettered", {**about, **error}


def _cleared(event: e.Cleared, kind: str) -> _Parts:
    yield "job.terminated", {"reason": event.reason, "by": event.by}
    yield f"{kind}.cleared", {"discardedEvents": event.discarded}


def _halt(word: str) -> Callable[[Any, str], _Parts]:
    def say(event: e.Paused | e.Resumed | e.Stopped, kind: str) -> _Parts:
        yield f"{kind}.{word}", {"reason": event.reason}

    return say


def _enqueued(event: p.EventsReceived, kind: str) -> _Parts:
    for lane, first, count, priority, *_ in event.lanes:
        for off in range(first, first + count):
            yield f"{kind}.enqueued", {"eventId": f"#{lane}.{off}", "priority": priority}


def _taken(event: p.RunsStarted, kind: str) -> _Parts:
    without = {(lane, off) for lane, off in event.without}
    for lane, after, upto in event.ranges:
        for off in range(after + 1, upto + 1):
            if (lane, off) not in without:
                yield f"{kind}.processing", {"eventId": f"#{lane}.{off}", "attempt": 1}
    for lane, off, attempt in event.items:
        yield f"{kind}.processing", {"eventId": f"#{lane}.{off}", "attempt": attempt}


def _completed(event: p.RunsExecuted, kind: str) -> _Parts:
    for line in event.lines.split(b"\n"):
        if line.startswith(b"["):
            lane, off, _, took_us, *_ = json.loads(line)
            yield f"{kind}.completed", {"eventId": f"#{lane}.{off}", "durationMs": took_us / 1e3}


def _operated(word: str) -> Callable[[Any, str], _Parts]:
    def say(event: p.EventsCancelled | p.EventsRequeued | p.EventsDiscarded, kind: str) -> _Parts:
        for item in event.items:
            yield f"{kind}.{word}", {"eventId": item, "reason": event.reason}

    return say


_SAY: dict[type[e.Event], Callable[[Any, str], _Parts]] = {
    e.Started: _started,
    e.EventReceived: _received,
    e.Scheduled: _scheduled,
    e.RunStarted: _run_started,
    e.Flushed: _flushed,
    e.Executed: _executed,
    e.ExecutionFailed: _failed,
    e.RetryExhausted: _exhausted,
    e.DeadLettered: _dead,
    e.Stopped: _halt("stopped"),
    e.Cleared: _cleared,
    e.Paused: _halt("paused"),
    e.Resumed: _halt("resumed"),
    p.EventsReceived: _enqueued,
    p.RunsStarted: _taken,
    p.RunsExecuted: _completed,
    p.EventsCancelled: _operated("cancelled"),
    p.EventsRequeued: _operated("requeued"),
    p.EventsDiscarded: _operated("discarded"),
}
TOPICS = tuple(each.TOPIC for each in _SAY)
"""The topics of the events that are of interest."""
