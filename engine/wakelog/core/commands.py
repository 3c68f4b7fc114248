"""What may be asked: requests from outside, and commands from handlers.

A request opens a unit of work. It may lead to a `Call` of a handler; the call's `Outcome` carries
the commands that the handler gave through its context; `Settle` brings both back to `decide`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

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


class SetState(NamedTuple):
    """Let the state be this JSON text; None unsets it."""

    state: str | None
    schema_version: int


class ScheduleAt(NamedTuple):
    """Let the schedule be at `due_us`; `asked_us` is the time asked for, where it differs."""

    due_us: int
    asked_us: int | None


class CancelSchedule(NamedTuple):
    """Let there be no schedule."""


class Emit(NamedTuple):
    """Send a message to the outside."""

    topic: str
    payload: str


class Pause(NamedTuple):
    """Let nothing start until somebody resumes it."""

    reason: str | None


class Stop(NamedTuple):
    """Let recurring work end; the state is kept."""

    reason: str | None


Command = SetState | ScheduleAt | CancelSchedule | Emit | Pause | Stop


# -- calls and their outcomes ----------------------------------------------------------------------


class Call(NamedTuple):
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


class Ended(NamedTuple):
    """The handler returned, or cleared its instance, having asked for these commands."""

    commands: tuple[Command, ...] = ()
    cleared: bool = False
    reason: str | None = None
    """The reason given to `ctx.clear`."""
    now_us: int = 0
    """When the handler ended."""


class Failed(NamedTuple):
    """The handler raised."""

    error: BaseException
    error_type: str
    message: str
    traceback: str
    now_us: int = 0
    advice: Advice = Advice()
    """What user code says about another attempt."""


class GaveBack(NamedTuple):
    """The engine itself stopped the handler: the run is to be done again by somebody else."""


Outcome = Ended | Failed | GaveBack


# -- requests: what opens or goes on with a unit of work -------------------------------------------


class Receive(NamedTuple):
    """An event from outside, already valid."""

    payload: str
    event_id: str | None = None
    handle_at_us: int | None = None
    """For a delayed event: when it is to be handled."""
    defer: bool = False
    """Accept it without calling a handler here."""


class HandleWaiting(NamedTuple):
    """Handle the waiting event that was accepted as this version."""

    version: int
    payload: str
    event_id: str | None = None


class Claim(NamedTuple):
    """A worker takes what the instance is due for."""

    worker: str
    lost: OpenRun | None = None
    """The run whose lease has ended, where that is why."""
    max_lost: int = 5


class TriggerRun(NamedTuple):
    """Run `execute` now, beside the schedule or in its place."""

    consume_alarm: bool = False


class RetryRun(NamedTuple):
    """Start the last failed run again, or the one that waits for its next attempt, now."""


class PauseWork(NamedTuple):
    """Let alarms wait and defer events."""

    reason: str | None = None


class ResumeWork(NamedTuple):
    """Go on after a pause."""

    reason: str | None = None


class Start(NamedTuple):
    """Begin recurring work, or resume it where it was stopped."""

    input: str
    replace: bool = False
    """Let the state of one that was stopped be the input too."""


class StopWork(NamedTuple):
    """End recurring work; the state is kept."""

    reason: str | None = None


class Retime(NamedTuple):
    """The definition has changed: let what its policy has scheduled follow the new rule."""


class Clear(NamedTuple):
    """End the life, now or at `at_us`."""

    reason: str | None = None
    at_us: int | None = None


class CancelClear(NamedTuple):
    """Take back a delayed clear."""


class Rearm(NamedTuple):
    """A sweep found this instance without the alarm or the lease that it should have."""

    version: int
    """The version that it looked at: one that has moved on since is not stranded."""
    max_lost: int = 5


class RecordStep(NamedTuple):
    """A step of an open run has ended with this result, as JSON text."""

    run: OpenRun
    step: str
    result: str


@dataclass(frozen=True, slots=True)
class Settle:
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
