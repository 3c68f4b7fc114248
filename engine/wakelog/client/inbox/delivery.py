"""What a row of the inbox becomes: an accepted, deferred event, as if it had been sent (E1, T15).

A unit that is made of a row deletes it in its append, and is refused if it is gone. So a row
becomes one event, whatever is killed and however many workers see it, and has no owner meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, cast

from wakelog.application import Application
from wakelog.client.continuous import START
from wakelog.client.debounce import ADD
from wakelog.client.gateway import origin_of
from wakelog.client.inbox.requests import InboxRequest, loaded
from wakelog.client.request_kinds import RequestKind, encode
from wakelog.client.task import SEND
from wakelog.core.requests import Receive, Request, Start
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.errors import (
    IdempotencyConflictError,
    StoreUnavailableError,
    ValidationError,
    WakelogError,
)
from wakelog.ids import InstanceId
from wakelog.log.batches import digest_of
from wakelog.pools.accept import Accept, NewItem
from wakelog.ports.inbox import InboxHold, InboxRow
from wakelog.ports.units import InboxGone
from wakelog.runtime.unit_of_work import IdempotencyKey

__all__ = ["HOLD_US", "InboxDelivery"]

_LOG = logging.getLogger("wakelog.worker")

HOLD_US = 5_000_000
"""How long a row that cannot become an event now is held back, before it is tried again."""
_KINDS: dict[str, RequestKind[Any]] = {kind.action: kind for kind in (SEND, ADD, START)}


class InboxDelivery:
    """Delivers for one application, on its event loop."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, rows: Sequence[InboxRow]) -> None:
        """Make events of rows, those of one target in their order.

        A row that cannot become one is held back, or refused for good, and is recorded so; the
        others go on. Raises `StoreUnavailableError`, if the store is away: they stay. Killed here:
        each row is there, or has become one event.
        """
        targets: dict[str, list[InboxRow]] = {}
        for row in rows:
            targets.setdefault(row.stream, []).append(row)
        done = await asyncio.gather(
            *(self._target(each) for each in targets.values()), return_exceptions=True
        )
        for error in done:
            if error is not None:
                raise error

    async def _target(self, rows: Sequence[InboxRow]) -> None:
        if rows[0].stream == rows[0].job:  # a pool, which puts its calls together itself
            await asyncio.gather(*(self._one(row) for row in rows))
            return
        for row in rows:
            if not await self._one(row):
                return  # those behind it wait for it

    async def _one(self, row: InboxRow) -> bool:
        """Whether those behind it may go on."""
        try:
            message = loaded(row.body)
            if message.action == "enqueue":
                await self._enqueued(row, message)
            else:
                await self._received(row, message)
        except InboxGone:
            return True  # another worker has made an event of it, or it was dropped
        except StoreUnavailableError as error:
            if error.reason not in ("refused", "locked", "damaged"):
                raise
            return await self._held(row, error, for_good=False)
        except (ValidationError, IdempotencyConflictError) as error:
            return await self._held(row, error, for_good=True)
        except (WakelogError, ValueError) as error:  # full, drained, damaged, of newer code
            return await self._held(row, error, for_good=False)
        return True

    async def _received(self, row: InboxRow, message: InboxRequest) -> None:
        id = InstanceId.parse(row.stream)
        kind, key = _KINDS[message.action], None
        if message.key is not None:
            key = IdempotencyKey(message.key, kind.action, message.fingerprint, encode)
        outcome = await self._app.request(
            self._app.registry.of(id),
            id,
            _request(message),
            make_reply=kind.make_reply,
            key=key,
            origin=origin_of(message.actor, message.correlation),
            inbox=(row.n,),
        )
        if outcome.kept_reply is not None or outcome.after is None:  # nothing was to be appended
            await self._app.threads.write(self._app.store.inbox_drop, row.n)

    async def _enqueued(self, row: InboxRow, message: InboxRequest) -> None:
        pools, (kind, _, name) = self._app.pools, row.job.partition(":")
        definition = cast("WorkerPool[Any]", self._app.registry.find(name, kind))
        line = message.payload.encode()
        item = NewItem(
            line,
            digest_of(line),
            message.priority,
            message.partition_key,
            message.fair,
            message.key,
            message.fingerprint,
            message.due_us,
        )
        accept = Accept(
            [item],
            message.actor,
            message.correlation,
            max_pending=definition.max_pending,
            inbox=(row.n,),
        )
        await pools.accept(row.job, accept)

    async def _held(self, row: InboxRow, error: Exception, *, for_good: bool) -> bool:
        """Record why it cannot become an event; whether those behind it go on."""
        text = f"{type(error).__name__}: {error}"
        retry_us = 0 if for_good else self._app.clock.now_us() + HOLD_US
        if text != row.error or for_good:
            what = "is refused" if for_good else "is held back"
            _LOG.warning(
                "row %d of the inbox, for %s, %s: %s", row.n, row.stream, what, text,
                extra={"instance": row.stream},
            )  # fmt: skip
        hold = InboxHold(row.n, retry_us, text, for_good)
        await self._app.threads.write(self._app.store.inbox_hold, hold)
        return for_good


def _request(message: InboxRequest) -> Request:
    if message.action == "start":
        return Start(message.payload, message.replace)
    return Receive(message.payload, message.key, message.due_us, defer=True)
