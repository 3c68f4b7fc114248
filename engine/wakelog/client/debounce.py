"""The client of a Debounce: add, flush, clear, and how an instance stands."""

from __future__ import annotations

import dataclasses
from typing import Generic, TypeVar

from wakelog.arguments import timeout_us
from wakelog.client.base import EventClient
from wakelog.client.gateway import Question, RequestGateway, origin_of
from wakelog.client.replies import _added, _asked
from wakelog.client.results import AddResult, FlushResult, TriggerResult
from wakelog.client.status import DebounceStatus, debounce_status
from wakelog.client.wait import end_of_unit, warn_if_alone
from wakelog.client.wait_flush import _Finder
from wakelog.core.instance import next_wake
from wakelog.core.requests import Receive, TriggerRun
from wakelog.core.time import Duration, moment
from wakelog.definitions.debounce import Debounce
from wakelog.ids import InstanceId
from wakelog.log.status_row import status_row

__all__ = ["DebounceClient", "debounce_status_of"]

S = TypeVar("S")
E = TypeVar("E")


class DebounceClient(EventClient[S], Generic[S, E]):
    """What can be asked of the instances of one Debounce."""

    def __init__(self, gateway: RequestGateway, definition: Debounce[S, E]) -> None:
        super().__init__(gateway, definition)

    async def add(
        self,
        id: str,
        event: E,
        *,
        event_id: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> AddResult:
        """Add `event` to the open window of instance `id`, or open one with it.

        Never fails because of a flush: that is a unit of work of its own. `event_id` makes the
        call repeatable: the same key again is answered as before. Raises `ValidationError` for an
        event that does not fit, `ExecutionError` where the reducer refused it (it was not
        accepted), and `QueueFullError`.
        """
        instance = self._id(id)
        payload = self._definition.event.dump(event, self._definition.name)[0]
        request = Receive(payload, event_id, defer=not self._gateway.handlers)
        question, origin = Question("add", _added, (payload,)), origin_of(actor, correlation_id)
        said = await self._gateway.ask(
            self._definition, instance, request, question, event_id, origin
        )
        return AddResult(will_flush_at=moment(said.pop("flush_us")), **said)

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
        """Have all that was added flushed now, by a worker; `wait` for it, at most `timeout`.

        The answer is about the newest window; those before it are flushed before it. One that is
        being flushed already is joined; one that has failed, or waits for its next attempt, is
        started again. Without `wait` it only asks, and `flushed` says nothing. Raises
        `WaitTimeoutError`: the flush is asked for, and still to come.
        """
        instance = self._id(id)
        longest_us = timeout_us(timeout)
        if held := await self._held_as_a_whole(instance):
            return FlushResult(flushed=False, **held)
        question, origin = Question("flush", _asked), origin_of(actor, correlation_id)
        said = await self._gateway.ask(
            self._definition, instance, TriggerRun(), question, idempotency_key, origin
        )
        window = said.pop("window")
        result = FlushResult(flushed=False, **said)
        if window is None or not wait:
            return result
        app = self._gateway.app
        await warn_if_alone(app, instance)
        finder = _Finder(result, *window)
        result = await app.watching.watch(str(instance), result.version, finder, longest_us)
        version = await end_of_unit(app, instance, result.version)
        return dataclasses.replace(result, version=version)

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
        """A `flush`, answered as the trigger of any job is; it always consumes the schedule."""
        flush = await self.flush(
            id,
            wait=wait,
            timeout=timeout,
            idempotency_key=idempotency_key,
            actor=actor,
            correlation_id=correlation_id,
        )
        is_refused = flush.reason in ("empty", "paused", "parked")
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

    async def status(self, id: str, *, stale_ok: bool = False) -> DebounceStatus:
        """How the instance stands, as recorded now; `stale_ok` may answer out of memory."""
        return await debounce_status_of(self._gateway, self._id(id), stale_ok=stale_ok)


async def debounce_status_of(
    gateway: RequestGateway, id: InstanceId, *, stale_ok: bool = False
) -> DebounceStatus:
    """How a Debounce instance stands; no definition is needed."""
    gateway.check()
    app = gateway.app
    head = await app.load(id, stale_ok=stale_ok)
    instance = head.instance
    row = status_row(instance, head.hash, next_wake(instance)) if instance.version else None
    [shown] = await app.job_pauses.shown([row], stale_ok=stale_ok)
    return debounce_status(instance, shown)


# -- answers ---------------------------------------------------------------------------------------


# -- waiting for a flush ---------------------------------------------------------------------------
