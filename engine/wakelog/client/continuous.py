"""The async client of a Continuous job."""

from __future__ import annotations

from dataclasses import replace as replace_fields
from typing import Generic, TypeVar

from wakelog.arguments import reason_of, timeout_us
from wakelog.client.base import JobClient
from wakelog.client.gateway import Question, RequestGateway, origin_of
from wakelog.client.replies import _started, _stopped, _terminated
from wakelog.client.results import StartResult, StopResult, TerminateResult
from wakelog.client.status import ContinuousStatus, continuous_status
from wakelog.client.wait import ran
from wakelog.core.instance import next_wake
from wakelog.core.requests import Clear, Start, StopWork
from wakelog.core.time import Duration, moment
from wakelog.definitions.continuous import Continuous
from wakelog.history.past import at_version
from wakelog.ids import InstanceId
from wakelog.kinds import BEHAVIOURS
from wakelog.log.status_row import status_row
from wakelog.runtime.job_pauses import UNAFFECTED

__all__ = ["ContinuousClient", "continuous_status_of"]

S = TypeVar("S")


class ContinuousClient(JobClient[S], Generic[S]):
    """What can be asked of the instances of one Continuous job."""

    def __init__(self, gateway: RequestGateway, definition: Continuous[S]) -> None:
        super().__init__(gateway, definition)

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
    ) -> StartResult:
        """Begin recurring work, with `input` as its first state; `wait` for its first run, at
        most `timeout`.

        Nothing happens where it goes on already (`created=False`). One that was stopped is
        resumed with the state that it has; `replace` lets that be `input`. A first run that fails
        is told of in the answer. Raises `ValidationError` for an input that does not fit, and
        `WaitTimeoutError`.
        """
        instance = self._id(id)
        text = self._definition.state.dump(input, self._definition.name)[0]
        longest_us = timeout_us(timeout)
        question = Question("start", _started, (text, replace))
        origin = origin_of(actor, correlation_id)
        request = Start(text, replace)
        said = await self._gateway.ask(
            self._definition, instance, request, question, idempotency_key, origin
        )
        runs_now = said.pop("runs_now")
        result = StartResult(next_run_at=moment(said.pop("next_run_us")), **said)
        held = (
            instance.job in await self._gateway.app.job_pauses.lately()
        )  # then its first run waits
        if held and result.status not in UNAFFECTED:
            result = replace_fields(result, status="paused")
        if not (wait and runs_now) or held:
            return result
        app = self._gateway.app
        result = await ran(app, instance, result, longest_us, trigger=None)
        then = (await app.read(at_version, app.store, instance, result.version)).instance
        status = BEHAVIOURS[instance.kind].status(then)
        return replace_fields(result, status=status, next_run_at=moment(then.due_us))

    async def stop(
        self,
        id: str,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> StopResult:
        """Let there be no further run; the state is kept, and `start` goes on with it. An open run
        may end."""
        question, origin = Question("stop", _stopped, (reason,)), origin_of(actor, correlation_id)
        request = StopWork(reason_of(reason))
        said = await self._gateway.ask(
            self._definition, self._id(id), request, question, idempotency_key, origin
        )
        return StopResult(**said)

    async def terminate(
        self,
        id: str,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> TerminateResult:
        """End this life at once; its history stays. An open run is cancelled where it can be, and
        its outcome is not recorded."""
        request = Clear(reason_of(reason))
        question = Question("terminate", _terminated, (reason,))
        origin = origin_of(actor, correlation_id)
        said = await self._gateway.ask(
            self._definition, self._id(id), request, question, idempotency_key, origin
        )
        return TerminateResult(**said)

    async def status(self, id: str, *, stale_ok: bool = False) -> ContinuousStatus:
        """How the instance stands, as recorded now; `stale_ok` may answer out of memory."""
        return await continuous_status_of(self._gateway, self._id(id), stale_ok=stale_ok)


async def continuous_status_of(
    gateway: RequestGateway, id: InstanceId, *, stale_ok: bool = False
) -> ContinuousStatus:
    """How a Continuous instance stands; no definition is needed."""
    gateway.check()
    app = gateway.app
    head = await app.load(id, stale_ok=stale_ok)
    instance = head.instance
    row = status_row(instance, head.hash, next_wake(instance)) if instance.version else None
    [unhandled] = await gateway.unhandled([row])
    [shown] = await app.job_pauses.shown([row], stale_ok=stale_ok)
    return continuous_status(str(id), instance, shown, unhandled=unhandled)
