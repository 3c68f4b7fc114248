"""The async client of a Debounce: what can be requested, results and status."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replace_fields
from datetime import datetime
from typing import Generic, TypeVar, overload

from wakelog.arguments import timeout_us
from wakelog.client.base import EventClient
from wakelog.client.gateway import RequestGateway, origin_of
from wakelog.client.inbox.sending import InboxResult, message_of, put_one
from wakelog.client.request_kinds import RequestKind, first_event, why_held
from wakelog.client.results import Result, TriggerResult
from wakelog.client.status import InstanceStatus, common_fields
from wakelog.client.wait import end_of_unit, warn_without_worker
from wakelog.client.wait_flush import FlushResult, FlushWatcher
from wakelog.core.calls import EventCopy
from wakelog.core.events import EventReceived
from wakelog.core.instance import Instance
from wakelog.core.requests import Receive, TriggerRun
from wakelog.core.time import Duration, moment
from wakelog.core.windows import Window
from wakelog.definitions.debounce import Debounce
from wakelog.ports.rows import StatusRow
from wakelog.turn import Turn

__all__ = ["ADD", "AddResult", "DebounceClient", "DebounceStatus", "FlushResult", "debounce_status"]

S = TypeVar("S")
E = TypeVar("E")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddResult(Result):
    """The result of an `add`."""

    created: bool
    """Whether this event opened a window."""
    event_count: int
    """How many events its window holds, this one included."""
    will_flush_at: datetime | None
    """When its window is due; None if its reducer ended the life."""
    flush_started: bool
    """It was the last one that its window takes: the flush is due at once."""
    deferred: bool
    """Accepted now, to be reduced later: when the windows before its own are flushed, or when
    the events before it are reduced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebounceStatus(InstanceStatus):
    """The status of a Debounce instance.

    `status` is the first that holds of `not_found`, `failed` (it cannot be read, or its policy
    keeps a failed flush), `paused`, `flushing`, `retrying`, `waiting_for_code` (K4), `debouncing`
    and `idle` (D8).
    """

    event_count: int = 0
    """How many accepted events are not flushed yet, those of later windows included."""
    window_count: int = 0
    """How many windows hold them."""
    deferred_count: int = 0
    """How many of them are still to be reduced."""
    started_at: datetime | None = None
    """When the first window was opened."""
    will_flush_at: datetime | None = None
    """When the first window is due that is not being flushed."""
    clear_at: datetime | None = None
    execute_count: int = 0
    """How many flushes this life has had; attempts do not count."""
    reason: str | None = None
    """Why it is paused, if a reason was given."""


