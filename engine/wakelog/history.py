"""History and time travel: every event of every life in plain words, and any state there was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wakelog.bounds import at_least
from wakelog.core import events as e
from wakelog.core.instance import Instance
from wakelog.core.schedule import as_datetime
from wakelog.errors import InstanceNotFoundError, Issue, ValidationError
from wakelog.ids import InstanceId
from wakelog.kinds import BEHAVIOURS
from wakelog.loading import rebuilt
from wakelog.log import Head, Recorded, replayed
from wakelog.ports import Loaded, Store, StoredEvent
from wakelog.standing import moment

__all__ = ["HistoryEntry", "PastState", "at_version", "history", "state_at"]

PAGE = 1_000
"""Events read at a time."""
MAX_VERSION = 1 << 62
"""More than any version there will be, and what every store can compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One event of an instance's history."""

    version: int
    at: datetime
    life: int
    """Which life of this id it belongs to, from 1."""
    event: str
    """The event's name, as in `StateSet`."""
    description: str
    """What happened, in plain words."""
    data: dict[str, Any]
    """The event's own fields; times in microseconds since 1970, payloads decoded."""
    commit: str
    cause: str | None
    correlation_id: str | None
    actor: str | None
    hash: str

    def __str__(self) -> str:
        by = f" (by {self.actor})" if self.actor else ""
        said = _printable(self.description + by)
        return f"{self.version:>4}  {self.at:%Y-%m-%d %H:%M:%S}  {said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastState:
    """How an instance stood at one version."""

    instance_id: str
    version: int
    at: datetime | None
    """When that version was recorded; None before the first event."""
    status: str
    state: Any
    """The user's state as JSON data, None while unset."""
    scheduled_at: datetime | None
    event_count: int
    execute_count: int
    failure_count: int
    deferred_count: int
    executing: bool


def _printable(text: str) -> str:
    """`text` without what a terminal acts on instead of showing it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def history(store: Store, id: InstanceId) -> list[HistoryEntry]:
    """Every event of every life, in order. Raises `InstanceNotFoundError` where there is none,
    `UnreadableEventError` and `IntegrityError` where one cannot be read or is missing."""
    head = Head(Instance(id), "")
    entries: list[HistoryEntry] = []
    for page in _pages(store, str(id)):
        for after, recorded in replayed(head, page):
            head = after
            entries.append(_entry(recorded, after.instance))
    if not entries:
        raise InstanceNotFoundError(str(id))
    return entries


def state_at(
    store: Store, id: InstanceId, *, version: int | None = None, at_us: int | None = None
) -> PastState:
    """How the instance stood at `version`, or at the moment `at_us`; give one of the two.

    Raises `InstanceNotFoundError`, and `ValidationError` for a version that is not there yet.
    """
    if (version is None) == (at_us is None):
        issue = Issue(loc="", msg="give either version= or at=", type="arguments")
        raise ValidationError("state_at", [issue])
    if version is not None:
        return _past(at_version(store, id, version))
    head = Head(Instance(id), "")
    for page in _pages(store, str(id)):
        for after, recorded in replayed(head, page):
            if at_us is not None and recorded.at_us > at_us:
                return _past(head)
            head = after
    if head.instance.version == 0:
        raise InstanceNotFoundError(str(id))
    return _past(head)


def describe(recorded: Recorded) -> str:
    """What an event says, in plain words."""
    event = recorded.event
    words = _WORDS.get(type(event))
    return words(event) if words else type(event).__name__


def at_version(store: Store, id: InstanceId, version: int) -> Head:
    """The instance as it was at `version`. Raises what `state_at` raises."""
    stream = str(id)
    at_least(0, "version", version)
    upto = min(version, MAX_VERSION)
    nearest = store.snapshot_before(stream, upto)
    after = nearest.version if nearest else 0
    loaded = Loaded(nearest, store.events(stream, after=after, upto=upto))
    head = rebuilt(store, stream, loaded, upto=upto)
    if head.instance.version != version:
        newest = rebuilt(store, stream, store.load(stream)).instance.version
        if newest == 0:
            raise InstanceNotFoundError(stream)
        issue = Issue(loc="version", msg=f"the newest version is {newest}", type="bound")
        raise ValidationError(f"version {version} of {stream}", [issue])
    return head


def _pages(store: Store, stream: str) -> Iterator[Sequence[StoredEvent]]:
    after = 0
    while page := store.events(stream, after=after, limit=PAGE):
        yield page
        after = page[-1].version


def _entry(recorded: Recorded, after: Instance) -> HistoryEntry:
    event = recorded.event
    data = event.model_dump(exclude_defaults=True)
    if event.PAYLOAD and (text := getattr(event, event.PAYLOAD)) is not None:
        data[event.PAYLOAD] = json.loads(text)
    return HistoryEntry(
        version=recorded.version,
        at=as_datetime(recorded.at_us),
        life=after.lives,
        event=type(event).__name__,
        description=describe(recorded),
        data=data,
        commit=recorded.commit,
        cause=recorded.cause,
        correlation_id=recorded.correlation,
        actor=recorded.actor,
        hash=recorded.hash,
    )


def _past(head: Head) -> PastState:
    instance = head.instance
    return PastState(
        instance_id=str(instance.id),
        version=instance.version,
        at=moment(instance.recorded_us) if instance.version else None,
        status=BEHAVIOURS[instance.id.kind].status(instance),
        state=None if instance.state is None else json.loads(instance.state),
        scheduled_at=moment(instance.due_us),
        event_count=instance.event_count,
        execute_count=instance.run_count,
        failure_count=instance.failure_count,
        deferred_count=len(instance.waiting),
        executing=instance.run is not None,
    )


# -- words ----------------------------------------------------------------------------------------

MAX_SHOWN = 80


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
        "deferred": "re-armed the waiting events",
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
    what = f"event accepted as {event.event_version}"
    if event.events:
        what = f"batch of {_events(len(event.events))}"
    why = f"{event.reason.replace('_', ' ')}: {_error(event.error_type, event.message)}"
    return f"dead-lettered the {what} ({why})"


def _cleared(event: e.Cleared) -> str:
    lost = f", {_events(event.discarded)} discarded" if event.discarded else ""
    return f"cleared by {event.by}{_why(event.reason)}{lost}"


_CANCELLED = {"clear": "end of this life", "trigger": "run that was asked for"}
_CAUGHT_UP = {
    "once": "one run stands for all",
    "all": "dropped, as more than are caught up",
    "skip": "skipped",
}

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
    e.Requeued: lambda x: f"requeued the event accepted as {x.event_version}",
    e.Discarded: lambda x: f"discarded the event accepted as {x.event_version}{_why(x.reason)}",
    e.Cancelled: lambda x: f"cancelled the event accepted as {x.event_version}{_why(x.reason)}",
    e.PriorityChanged: lambda x: f"event {x.event_version} now has priority {x.priority}",
    e.Parked: lambda x: f"parked: {x.reason}: {x.error_type}: {_shown(x.message)}",
    e.Cleared: _cleared,
    e.Archived: lambda x: f"archived events up to {x.upto_version} to {x.location}",
    e.Erased: lambda x: f"erased payloads up to {x.upto_version}",
}
