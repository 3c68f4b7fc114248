"""Sending in a transaction of the caller's own: a row in the inbox, by the caller's connection.

It waits for nothing of the app, and so is allowed in handlers, and on any thread of the process.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from wakelog.client.gateway import CLOSED, RequestGateway
from wakelog.client.inbox.requests import Action, InboxRequest
from wakelog.client.request_kinds import RequestKind
from wakelog.errors import InboxConnectionError, InvalidStateError, Issue, ValidationError
from wakelog.ids import InstanceId
from wakelog.ports.inbox import InboxEntry
from wakelog.runtime.unit_records import Origin

__all__ = ["InboxResult", "check_no_wait", "message_of", "put", "put_one"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxResult:
    """What was sent in the caller's transaction: an event, if and when that commits."""

    inbox_id: str
    """The row of the inbox, until it is taken up: see `wakelog inbox`."""
    target: str
    """The stream id of the instance; for a pool its job, as in `workerPool:emails`."""
    event_id: str | None = None
    """As it was given."""


async def put(
    gateway: RequestGateway,
    connection: object,
    job: str,
    messages: Sequence[tuple[str, InboxRequest]],
) -> list[InboxResult]:
    """Insert rows for these targets, in this order. With a blocking connection this never waits
    for the event loop.

    Raises `InboxConnectionError`, `StoreUnavailableError`, and `InvalidStateError` if the app is
    closed. A crash before the caller's commit leaves nothing, after it all of them.
    """
    gateway.app.affinity.check_process()
    if gateway.closed:
        raise InvalidStateError(CLOSED)
    now_us = gateway.app.clock.now_us()
    entries = [
        InboxEntry(uuid.uuid4().hex, job, target, message.body, now_us)
        for target, message in messages
    ]
    putting = gateway.app.store.inbox_put(connection, entries)
    if putting is not None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            putting.close()
            raise InboxConnectionError(
                "it is an async one, and this is a blocking client",
                "give a blocking one, or open the app with `async with jobs.open(...)`",
            ) from None
        await putting
    return [
        InboxResult(inbox_id=entry.id, target=entry.stream, event_id=message.key)
        for entry, (_, message) in zip(entries, messages, strict=True)
    ]


async def put_one(
    gateway: RequestGateway, connection: object, id: InstanceId, message: InboxRequest
) -> InboxResult:
    """`put` for one row, to an instance."""
    [result] = await put(gateway, connection, id.job, [(str(id), message)])
    return result


def message_of(
    kind: RequestKind[Any],
    payload: str,
    options: tuple[object, ...],
    key: str | None,
    origin: Origin,
    *,
    due_us: int | None = None,
    replace: bool = False,
) -> InboxRequest:
    """The message for a request of this kind; its key is what the request itself would have."""
    return InboxRequest(
        cast("Action", kind.action),
        payload,
        key,
        "" if key is None else kind.key(key, options).fingerprint,
        due_us,
        replace,
        actor=origin.actor,
        correlation=origin.correlation,
    )


def check_no_wait(wait: object, timeout: object) -> None:
    """Raise `ValidationError` if the outcome is to be waited for, before the caller commits."""
    if wait or timeout is not None:
        msg = (
            "wait= and timeout= cannot be given with connection=: nothing happens before it commits"
        )
        raise ValidationError("send", [Issue(loc="", msg=msg, type="arguments")])