class DebounceClient(EventClient[S, DebounceStatus], Generic[S, E]):
    """What can be requested of the instances of one Debounce."""

    def __init__(self, gateway: RequestGateway, definition: Debounce[S, E]) -> None:
        super().__init__(gateway, definition, debounce_status)

    @overload
    async def add(
        self,
        id: str,
        event: E,
        *,
        event_id: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: None = None,
    ) -> AddResult: ...
    @overload
    async def add(
        self,
        id: str,
        event: E,
        *,
        event_id: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object,
    ) -> InboxResult: ...
    async def add(
        self,
        id: str,
        event: E,
        *,
        event_id: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object | None = None,
    ) -> AddResult | InboxResult:
        """Add `event` to the open window of instance `id`, or open one with it.

        Never fails because of a flush: that is a unit of work of its own. `event_id` makes the
        call repeatable: the same key again gets the same reply. Raises `ValidationError` for an
        event that does not fit, `ExecutionError` if the reducer refused it (it was not accepted),
        and `QueueFullError`.

        With a `connection` to the store's own database the event is a part of the transaction that
        is open there: added after its commit, and never if it is rolled back. Raises
        `InboxConnectionError` then.
        """
        payload, copy = self._definition.event.dump(event, self._definition.name)
        if connection is not None:
            instance, origin = self._id(id), origin_of(actor, correlation_id)
            message = message_of(ADD, payload, (payload,), event_id, origin)
            return await put_one(self._gateway, connection, instance, message)
        request = Receive(payload, event_id, defer=not self._gateway.handlers, copy=EventCopy(copy))
        return await self._request(id, request, ADD, (payload,), event_id, actor, correlation_id)

    async def flush(
        self,
        id: str,
        *,
        wait: bool = True,
        timeout: Duration | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> FlushResult:
        """Have a worker flush all that was added; `wait` for it, at most `timeout`.

        The result is about the newest window; those before it are flushed before it. A flush that
        is running already is joined; one that has failed, or waits for its next attempt, is
        started again. Without `wait` it is only requested, and `flushed` says nothing. Raises
        `WaitTimeoutError`: the flush is requested, and still to come.
        """
        instance = self._id(id)
        longest_us = timeout_us(timeout)
        if blocked := await self._blocked_by_job_pause(instance):
            return FlushResult(flushed=False, **blocked)
        key = idempotency_key
        reply = await self._request(instance, TriggerRun(), _FLUSH, (), key, actor, correlation_id)
        result, app = reply.flush, self._gateway.app
        if reply.window is None or not wait:
            return result
        await warn_without_worker(app, str(instance), instance.job)
        watcher = FlushWatcher(result, *reply.window)
        stream = result.instance_id
        result = await app.stream_watch.watch(stream, result.version, watcher, longest_us)
        version = await end_of_unit(app, instance, result.version)
        return replace_fields(result, version=version)

    async def trigger(
        self,
        id: str,
        *,
        consume_alarm: bool = False,
        wait: bool = True,
        timeout: Duration | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> TriggerResult:
        """A `flush`, with the result of a trigger; it always consumes the schedule."""
        flush = await self.flush(
            id,
            wait=wait,
            timeout=timeout,
            idempotency_key=idempotency_key,
            actor=actor,
            correlation_id=correlation_id,
        )
        is_refused = flush.reason in ("empty", "paused", "parked", "waiting_for_code")
        return TriggerResult(
            instance_id=flush.instance_id,
            version=flush.version,
            triggered=not is_refused,
            reason=flush.reason if is_refused else None,
            cleared=flush.reason == "cleared",
            failed=flush.failed,
            error=flush.error,
            retry_at=flush.retry_at,
            duplicate=flush.duplicate,
        )


def debounce_status(stream: str, row: StatusRow | None, *, unhandled: bool) -> DebounceStatus:
    """The status for a status row; None stands for an instance that never was. It has no word for
    an alarm that no worker knows (D8): `unhandled` is ignored."""
    if row is None:
        return DebounceStatus(instance_id=stream, version=0, status="not_found")
    return DebounceStatus(
        **common_fields(row),
        status=row.status,
        event_count=row.unfinished_count,
        window_count=row.window_count,
        deferred_count=row.deferred_count,
        started_at=moment(row.window_opened_us),
        will_flush_at=moment(row.flush_due_us),
        clear_at=moment(row.clear_us),
        execute_count=row.run_count,
        reason=row.reason,
    )


# -- replies ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _FlushReply(Result):
    """The result, and what the client needs to know to wait for the flush."""

    result: FlushResult
    window: tuple[int, int] | None
    """The first and the last version of the window that is meant; None if there is no flush."""

    @property
    def flush(self) -> FlushResult:
        """The result, marked as a duplicate if this reply is one."""
        return replace_fields(self.result, duplicate=True) if self.duplicate else self.result


def _added(turn: Turn, stream: str) -> AddResult:
    before, after = turn.before, turn.after
    received = first_event(turn, EventReceived)
    if received is None:
        raise AssertionError("an event that was added was received")
    window = _window(after, received.window)
    return AddResult(
        instance_id=stream,
        version=after.version,
        created=_window(before, received.window) is None,
        event_count=len(window.events) if window else _count(before, received.window) + 1,
        will_flush_at=moment(window.due_us) if window else None,
        flush_started=window is not None and window.reason == "max_events",
        deferred=received.deferred,
    )


def _window(instance: Instance, number: int | None) -> Window | None:
    return next((each for each in instance.windows if each.number == number), None)


def _count(instance: Instance, number: int | None) -> int:
    window = _window(instance, number)
    return len(window.events) if window else 0


def _flush_requested(turn: Turn, stream: str) -> _FlushReply:
    after = turn.after
    blocked = why_held(after) if after.exists else None
    window = after.windows[-1] if after.windows else None
    meant = (window.events[0], window.events[-1]) if window and not blocked else None
    result = FlushResult(
        instance_id=stream,
        version=after.version,
        flushed=False,
        event_count=len(window.events) if window else 0,
        reason=blocked or (window.reason if window else "empty"),
    )
    return _FlushReply(instance_id=stream, version=after.version, result=result, window=meant)


ADD = RequestKind("add", _added, AddResult)
_FLUSH = RequestKind("flush", _flush_requested, _FlushReply)
