"""The delivery of one message: what becomes of it at its target."""

from __future__ import annotations

import hashlib
from typing import Any, cast

from msgspec import Struct

from wakelog.application import Application
from wakelog.client.gateway import RequestGateway
from wakelog.client.worker_pool import WorkerPoolClient
from wakelog.core.events import MessageSent
from wakelog.core.requests import RefuseMessage
from wakelog.definitions.definition import Definition
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.errors import (
    HistoryError,
    IdempotencyConflictError,
    InvalidStateError,
    QueueFullError,
    StoreUnavailableError,
    UnknownJobError,
    UnreadableEventError,
    ValidationError,
)
from wakelog.ids import MAX_ID_LENGTH, InstanceId, job_of
from wakelog.log.records import Recorded, decode, whole
from wakelog.ports.messages import Message, Received
from wakelog.ports.units import AlreadyReceived
from wakelog.runtime.unit_of_work import IdempotencyKey
from wakelog.runtime.unit_records import Origin

__all__ = ["Delivered", "Held", "Outcome", "deliver"]

AGAIN_US = 1_000_000
"""How soon what is held back is tried again."""
REFUSED_AGAIN_US = 60_000_000
"""The same for what is refused and cannot be a dead letter of its sender."""


class Delivered(Struct, frozen=True):
    """It is over: the target has it, or had it, or it is a dead letter."""

    is_forgotten: bool
    """Whether it left the outbox with that; else it is still to be taken out."""


class Held(Struct, frozen=True):
    """It is held back, and what its sender has sent the same target after it."""

    why: str
    again_in_us: int = AGAIN_US


Outcome = Delivered | Held


async def deliver(app: Application, gateway: RequestGateway, message: Message) -> Outcome:
    """Deliver one message. Raises `StoreUnavailableError`, `ConflictError`, and `InvalidStateError`
    if the app is closed. Killed here: it is in the outbox still, or the target has it, and another
    delivery does nothing."""
    try:
        recorded = whole(decode(message.event))
        definition = _target(app, message.target)
    except UnreadableEventError as error:
        return Held(str(error))
    except UnknownJobError as error:
        return Held(str(error))
    if definition.job in await app.job_pauses.lately():
        return Held(f"{definition.job} is paused")
    sent = recorded.event
    if not isinstance(sent, MessageSent) or sent.payload is None:
        return Held("it is no message")
    try:
        if definition.has_instances:
            return await _to_instance(app, definition, message, recorded, sent.payload)
        return await _to_pool(gateway, definition, message, recorded, sent)
    except (QueueFullError, InvalidStateError, HistoryError) as error:
        if gateway.closed:  # that is not the target's fault
            raise
        return Held(str(error))
    except (ValidationError, IdempotencyConflictError) as error:
        return await _refuse(app, message, error)
    except StoreUnavailableError as error:
        if error.reason != "refused":
            raise
        return await _refuse(app, message, error)


def _target(app: Application, target: str) -> Definition:
    kind, name, *_ = target.split(":", 2)
    return app.registry.find(name, kind)


async def _to_instance(
    app: Application, definition: Definition, message: Message, recorded: Recorded, text: str
) -> Outcome:
    try:
        request = definition.delivery(text)
    except Exception as error:  # a validator may raise anything: it waits for code (K4)
        return Held(f"this code cannot read it: {type(error).__name__}")
    id = InstanceId.parse(message.target)
    received = Received(message.sender, message.version)
    try:
        await app.request(definition, id, request, origin=_origin(recorded), received=received)
    except AlreadyReceived:
        return Delivered(is_forgotten=False)
    return Delivered(is_forgotten=True)


async def _to_pool(
    gateway: RequestGateway,
    definition: Definition,
    message: Message,
    recorded: Recorded,
    sent: MessageSent,
) -> Outcome:
    """A pool keeps the ids of its events for ever: a second delivery is a duplicate."""
    try:
        event = definition.event.load(sent.payload or "null")
    except Exception as error:  # as above
        return Held(f"this code cannot read it: {type(error).__name__}")
    pool: WorkerPoolClient[Any] = WorkerPoolClient(gateway, cast("WorkerPool[Any]", definition))
    await pool.enqueue(
        event,
        id=_event_id(message),
        partition_key=sent.partition_key,
        priority=sent.priority,
        actor=message.sender,
        correlation_id=recorded.correlation,
    )
    return Delivered(is_forgotten=False)


def _event_id(message: Message) -> str:
    """What names it in the pool, and no other message."""
    name = f"{message.sender}@{message.version}"
    if len(name) <= MAX_ID_LENGTH:
        return name
    return f"message-{hashlib.sha256(name.encode()).hexdigest()}"


def _origin(recorded: Recorded) -> Origin:
    cause = f"{recorded.stream}@{recorded.version}"
    return Origin(recorded.stream, recorded.correlation, cause, recorded.trace)


async def _refuse(app: Application, message: Message, error: Exception) -> Outcome:
    """Its target will never take it: it is a dead letter of its sender. That of a pool has no
    stream that anybody may write to: its message is kept."""
    kind = type(error).__name__
    try:
        id = InstanceId.parse(message.sender)
        sender = app.registry.of(id)
    except UnknownJobError:
        return Held(f"refused: {error}", REFUSED_AGAIN_US)
    if not sender.has_instances:
        return Held(f"refused: {error}", REFUSED_AGAIN_US)
    key = f"refused@{message.version}"
    await app.request(
        sender,
        id,
        RefuseMessage(message.version, kind, str(error)),
        origin=Origin(actor=job_of(message.target)),
        key=IdempotencyKey(key, "refuse", "", lambda _: "null"),
    )
    return Delivered(is_forgotten=False)
