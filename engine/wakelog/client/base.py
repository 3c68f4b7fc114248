"""The async clients: what can be asked of the instances of a job, typed by its definition."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

from wakelog.arguments import check_key, reason_of, timeout_us
from wakelog.client import replies as answers
from wakelog.client.gateway import Body, Question, RequestGateway, origin_of
from wakelog.client.results import (
    ClearResult,
    PauseResult,
    ResumeResult,
    RetryResult,
    TriggerResult,
)
from wakelog.client.wait import ran
from wakelog.core.requests import CancelClear, Clear, PauseWork, ResumeWork, RetryRun, TriggerRun
from wakelog.core.time import Duration, duration_us, later_us, moment
from wakelog.definitions.definition import Definition
from wakelog.errors import ExecutionError
from wakelog.ids import InstanceId, check_id

__all__ = ["EventClient", "JobClient"]

S = TypeVar("S")
E = TypeVar("E")


class JobClient(Generic[S]):
    """What can be asked of the instances of any job. All times are aware datetimes in UTC.

    Every call may raise `InvalidIdError`, `StoreUnavailableError` and `ConflictError`; those with
    a key `IdempotencyConflictError`. A crash before a call returns leaves all of it or nothing.
    """

    def __init__(self, gateway: RequestGateway, definition: Definition) -> None:
        self._gateway = gateway
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
        said = await self._gateway.ask(
            self._definition, instance, request, question, idempotency_key, origin
        )
        result = TriggerResult(**said)
        if not result.triggered or not wait:
            return result
        return await ran(self._gateway.app, instance, result, longest_us)

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
        said = await self._gateway.ask(
            self._definition, instance, RetryRun(), question, idempotency_key, origin
        )
        result = RetryResult(**said)
        if not result.retried or result.reason == "parked" or not wait:
            return result
        return await ran(self._gateway.app, instance, result, longest_us)

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
        said = await self._gateway.ask(
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
        said = await self._gateway.ask(
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
            self._gateway.check()
            app = self._gateway.app
            found = (await app.load(instance)).instance
            if found.state is None:
                return None
            shown = await app.caller.shown(self._definition, found, app.clock.now_us())
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
        return await app.write(app.store.forget_key, str(self._id(id)), check_key(key))

    async def _held_as_a_whole(self, id: InstanceId) -> Body | None:
        """What is answered of a run that would not begin: the whole job is paused."""
        self._gateway.check()
        if id.job not in await self._gateway.app.job_pauses.lately():
            return None
        row = await self._gateway.row(id)
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
            at_us = later_us(after, self._gateway.app.clock.now_us(), "after")
        request = Clear(reason_of(reason), at_us)
        question = Question("clear", answers.cleared, (after_us, reason))
        said = await self._gateway.ask(
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
        said = await self._gateway.ask(
            self._definition, self._id(id), CancelClear(), question, idempotency_key, origin
        )
        return ClearResult(clear_at=moment(said.pop("clear_us")), **said)


# -- arguments -------------------------------------------------------------------------------------
