"""Commands: what a handler asks for through its context."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = [
    "CancelSchedule",
    "Command",
    "Emit",
    "HandlerName",
    "KeepResult",
    "Pause",
    "ScheduleAt",
    "Send",
    "SetState",
    "Stop",
]

HandlerName = Literal[
    "on_event",
    "execute",
    "on_idle",
    "on_error",
    "on_retry_exhausted",
    "on_dead_letter",
    "on_empty",
    "on_client_get_state",
]


class SetState(Struct, frozen=True):
    """Set the state to this JSON text; None unsets it."""

    state: str | None
    schema_version: int


class ScheduleAt(Struct, frozen=True):
    """Set the schedule to `due_us`; `asked_us` is the time asked for, if it differs."""

    due_us: int
    asked_us: int | None


class CancelSchedule(Struct, frozen=True):
    """Remove the schedule."""


class Emit(Struct, frozen=True):
    """Send a message to the outside."""

    topic: str
    payload: str


class Send(Struct, frozen=True):
    """Send a message to another job: see `MessageSent`."""

    to: str
    payload: str
    partition_key: str | None = None
    priority: int = 0


class Pause(Struct, frozen=True):
    """Start nothing until an operator resumes the instance."""

    reason: str | None


class KeepResult(Struct, frozen=True):
    """Record this JSON text with the run, as its result."""

    result: str


class Stop(Struct, frozen=True):
    """End recurring work; the state is kept."""

    reason: str | None


Command = SetState | ScheduleAt | CancelSchedule | Emit | Send | Pause | Stop | KeepResult
