"""The async client of a Continuous job: what can be requested, results and status."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replace_fields
from datetime import datetime
from typing import Generic, TypeVar, overload

from wakelog.arguments import reason_of, timeout_us
from wakelog.client.base import JobClient
from wakelog.client.gateway import RequestGateway, origin_of
from wakelog.client.inbox.sending import InboxResult, check_no_wait, message_of, put_one
from wakelog.client.request_kinds import RequestKind, first_event
from wakelog.client.results import Result, RunResult
from wakelog.client.status import InstanceStatus, common_fields, status_word
from wakelog.client.wait import wait_for_run
from wakelog.core.events import Cleared, Resumed, Started, Stopped
from wakelog.core.requests import Clear, Start, StopWork
from wakelog.core.time import Duration, moment
from wakelog.definitions.continuous import Continuous
from wakelog.history.past import at_version
from wakelog.kinds import BEHAVIOURS
from wakelog.ports.rows import StatusRow
from wakelog.runtime.job_pauses import UNAFFECTED
from wakelog.turn import Turn

__all__ = [
    "START",
    "ContinuousClient",
    "ContinuousStatus",
    "StartResult",
    "StopResult",
    "TerminateResult",
    "continuous_status",
]

S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartResult(RunResult):
    """The result of a `start`. A first run that failed does not end the schedule: the next run
    comes all the same, unless the policy says otherwise."""

    created: bool
    """Whether a life began with it."""
    status: str
    next_run_at: datetime | None
    resumed: bool = False
    """It had been stopped, and goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopResult(Result):
    """The result of a `stop`."""

    stopped: bool
    reason: str | None = None
    """The reason given; or why nothing happened: `not_found` or `stopped` (it was before)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateResult(Result):
    """The result of a `terminate`."""

    terminated: bool
    reason: str | None = None
    """The reason given; or `not_found`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousStatus(InstanceStatus):
    """The status of a Continuous instance.

    `status` as a Task's, without `idle`; once `failed`, nothing runs until an operator acts (C8).
    """

    running: bool = False
    next_run_at: datetime | None = None
    run_count: int = 0
    """Runs that have begun; attempts do not count."""
    last_executed_at: datetime | None = None
    """When the newest run ended, well or not."""
    stop_reason: str | None = None
    """Why it was stopped or paused."""


