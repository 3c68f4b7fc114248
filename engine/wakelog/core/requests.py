"""Requests: what opens a unit of work, or continues one."""

from __future__ import annotations

from msgspec import Struct

from wakelog.core.calls import EventCopy, Settle
from wakelog.core.events import MessageSent
from wakelog.core.instance import OpenRun

__all__ = [
    "CancelClear",
    "Claim",
    "Clear",
    "DeadEvents",
    "Discard",
    "GiveUpUnread",
    "HandleDeferred",
    "PauseWork",
    "Rearm",
    "Receive",
    "RecordStep",
    "RefuseMessage",
    "Request",
    "Requeue",
    "Reread",
    "ResumeWork",
    "Retime",
    "RetryRun",
    "Start",
    "StopWork",
    "TriggerRun",
]


# -- events ----------------------------------------------------------------------------------------


class Receive(Struct, frozen=True):
    """Accept an event from outside; it has been validated."""

    payload: str
    event_id: str | None = None
    handle_at_us: int | None = None
    """For a delayed event: when it is to be handled."""
    defer: bool = False
    """Accept it without calling a handler in this process."""
    copy: EventCopy | None = None
    """The event itself, for the handler, so that it is validated once."""


class HandleDeferred(Struct, frozen=True):
    """Handle the deferred event that was accepted as this version."""

    version: int
    payload: str
    event_id: str | None = None


# -- runs ------------------------------------------------------------------------------------------


class Claim(Struct, frozen=True):
    """A worker takes what the instance is due for."""

    worker: str
    takes_over: bool = False
    """Whether the lease under which a run was open has ended: that run is lost."""
    max_lost: int = 5
    may_run: bool = True
    """Whether a run may begin. Else it was claimed for something else, and does not count as one of
    those that there may be at a time."""


class RecordStep(Struct, frozen=True):
    """Record the result (JSON text) of a step of an open run."""

    run: OpenRun
    step: str
    result: str


class Rearm(Struct, frozen=True):
    """A sweep found this instance without the alarm or the lease that it should have."""

    version: int
    """The version the sweep looked at; an instance with a newer version is not stranded."""
    max_lost: int = 5


class Reread(Struct, frozen=True):
    """There is code that can read what the instance holds: let it go on."""

    version: int
    """The version at which that was tried."""


# -- dead letters ----------------------------------------------------------------------------------


class DeadEvents(Struct, frozen=True):
    """A dead letter, as recorded."""

    version: int
    """The version of its `DeadLettered`."""
    event_version: int
    events: tuple[int, ...] = ()
    """The versions of its events, if it is a batch."""
    message: MessageSent | None = None
    """The message, if it is one that its target has refused."""


class Requeue(Struct, frozen=True):
    """Let these dead letters wait again."""

    letters: tuple[DeadEvents, ...]


class Discard(Struct, frozen=True):
    """Drop these dead letters for good; or what waits for code to read it."""

    letters: tuple[DeadEvents, ...] = ()
    unread: int | None = None
    """The version of the event that waits, for a batch of its first one."""
    reason: str | None = None


class RefuseMessage(Struct, frozen=True):
    """The target of a message will never take it: make a dead letter of it."""

    version: int
    """Of its `MessageSent`."""
    error_type: str
    message: str


class GiveUpUnread(Struct, frozen=True):
    """Make a dead letter of what waits for code to read it."""

    unread: int | None = None
    """The version of the event, for a batch of its first one; None: whichever it is."""


# -- operations ------------------------------------------------------------------------------------


class TriggerRun(Struct, frozen=True):
    """Run `execute` now, beside the schedule or in its place."""

    consume_alarm: bool = False


class RetryRun(Struct, frozen=True):
    """Start the last failed run again, or the one that waits for its next attempt, now."""


class Start(Struct, frozen=True):
    """Begin recurring work, or resume it if it was stopped."""

    input: str
    replace: bool = False
    """On resuming after a stop: set the state to the input too."""


class StopWork(Struct, frozen=True):
    """End recurring work; the state is kept."""

    reason: str | None = None


class Retime(Struct, frozen=True):
    """Set anew what was scheduled while the clock was ahead, and `by_rule` also what its policy has
    scheduled by another rule than the definition has now."""

    by_rule: bool = True


class PauseWork(Struct, frozen=True):
    """Let alarms wait and defer events."""

    reason: str | None = None


class ResumeWork(Struct, frozen=True):
    """Continue after a pause."""

    reason: str | None = None


class Clear(Struct, frozen=True):
    """End the life, now or at `at_us`."""

    reason: str | None = None
    at_us: int | None = None


class CancelClear(Struct, frozen=True):
    """Cancel a scheduled clear."""


Request = (
    Receive
    | HandleDeferred
    | Claim
    | RecordStep
    | Rearm
    | Reread
    | Requeue
    | Discard
    | GiveUpUnread
    | RefuseMessage
    | TriggerRun
    | RetryRun
    | Start
    | StopWork
    | Retime
    | PauseWork
    | ResumeWork
    | Clear
    | CancelClear
    | Settle
)
