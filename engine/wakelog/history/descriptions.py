"""Descriptions of events in plain words, for histories (H1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from wakelog.core import events as e
from wakelog.history.pool_descriptions import POOL_WORDS, describe_for
from wakelog.history.words import because, counted, error_words, length, moment, shown
from wakelog.log.payloads import ERASED, SAID
from wakelog.log.records import Recorded

__all__ = ["describe", "describe_item"]

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
        event = replace(event, **{event.PAYLOAD: ERASED})
    words = _WORDS.get(type(event))
    text = words(event) if words else type(event).__name__
    if event.item is None:
        return text
    return f"{_subject(event.item)}: {_of_item(event) or text}"


def describe_item(recorded: Recorded, lane: int, off: int) -> str:
    """An event as a part of the history of one item of a pool, in plain words."""
    event = recorded.event
    own = describe_for(event, lane, off) or _of_item(event)
    return (
        describe(recorded).removeprefix(f"{_subject(event.item or '')}: ") if own is None else own
    )


def _subject(item: str) -> str:
    return item if item.startswith("#") else f"partition {item}"


def _of_item(event: e.Event) -> str | None:
    """What has other words for an item of a pool, which has one run and no number in its stream."""
    words = _ITEM_WORDS.get(type(event))
    return words(event) if words else None


def _received(event: e.EventReceived) -> str:
    key = f" with key {event.event_id!r}" if event.event_id else ""
    if event.handle_at_us is not None:
        return f"accepted event {shown(event.payload)}{key}, to be handled at " + moment(
            event.handle_at_us
        )
    later = ", to be handled later" if event.deferred else ""
    window = f" in window {event.window}" if event.window else ""
    verb = "accepted" if event.deferred else "received"
    return f"{verb} event {shown(event.payload)}{key}{window}{later}"


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
    asked = "" if event.asked_us is None else f" (asked for {moment(event.asked_us)})"
    by = "" if event.by == "handler" else f", by {event.by}"
    return f"{what} at {moment(event.due_us)}{asked}{by}{because(event.reason)}"


def _run_started(event: e.RunStarted) -> str:
    attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
    late = f", {length(event.late_us)} late" if event.late_us >= 1_000_000 else ""
    return f"run {event.run} started ({event.trigger}{attempt}{late}) on {event.worker}"


def _retry_scheduled(event: e.RetryScheduled) -> str:
    due = moment(event.due_us)
    if event.event_version is not None:
        return f"event {event.event_version} is tried again at {due}, attempt {event.attempt}"
    if event.by == "operator":
        return f"asked for run {event.run} again at {due}, by operator"
    return f"attempt {event.attempt} of run {event.run} is due at {due}"


def _failed(event: e.ExecutionFailed) -> str:
    where = f" ({event.where})" if event.where else ""
    what = error_words(event.error_type, event.message) + where
    refused = f"; event {shown(event.payload)} was refused" if event.payload else ""
    outcome = " (on_error recovered it)" if event.recovered else refused
    retry = ", will be retried" if event.will_retry else ""
    return f"{event.handler} failed: {what}{outcome}{retry}"


def _dead(event: e.DeadLettered) -> str:
    what = _accepted(event)
    reason = f"{event.reason.replace('_', ' ')}: {error_words(event.error_type, event.message)}"
    return f"dead-lettered the {what} ({reason})"


def _accepted(event: e.DeadLettered | e.Requeued | e.Discarded) -> str:
    if event.events:
        return f"batch of {counted(len(event.events))}"
    return f"event accepted as {event.event_version}"


def _returned(event: e.Returned) -> str:
    what = "state" if event.event_version is None else f"event accepted as {event.event_version}"
    run = "" if event.run is None else f"gave run {event.run} back: "
    error = error_words(event.error_type, event.message)
    return f"{run}the {what} waits for code that can read it ({error})"


def _cleared(event: e.Cleared) -> str:
    lost = f", {counted(event.discarded)} discarded" if event.discarded else ""
    return f"cleared by {event.by}{because(event.reason)}{lost}"


def _dead_item(event: e.DeadLettered) -> str:
    reason = event.reason.replace("_", " ")
    error = f": {error_words(event.error_type, event.message)}" if event.error_type else ""
    return f"dead-lettered after {event.attempts} attempts ({reason}{error})"


_ITEM_WORDS: dict[type[e.Event], Callable[[Any], str]] = {
    e.RetryScheduled: lambda x: f"attempt {x.attempt} is due at {moment(x.due_us)}",
    e.RetryExhausted: lambda x: f"given up after {x.attempts} attempts ({x.reason})",
    e.StepCompleted: lambda x: f"step {x.step!r} ended with {shown(x.result)}",
    e.Executed: lambda x: f"ended well after {length(x.duration_us)}",
    e.ExecutionLost: lambda x: f"given back by {x.worker} ({x.reason.replace('_', ' ')})",
    e.DeadLettered: _dead_item,
}

_WORDS: dict[type[e.Event], Callable[[Any], str]] = {
    **POOL_WORDS,
    e.Started: lambda x: "life began",
    e.EventReceived: _received,
    e.EventHandled: lambda x: f"handled the event accepted as {x.event_version}",
    e.StateSet: lambda x: "state unset" if x.state is None else f"state set to {shown(x.state)}",
    e.Scheduled: _scheduled,
    e.ScheduleCancelled: lambda x: (
        f"cancelled the {_CANCELLED.get(x.action, 'schedule')}"
        + ("" if x.by == "handler" else f", by {x.by}")
    ),
    e.RunStarted: _run_started,
    e.StepCompleted: lambda x: f"step {x.step!r} of run {x.run} ended with {shown(x.result)}",
    e.MessageSent: lambda x: f"sent {shown(x.payload)} to {x.to or x.topic}",
    e.Executed: lambda x: f"run {x.run} ended well after {length(x.duration_us)}",
    e.ExecutionFailed: _failed,
    e.RetryScheduled: _retry_scheduled,
    e.RetryExhausted: lambda x: f"run {x.run} given up after {x.attempts} attempts ({x.reason})",
    e.ExecutionLost: lambda x: (
        f"run {x.run} was given back by {x.worker}"
        if x.reason == "shutdown"
        else f"run {x.run} was lost with {x.worker} ({x.reason.replace('_', ' ')})"
    ),
    e.Flushed: lambda x: f"flushed {counted(len(x.events))} ({x.reason})",
    e.Missed: lambda x: (
        f"missed {x.count} {'occurrence' if x.count == 1 else 'occurrences'}"
        f" since {moment(x.due_us)}: {_CAUGHT_UP[x.policy]}"
    ),
    e.Paused: lambda x: f"paused by {x.by}{because(x.reason)}",
    e.Resumed: lambda x: f"resumed by {x.by}{because(x.reason)}",
    e.Stopped: lambda x: f"stopped by {x.by}{because(x.reason)}",
    e.DeadLettered: _dead,
    e.Requeued: lambda x: f"requeued the {_accepted(x)}",
    e.Discarded: lambda x: f"discarded the {_accepted(x)}{because(x.reason)}",
    e.Returned: _returned,
    e.Cancelled: lambda x: f"cancelled the event accepted as {x.event_version}{because(x.reason)}",
    e.Parked: lambda x: f"parked: {x.reason}: {x.error_type}: {shown(x.message)}",
    e.Cleared: _cleared,
    e.Archived: lambda x: f"archived events up to {x.upto_version} to {x.location}",
    e.Erased: lambda x: f"erased payloads up to {x.upto_version}",
}
