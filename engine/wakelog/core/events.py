"""The events: what can happen to an instance. This file is the log's format.

A released event is never changed: fields may be added with a default, anything else is a new class
with a new topic. Defaults are left out of the stored text, so a default is for ever.

Times are microseconds since 1970 in UTC (`…_us`). A field typed `Payload` holds the user's raw
JSON, at most one per event; fields typed `Said` hold what an error said. Both are stored beside the
rest, and can be destroyed (see `wakelog.log`). What surrounds every event (stream, version, time,
commit, cause, hash) is in `wakelog.log.records.Recorded`.

Announced by the contract and not produced yet: `Cancelled`, `Archived`, `Erased`.
What is about many items of a pool at a time is in `wakelog.core.pool.events`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

__all__ = [
    "APART", "EVENTS", "Archived", "By", "Cancelled", "Cleared", "DeadLettered", "Discarded",
    "Erased", "Event", "EventHandled", "EventReceived", "Executed", "ExecutionFailed",
    "ExecutionLost", "Flushed", "MessageSent", "Missed", "Parked", "Paused", "Requeued", "Resumed",
    "RetryExhausted", "RetryScheduled", "Returned", "RunStarted", "Said", "ScheduleCancelled",
    "Scheduled", "Started", "StateSet", "StepCompleted", "Stopped",
]  # fmt: skip

APART = Meta(extra={"apart": True})
"""Of a field that is not on the first line of a record."""

Payload = Annotated[str | None, APART]
"""The user's raw JSON text, or None if there is none."""
Said = Annotated[str, APART]
"""What an error said. It may quote the user's data: pydantic's messages do."""

WakeAction = Literal["execute", "flush", "clear", "trigger", "deferred"]
"""What a wake-up is for. `trigger` is a run an operator asked for, beside the schedule; `deferred`
is events that wait (recorded only if they are re-armed: by a sweep, or because there is code that
can read what waited for it)."""

By = Literal["handler", "policy", "operator", "sweep"]
Trigger = Literal["alarm", "manual", "start", "max_events", "retry", "recovery"]
FlushReason = Literal["flush_after", "max_wait", "max_events", "manual"]
"""Why a window is flushed: its time had come, it was full, or an operator asked for it."""

EVENTS: dict[str, type[Event]] = {}
"""Topic -> class. A topic is a chosen string, never a module path, so that files may move."""


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """The base of all events: immutable, each with a topic of its own."""

    TOPIC: ClassVar[str] = ""
    PAYLOAD: ClassVar[str | None] = None
    """The name of the field that holds the user's raw JSON, if there is one."""

    item: str | None = None
    """The item of a pool that it is about, as in `#3.17`, or its partition, as in `2`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.TOPIC:
            EVENTS[cls.TOPIC] = cls


class Started(Event, frozen=True, kw_only=True):
    """A life begins; an input is its first state."""

    TOPIC = "wakelog.Started"
    PAYLOAD = "input"

    kind: str
    name: str
    id: str
    input: Payload = None


class EventReceived(Event, frozen=True, kw_only=True):
    """An event from outside was accepted. Deferred: accepted now, to be handled later."""

    TOPIC = "wakelog.EventReceived"
    PAYLOAD = "payload"

    event_id: str | None = None
    deferred: bool = False
    handle_at_us: int | None = None
    """When a delayed event is to be handled; None: as soon as it can be."""
    window: int | None = None
    """The window that takes it, if events are handed over in batches; the first of a life is 1."""
    payload: Payload = None


class EventHandled(Event, frozen=True, kw_only=True):
    """A deferred event was handled."""

    TOPIC = "wakelog.EventHandled"

    event_version: int
    """The version of its `EventReceived`."""


class StateSet(Event, frozen=True, kw_only=True):
    """The state is now this; or, unset, there is none."""

    TOPIC = "wakelog.StateSet"
    PAYLOAD = "state"

    schema_version: int = 1
    state: Payload = None
    """The whole state; None means unset (a state that is JSON `null` is the text `null`)."""


class Scheduled(Event, frozen=True, kw_only=True):
    """There is a wake-up at `due_us`."""

    TOPIC = "wakelog.Scheduled"

    due_us: int
    action: WakeAction = "execute"
    by: By = "handler"
    asked_us: int | None = None
    """The time asked for, if it differs: a time in the past is due at once."""
    reason: str | None = None
    """For a flush: its `FlushReason`. For `deferred`: `readable` if what waited for code can be
    read (K4); without it, a sweep moves events accepted while the clock was ahead (U9)."""
    window: int | None = None
    """For a flush: the window that is then due."""
    local: str | None = None
    """For an occurrence in a time zone: what the clock there shows then (`2026-07-01T09:00`)."""


class ScheduleCancelled(Event, frozen=True, kw_only=True):
    """This wake-up was removed."""

    TOPIC = "wakelog.ScheduleCancelled"

    action: WakeAction = "execute"
    by: By = "handler"


class RunStarted(Event, frozen=True, kw_only=True):
    """`execute` is about to be called. Its version in the stream is the run's fencing token."""

    TOPIC = "wakelog.RunStarted"

    run: int
    attempt: int = 1
    trigger: Trigger = "alarm"
    due_us: int
    late_us: int = 0
    worker: str
    events: tuple[int, ...] = ()
    """The versions of the events that the run has taken, for a flush or a pool."""


