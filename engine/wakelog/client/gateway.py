"""The door: where requests come in, and what is the same for all of them.

Guards them, puts them to the application, keeps their answers under keys, raises what they raise.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn

from msgspec import Struct

from wakelog.application import Application
from wakelog.arguments import check_key
from wakelog.core.calls import HandlerFailed
from wakelog.core.instance import next_wake
from wakelog.core.requests import Request
from wakelog.definitions.context import context_of_caller
from wakelog.definitions.definition import Definition
from wakelog.errors import ExecutionError, InvalidStateError
from wakelog.ids import InstanceId, check_text
from wakelog.log.rebuild import Head
from wakelog.log.status_row import status_row
from wakelog.ports.rows import StatusRow
from wakelog.runtime.unit_of_work import NOWHERE, Asked, Body, Key, Origin
from wakelog.turn import Turn

__all__ = ["CLOSED", "Body", "Question", "RequestGateway", "origin_of", "refuse_in_handler"]

CLOSED = "the app is closed: open it again with jobs.open(...)"


def refuse_in_handler() -> None:
    """Raise `InvalidStateError` in a handler: it would wait for itself."""
    ctx = context_of_caller()
    if ctx is not None:
        raise InvalidStateError(
            f"a handler of {ctx.instance_id} must not wait for the app: it holds its own turn; "
            f"let the handler end first, and ask from outside"
        )


def origin_of(actor: str | None, correlation_id: str | None) -> Origin:
    """Who asks, for the record. Raises `ValidationError` for what cannot be recorded."""
    if actor is None and correlation_id is None:
        return NOWHERE
    if actor is not None:
        check_text(actor, "actor")
    if correlation_id is not None:
        check_text(correlation_id, "correlation_id")
    return Origin(actor, correlation_id)


class Question(Struct, frozen=True):
    """What a request asks, so that it can be told from others under the same key."""

    action: str
    answer: Callable[[Turn], Body]
    """What is said of its turn, and kept under the key."""
    options: tuple[object, ...] = ()

    def key(self, key: str | None) -> Key | None:
        """The key of a request, with a digest of what it asks. Raises `ValidationError`."""
        if key is None:
            return None
        fingerprint = hashlib.sha256(repr(self.options).encode()).hexdigest()
        return Key(check_key(key), self.action, fingerprint, self._kept)

    def _kept(self, turn: Turn) -> str:
        return json.dumps(self.answer(turn))


class RequestGateway:
    """Where requests come in: guards them, puts them to the application, raises what they raise."""

    def __init__(self, app: Application, *, handlers: bool) -> None:
        self.app = app
        self.handlers = handlers
        """Whether `on_event` may run in this process; else every event is deferred."""
        self.closed = False
        self._threads = not app.caller.inline
        self._whole_tasks: set[asyncio.Task[Asked]] = set()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def check(self) -> None:
        """Raise `InvalidStateError` in a handler, and when the app is closed."""
        refuse_in_handler()
        if self.closed:
            raise InvalidStateError(CLOSED)

    async def close(self, grace_us: int) -> None:
        """Take nothing new, and let requests that have begun end within the grace."""
        self.closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_us / 1_000_000):
                await self._idle.wait()

    def ask(
        self,
        definition: Definition,
        id: InstanceId,
        request: Request,
        question: Question,
        key: str | None,
        origin: Origin,
    ) -> Coroutine[Any, Any, Body]:
        """Put a request; answer what became of it, or of an earlier one with the same key.

        Beside the fields of `question.answer` there are `instance_id` and `duplicate`. Raises
        `ValidationError`, and `ExecutionError` where a handler of it failed for good.
        """
        self.check()
        kept = question.key(key)
        asking = self.app.ask(definition, id, request, say=question.answer, key=kept, origin=origin)
        return self._answered(definition, id, asking)

    async def _answered(
        self, definition: Definition, id: InstanceId, asking: Coroutine[Any, Any, Asked]
    ) -> Body:
        self._under_way += 1
        self._idle.clear()
        if self._threads and definition.has_threads:
            asked = await self._whole(asking)
        else:
            try:
                asked = await asking
            finally:
                self._request_ended()
        if asked.raises:
            _raise(id, asked.raises)
        return {"instance_id": str(id), **_body(asked), "duplicate": asked.answer is not None}

    async def _whole(self, asking: Coroutine[Any, Any, Asked]) -> Asked:
        """Go on though the caller gives up: a handler in a thread does, and holds its turn."""
        task = asyncio.create_task(asking)
        self.app.caller.own(task)
        self._whole_tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Asked]) -> None:
        self._whole_tasks.discard(task)
        self._request_ended()
        if not task.cancelled():
            task.exception()  # its caller was told, or is gone

    def _request_ended(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    async def unhandled(self, rows: Sequence[StatusRow | None]) -> list[bool]:
        """For each instance, whether it has an alarm due that no living worker could take."""
        now_us = self.app.clock.now_us()
        due = [r is not None and r.wake_us is not None and r.wake_us <= now_us for r in rows]
        known = await self.known_jobs() if any(due) else None
        if known is None:
            return [False] * len(due)
        return [
            is_due
            and row is not None
            and not row.executing
            and f"{row.kind}:{row.name}" not in known
            for is_due, row in zip(due, rows, strict=True)
        ]

    async def known_jobs(self) -> set[str] | None:
        """The jobs that a living worker works on; None in a simulation, which works on all."""
        if self.app.watching.drive is not None:
            return None
        workers = await self.app.read(self.app.store.workers, self.app.clock.now_us())
        return {job for worker in workers for job in worker.jobs}

    async def standing(self, id: InstanceId, *, stale_ok: bool = False) -> StatusRow | None:
        """The status row of an instance, as it is shown: paused where its whole job is."""
        row = await self.row(id, stale_ok=stale_ok)
        [shown] = await self.app.job_pauses.shown([row], stale_ok=stale_ok)
        return shown

    async def row(self, id: InstanceId, *, stale_ok: bool = False) -> StatusRow | None:
        """The status row of an instance."""
        self.check()
        found = await self.app.status(id, stale_ok=stale_ok)
        if isinstance(found, Head):
            return status_row(found.instance, found.hash, next_wake(found.instance))
        return found


def _body(asked: Asked) -> Body:
    if asked.said is not None:
        return asked.said
    if asked.answer is None:
        raise AssertionError("a request has a turn or an answer")
    body: Body = json.loads(asked.answer.body)
    return body


def _raise(id: InstanceId, failures: tuple[HandlerFailed, ...]) -> NoReturn:
    """Tell the caller of a failure; where `on_error` failed too, of both, chained (T12)."""
    first, last = failures[0], failures[-1]
    if last.error is not first.error and last.error.__cause__ is None:
        last.error.__cause__ = first.error
    handler = "on_event" if last is first else "on_error"
    raise ExecutionError(str(id), handler, last.error_type, last.message) from last.error
