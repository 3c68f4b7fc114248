"""The async client of a job: what can be asked of its instances, fully typed by its definition."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Generic, NoReturn, TypeVar, cast

from wakelog.application import Application, Asked, Key, Origin
from wakelog.call import context_of_caller
from wakelog.core.commands import CancelClear, Clear, Failed, Receive, Request, TriggerRun
from wakelog.core.events import Cleared, EventReceived, Started
from wakelog.core.schedule import Duration, duration_us, later_us, moment_us
from wakelog.definition import Definition, Task
from wakelog.errors import (
    ExecutionError,
    InvalidIdError,
    InvalidStateError,
    Issue,
    ValidationError,
)
from wakelog.ids import InstanceId, check_id, check_text
from wakelog.log import Head
from wakelog.ports import StatusRow
from wakelog.results import (
    ClearResult,
    SendResult,
    TaskStatus,
    TriggerResult,
    moment,
    task_status,
)
from wakelog.turn import Turn
from wakelog.waiting import handled, ran

__all__ = ["Door", "TaskClient", "refuse_in_handler"]

S = TypeVar("S")
E = TypeVar("E")


CLOSED = "the app is closed: open it again with jobs.open(...)"


def refuse_in_handler() -> None:
    """Raise `InvalidStateError` in a handler: it would wait for itself."""
    ctx = context_of_caller()
    if ctx is not None:
        raise InvalidStateError(
            f"a handler of {ctx.instance_id} must not wait for the app: it holds its own turn; "
            f"let the handler end first, and ask from outside"
        )


class Door:
    """Where requests come in: guards them, puts them to the application, raises what they raise."""

    def __init__(self, app: Application, *, handlers: bool) -> None:
        self.app = app
        self.handlers = handlers
        """Whether `on_event` may run in this process; else every event is deferred."""
        self.closed = False
        self._threads = not app.caller.inline
        self._whole_tasks: set[asyncio.Task[Asked]] = set()

    def check(self) -> None:
        """Raise `InvalidStateError` in a handler, and when the app is closed."""
        refuse_in_handler()
        if self.closed:
            raise InvalidStateError(CLOSED)

    async def ask(
        self,
        definition: Definition,
        id: InstanceId,
        request: Request,
        key: Key | None,
        origin: Origin,
    ) -> Asked:
        """Put a request. Raises `ExecutionError` where a handler of it failed for good."""
        self.check()
        asking = self.app.ask(definition, id, request, key=key, origin=origin)
        asked = await (self._whole(asking) if self._threads and definition.has_threads else asking)
        if asked.turn is not None and asked.turn.raises:
            _raise(id, asked.turn.raises)
        return asked

    async def _whole(self, asking: Coroutine[Any, Any, Asked]) -> Asked:
        """Go on though the caller gives up: a handler in a thread does, and holds its turn."""
        task = asyncio.create_task(asking)
        self._whole_tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Asked]) -> None:
        self._whole_tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its caller was told, or is gone

    async def unhandled(self, rows: Sequence[StatusRow | None]) -> list[bool]:
        """For each instance, whether it has an alarm due that no living worker could take."""
        now_us = self.app.clock.now_us()
        due = [r is not None and r.wake_us is not None and r.wake_us <= now_us for r in rows]
        known = await self.known_jobs() if any(due) else None
        if known is None:
            return [False] * len(due)
        return [
            is_due
            and row is not None
            and not row.executing
            and f"{row.kind}:{row.name}" not in known
            for is_due, row in zip(due, rows, strict=True)
        ]

    async def known_jobs(self) -> set[str] | None:
        """The jobs that a living worker works on; None in a simulation, which works on all."""
        if self.app.drive is not None:
            return None
        workers = await self.app.read(self.app.store.workers, self.app.clock.now_us())
        return {job for worker in workers for job in worker.jobs}

    async def row(self, id: InstanceId, *, stale_ok: bool = False) -> StatusRow | None:
        """The status row of an instance."""
        self.check()
        found = await self.app.status(id, stale_ok=stale_ok)
        return self.app.store.row(*found) if isinstance(found, Head) else found


class TaskClient(Generic[S, E]):
    """What can be asked of the instances of one Task. All times are aware datetimes in UTC.

    Every call may raise `InvalidIdError`, `StoreUnavailableError` and `ConflictError`; those with
    a key `IdempotencyConflictError`. A crash before a call returns leaves all of it or nothing.
    """

    def __init__(self, door: Door, definition: Task[S, E]) -> None:
        self._door = door
        self._definition = definition

    @property
    def name(self) -> str:
        """The name under which the definition is registered."""
        return self._definition.name

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
    ) -> SendResult:
        """Send `event` to instance `id`, which begins its life if it has none.

        With `delay` or `at` the event is accepted now and handled then. `event_id` makes the call
        repeatable: the same key again is answered as before. `wait` waits, at most `timeout`,
        until a deferred or delayed event has been handled. Raises `ValidationError` for an event
        that does not fit, `ExecutionError` where `on_event` refused it (the event was not
        accepted), `QueueFullError` and `WaitTimeoutError`.
        """
        instance = self._id(id)
        payload, _ = self._definition.event.dump(event, self._definition.name)
        delay_us, at_us = _delay(delay, at)
        timeout_us = _timeout_us(timeout)
        handle_at_us = at_us
        if delay is not None:
            handle_at_us = later_us(delay, self._door.app.clock.now_us(), "delay")
        request = Receive(payload, event_id, handle_at_us, defer=not self._door.handlers)
        key = _key(event_id, "send", (payload, delay_us, at_us), _sent)
        asked = await self._door.ask(
            self._definition, instance, request, key, _origin(actor, correlation_id)
        )
        body = _body(asked, _sent)
        result = SendResult(
            instance_id=str(instance),
            scheduled_at=moment(body.pop("scheduled_us")),
            duplicate=asked.turn is None,
            **body,
        )
        if wait and result.deferred:
            await handled(self._door.app, instance, result.version, timeout_us)
        return result

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
        """Have `execute` run now, by a worker; `wait` for its outcome, at most `timeout`.

        The schedule stays unless `consume_alarm`. A trigger that is already waiting for a worker
        is joined. Raises `WaitTimeoutError`.
        """
        instance = self._id(id)
        timeout_us = _timeout_us(timeout)
        key = _key(idempotency_key, "trigger", (consume_alarm,), _triggered)
        request = TriggerRun(consume_alarm)
        asked = await self._door.ask(
            self._definition, instance, request, key, _origin(actor, correlation_id)
        )
        result = TriggerResult(
            instance_id=str(instance),
            duplicate=asked.turn is None,
            **_body(asked, _triggered),
        )
        if not result.triggered or not wait:
            return result
        return await ran(self._door.app, instance, result, timeout_us)

    async def clear(
        self,
        id: str,
        *,
        after: Duration | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> ClearResult:
        """End the life of instance `id`, now or `after` a while; its history stays.

        A clear now ends an open run too: its outcome is not recorded. One that is due while a
        run is open waits for that run's end.
        """
        instance = self._id(id)
        after_us = at_us = None
        if after is not None:
            after_us = duration_us(after, "after")
            at_us = later_us(after, self._door.app.clock.now_us(), "after")
        if reason is not None:
            check_text(reason, "reason")
        key = _key(idempotency_key, "clear", (after_us, reason), _cleared)
        origin = _origin(actor, correlation_id)
        return await self._clear(instance, Clear(reason, at_us), key, origin)

    async def cancel_clear(
        self,
        id: str,
        *,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> ClearResult:
        """Take back a delayed clear; nothing happens where none is pending."""
        key = _key(idempotency_key, "cancel_clear", (), _cleared)
        return await self._clear(self._id(id), CancelClear(), key, _origin(actor, correlation_id))

    async def status(self, id: str, *, stale_ok: bool = False) -> TaskStatus:
        """How the instance stands, as recorded now; `stale_ok` may answer out of memory."""
        instance = self._id(id)
        row = await self._door.row(instance, stale_ok=stale_ok)
        [unhandled] = await self._door.unhandled([row])
        return task_status(str(instance), row, unhandled=unhandled)

    async def get_state(self, id: str, *, stale_ok: bool = False) -> S | None:
        """The state as `on_client_get_state` shows it, None where there is none.

        Raises `ExecutionError` where that handler fails, or the recorded state does not fit the
        definition's type any more.
        """
        instance = self._id(id)
        row = await self._door.row(instance, stale_ok=stale_ok)
        if row is None or row.state is None:
            return None
        shown: Any
        if "on_client_get_state" in self._definition.handlers:
            app = self._door.app
            head = await app.load(instance)
            shown = await app.caller.shown(self._definition, head.instance, app.clock.now_us())
        else:
            shown = self._definition.state.try_load(row.state)
        if isinstance(shown, BaseException):
            name, message = type(shown).__qualname__, str(shown)
            raise ExecutionError(str(instance), "on_client_get_state", name, message) from shown
        return cast("S | None", shown)

    async def forget_key(self, id: str, key: str) -> bool:
        """Free an idempotency key before its time; answers whether it was there."""
        self._door.check()
        app = self._door.app
        return await app.write(app.store.forget_key, str(self._id(id)), _check_key(key))

    async def _clear(
        self, instance: InstanceId, request: Clear | CancelClear, key: Key | None, origin: Origin
    ) -> ClearResult:
        asked = await self._door.ask(self._definition, instance, request, key, origin)
        body = _body(asked, _cleared)
        return ClearResult(
            instance_id=str(instance),
            clear_at=moment(body.pop("clear_us")),
            duplicate=asked.turn is None,
            **body,
        )

    def _id(self, id: str) -> InstanceId:
        return InstanceId(self._definition.kind, self._definition.name, check_id(id))


# -- answers: what is said of a turn, and kept under a key -----------------------------------------


def _sent(turn: Turn) -> dict[str, Any]:
    """A send was accepted: `event_count` counts it, also where its handler ended the life.

    Nothing follows an event that is deferred: it is the last one of its unit.
    """
    after, last = turn.after, turn.events[-1]
    return {
        "version": after.version,
        "created": isinstance(turn.events[0], Started),
        "scheduled_us": after.due_us,
        "event_count": after.event_count if after.exists else turn.before.event_count + 1,
        "deferred": isinstance(last, EventReceived) and last.deferred,
    }


def _triggered(turn: Turn) -> dict[str, Any]:
    before = turn.before
    reason = None
    if not before.exists:
        reason = "not_found"
    elif before.run is not None:
        reason = "running"
    return {"version": turn.after.version, "triggered": reason is None, "reason": reason}


def _cleared(turn: Turn) -> dict[str, Any]:
    ended = next((e for e in turn.events if isinstance(e, Cleared)), None)
    return {
        "version": turn.after.version,
        "cleared": ended is not None,
        "clear_us": turn.after.clear_at_us,
        "discarded": ended.discarded if ended else 0,
    }


def _body(asked: Asked, answer: Callable[[Turn], dict[str, Any]]) -> dict[str, Any]:
    if asked.turn is not None:
        return answer(asked.turn)
    if asked.answer is None:
        raise AssertionError("a request has a turn or an answer")
    body: dict[str, Any] = json.loads(asked.answer.body)
    return body


# -- arguments -------------------------------------------------------------------------------------


def _key(
    key: str | None,
    action: str,
    options: tuple[object, ...],
    answer: Callable[[Turn], dict[str, Any]],
) -> Key | None:
    """The idempotency key of a request, with a digest of what it asks. Raises `ValidationError`."""
    if key is None:
        return None
    _check_key(key)
    fingerprint = hashlib.sha256(repr(options).encode()).hexdigest()

    def body(turn: Turn) -> str:
        return json.dumps(answer(turn))

    return Key(key, action, fingerprint, body)


def _check_key(key: str) -> str:
    try:
        return check_id(key)
    except InvalidIdError as error:
        what = "key " + error.what.removeprefix("instance id ")
        raise ValidationError(what, error.issues) from None


def _origin(actor: str | None, correlation_id: str | None) -> Origin:
    """Who asks, for the record. Raises `ValidationError`."""
    if actor is not None:
        check_text(actor, "actor")
    if correlation_id is not None:
        check_text(correlation_id, "correlation_id")
    return Origin(actor, correlation_id)


def _delay(delay: Duration | None, at: datetime | None) -> tuple[int | None, int | None]:
    if delay is not None and at is not None:
        issue = Issue(loc="", msg="give delay= or at=, not both", type="arguments")
        raise ValidationError("send", [issue])
    return (
        None if delay is None else duration_us(delay, "delay"),
        None if at is None else moment_us(at, "at"),
    )


def _timeout_us(timeout: Duration | None) -> int | None:
    return None if timeout is None else duration_us(timeout, "timeout")


def _raise(id: InstanceId, failures: tuple[Failed, ...]) -> NoReturn:
    """Tell the caller of a failure; where `on_error` failed too, of both, chained (T12)."""
    first, last = failures[0], failures[-1]
    if last.error is not first.error and last.error.__cause__ is None:
        last.error.__cause__ = first.error
    handler = "on_event" if last is first else "on_error"
    raise ExecutionError(str(id), handler, last.error_type, last.message) from last.error
