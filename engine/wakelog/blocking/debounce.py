"""The blocking client of a Debounce.

Made from wakelog.client.debounce by `make blocking`: change that one.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar, overload

from wakelog.blocking.instances import BlockingEventClient
from wakelog.blocking.portal import Portal
from wakelog.client.debounce import AddResult, DebounceClient, DebounceStatus
from wakelog.client.inbox.sending import InboxResult
from wakelog.client.results import TriggerResult
from wakelog.client.wait_flush import FlushResult
from wakelog.core.time import Duration

__all__ = ["BlockingDebounceClient"]

S = TypeVar("S")
E = TypeVar("E")


class BlockingDebounceClient(BlockingEventClient[S, DebounceStatus], Generic[S, E]):
    """What can be requested of the instances of one Debounce."""

    def __init__(self, client: DebounceClient[S, E], portal: Portal) -> None:
        super().__init__(client, portal)
        self._debounce_client = client

    @overload
    def add(
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
    def add(
        self,
        id: str,
        event: E,
        *,
        event_id: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object,
    ) -> InboxResult: ...
    def add(
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
        call: Any = self._debounce_client.add

        def make() -> Coroutine[Any, Any, AddResult | InboxResult]:
            sending: Coroutine[Any, Any, AddResult | InboxResult] = call(
                id,
                event,
                event_id=event_id,
                actor=actor,
                correlation_id=correlation_id,
                connection=connection,
            )
            return sending

        portal = self._portal
        return portal.call(make) if connection is None else portal.at_once(make)

    def flush(
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
        return self._portal.call(
            lambda: self._debounce_client.flush(
                id,
                wait=wait,
                timeout=timeout,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )

    def trigger(
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
        return self._portal.call(
            lambda: self._debounce_client.trigger(
                id,
                consume_alarm=consume_alarm,
                wait=wait,
                timeout=timeout,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )
