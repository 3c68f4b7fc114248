"""The request gateway: what is the same for all requests of all clients.

It refuses calls that must not be made, puts requests to the application, keeps their replies under
keys and raises what they raise.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any, NoReturn, TypeVar

from wakelog.application import Application
from wakelog.client.request_kinds import RequestKind
from wakelog.client.results import Result
from wakelog.core.calls import HandlerFailed
from wakelog.core.requests import Request
from wakelog.definitions.context import context_of_caller
from wakelog.definitions.definition import Definition
from wakelog.errors import ExecutionError, InvalidStateError, WaitTimeoutError
from wakelog.execution.outliving import outliving
from wakelog.execution.time_limit import CLEANUP_S
from wakelog.ids import InstanceId, check_text
from wakelog.ports.rows import StatusRow
from wakelog.runtime.unit_of_work import IdempotencyKey, RequestOutcome
from wakelog.runtime.unit_records import NO_ORIGIN, Origin

__all__ = ["CLOSED", "RequestGateway", "origin_of", "refuse_in_handler"]

R = TypeVar("R", bound=Result)

CLOSED = "the app is closed: open it again with jobs.open(...)"


def refuse_in_handler() -> None:
    """Raise `InvalidStateError` in a handler: it would wait for itself (U13)."""
    ctx = context_of_caller()
    if ctx is not None:
        raise InvalidStateError(
            f"a handler of {ctx.instance_id} must not wait for the app: it holds its own turn; "
            f"let the handler end first, and ask from outside"
        )


def origin_of(actor: str | None, correlation_id: str | None) -> Origin:
    """Who requests it, for the record. Raises `ValidationError` for what cannot be recorded."""
    if actor is None and correlation_id is None:
        return NO_ORIGIN
    if actor is not None:
        check_text(actor, "actor")
    if correlation_id is not None:
        check_text(correlation_id, "correlation_id")
    return Origin(actor, correlation_id)


class RequestGateway:
    """Puts requests to the application. Used from the event loop's thread only."""

    def __init__(self, app: Application, *, handlers: bool) -> None:
        self.app = app
        self.handlers = handlers
        """Whether `on_event` may run in this process; else every event is deferred (A7)."""
        self.closed = False
        self._threads = not app.handler_runner.inline
        self._tasks: set[asyncio.Task[RequestOutcome]] = set()
        """Requests that go on if their callers are cancelled."""
        self._replies: set[asyncio.Task[Any]] = set()
        """Requests that go on if the time of their callers is over."""
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def check(self) -> None:
        """Raise `InvalidStateError` in a handler, on another event loop than the app's, in a
        forked process, and if the app is closed."""
        refuse_in_handler()
        self.app.affinity.check()
        if self.closed:
            raise InvalidStateError(CLOSED)

    async def close(self, grace_us: int) -> None:
        """Take nothing new, and let requests that have begun end within the grace."""
        self.closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_us / 1_000_000):
                await self._idle.wait()

    def request(
        self,
        definition: Definition,
        id: InstanceId,
        request: Request,
        kind: RequestKind[R],
        key: IdempotencyKey | None,
        origin: Origin,
    ) -> Coroutine[Any, Any, R]:
        """Put a request; the reply to it, or to an earlier one with the same key.

        Raises what `UnitsOfWork.run` raises, and `ExecutionError` if a handler of it failed for
        good.
        """
        self.check()
        running = self.app.request(
            definition, id, request, make_reply=kind.make_reply, key=key, origin=origin
        )
        return self._reply(definition, id, kind, running)

    async def within(self, id: InstanceId, reply: Coroutine[Any, Any, R], limit_us: int) -> R:
        """Await the reply to a request, which goes on when its time is over, or when its caller is
        cancelled and the handler catches that. Raises `WaitTimeoutError`."""
        if not self._threads:  # a simulation, in which no time passes outside of a handler
            return await reply
        task = asyncio.create_task(reply)
        self.app.handler_runner.own(task)
        self._replies.add(task)
        task.add_done_callback(self._replied)
        try:
            await asyncio.wait([task], timeout=limit_us / 1_000_000)
        except asyncio.CancelledError:
            self.app.handler_runner.stop(task)
            await asyncio.wait([task], timeout=CLEANUP_S)
            raise
        if not task.done():
            raise WaitTimeoutError(str(id), limit_us / 1_000_000)
        return task.result()

    def _replied(self, task: asyncio.Task[Any]) -> None:
        self._replies.discard(task)
        if not task.cancelled():
            task.exception()  # as in `_ended`

    async def _reply(
        self,
        definition: Definition,
        id: InstanceId,
        kind: RequestKind[R],
        running: Coroutine[Any, Any, RequestOutcome],
    ) -> R:
        self._running += 1
        self._idle.clear()
        try:
            if self._threads and definition.has_threads:
                hand_down = self.app.handler_runner.hand_down
                outcome = await outliving(running, hand_down, self._go_on)
            else:
                outcome = await running
        finally:
            self._request_ended()
        if outcome.raises:
            _raise(id, outcome.raises)
        if outcome.kept_reply is not None:
            return kind.repeated(outcome.kept_reply.body)
        reply: R = outcome.reply
        return reply

    def _go_on(self, running: Coroutine[Any, Any, RequestOutcome]) -> asyncio.Task[RequestOutcome]:
        """Go on with a request if its caller is cancelled: a handler in a thread does, and holds
        its turn."""
        self._running += 1
        task = asyncio.create_task(running)
        self.app.handler_runner.own(task)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[RequestOutcome]) -> None:
        self._tasks.discard(task)
        self._request_ended()
        if not task.cancelled():
            task.exception()  # its caller got it, or is gone

    def _request_ended(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()

    # -- status rows as they are shown

    async def shown_row(self, id: InstanceId, *, stale_ok: bool = False) -> StatusRow | None:
        """The status row of an instance as it is shown: paused if its whole job is."""
        row = await self.row(id, stale_ok=stale_ok)
        [shown] = await self.app.job_pauses.shown([row], stale_ok=stale_ok)
        return shown

    async def row(self, id: InstanceId, *, stale_ok: bool = False) -> StatusRow | None:
        """The status row of an instance, None if there never was one."""
        self.check()
        return await self.app.instances.status(str(id), stale_ok=stale_ok)

    async def unhandled(self, rows: Sequence[StatusRow | None]) -> list[bool]:
        """For each instance, whether it has an alarm due that no living worker could take (T14)."""
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
        if self.app.stream_watch.drive is not None:
            return None
        workers = await self.app.threads.read(self.app.store.workers, self.app.clock.now_us())
        return {job for worker in workers for job in worker.jobs}


def _raise(id: InstanceId, failures: tuple[HandlerFailed, ...]) -> NoReturn:
    """Raise a failure to the caller; if `on_error` failed too, both, chained (T12)."""
    first, last = failures[0], failures[-1]
    if last.error is not first.error and last.error.__cause__ is None:
        last.error.__cause__ = first.error
    handler = "on_event" if last is first else "on_error"
    raise ExecutionError(str(id), handler, last.error_type, last.message) from last.error
