"""Requests: what opens a unit of work, or goes on with one."""

from __future__ import annotations

from msgspec import Struct

from wakelog.core.calls import Settle
from wakelog.core.instance import OpenRun

__all__ = [
    "CancelClear",
    "Claim",
    "Clear",
    "HandleDeferred",
    "PauseWork",
    "Rearm",
    "Receive",
    "RecordStep",
    "Request",
    "ResumeWork",
    "Retime",
    "RetryRun",
    "Start",
    "StopWork",
    "TriggerRun",
]


class Receive(Struct, frozen=True):
    """An event from outside, already valid."""

    payload: str
    event_id: str | None = None
    handle_at_us: int | None = None
    """For a delayed event: when it is to be handled."""
    defer: bool = False
    """Accept it without calling a handler here."""


class HandleDeferred(Struct, frozen=True):
    """Handle the waiting event that was accepted as this version."""

    version: int
    payload: str
    event_id: str | None = None


class Claim(Struct, frozen=True):
    """A worker takes what the instance is due for."""

    worker: str
    lost: OpenRun | None = None
    """The run whose lease has ended, where that is why."""
    max_lost: int = 5


class TriggerRun(Struct, frozen=True):
    """Run `execute` now, beside the schedule or in its place."""

    consume_alarm: bool = False


class RetryRun(Struct, frozen=True):
    """Start the last failed run again, or the one that waits for its next attempt, now."""


class PauseWork(Struct, frozen=True):
    """Let alarms wait and defer events."""

    reason: str | None = None


class ResumeWork(Struct, frozen=True):
    """Go on after a pause."""

    reason: str | None = None


class Start(Struct, frozen=True):
    """Begin recurring work, or resume it where it was stopped."""

    input: str
    replace: bool = False
    """Let the state of one that was stopped be the input too."""


class StopWork(Struct, frozen=True):
    """End recurring work; the state is kept."""

    reason: str | None = None


class Retime(Struct, frozen=True):
    """The definition has changed: let what its policy has scheduled follow the new rule."""


class Clear(Struct, frozen=True):
    """End the life, now or at `at_us`."""

    reason: str | None = None
    at_us: int | None = None


class CancelClear(Struct, frozen=True):
    """Take back a delayed clear."""


class Rearm(Struct, frozen=True):
    """A sweep found this instance without the alarm or the lease that it should have."""

    version: int
    """The version that it looked at: one that has moved on since is not stranded."""
    max_lost: int = 5


class RecordStep(Struct, frozen=True):
    """A step of an open run has ended with this result, as JSON text."""

    run: OpenRun
    step: str
    result: str


Request = (
    Receive
    | HandleDeferred
    | Claim
    | TriggerRun
    | RetryRun
    | Start
    | StopWork
    | Retime
    | PauseWork
    | ResumeWork
    | Clear
    | CancelClear
    | Rearm
    | RecordStep
    | Settle
)