class StepCompleted(Event, frozen=True, kw_only=True):
    """A named step of a run ended with this result."""

    TOPIC = "wakelog.StepCompleted"
    PAYLOAD = "result"

    run: int
    step: str
    result: Payload = None


class MessageSent(Event, frozen=True, kw_only=True):
    """The handler sent an event, or the input of a start, to another job (`to`: an instance, or a
    pool as in `workerPool:emails`), or a message to the outside (`topic`)."""

    TOPIC = "wakelog.MessageSent"
    PAYLOAD = "payload"

    to: str | None = None
    topic: str | None = None
    partition_key: str | None = None
    priority: int = 0
    payload: Payload = None


class Executed(Event, frozen=True, kw_only=True):
    """The run ended well."""

    TOPIC = "wakelog.Executed"
    PAYLOAD = "result"

    run: int
    attempt: int = 1
    started_us: int
    duration_us: int
    result: Payload = None


class ExecutionFailed(Event, frozen=True, kw_only=True):
    """A handler failed; what it asked for was dropped."""

    TOPIC = "wakelog.ExecutionFailed"
    PAYLOAD = "payload"

    handler: str
    error_type: str
    message: Said = ""
    traceback: Said = ""
    where: str = ""
    """The place in the user's code that it is from: file, line and function."""
    run: int | None = None
    attempt: int | None = None
    will_retry: bool = False
    recovered: bool = False
    """`on_error` or `on_retry_exhausted` was called for it and ended well."""
    event_version: int | None = None
    """The deferred event that was being handled."""
    payload: Payload = None
    """The event that was refused, if there was one."""


class RetryScheduled(Event, frozen=True, kw_only=True):
    """The next attempt of a failed run, or of handling a deferred event, is at `due_us`.

    Attempt 1: an operator asked for it, and the run is started anew.
    """

    TOPIC = "wakelog.RetryScheduled"

    run: int = 0
    """0 if it is a deferred event's."""
    attempt: int
    due_us: int
    event_version: int | None = None
    """The deferred event, if it is one's."""
    by: By = "policy"


class RetryExhausted(Event, frozen=True, kw_only=True):
    """No attempt of the run is left."""

    TOPIC = "wakelog.RetryExhausted"

    run: int
    attempts: int
    reason: Literal["max_attempts", "max_duration", "not_retryable", "lost"]
    then: Literal["fail", "continue", "clear", "dead_letter"] = "fail"
    """What the policy does then."""


