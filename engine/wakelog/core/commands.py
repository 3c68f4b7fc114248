"""What may be asked: requests from outside, and commands from handlers.

A request opens a unit of work. It may lead to a `Call` of a handler; the call's `Outcome` carries
the commands that the handler gave through its context; `Settle` brings both back to `decide`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from wakelog.core.instance import Instance, OpenRun
from wakelog.core.retry import Advice

__all__ = [
    "Call",
    "CancelClear",
    "CancelSchedule",
    "Claim",
    "Clear",
    "Command",
    "Emit",
    "Ended",
    "Failed",
    "GaveBack",
    "HandleWaiting",
    "HandlerName",
    "Outcome",
    "Pause",
    "PauseWork",
    "Rearm",
    "Receive",
    "RecordStep",
    "Request",
    "ResumeWork",
    "Retime",
    "RetryRun",
    "ScheduleAt",
    "SetState",
    "Settle",
    "Start",
    "Stop",
    "StopWork",
    "TriggerRun",
]

HandlerName = Literal[
    "on_event", "execute", "on_idle", "on_error", "on_retry_exhausted", "on_client_get_state"
]


# -- commands: what a handler asks for -------------------------------------------------------------


class SetState(Struct, frozen=True):
    """Let the state be this JSON text; None unsets it."""

    state: str | None
    schema_version: int


class ScheduleAt(Struct, frozen=True):
    """Let the schedule be at `due_us`; `asked_us` is the time asked for, where it differs."""

    due_us: int
    asked_us: int | None


class CancelSchedule(Struct, frozen=True):
    """Let there be no schedule."""


class Emit(Struct, frozen=True):
    """Send a message to the outside."""

    topic: str
    payload: str


class Pause(Struct, frozen=True):
    """Let nothing start until somebody resumes it."""

    reason: str | None


class Stop(Struct, frozen=True):
    """Let recurring work end; the state is kept."""

    reason: str | None


Command = SetState | ScheduleAt | CancelSchedule | Emit | Pause | Stop


# -- calls and their outcomes ----------------------------------------------------------------------


class Call(Struct, frozen=True):
    """Which handler to call, and with what."""

    handler: HandlerName
    base: Instance
    """The instance as it was before the handler's unit of work, or when its run had started."""
    payload: str | None = None
    """The event's JSON text, for `on_event`."""
    batch: tuple[str, ...] = ()
    """The JSON texts of the events that the run has taken, in order."""
    event_id: str | None = None
    event_version: int | None = None
    """The version of the deferred event that is being handled."""
    attempt: int = 1
    """Which try it is, of the run or of handling the event."""
    run: OpenRun | None = None
    error: BaseException | None = None
    """What `on_error` is told."""
    recovers: Settle | None = None
    """The failed settlement that `on_error` is asked to recover."""
    source: HandlerName | None = None
    """Which handler failed (`on_error`), or after which one nothing is left to do (`on_idle`)."""

    @property
    def may_be_repeated(self) -> bool:
        """Whether a policy may have it tried again: only a run, and an accepted event."""
        return self.recovers is None and (self.run is not None or self.event_version is not None)


class Ended(Struct, frozen=True):
    """The handler returned, or cleared its instance, having asked for these commands."""

    commands: tuple[Command, ...] = ()
    cleared: bool = False
    reason: str | None = None
    """The reason given to `ctx.clear`."""
    now_us: int = 0
    """When the handler ended."""


class Failed(Struct, frozen=True):
    """The handler raised."""

    error: BaseException
    error_type: str
    message: str
    traceback: str
    now_us: int = 0
    advice: Advice = Advice()
    """What user code says about another attempt."""


class GaveBack(Struct, frozen=True):
    """The engine itself stopped the handler: the run is to be done again by somebody else."""


Outcome = Ended | Failed | GaveBack


# -- requests: what opens or goes on with a unit of work -------------------------------------------


class Receive(Struct, frozen=True):
    """An event from outside, already valid."""

    payload: str
    event_id: str | None = None
    handle_at_us: int | None = None
    """For a delayed event: when it is to be handled."""
    defer: bool = False
    """Accept it without calling a handler here."""


class HandleWaiting(Struct, frozen=True):
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


class Settle(Struct, frozen=True):
    """A call has ended: what follows from its outcome?"""

    call: Call
    outcome: Outcome


Request = (
    Receive
    | HandleWaiting
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
