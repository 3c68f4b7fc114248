"""The async client of a Task."""

from __future__ import annotations

from datetime import datetime
from typing import Generic

from wakelog.arguments import timeout_us
from wakelog.client import replies as answers
from wakelog.client.base import E, EventClient, S
from wakelog.client.gateway import Question, RequestGateway, origin_of
from wakelog.client.results import SendResult
from wakelog.client.status import TaskStatus, task_status
from wakelog.client.wait import handled
from wakelog.core.requests import Receive
from wakelog.core.time import Duration, duration_us, later_us, moment, moment_us
from wakelog.definitions.task import Task
from wakelog.errors import Issue, ValidationError
from wakelog.ids import InstanceId

__all__ = ["TaskClient", "task_status_of"]


class TaskClient(EventClient[S], Generic[S, E]):
    """What can be asked of the instances of one Task."""

    def __init__(self, gateway: RequestGateway, definition: Task[S, E]) -> None:
        super().__init__(gateway, definition)

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
            handle_at_us = later_us(delay, self._gateway.app.clock.now_us(), "delay")
        said = await self._gateway.ask(
            self._definition,
            instance,
            Receive(payload, event_id, handle_at_us, defer=not self._gateway.handlers),
            Question("send", answers.sent, (payload, delay_us, at_us)),
            event_id,
            origin_of(actor, correlation_id),
        )
        result = SendResult(scheduled_at=moment(said.pop("scheduled_us")), **said)
        if wait and result.deferred:
            await handled(self._gateway.app, instance, result.version, longest_us)
        return result

    async def status(self, id: str, *, stale_ok: bool = False) -> TaskStatus:
        """How the instance stands, as recorded now; `stale_ok` may answer out of memory."""
        return await task_status_of(self._gateway, self._id(id), stale_ok=stale_ok)


async def task_status_of(
    gateway: RequestGateway, id: InstanceId, *, stale_ok: bool = False
) -> TaskStatus:
    """How a Task instance stands; no definition is needed."""
    row = await gateway.standing(id, stale_ok=stale_ok)
    [unhandled] = await gateway.unhandled([row])
    return task_status(str(id), row, unhandled=unhandled)


def _delay(delay: Duration | None, at: datetime | None) -> tuple[int | None, int | None]:
    if delay is not None and at is not None:
        issue = Issue(loc="", msg="give delay= or at=, not both", type="arguments")
        raise ValidationError("send", [issue])
    return (
        None if delay is None else duration_us(delay, "delay"),
        None if at is None else moment_us(at, "at"),
    )
