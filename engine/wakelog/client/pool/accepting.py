"""The part of a pool's client that accepts events."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar, cast, overload

from wakelog.arguments import check_key, check_priority
from wakelog.client.gateway import RequestGateway, origin_of
from wakelog.client.inbox.requests import InboxRequest
from wakelog.client.inbox.sending import InboxResult, put
from wakelog.client.pool.arguments import check_id, check_list, not_both
from wakelog.client.pool.results import EnqueueResult
from wakelog.core.time import Duration, duration_us, later_us, moment_us
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.errors import Issue, ValidationError
from wakelog.log.batches import digest_of, item_line
from wakelog.pools.accept import Accept, Accepted, NewItem, slot_of
from wakelog.pools.items import item_name

__all__ = ["NewEvent", "PoolAccepts"]

E = TypeVar("E")

MAX_MANY = 100_000
"""Events of one `enqueue_many`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent(Generic[E]):
    """An event for `enqueue_many`, with what `enqueue` takes beside it."""

    event: E
    id: str | None = None
    partition_key: str | None = None
    priority: int = 0
    delay: Duration | None = None
    at: datetime | None = None


class PoolAccepts(Generic[E]):
    """Accepts events for one pool."""

    def __init__(self, gateway: RequestGateway, definition: WorkerPool[E]) -> None:
        self._gateway = gateway
        self._definition = definition

    @overload
    async def enqueue(
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
    async def enqueue(
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
    async def enqueue(
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
        check_priority(priority)
        if id is None and partition_key is None and not priority and delay is None and at is None:
            item = self._plain_item(event)
        else:
            item = self._item(
                NewEvent(
                    event=event, id=id, partition_key=partition_key, priority=priority,
                    delay=delay, at=at,
                )
            )  # fmt: skip
        if connection is not None:
            return (await self._put([item], actor, correlation_id, connection))[0]
        [result] = await self._accept([item], actor, correlation_id)
        return result

    @overload
    async def enqueue_many(
        self,
        events: Sequence[E | NewEvent[E]],
        *,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: None = None,
    ) -> list[EnqueueResult]: ...
    @overload
    async def enqueue_many(
        self,
        events: Sequence[E | NewEvent[E]],
        *,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object,
    ) -> list[InboxResult]: ...
    async def enqueue_many(
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
        check_list("events", events)
        if len(events) > MAX_MANY:
            issue = Issue(loc="", msg=f"at most {MAX_MANY} in one call", type="bound")
            raise ValidationError(f"{len(events)} events for {self._definition.name!r}", [issue])
        items = [
            self._item(cast("NewEvent[E]", each))
            if isinstance(each, NewEvent)
            else self._plain_item(each)
            for each in events
        ]
        if connection is not None:
            return await self._put(items, actor, correlation_id, connection) if items else []
        return await self._accept(items, actor, correlation_id) if items else []

    def _plain_item(self, event: E) -> NewItem:
        """As `_item`, for an event with nothing beside it."""
        definition = self._definition
        payload, copy = definition.event.dump(event, definition.name)
        line = item_line(self._gateway.app.pools.salts.next(), payload, None, None)
        fair = None if definition.fair is None else check_key(definition.fair.key_of(copy))
        return NewItem(line, digest_of(line), 0, None, fair)

    def _item(self, new: NewEvent[E]) -> NewItem:
        definition, app = self._definition, self._gateway.app
        payload, copy = definition.event.dump(new.event, definition.name)
        key = None if new.partition_key is None else check_key(new.partition_key)
        if new.id is not None:
            check_id(new.id)
        check_priority(new.priority)
        due_us = None
        if new.delay is not None and new.at is not None:
            raise not_both("enqueue", "delay= or at=")
        if new.delay is not None:
            due_us = later_us(new.delay, app.clock.now_us(), "delay")
        elif new.at is not None:
            due_us = moment_us(new.at, "at")
        fair = definition.fair
        line = item_line(app.pools.salts.next(), payload, key, new.id)
        fingerprint = ""
        if new.id is not None:
            delay_us = None if new.delay is None else duration_us(new.delay, "delay")
            at_us = None if new.at is None else due_us
            options = repr((key, new.priority, delay_us, at_us, payload))
            fingerprint = hashlib.sha256(options.encode()).hexdigest()
        return NewItem(
            line,
            digest_of(line),
            new.priority,
            key,
            None if fair is None or key is not None else check_key(fair.key_of(copy)),
            new.id,
            fingerprint,
            due_us,
        )

    async def _accept(
        self, items: Sequence[NewItem], actor: str | None, correlation_id: str | None
    ) -> list[EnqueueResult]:
        self._gateway.check()
        origin = origin_of(actor, correlation_id)
        definition, pools = self._definition, self._gateway.app.pools
        accept = Accept(
            items, origin.actor, origin.correlation, origin.trace, definition.max_pending
        )
        accepted = await pools.accept(definition.job, accept)
        return [self._enqueued(item, found) for item, found in zip(items, accepted, strict=True)]

    async def _put(
        self,
        items: Sequence[NewItem],
        actor: str | None,
        correlation_id: str | None,
        connection: object,
    ) -> list[InboxResult]:
        job, origin = self._definition.job, origin_of(actor, correlation_id)
        messages = [
            InboxRequest(
                "enqueue",
                item.line.decode(),
                item.id,
                item.fingerprint,
                item.due_us,
                partition_key=item.key,
                priority=item.priority,
                fair=item.fair,
                actor=origin.actor,
                correlation=origin.correlation,
            )
            for item in items
        ]
        return await put(self._gateway, connection, job, [(job, each) for each in messages])

    def _enqueued(self, item: NewItem, found: Accepted) -> EnqueueResult:
        partition = None
        if item.key is not None:
            partition = (slot_of(item.key) - 1) % self._definition.concurrency
        return EnqueueResult(
            event_id=item.id or item_name(found.lane, found.off),
            partition=partition,
            position=found.position,
            duplicate=found.duplicate,
        )
