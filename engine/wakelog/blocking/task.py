"""The blocking client of a Task.

Made from wakelog.client.task by `make blocking`: change that one.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

from wakelog.blocking.instances import BlockingEventClient
from wakelog.blocking.portal import Portal
from wakelog.client.inbox.sending import InboxResult
from wakelog.client.task import SendResult, TaskClient, TaskStatus
from wakelog.core.time import Duration

__all__ = ["BlockingTaskClient"]

S = TypeVar("S")
E = TypeVar("E")


class BlockingTaskClient(BlockingEventClient[S, TaskStatus], Generic[S, E]):
    """What can be requested of the instances of one Task."""

    def __init__(self, client: TaskClient[S, E], portal: Portal) -> None:
        super().__init__(client, portal)
        self._task_client = client

    @overload
    def send(
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
    def send(
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
    def send(
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
        call: Any = self._task_client.send

        def make() -> Coroutine[Any, Any, SendResult | InboxResult]:
            sending: Coroutine[Any, Any, SendResult | InboxResult] = call(
                id,
                event,
                event_id=event_id,
                delay=delay,
                at=at,
                wait=wait,
                timeout=timeout,
                actor=actor,
                correlation_id=correlation_id,
                connection=connection,
            )
            return sending

        portal = self._portal
        return portal.call(make) if connection is None else portal.at_once(make)
