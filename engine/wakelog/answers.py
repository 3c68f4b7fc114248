"""Answers: what is said of a turn, and kept under a key. Times in microseconds."""

from __future__ import annotations

from wakelog.core.events import (
    Cleared,
    EventReceived,
    Paused,
    Resumed,
    RetryScheduled,
    ScheduleCancelled,
    Started,
)
from wakelog.core.instance import Instance
from wakelog.door import Body
from wakelog.turn import Turn

__all__ = ["cleared", "paused", "resumed", "retried", "sent", "triggered", "why_held"]


def sent(turn: Turn) -> Body:
    """A send was accepted: `event_count` counts it, also where its handler ended the life.

    Nothing follows an event that is deferred: it is the last one of its unit.
    """
    after, last = turn.after, turn.events[-1]
    return {
        "version": after.version,
        "created": isinstance(turn.events[0], Started),
        "scheduled_us": after.due_us,
        "event_count": after.event_count if after.exists else turn.before.event_count + 1,
        "deferred": isinstance(last, EventReceived) and last.deferred,
    }


def why_held(instance: Instance) -> str | None:
    """Why nothing can be started now."""
    if not instance.exists:
        return "not_found"
    if instance.run is not None:
        return "running"
    for what in ("paused", "stopped", "parked"):
        if getattr(instance, what):
            return what
    return None


def triggered(turn: Turn) -> Body:
    reason = why_held(turn.before)
    return {"version": turn.after.version, "triggered": reason is None, "reason": reason}


def retried(turn: Turn) -> Body:
    retried = any(isinstance(each, RetryScheduled) for each in turn.events)
    reason = None if retried else why_held(turn.before) or "not_failed"
    return {
        "version": turn.after.version,
        "retried": retried or reason == "parked",
        "reason": reason,
    }


def paused(turn: Turn) -> Body:
    paused = next((each for each in turn.events if isinstance(each, Paused)), None)
    if paused is not None:
        return {"version": turn.after.version, "paused": True, "reason": paused.reason}
    stands = "stopped" if turn.before.stopped else "paused"
    reason = stands if turn.before.exists else "not_found"
    return {"version": turn.after.version, "paused": False, "reason": reason}


def resumed(turn: Turn) -> Body:
    resumed = next((each for each in turn.events if isinstance(each, Resumed)), None)
    if resumed is not None:
        return {"version": turn.after.version, "resumed": True, "reason": resumed.reason}
    reason = "not_paused" if turn.before.exists else "not_found"
    return {"version": turn.after.version, "resumed": False, "reason": reason}


def cleared(turn: Turn) -> Body:
    ended = next((e for e in turn.events if isinstance(e, Cleared)), None)
    return {
        "version": turn.after.version,
        "cleared": ended is not None,
        "clear_us": turn.after.clear_at_us,
        "discarded": ended.discarded if ended else 0,
        "cancelled": any(isinstance(event, ScheduleCancelled) for event in turn.events),
    }
