"""One unit of work: load, take the turn, append; again if another was first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from wakelog.core.calls import HandlerFailed, Settle
from wakelog.core.events import Cleared
from wakelog.core.instance import Instance
from wakelog.core.requests import RecordStep, Request
from wakelog.definitions.definition import Definition
from wakelog.errors import LeaseLostError
from wakelog.ids import InstanceId
from wakelog.ports.units import KeptReply
from wakelog.turn import HandlerOutcomes, Turn

__all__ = [
    "BACKOFF_S",
    "MAX_CONFLICTS",
    "MAX_LOSSES",
    "MAX_PURGED",
    "NOWHERE",
    "Asked",
    "Body",
    "Key",
    "Origin",
]


Body = dict[str, Any]
"""An answer's fields by name, as JSON keeps them: times in microseconds."""

MAX_LOSSES = 10
"""How often an event loses to other processes before it is accepted as deferred instead."""

MAX_CONFLICTS = 1_000
"""How often any other request loses before its caller is told."""

MAX_PURGED = 1_000
"""Expired answers deleted in one transaction."""

BACKOFF_S = 0.05
"""The longest pause between two tries."""


class Origin(Struct, frozen=True):
    """Where a request comes from, for the record."""

    actor: str | None = None
    correlation: str | None = None
    cause: str | None = None


NOWHERE = Origin()


class Key(Struct, frozen=True):
    """An idempotency key: a request with the same one is recorded once."""

    key: str
    action: str
    fingerprint: str
    body: Callable[[Turn], str]
    """The answer to keep, as JSON."""


class Asked(Struct, frozen=True):
    """What became of a request.

    The turn itself is not kept while its outcome waits to be appended: so many objects at hand,
    for so many requests, would be the garbage collector's work.
    """

    after: Instance | None
    """How the instance stands then; None where nothing happened to it."""
    said: Body | None = None
    """What there is to say of its turn; None where there are failures to raise instead."""
    raises: tuple[HandlerFailed, ...] = ()
    answer: KeptReply | None = None
    """What an earlier request with the same key was answered."""


class _Try(Struct):
    """One request on its way through the conflict loop."""

    definition: Definition
    id: InstanceId
    request: Request
    say: Callable[[Turn], Body] | None
    origin: Origin
    key: Key | None
    holds: int | None
    ends_lease: Callable[[Instance], bool]
    memory: HandlerOutcomes | None = None
    losses: int = 0
    seen: tuple[object, ...] = ()
    """What the handlers whose outcomes are in `memory` could see of the instance."""


def _never(_: Instance) -> bool:
    return False


def _asked(this: _Try, turn: Turn) -> Asked:
    said = this.say(turn) if this.say and not turn.raises else None
    return Asked(turn.after if turn.events else None, said, turn.raises)


def _ended(turn: Turn) -> bool:
    """Whether it ended a life."""
    return not turn.after.exists and any(isinstance(event, Cleared) for event in turn.events)


def _lease_lost(this: _Try) -> LeaseLostError:
    request = this.request
    run = request.call.run if isinstance(request, Settle) else None
    run = request.run if isinstance(request, RecordStep) else run
    return LeaseLostError(str(this.id), run.number if run else 0)
