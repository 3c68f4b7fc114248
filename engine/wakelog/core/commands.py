"""Commands: what a handler asks for through its context."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = [
    "CancelSchedule",
    "Command",
    "Emit",
    "HandlerName",
    "Pause",
    "ScheduleAt",
    "SetState",
    "Stop",
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


# -- requests: what opens or goes on with a unit of work -------------------------------------------
