"""Answers: what is said of a turn, and kept under a key. Times in microseconds."""

from __future__ import annotations

from wakelog.client.gateway import Body
from wakelog.core.events import (
    Cleared,
    EventReceived,
    Paused,
    Resumed,
    RetryScheduled,
    ScheduleCancelled,
    Started,
    Stopped,
)
from wakelog.core.instance import Instance
from wakelog.core.windows import Window
from wakelog.kinds import BEHAVIOURS
from wakelog.turn import Turn

__all__ = ["blocked_reason_of", "cleared", "paused", "resumed", "retried", "sent", "triggered"]


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


def blocked_reason_of(instance: Instance) -> str | None:
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
    reason = blocked_reason_of(turn.before)
    return {"version": turn.after.version, "triggered": reason is None, "reason": reason}


def retried(turn: Turn) -> Body:
    retried = any(isinstance(each, RetryScheduled) for each in turn.events)
    reason = None if retried else blocked_reason_of(turn.before) or "not_failed"
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


def _added(turn: Turn) -> Body:
    before, after = turn.before, turn.after
    received = next(each for each in turn.events if isinstance(each, EventReceived))
    window = _window(after, received.window)
    count = len(window.events) if window else _count(before, received.window) + 1
    return {
        "version": after.version,
        "created": _window(before, received.window) is None,
        "event_count": count,
        "flush_us": window.due_us if window else None,
        "flush_started": window is not None and window.reason == "max_events",
        "deferred": received.deferred,
    }


def _window(instance: Instance, number: int | None) -> Window | None:
    return next((each for each in instance.windows if each.number == number), None)


def _count(instance: Instance, number: int | None) -> int:
    window = _window(instance, number)
    return len(window.events) if window else 0


def _asked(turn: Turn) -> Body:
    """What was asked for: `window` is the first and last version of the window that is meant."""
    after = turn.after
    held = next((what for what in ("paused", "stopped", "parked") if getattr(after, what)), None)
    window = after.windows[-1] if after.windows else None
    is_blocked = held is not None and after.exists
    return {
        "version": after.version,
        "window": _meant(window) if window and not is_blocked else None,
        "event_count": len(window.events) if window else 0,
        "reason": held if is_blocked else window.reason if window else "empty",
    }


def _meant(window: Window) -> tuple[int, int]:
    return window.events[0], window.events[-1]


def _started(turn: Turn) -> Body:
    after = turn.after
    begins = any(isinstance(each, Started | Resumed) for each in turn.events)
    return {
        "version": after.version,
        "created": any(isinstance(each, Started) for each in turn.events),
        "resumed": any(isinstance(each, Resumed) for each in turn.events),
        "status": BEHAVIOURS[after.id.kind].status(after),
        "next_run_us": after.due_us,
        "runs_now": begins and after.due_us is not None and after.due_us <= after.recorded_us,
    }


def _stopped(turn: Turn) -> Body:
    stopped = next((each for each in turn.events if isinstance(each, Stopped)), None)
    if stopped is not None:
        return {"version": turn.after.version, "stopped": True, "reason": stopped.reason}
    reason = "stopped" if turn.before.exists else "not_found"
    return {"version": turn.after.version, "stopped": False, "reason": reason}


def _terminated(turn: Turn) -> Body:
    ended = next((each for each in turn.events if isinstance(each, Cleared)), None)
    reason = "not_found" if ended is None else ended.reason
    return {"version": turn.after.version, "terminated": ended is not None, "reason": reason}
