"""The async clients: what can be asked of the instances of a job, typed by its definition."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from wakelog import answers
from wakelog.core.commands import (
    CancelClear,
    Clear,
    PauseWork,
    Receive,
    ResumeWork,
    RetryRun,
    TriggerRun,
)
from wakelog.core.schedule import Duration, duration_us, later_us, moment_us
from wakelog.definition import Definition, Task
from wakelog.door import Body, Door, Question, check_key, origin_of
from wakelog.errors import ExecutionError, Issue, ValidationError
from wakelog.ids import InstanceId, check_id, check_text
from wakelog.results import (
    ClearResult,
    PauseResult,
    ResumeResult,
    RetryResult,
    SendResult,
    TriggerResult,
)
from wakelog.standing import TaskStatus, moment, task_status
from wakelog.waiting import handled, ran

__all__ = [
    "EventClient",
    "JobClient",
    "TaskClient",
    "reason_of",
    "task_standing",
    "timeout_us",
]

S = TypeVar("S")
E = TypeVar("E")


class JobClient(Generic[S]):
    """What can be asked of the instances of any job. All times are aware datetimes in UTC.

    Every call may raise `InvalidIdError`, `StoreUnavailableError` and `ConflictError`; those with
    a key `IdempotencyConflictError`. A crash before a call returns leaves all of it or nothing.
    """

    def __init__(self, door: Door, definition: Definition) -> None:
        self._door = door
        self._definition = definition

    @property
    def name(self) -> str:
        """The name under which the definition is registered."""
        return self._definition.name

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
        is joined; a run that has failed, or waits for its next attempt, is started again. Raises
        `WaitTimeoutError`.
        """
        instance = self._id(id)
        longest_us = timeout_us(timeout)
        if held := await self._held_as_a_whole(instance):
            return TriggerResult(triggered=False, **held)
        question = Question("trigger", answers.triggered, (consume_alarm,))
        origin = origin_of(actor, correlation_id)
        request = TriggerRun(consume_alarm)
        said = await self._door.ask(
            self._definition, instance, request, question, idempotency_key, origin
        )
        result = TriggerResult(**said)
        if not result.triggered or not wait:
            return result
        return await ran(self._door.app, instance, result, longest_us)

    async def retry(
        self,
        id: str,
        *,
        wait: bool = True,
        timeout: Duration | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> RetryResult:
        """Start the run that has failed, or that waits for its next attempt, again: from attempt
        1, as the same run, so that steps it has recorded are not done again.

        `wait` for the outcome of that attempt, at most `timeout`. Nothing happens where no run
        has failed; an instance that was parked as unreadable is read again. Raises
        `WaitTimeoutError`.
        """
        instance = self._id(id)
        longest_us = timeout_us(timeout)
        if held := await self._held_as_a_whole(instance):
            return RetryResult(retried=False, **held)
        question, origin = Question("retry", answers.retried), origin_of(actor, correlation_id)
        said = await self._door.ask(
            self._definition, instance, RetryRun(), question, idempotency_key, origin
        )
        result = RetryResult(**said)
        if not result.retried or result.reason == "parked" or not wait:
            return result
        return await ran(self._door.app, instance, result, longest_us)

    async def pause(
        self,
        id: str,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> PauseResult:
        """Hold the instance back: its alarms wait and its events are deferred, until `resume`.

        An open run may end, but nothing is started.
        """
        question, origin = (
            Question("pause", answers.paused, (reason,)),
            origin_of(actor, correlation_id),
        )
        request = PauseWork(reason_of(reason))
        said = await self._door.ask(
            self._definition, self._id(id), request, question, idempotency_key, origin
        )
        return PauseResult(**said)

    async def resume(
        self,
        id: str,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> ResumeResult:
        """Let a paused instance go on: what is due by now is due at once."""
        question, origin = (
            Question("resume", answers.resumed, (reason,)),
            origin_of(actor, correlation_id),
        )
        request = ResumeWork(reason_of(reason))
        said = await self._door.ask(
            self._definition, self._id(id), request, question, idempotency_key, origin
        )
        return ResumeResult(**said)

    async def get_state(self, id: str, *, stale_ok: bool = False) -> S | None:
        """The state as `on_client_get_state` shows it, None where there is none.

        Raises `ExecutionError` where that handler fails, or the recorded state does not fit the
        definition's type any more.
        """
        instance = self._id(id)
        shown: Any
        if "on_client_get_state" in self._definition.handlers:
            self._door.check()
            app = self._door.app
            found = (await app.load(instance)).instance
            if found.state is None:
                return None
            shown = await app.caller.shown(self._definition, found, app.clock.now_us())
        else:
            row = await self._door.row(instance, stale_ok=stale_ok)
            if row is None or row.state is None:
                return None
            shown = self._definition.state.try_load(row.state)
        if isinstance(shown, BaseException):
            name, message = type(shown).__qualname__, str(shown)
            raise ExecutionError(str(instance), "on_client_get_state", name, message) from shown
        return cast("S | None", shown)

    async def forget_key(self, id: str, key: str) -> bool:
        """Free an idempotency key before its time; answers whether it was there."""
        self._door.check()
        app = self._door.app
        return await app.write(app.store.forget_key, str(self._id(id)), check_key(key))

    async def _held_as_a_whole(self, id: InstanceId) -> Body | None:
        """What is answered of a run that would not begin: the whole job is paused."""
        self._door.check()
        if id.job not in await self._door.app.holds.lately():
            return None
        row = await self._door.row(id)
        if row is None or row.created_us is None or row.executing:
            return None
        return {"instance_id": str(id), "version": row.version, "reason": "paused"}

    def _id(self, id: str) -> InstanceId:
        return InstanceId(self._definition.kind, self._definition.name, check_id(id))


class EventClient(JobClient[S]):
    """What can be asked of the instances of jobs that take events: the first one begins a life, a
    clear ends it."""

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
        request = Clear(reason_of(reason), at_us)
        question = Question("clear", answers.cleared, (after_us, reason))
        said = await self._door.ask(
            self._definition,
            instance,
            request,
            question,
            idempotency_key,
            origin_of(actor, correlation_id),
        )
        return ClearResult(clear_at=moment(said.pop("clear_us")), **said)

    async def cancel_clear(
        self,
        id: str,
        *,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> ClearResult:
        """Take back a delayed clear; nothing happens where none is pending."""
        question, origin = (
            Question("cancel_clear", answers.cleared),
            origin_of(actor, correlation_id),
        )
        said = await self._door.ask(
            self._definition, self._id(id), CancelClear(), question, idempotency_key, origin
        )
        return ClearResult(clear_at=moment(said.pop("clear_us")), **said)


class TaskClient(EventClient[S], Generic[S, E]):
    """What can be asked of the instances of one Task."""

    def __init__(self, door: Door, definition: Task[S, E]) -> None:
        super().__init__(door, definition)

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
        payload = self._definition.event.dump(event, self._definition.name)[0]
        delay_us, at_us = _delay(delay, at)
        longest_us = timeout_us(timeout)
        handle_at_us = at_us
        if delay is not None:
            handle_at_us = later_us(delay, self._door.app.clock.now_us(), "delay")
        said = await self._door.ask(
            self._definition,
            instance,
            Receive(payload, event_id, handle_at_us, defer=not self._door.handlers),
            Question("send", answers.sent, (payload, delay_us, at_us)),
            event_id,
            origin_of(actor, correlation_id),
        )
        result = SendResult(scheduled_at=moment(said.pop("scheduled_us")), **said)
        if wait and result.deferred:
            await handled(self._door.app, instance, result.version, longest_us)
        return result

    async def status(self, id: str, *, stale_ok: bool = False) -> TaskStatus:
        """How the instance stands, as recorded now; `stale_ok` may answer out of memory."""
        return await task_standing(self._door, self._id(id), stale_ok=stale_ok)


async def task_standing(door: Door, id: InstanceId, *, stale_ok: bool = False) -> TaskStatus:
    """How a Task instance stands; no definition is needed."""
    row = await door.standing(id, stale_ok=stale_ok)
    [unhandled] = await door.unhandled([row])
    return task_status(str(id), row, unhandled=unhandled)


# -- arguments -------------------------------------------------------------------------------------


def timeout_us(timeout: Duration | None) -> int | None:
    """Microseconds of a `timeout=`. Raises `ValidationError`."""
    return None if timeout is None else duration_us(timeout, "timeout")


def reason_of(reason: str | None) -> str | None:
    """A `reason=` as it is. Raises `ValidationError` for what cannot be recorded."""
    return None if reason is None else check_text(reason, "reason")


def _delay(delay: Duration | None, at: datetime | None) -> tuple[int | None, int | None]:
    if delay is not None and at is not None:
        issue = Issue(loc="", msg="give delay= or at=, not both", type="arguments")
        raise ValidationError("send", [issue])
    return (
        None if delay is None else duration_us(delay, "delay"),
        None if at is None else moment_us(at, "at"),
    )
