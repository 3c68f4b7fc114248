"""The part of a blocking pool client that accepts events.

Made from wakelog.client.pool.accepting by `make blocking`: change that one.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

from wakelog.blocking.portal import Portal
from wakelog.client.inbox.sending import InboxResult
from wakelog.client.pool.accepting import NewEvent, PoolAccepts
from wakelog.client.pool.results import EnqueueResult
from wakelog.core.time import Duration

__all__ = ["BlockingPoolAccepts"]

E = TypeVar("E")


class BlockingPoolAccepts(Generic[E]):
    """Accepts events for one pool."""

    def __init__(self, client: PoolAccepts[E], portal: Portal) -> None:
        self._pool_accepts = client
        self._portal = portal

    @overload
    def enqueue(
        self,
        event: E,
        *,
        id: str | None = None,
        partition_key: str | None = None,
        priority: int = 0,
        delay: Duration | None = None,
        at: datetime | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: None = None,
    ) -> EnqueueResult: ...
    @overload
    def enqueue(
        self,
        event: E,
        *,
        id: str | None = None,
        partition_key: str | None = None,
        priority: int = 0,
        delay: Duration | None = None,
        at: datetime | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object,
    ) -> InboxResult: ...
    def enqueue(
        self,
        event: E,
        *,
        id: str | None = None,
        partition_key: str | None = None,
        priority: int = 0,
        delay: Duration | None = None,
        at: datetime | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object | None = None,
    ) -> EnqueueResult | InboxResult:
        """Accept an event: recorded when this returns, worked on when a partition is free.

        Higher `priority` first, then in the order of acceptance. `partition_key`: events of one
        key are worked on one at a time, in order. `delay` or `at`: not before then. `id` names the
        event for ever, also after `idempotency_window`: the same id again is answered as the first
        time, with `duplicate=True`, and raises `IdempotencyConflictError` for another event or
        options. Raises `ValidationError`, `QueueFullError` (`max_pending`) and `InvalidStateError`
        (drained).

        With a `connection` to the store's own database the event is a part of the transaction that
        is open there: accepted after its commit, and never if it is rolled back. Raises
        `InboxConnectionError` then.
        """
        call: Any = self._pool_accepts.enqueue

        def make() -> Coroutine[Any, Any, EnqueueResult | InboxResult]:
            sending: Coroutine[Any, Any, EnqueueResult | InboxResult] = call(
                event,
                id=id,
                partition_key=partition_key,
                priority=priority,
                delay=delay,
                at=at,
                actor=actor,
                correlation_id=correlation_id,
                connection=connection,
            )
            return sending

        portal = self._portal
        return portal.call(make) if connection is None else portal.at_once(make)

    @overload
    def enqueue_many(
        self,
        events: Sequence[E | NewEvent[E]],
        *,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: None = None,
    ) -> list[EnqueueResult]: ...
    @overload
    def enqueue_many(
        self,
        events: Sequence[E | NewEvent[E]],
        *,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object,
    ) -> list[InboxResult]: ...
    def enqueue_many(
        self,
        events: Sequence[E | NewEvent[E]],
        *,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object | None = None,
    ) -> list[EnqueueResult] | list[InboxResult]:
        """Accept many events, all of them or none, in one transaction; up to 100,000.

        An event with an id that was used before is answered as a duplicate; the others are
        accepted. Raises what `enqueue` raises: then none was accepted. `connection`: as of
        `enqueue`.
        """
        call: Any = self._pool_accepts.enqueue_many

        def make() -> Coroutine[Any, Any, list[EnqueueResult] | list[InboxResult]]:
            sending: Coroutine[Any, Any, list[EnqueueResult] | list[InboxResult]] = call(
                events, actor=actor, correlation_id=correlation_id, connection=connection
            )
            return sending

        portal = self._portal
        return portal.call(make) if connection is None else portal.at_once(make)
