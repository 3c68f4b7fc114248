"""Dead letters: accepted events and batches that were given up, kept for an operator (A9)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Unpack

from wakelog.application import Application
from wakelog.bounds import at_least
from wakelog.client.gateway import RequestGateway
from wakelog.client.listing import Filters, list_instances
from wakelog.client.request_kinds import RequestKind
from wakelog.client.results import Result
from wakelog.core.events import DeadLettered, Discarded, EventReceived, MessageSent, Requeued
from wakelog.core.instance import Instance
from wakelog.core.requests import DeadEvents, Discard, GiveUpUnread, Request, Requeue
from wakelog.core.time import as_datetime
from wakelog.errors import IntegrityError, UnreadableEventError
from wakelog.history.past import MAX_VERSION
from wakelog.ids import InstanceId
from wakelog.log.records import Recorded, decode, whole
from wakelog.turn import Turn

__all__ = [
    "DEAD_LETTER",
    "DISCARD",
    "REQUEUE",
    "DeadLetter",
    "DeadLetterResult",
    "dead_letters_of",
    "event_number",
    "list_dead_letters",
    "request_about",
]

PAGE = 1_000
"""Versions of an instance that are read at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event or a batch that was given up."""

    instance_id: str
    event: int
    """The version as which it was accepted, for a batch its first event's: it names the dead letter
    in `requeue` and `discard`."""
    events: tuple[int, ...]
    """The versions of all its events: more than one for a batch."""
    reason: str
    """Why it was given up, in one word, such as `max_attempts` or `handler_failed`."""
    error_type: str
    error_message: str
    attempts: int
    accepted_at: datetime
    given_up_at: datetime
    payload: Any
    """Its JSON data, for a batch that of its first event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterResult(Result):
    """The result of a `requeue`, a `discard` or a `dead_letter`."""

    events: tuple[int, ...] = ()
    """The dead letters, or what waited for code, that it was done to, by the versions as which they
    were accepted."""
    reason: str | None = None
    """Why it was done to none: `not_found` (nothing of the kind, or not under this number)."""

    @property
    def done(self) -> bool:
        """Whether it was done to any."""
        return bool(self.events)


def dead_letters_of(app: Application, instance: Instance) -> list[DeadLetter]:
    """The dead letters of an instance, the oldest first. Blocks. Raises `IntegrityError`, and
    `UnreadableEventError`, if one is not in the log as it was recorded."""
    return [_letter(app, instance.id, _recorded(app, instance.id, v)) for v in instance.dead]


async def list_dead_letters(
    gateway: RequestGateway, *, limit: int, after: str | None, **filters: Unpack[Filters]
) -> list[DeadLetter]:
    """The dead letters of up to `limit` instances that match, by id. Raises what `list` raises."""
    filters["dead_letters"] = True
    rows = await list_instances(gateway, limit=limit, after=after, **filters)
    found: list[DeadLetter] = []
    for row in rows:
        instance = (await gateway.app.instances.load(row.instance_id)).instance
        found += await gateway.app.threads.browse(dead_letters_of, gateway.app, instance)
    return found


async def request_about(
    gateway: RequestGateway, action: str, id: InstanceId, event: int | None, reason: str | None
) -> Request:
    """The request to do `action` to the dead letter of this number, or to all of the instance.

    `discard` and `dead_letter` are for what waits for code too, but a discard only by its number.
    """
    if action == "dead_letter":
        return GiveUpUnread(event)
    app = gateway.app
    instance = (await app.instances.load(str(id))).instance
    letters = await app.threads.browse(_dead_events, app, instance, event)
    if action == "requeue":
        return Requeue(tuple(letters))
    return Discard(tuple(letters), None if letters else event, reason)


def event_number(event: int | None) -> int | None:
    """The number of a dead letter, as given. Raises `ValidationError`."""
    if event is not None:
        at_least(1, "event", event, most=MAX_VERSION)
    return event


def _dead_events(app: Application, instance: Instance, event: int | None) -> list[DeadEvents]:
    found: list[DeadEvents] = []
    for version in instance.dead:
        dead = _dead(_recorded(app, instance.id, version))
        if event in (None, dead.event_version):
            message = _message(app, instance.id, dead)
            found.append(DeadEvents(version, dead.event_version, dead.events, message))
    return found


def _letter(app: Application, id: InstanceId, recorded: Recorded) -> DeadLetter:
    dead = _dead(recorded)
    accepted = _recorded(app, id, dead.event_version)
    return DeadLetter(
        instance_id=str(id),
        event=dead.event_version,
        events=dead.events or (dead.event_version,),
        reason=dead.reason,
        error_type=dead.error_type,
        error_message=dead.message,
        attempts=dead.attempts,
        accepted_at=as_datetime(accepted.at_us),
        given_up_at=as_datetime(recorded.at_us),
        payload=_payload(accepted),
    )


def _recorded(app: Application, id: InstanceId, version: int) -> Recorded:
    """Raises `IntegrityError`, and `UnreadableEventError`."""
    stored = app.store.events(str(id), after=version - 1, upto=version)
    if not stored:
        raise IntegrityError(str(id), version, "it is not in the log")
    return decode(stored[0])


def _dead(recorded: Recorded) -> DeadLettered:
    if not isinstance(recorded.event, DeadLettered):
        raise _damaged(recorded, "it is no dead letter")
    return recorded.event


def _message(app: Application, id: InstanceId, dead: DeadLettered) -> MessageSent | None:
    """The message, if it is one that its target has refused."""
    if dead.reason != "refused":
        return None
    sent = whole(_recorded(app, id, dead.event_version))
    if not isinstance(sent.event, MessageSent):
        raise _damaged(sent, "it is no message")
    return sent.event


def _payload(accepted: Recorded) -> Any:
    if not isinstance(accepted.event, EventReceived | MessageSent):
        raise _damaged(accepted, "it is no event received, and no message")
    try:
        return json.loads(accepted.event.payload or "null")
    except (ValueError, RecursionError) as error:
        raise _damaged(accepted, f"its payload is no JSON: {error}") from error


def _damaged(recorded: Recorded, detail: str) -> UnreadableEventError:
    topic = recorded.event.TOPIC
    return UnreadableEventError(recorded.stream, recorded.version, topic, detail)


def _reply(turn: Turn, stream: str) -> DeadLetterResult:
    events = tuple(
        each.event_version
        for each in turn.events
        if isinstance(each, Requeued | Discarded | DeadLettered)
    )
    return DeadLetterResult(
        instance_id=stream,
        version=turn.after.version,
        events=events,
        reason=None if events else "not_found",
    )


REQUEUE = RequestKind("requeue", _reply, DeadLetterResult)
DISCARD = RequestKind("discard", _reply, DeadLetterResult)
DEAD_LETTER = RequestKind("dead_letter", _reply, DeadLetterResult)
