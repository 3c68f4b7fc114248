"""The async client of a Task: what can be requested of its instances, results and status."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

from wakelog.arguments import timeout_us
from wakelog.client.base import EventClient
from wakelog.client.gateway import RequestGateway, origin_of
from wakelog.client.inbox.sending import InboxResult, check_no_wait, message_of, put_one
from wakelog.client.request_kinds import RequestKind
from wakelog.client.results import Result
from wakelog.client.status import InstanceStatus, common_fields, status_word
from wakelog.client.wait import wait_until_handled
from wakelog.core.calls import EventCopy
from wakelog.core.events import EventReceived, Started
from wakelog.core.requests import Receive
from wakelog.core.time import Duration, duration_us, later_us, moment, moment_us
from wakelog.definitions.task import Task
from wakelog.errors import Issue, ValidationError
from wakelog.ids import InstanceId
from wakelog.ports.rows import StatusRow
from wakelog.turn import Turn

__all__ = ["SEND", "SendResult", "TaskClient", "TaskStatus", "task_status"]

S = TypeVar("S")
E = TypeVar("E")


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult(Result):
    """The result of a `send`."""

    created: bool
    """Whether this was the first event of a life."""
    scheduled_at: datetime | None
    event_count: int
    """How many events this life has accepted, this one included."""
    deferred: bool
    """Accepted now, to be handled later: after the open run, after the events before it, or when
    its delay has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus(InstanceStatus):
    """The status of a Task instance.

    `status` is the first that holds of `not_found`, `failed`, `paused`, `stopped`, `retrying`,
    `unhandled` (its alarm is due and no living worker knows the job), `waiting_for_code` (an event
    or the state was recorded by code that no worker has, K4), `active` (something is
    scheduled or deferred) and `idle` (T10).
    """

    executing: bool = False
    """A run is open."""
    scheduled_at: datetime | None = None
    clear_at: datetime | None = None
    event_count: int = 0
    execute_count: int = 0
    deferred_count: int = 0
    """How many accepted events are still to be handled, delayed ones included."""
    reason: str | None = None
    """Why it is paused or stopped, if a reason was given."""


class TaskClient(EventClient[S, TaskStatus], Generic[S, E]):
    """What can be requested of the instances of one Task."""

    def __init__(self, gateway: RequestGateway, definition: Task[S, E]) -> None:
        super().__init__(gateway, definition, task_status)

    @overload
    async def send(
        self,
        id: str,
        event: E,
        *,
        event_id: str | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        wait: bool = False,
        timeout: Duration | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: None = None,
    ) -> SendResult: ...
    @overload
    async def send(
        self,
        id: str,
        event: E,
        *,
        event_id: str | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object,
    ) -> InboxResult: ...
    async def send(
        self,
        id: str,
        event: E,
        *,
        event_id: str | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        wait: bool = False,
        timeout: Duration | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object | None = None,
    ) -> SendResult | InboxResult:
        """Send `event` to instance `id`; the first event begins its life.

        With `delay` or `at` the event is accepted now and handled then. `event_id` makes the call
        repeatable: the same key again gets the same reply. `wait` waits, at most `timeout`, until
        the event has been handled; a handler that runs in this call goes on after that, and the
        event is accepted if it ends well. Raises `ValidationError` for an event that does not fit,
        `ExecutionError` if `on_event` refused it (the event was not accepted), `QueueFullError`
        and `WaitTimeoutError`.

        With a `connection` to the store's own database the event is a part of the transaction that
        is open there: accepted, deferred, after its commit, and never if it is rolled back. Raises
        `InboxConnectionError` then.
        """
        instance = self._id(id)
        payload, copy = self._definition.event.dump(event, self._definition.name)
        delay_us, at_us = _delay(delay, at)
        longest_us = timeout_us(timeout)
        handle_at_us = at_us
        if delay is not None:
            handle_at_us = later_us(delay, self._gateway.app.clock.now_us(), "delay")
        options = (payload, delay_us, at_us)
        if connection is not None:
            check_no_wait(wait, timeout)
            origin = origin_of(actor, correlation_id)
            message = message_of(SEND, payload, options, event_id, origin, due_us=handle_at_us)
            return await put_one(self._gateway, connection, instance, message)
        request = self._request(
            instance,
            Receive(payload, event_id, handle_at_us, not self._gateway.handlers, EventCopy(copy)),
            SEND,
            options,
            event_id,
            actor,
            correlation_id,
        )
        if not wait:
            return await request
        handled = self._handled(instance, request, longest_us)
        if longest_us is None:
            return await handled
        return await self._gateway.within(instance, handled, longest_us)

    async def _handled(
        self, id: InstanceId, request: Coroutine[Any, Any, SendResult], longest_us: int | None
    ) -> SendResult:
        result = await request
        if result.deferred:
            await wait_until_handled(self._gateway.app, id, result.version, longest_us)
        return result


def task_status(stream: str, row: StatusRow | None, *, unhandled: bool) -> TaskStatus:
    """The status for a status row; None stands for an instance that never was."""
    if row is None:
        return TaskStatus(instance_id=stream, version=0, status="not_found")
    return TaskStatus(
        **common_fields(row),
        status=status_word(row.status, unhandled),
        executing=row.executing,
        scheduled_at=moment(row.due_us),
        clear_at=moment(row.clear_us),
        event_count=row.event_count,
        execute_count=row.run_count,
        deferred_count=row.deferred_count,
        reason=row.reason,
    )


def _sent(turn: Turn, stream: str) -> SendResult:
    """`event_count` counts the event also if its handler ended the life. Nothing follows an event
    that is deferred: it is the last one of its unit."""
    after, last = turn.after, turn.events[-1]
    return SendResult(
        instance_id=stream,
        version=after.version,
        created=isinstance(turn.events[0], Started),
        scheduled_at=moment(after.due_us),
        event_count=after.event_count if after.exists else turn.before.event_count + 1,
        deferred=isinstance(last, EventReceived) and last.deferred,
    )


SEND = RequestKind("send", _sent, SendResult)


def _delay(delay: Duration | None, at: datetime | None) -> tuple[int | None, int | None]:
    if delay is not None and at is not None:
        issue = Issue(loc="", msg="give delay= or at=, not both", type="arguments")
        raise ValidationError("send", [issue])
    return (
        None if delay is None else duration_us(delay, "delay"),
        None if at is None else moment_us(at, "at"),
    )
