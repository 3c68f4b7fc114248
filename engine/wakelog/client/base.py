"""The async clients: what can be requested of the instances of any job."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, Protocol, TypedDict, TypeVar, cast

from wakelog.arguments import check_key, reason_of, timeout_us
from wakelog.client import request_kinds
from wakelog.client.dead_letters import (
    DEAD_LETTER,
    DISCARD,
    REQUEUE,
    DeadLetter,
    DeadLetterResult,
    dead_letters_of,
    event_number,
    request_about,
)
from wakelog.client.gateway import RequestGateway, origin_of
from wakelog.client.request_kinds import RequestKind
from wakelog.client.results import (
    ClearResult,
    PauseResult,
    Result,
    ResumeResult,
    RetryResult,
    TriggerResult,
)
from wakelog.client.status import InstanceStatus
from wakelog.client.wait import wait_for_run
from wakelog.core.requests import (
    CancelClear,
    Clear,
    PauseWork,
    Request,
    ResumeWork,
    RetryRun,
    TriggerRun,
)
from wakelog.core.time import Duration, duration_us, later_us
from wakelog.definitions.definition import Definition
from wakelog.errors import ExecutionError
from wakelog.ids import InstanceId, check_id
from wakelog.ports.rows import StatusRow

__all__ = ["EventClient", "JobClient", "MakeStatus"]

S = TypeVar("S")
R = TypeVar("R", bound=Result)
Status = TypeVar("Status", bound=InstanceStatus)
StatusOut = TypeVar("StatusOut", bound=InstanceStatus, covariant=True)


class MakeStatus(Protocol[StatusOut]):
    """Makes the status of one type of job from its row; None: there never was an instance."""

    def __call__(self, stream: str, row: StatusRow | None, *, unhandled: bool) -> StatusOut: ...


class _Blocked(TypedDict):
    instance_id: str
    version: int
    reason: str


class JobClient(Generic[S, Status]):
    """What can be requested of the instances of any job. All times are aware datetimes in UTC.

    Every call may raise `InvalidIdError`, `StoreUnavailableError` and `ConflictError`; those with
    a key `IdempotencyConflictError`. A crash before a call returns leaves all of it or nothing.
    """

    def __init__(
        self, gateway: RequestGateway, definition: Definition, make_status: MakeStatus[Status]
    ) -> None:
        self._gateway = gateway
        self._definition = definition
        self._make_status = make_status

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
        """Have a worker call `execute` now; `wait` for its outcome, at most `timeout`.

        The schedule stays unless `consume_alarm`. A trigger that is already waiting for a worker
        is joined; a run that has failed, or waits for its next attempt, is started again. Raises
        `WaitTimeoutError`.
        """
        instance, longest_us = self._id(id), timeout_us(timeout)
        if blocked := await self._blocked_by_job_pause(instance):
            return TriggerResult(triggered=False, **blocked)
        request, options, key = TriggerRun(consume_alarm), (consume_alarm,), idempotency_key
        kind = request_kinds.TRIGGER
        result = await self._request(instance, request, kind, options, key, actor, correlation_id)
        if not result.triggered or not wait:
            return result
        return await wait_for_run(self._gateway.app, instance, result, longest_us)

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

        `wait` for the outcome of that attempt, at most `timeout`. Nothing happens if no run has
        failed; an instance that was parked as unreadable is read again. Raises
        `WaitTimeoutError`.
        """
        instance, longest_us = self._id(id), timeout_us(timeout)
        if blocked := await self._blocked_by_job_pause(instance):
            return RetryResult(retried=False, **blocked)
        kind, key = request_kinds.RETRY, idempotency_key
        result = await self._request(instance, RetryRun(), kind, (), key, actor, correlation_id)
        if not result.retried or result.reason is not None or not wait:
            return result
        return await wait_for_run(self._gateway.app, instance, result, longest_us)

    async def pause(
        self,
        id: str,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> PauseResult:
        """Pause the instance: its alarms wait and its events are deferred, until `resume`.

        An open run may end, but nothing is started.
        """
        request, key = PauseWork(reason_of(reason)), idempotency_key
        kind, options = request_kinds.PAUSE, (reason,)
        return await self._request(id, request, kind, options, key, actor, correlation_id)

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
        request, key = ResumeWork(reason_of(reason)), idempotency_key
        kind, options = request_kinds.RESUME, (reason,)
        return await self._request(id, request, kind, options, key, actor, correlation_id)

    async def dead_letters(self, id: str) -> list[DeadLetter]:
        """The events and batches of the instance that were given up, and why, the oldest first.

        Those of an ended life stay, unless it was ended from outside; of more than 10,000 the
        newest.
        """
        self._gateway.check()
        app = self._gateway.app
        instance = (await app.instances.load(str(self._id(id)))).instance
        return await app.threads.browse(dead_letters_of, app, instance)

    async def requeue(
        self,
        id: str,
        event: int | None = None,
        *,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> DeadLetterResult:
        """Let a dead letter wait again, named by `DeadLetter.event`, or all of the instance: behind
        what waits already, from attempt 1.

        A batch gets a window of its own, which is due at once. Raises `QueueFullError`.
        """
        instance, number = self._id(id), event_number(event)
        self._gateway.check()
        request = await request_about(self._gateway, "requeue", instance, number, None)
        options, key = (number,), idempotency_key
        return await self._request(instance, request, REQUEUE, options, key, actor, correlation_id)

    async def discard(
        self,
        id: str,
        event: int | None = None,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> DeadLetterResult:
        """Drop a dead letter for good, named by `DeadLetter.event`, or all of the instance. Also
        drops an event or a batch that waits for code, by its `waits_for_code.event_version`."""
        instance, number, why = self._id(id), event_number(event), reason_of(reason)
        self._gateway.check()
        request = await request_about(self._gateway, "discard", instance, number, why)
        options, key = (number, reason), idempotency_key
        return await self._request(instance, request, DISCARD, options, key, actor, correlation_id)

    async def dead_letter(
        self,
        id: str,
        event: int | None = None,
        *,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> DeadLetterResult:
        """Make a dead letter of the event or batch that waits for code, so that what is behind it
        goes on; `event` says which it must be. Nothing happens if the state is what waits."""
        instance, number = self._id(id), event_number(event)
        self._gateway.check()
        request = await request_about(self._gateway, "dead_letter", instance, number, None)
        options, key = (number,), idempotency_key
        return await self._request(
            instance, request, DEAD_LETTER, options, key, actor, correlation_id
        )

    async def status(self, id: str, *, stale_ok: bool = False) -> Status:
        """The status of the instance, as recorded now; `stale_ok` may answer from memory."""
        instance = self._id(id)
        row = await self._gateway.shown_row(instance, stale_ok=stale_ok)
        [unhandled] = await self._gateway.unhandled([row])
        return self._make_status(str(instance), row, unhandled=unhandled)

    async def get_state(self, id: str, *, stale_ok: bool = False) -> S | None:
        """The state as `on_client_get_state` shows it, None if there is none.

        Raises `ExecutionError` if that handler fails, or if the recorded state does not fit the
        definition's type any longer.
        """
        instance = self._id(id)
        shown: Any
        if "on_client_get_state" in self._definition.handlers:
            self._gateway.check()
            app = self._gateway.app
            current = (await app.instances.load(str(instance))).instance
            if current.state is None:
                return None
            now_us = app.clock.now_us()
            shown = await app.handler_runner.shown(self._definition, current, now_us)
        else:
            row = await self._gateway.row(instance, stale_ok=stale_ok)
            if row is None or row.state is None:
                return None
            shown = self._definition.state.try_load(row.state)
        if isinstance(shown, BaseException):
            name, message = type(shown).__qualname__, str(shown)
            raise ExecutionError(str(instance), "on_client_get_state", name, message) from shown
        return cast("S | None", shown)

    async def forget_key(self, id: str, key: str) -> bool:
        """Free an idempotency key before its time; answers whether it was there."""
        self._gateway.check()
        app = self._gateway.app
        return await app.threads.write(app.store.forget_key, str(self._id(id)), check_key(key))

    def _request(
        self,
        id: str | InstanceId,
        request: Request,
        kind: RequestKind[R],
        options: tuple[object, ...],
        key: str | None,
        actor: str | None,
        correlation_id: str | None,
    ) -> Coroutine[Any, Any, R]:
        """Put a request to an instance. `options` tell it from others under the same key."""
        return self._gateway.request(
            self._definition,
            id if isinstance(id, InstanceId) else self._id(id),
            request,
            kind,
            None if key is None else kind.key(key, options),
            origin_of(actor, correlation_id),
        )

    async def _blocked_by_job_pause(self, id: InstanceId) -> _Blocked | None:
        """The fields of a result that says: nothing would begin, the whole job is paused."""
        self._gateway.check()
        if id.job not in await self._gateway.app.job_pauses.lately():
            return None
        row = await self._gateway.row(id)
        if row is None or row.created_us is None or row.executing:
            return None
        return _Blocked(instance_id=str(id), version=row.version, reason="paused")

    def _id(self, id: str) -> InstanceId:
        return InstanceId(self._definition.kind, self._definition.name, check_id(id))


class EventClient(JobClient[S, Status]):
    """What can be requested of the instances of jobs that take events: the first event begins a
    life, a clear ends it."""

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
        after_us = at_us = None
        if after is not None:
            after_us = duration_us(after, "after")
            at_us = later_us(after, self._gateway.app.clock.now_us(), "after")
        request, key = Clear(reason_of(reason), at_us), idempotency_key
        kind, options = request_kinds.CLEAR, (after_us, reason)
        return await self._request(id, request, kind, options, key, actor, correlation_id)

    async def cancel_clear(
        self,
        id: str,
        *,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> ClearResult:
        """Cancel a delayed clear; nothing happens if none is pending."""
        kind, key = request_kinds.CANCEL_CLEAR, idempotency_key
        return await self._request(id, CancelClear(), kind, (), key, actor, correlation_id)
