"""Descriptions of events in plain words, for histories (H1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wakelog.core import events as e
from wakelog.core.time import as_datetime
from wakelog.log.payloads import ERASED, SAID
from wakelog.log.records import Recorded

__all__ = ["MAX_SHOWN", "describe"]

MAX_SHOWN = 80
"""The most characters of a payload or a message in a description."""

_CANCELLED = {"clear": "end of this life", "trigger": "run that was asked for"}

_CAUGHT_UP = {
    "once": "one run for all of them",
    "all": "dropped, more than max_catch_up",
    "skip": "skipped",
}


def describe(recorded: Recorded) -> str:
    """An event in plain words; for one of an unknown type its name."""
    event = recorded.event
    if recorded.erased and event.PAYLOAD and not SAID[type(event)]:
        event = event.model_copy(update={event.PAYLOAD: ERASED})
    words = _WORDS.get(type(event))
    return words(event) if words else type(event).__name__


def _shown(text: str | None) -> str:
    if text is None:
        return "nothing"
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _time(us: int) -> str:
    return f"{as_datetime(us):%Y-%m-%d %H:%M:%S} UTC"


def _length(us: int) -> str:
    seconds = us / 1_000_000
    if seconds < 1:
        return f"{us / 1_000:.3g} ms"
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"


def _why(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _received(event: e.EventReceived) -> str:
    key = f" with key {event.event_id!r}" if event.event_id else ""
    if event.handle_at_us is not None:
        return f"accepted event {_shown(event.payload)}{key}, to be handled at " + _time(
            event.handle_at_us
        )
    later = ", to be handled later" if event.deferred else ""
    window = f" in window {event.window}" if event.window else ""
    verb = "accepted" if event.deferred else "received"
    return f"{verb} event {_shown(event.payload)}{key}{window}{later}"


def _scheduled(event: e.Scheduled) -> str:
    what = {
        "execute": "scheduled a run",
        "flush": "scheduled a flush",
        "clear": "scheduled the end of this life",
        "trigger": "asked for a run",
        "deferred": "re-armed what waits",
    }[event.action]
    if event.window is not None:
        what = f"window {event.window} is to be flushed"
    asked = "" if event.asked_us is None else f" (asked for {_time(event.asked_us)})"
    by = "" if event.by == "handler" else f", by {event.by}"
    return f"{what} at {_time(event.due_us)}{asked}{by}{_why(event.reason)}"


def _run_started(event: e.RunStarted) -> str:
    attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
    late = f", {_length(event.late_us)} late" if event.late_us >= 1_000_000 else ""
    return f"run {event.run} started ({event.trigger}{attempt}{late}) on {event.worker}"


def _retry_scheduled(event: e.RetryScheduled) -> str:
    due = _time(event.due_us)
    if event.event_version is not None:
        return f"event {event.event_version} is tried again at {due}, attempt {event.attempt}"
    if event.by == "operator":
        return f"asked for run {event.run} again at {due}, by operator"
    return f"attempt {event.attempt} of run {event.run} is due at {due}"


def _failed(event: e.ExecutionFailed) -> str:
    what = _error(event.error_type, event.message)
    refused = f"; event {_shown(event.payload)} was refused" if event.payload else ""
    outcome = " (on_error recovered it)" if event.recovered else refused
    retry = ", will be retried" if event.will_retry else ""
    return f"{event.handler} failed: {what}{outcome}{retry}"


def _error(type_: str, message: str) -> str:
    return f"{type_}: {_shown(message)}" if message else type_


def _dead(event: e.DeadLettered) -> str:
    what = _accepted(event)
    why = f"{event.reason.replace('_', ' ')}: {_error(event.error_type, event.message)}"
    return f"dead-lettered the {what} ({why})"


def _accepted(event: e.DeadLettered | e.Requeued | e.Discarded) -> str:
    if event.events:
        return f"batch of {_events(len(event.events))}"
    return f"event accepted as {event.event_version}"


def _returned(event: e.Returned) -> str:
    what = "state" if event.event_version is None else f"event accepted as {event.event_version}"
    run = "" if event.run is None else f"gave run {event.run} back: "
    error = _error(event.error_type, event.message)
    return f"{run}the {what} waits for code that can read it ({error})"


def _cleared(event: e.Cleared) -> str:
    lost = f", {_events(event.discarded)} discarded" if event.discarded else ""
    return f"cleared by {event.by}{_why(event.reason)}{lost}"


_WORDS: dict[type[e.Event], Callable[[Any], str]] = {
    e.Started: lambda x: "life began",
    e.EventReceived: _received,
    e.EventHandled: lambda x: f"handled the event accepted as {x.event_version}",
    e.StateSet: lambda x: "state unset" if x.state is None else f"state set to {_shown(x.state)}",
    e.Scheduled: _scheduled,
    e.ScheduleCancelled: lambda x: (
        f"cancelled the {_CANCELLED.get(x.action, 'schedule')}"
        + ("" if x.by == "handler" else f", by {x.by}")
    ),
    e.RunStarted: _run_started,
    e.StepCompleted: lambda x: f"step {x.step!r} of run {x.run} ended with {_shown(x.result)}",
    e.MessageSent: lambda x: f"sent {_shown(x.payload)} to {x.to or x.topic}",
    e.Executed: lambda x: f"run {x.run} ended well after {_length(x.duration_us)}",
    e.ExecutionFailed: _failed,
    e.RetryScheduled: _retry_scheduled,
    e.RetryExhausted: lambda x: f"run {x.run} given up after {x.attempts} attempts ({x.reason})",
    e.ExecutionLost: lambda x: (
        f"run {x.run} was given back by {x.worker}"
        if x.reason == "shutdown"
        else f"run {x.run} was lost with {x.worker} ({x.reason.replace('_', ' ')})"
    ),
    e.Flushed: lambda x: f"flushed {_events(len(x.events))} ({x.reason})",
    e.Missed: lambda x: (
        f"missed {x.count} {'occurrence' if x.count == 1 else 'occurrences'}"
        f" since {_time(x.due_us)}: {_CAUGHT_UP[x.policy]}"
    ),
    e.Paused: lambda x: f"paused by {x.by}{_why(x.reason)}",
    e.Resumed: lambda x: f"resumed by {x.by}{_why(x.reason)}",
    e.Stopped: lambda x: f"stopped by {x.by}{_why(x.reason)}",
    e.DeadLettered: _dead,
    e.Requeued: lambda x: f"requeued the {_accepted(x)}",
    e.Discarded: lambda x: f"discarded the {_accepted(x)}{_why(x.reason)}",
    e.Returned: _returned,
    e.Cancelled: lambda x: f"cancelled the event accepted as {x.event_version}{_why(x.reason)}",
    e.Parked: lambda x: f"parked: {x.reason}: {x.error_type}: {_shown(x.message)}",
    e.Cleared: _cleared,
    e.Archived: lambda x: f"archived events up to {x.upto_version} to {x.location}",
    e.Erased: lambda x: f"erased payloads up to {x.upto_version}",
}