class ExecutionLost(Event, frozen=True, kw_only=True):
    """A run's worker died, stalled, lost its lease or gave the run back: the outcome is unknown."""

    TOPIC = "wakelog.ExecutionLost"

    run: int
    attempt: int = 1
    worker: str
    reason: Literal["lease_expired", "shutdown", "no_lease"] = "lease_expired"


class Returned(Event, frozen=True, kw_only=True):
    """What was taken was given back: this code cannot read it, so it waits for code that can."""

    TOPIC = "wakelog.Returned"

    event_version: int | None = None
    """The event that cannot be read, for a batch its first one; None if it is the state."""
    run: int | None = None
    """The run that was given back with it; its attempts are untouched."""
    attempt: int = 1
    error_type: str = ""
    message: Said = ""


class Flushed(Event, frozen=True, kw_only=True):
    """A debounce batch was handed over."""

    TOPIC = "wakelog.Flushed"

    events: tuple[int, ...]
    reason: FlushReason


class Missed(Event, frozen=True, kw_only=True):
    """Occurrences passed while nothing ran, and what the policy did about them."""

    TOPIC = "wakelog.Missed"

    due_us: int
    count: int = 1
    policy: Literal["once", "all", "skip"]


class Paused(Event, frozen=True, kw_only=True):
    """Alarms wait and events are deferred until `Resumed`."""

    TOPIC = "wakelog.Paused"

    reason: str | None = None
    by: By = "operator"


class Resumed(Event, frozen=True, kw_only=True):
    """Work continues."""

    TOPIC = "wakelog.Resumed"

    reason: str | None = None
    by: By = "operator"


class Stopped(Event, frozen=True, kw_only=True):
    """Recurring work ended; the state is kept."""

    TOPIC = "wakelog.Stopped"

    reason: str | None = None
    by: By = "operator"


class DeadLettered(Event, frozen=True, kw_only=True):
    """An event, or a whole batch, was given up; it is kept for an operator."""

    TOPIC = "wakelog.DeadLettered"

    event_version: int
    reason: str
    error_type: str = ""
    message: Said = ""
    attempts: int = 1
    events: tuple[int, ...] = ()
    """The versions of the batch's events, if it is a batch; `event_version` is the first."""


class Requeued(Event, frozen=True, kw_only=True):
    """A dead letter waits again."""

    TOPIC = "wakelog.Requeued"

    event_version: int
    dead: int
    """The version of its `DeadLettered`."""
    events: tuple[int, ...] = ()
    """The versions of the batch's events, if it is a batch."""
    window: int | None = None
    """The window of its own that it has now, if events are handed over in batches."""


class Discarded(Event, frozen=True, kw_only=True):
    """A dead letter, or an event or batch that waited for code to read it, was dropped for good."""

    TOPIC = "wakelog.Discarded"

    event_version: int
    reason: str | None = None
    dead: int | None = None
    """The version of its `DeadLettered`; None if it waited for code."""
    events: tuple[int, ...] = ()


class Cancelled(Event, frozen=True, kw_only=True):
    """A waiting event was removed."""

    TOPIC = "wakelog.Cancelled"
    event_version: int
    reason: str | None = None


class Parked(Event, frozen=True, kw_only=True):
    """This instance cannot be read or run, and why."""

    TOPIC = "wakelog.Parked"

    reason: str
    error_type: str = ""
    message: Said = ""


class Cleared(Event, frozen=True, kw_only=True):
    """The life ended. Its history stays, its id may be used again."""

    TOPIC = "wakelog.Cleared"

    reason: str | None = None
    by: By = "operator"
    discarded: int = 0
    """How many unfinished accepted events were discarded; those that wait at a handler's own clear
    are kept for the next life."""


class Archived(Event, frozen=True, kw_only=True):
    """Events up to this version were moved elsewhere."""

    TOPIC = "wakelog.Archived"
    upto_version: int
    location: str


class Erased(Event, frozen=True, kw_only=True):
    """Payloads up to this version were destroyed on request."""

    TOPIC = "wakelog.Erased"
    upto_version: int