class ContinuousClient(JobClient[S, ContinuousStatus], Generic[S]):
    """What can be requested of the instances of one Continuous job."""

    def __init__(self, gateway: RequestGateway, definition: Continuous[S]) -> None:
        super().__init__(gateway, definition, continuous_status)

    @overload
    async def start(
        self,
        id: str,
        input: S,
        *,
        replace: bool = False,
        wait: bool = True,
        timeout: Duration | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: None = None,
    ) -> StartResult: ...
    @overload
    async def start(
        self,
        id: str,
        input: S,
        *,
        replace: bool = False,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object,
    ) -> InboxResult: ...
    async def start(
        self,
        id: str,
        input: S,
        *,
        replace: bool = False,
        wait: bool = True,
        timeout: Duration | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object | None = None,
    ) -> StartResult | InboxResult:
        """Begin recurring work, with `input` as its first state; `wait` for its first run, at
        most `timeout`.

        Nothing happens if it is running already (`created=False`). One that was stopped is resumed
        with the state that it has; with `replace` that becomes `input`. A first run that fails
        does not raise: the result says so. Raises `ValidationError` for an input that does not
        fit, and `WaitTimeoutError`.

        With a `connection` to the store's own database it is a part of the transaction that is
        open there: started after its commit, and never if it is rolled back. Nothing is waited
        for. Raises `InboxConnectionError` then.
        """
        instance = self._id(id)
        text = self._definition.state.dump(input, self._definition.name)[0]
        longest_us = timeout_us(timeout)
        options, key, request = (text, replace), idempotency_key, Start(text, replace)
        if connection is not None:
            check_no_wait(False, timeout)
            origin = origin_of(actor, correlation_id)
            message = message_of(START, text, options, key, origin, replace=replace)
            return await put_one(self._gateway, connection, instance, message)
        reply = await self._request(instance, request, START, options, key, actor, correlation_id)
        app, result = self._gateway.app, reply.start
        is_paused = instance.job in await app.job_pauses.lately()  # then its first run waits
        if is_paused and result.status not in UNAFFECTED:
            result = replace_fields(result, status="paused")
        if not (wait and reply.runs_now) or is_paused:
            return result
        result = await wait_for_run(app, instance, result, longest_us, trigger=None)
        head = await app.threads.read(at_version, app.store, instance, result.version)
        status = BEHAVIOURS[instance.kind].status(head.instance)
        return replace_fields(result, status=status, next_run_at=moment(head.instance.due_us))

    async def stop(
        self,
        id: str,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> StopResult:
        """Start no further run; the state is kept, and `start` goes on with it. An open run may
        end."""
        request, key = StopWork(reason_of(reason)), idempotency_key
        options = (reason,)
        return await self._request(id, request, _STOP, options, key, actor, correlation_id)

    async def terminate(
        self,
        id: str,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> TerminateResult:
        """End this life at once; its history stays. An open run is cancelled if it can be, and
        its outcome is not recorded."""
        request, key = Clear(reason_of(reason)), idempotency_key
        options = (reason,)
        return await self._request(id, request, _TERMINATE, options, key, actor, correlation_id)


def continuous_status(stream: str, row: StatusRow | None, *, unhandled: bool) -> ContinuousStatus:
    """The status for a status row; None stands for an instance that never was."""
    if row is None:
        return ContinuousStatus(instance_id=stream, version=0, status="not_found")
    return ContinuousStatus(
        **common_fields(row),
        status=status_word(row.status, unhandled),
        running=row.executing,
        next_run_at=moment(row.due_us),
        run_count=row.run_count,
        last_executed_at=moment(row.last_run_us),
        stop_reason=row.reason,
    )


# -- replies ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _StartReply(Result):
    """The result, and what the client needs to know to wait for the first run."""

    result: StartResult
    runs_now: bool

    @property
    def start(self) -> StartResult:
        """The result, marked as a duplicate if this reply is one."""
        return replace_fields(self.result, duplicate=True) if self.duplicate else self.result


def _started(turn: Turn, stream: str) -> _StartReply:
    after = turn.after
    created, resumed = (
        first_event(turn, Started) is not None,
        first_event(turn, Resumed) is not None,
    )
    is_due = after.due_us is not None and after.due_us <= after.due_set_us
    result = StartResult(
        instance_id=stream,
        version=after.version,
        created=created,
        resumed=resumed,
        status=BEHAVIOURS[after.id.kind].status(after),
        next_run_at=moment(after.due_us),
    )
    runs_now = (created or resumed) and is_due
    return _StartReply(instance_id=stream, version=after.version, result=result, runs_now=runs_now)


def _stopped(turn: Turn, stream: str) -> StopResult:
    event, version = first_event(turn, Stopped), turn.after.version
    if event is not None:
        return StopResult(instance_id=stream, version=version, stopped=True, reason=event.reason)
    reason = "stopped" if turn.before.exists else "not_found"
    return StopResult(instance_id=stream, version=version, stopped=False, reason=reason)


def _terminated(turn: Turn, stream: str) -> TerminateResult:
    event = first_event(turn, Cleared)
    return TerminateResult(
        instance_id=stream,
        version=turn.after.version,
        terminated=event is not None,
        reason="not_found" if event is None else event.reason,
    )


START = RequestKind("start", _started, _StartReply)
_STOP = RequestKind("stop", _stopped, StopResult)
_TERMINATE = RequestKind("terminate", _terminated, TerminateResult)
