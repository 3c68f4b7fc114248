"""Calling one handler: user code goes in, a plain outcome comes out, whatever it did."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
import weakref
from typing import Any

from wakelog.advice import advice
from wakelog.clock import Clock
from wakelog.context import CURRENT, JobContext
from wakelog.core.commands import Call, Ended, Failed, GaveBack, Outcome
from wakelog.core.instance import Instance
from wakelog.core.retry import GiveUp, Retry, RetryAfter
from wakelog.definition import Definition, Handler
from wakelog.errors import HandlerTimeoutError
from wakelog.threads import Threads

__all__ = ["Caller", "context_of_caller"]

MAX_MESSAGE = 2_000
MAX_TRACEBACK = 8_000
"""Characters kept of an error's message and traceback; of a traceback the end, which tells most."""

_LOG = logging.getLogger("wakelog.call")


class Caller:
    """Calls handlers: `async def` on the loop, `def` in a thread, or all inline in a simulation."""

    def __init__(self, clock: Clock, *, inline: bool, threads: int) -> None:
        self._clock = clock
        self.inline = inline
        """Whether a `def` is called on the loop too."""
        self._threads = Threads(threads)
        self._own: weakref.WeakKeyDictionary[asyncio.Task[Any], bool] = weakref.WeakKeyDictionary()

    def own(self, task: asyncio.Task[Any]) -> None:
        """Take `task` for the engine's: what cancels it, other than `stop`, is a failure of the
        handler that it meets (user code can cancel the task it runs in)."""
        self._own[task] = False

    def stop(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task of the engine's: a run that this meets is given back."""
        self._own[task] = True
        task.cancel()

    def close(self) -> None:
        """Let go of the threads; one that is stuck in a handler ends after it."""
        self._threads.close()

    async def call(
        self, definition: Definition, call: Call, instance: Instance, now_us: int
    ) -> Outcome:
        """Call the handler on `instance` and say how it ended.

        Only a cancellation that was asked for passes through: by a caller in whose own task the
        handler runs, or by `stop`. One that meets a run gives the run back; one that meets
        `on_idle` is its failure, so that the unit it came after is kept.
        """
        handler = definition.handlers[call.handler]
        ctx = context(definition, call, instance, now_us)
        token = CURRENT.set(ctx)
        try:
            extra = _argument(definition, call)
            ctx.returned(await self._run(handler, call, (ctx, *extra)))
        except asyncio.CancelledError as error:
            if not ctx.cleared:
                return self._cancelled(definition.retry, call, error)
        except BaseException as error:
            if not ctx.cleared:
                return self._failed(error, definition.retry, call)
        finally:
            ctx.close()
            CURRENT.reset(token)
        now_us = self._clock.now_us()
        return Ended(tuple(ctx.commands), ctx.cleared, ctx.clear_reason, now_us)

    async def shown(
        self, definition: Definition, instance: Instance, now_us: int
    ) -> Any | BaseException:
        """The state as `on_client_get_state` shows it; or the exception that it raised."""
        call = Call("on_client_get_state", base=instance)
        ctx = context(definition, call, instance, now_us)
        token = CURRENT.set(ctx)
        try:
            return await self._run(definition.handlers[call.handler], call, (ctx, ctx.state))
        except BaseException as error:
            task = asyncio.current_task()
            asked = isinstance(error, asyncio.CancelledError) and task and task.cancelling()
            if asked or (self.inline and isinstance(error, KeyboardInterrupt)):
                raise
            return error
        finally:
            ctx.close()
            CURRENT.reset(token)

    async def _run(self, handler: Handler, call: Call, args: tuple[Any, ...]) -> Any:
        if handler.timeout_us is None:
            return await self._result(handler, args)
        scope = asyncio.timeout(handler.timeout_us / 1_000_000)
        try:
            async with scope:
                result = await self._result(handler, args)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if not scope.expired():
                raise
            cause = None if isinstance(error, TimeoutError) else error
            raise self._timed_out(call, handler, handler.timeout_us) from cause
        if scope.expired():  # it caught its cancellation, and returned
            raise self._timed_out(call, handler, handler.timeout_us)
        return result

    def _timed_out(self, call: Call, handler: Handler, timeout_us: int) -> HandlerTimeoutError:
        timeout_s = timeout_us / 1_000_000
        if not handler.is_async and not self.inline:
            _LOG.error(
                "%s of %s is stuck in its thread after %g s; what it still does is ignored",
                call.handler,
                call.base.id,
                timeout_s,
                extra={"instance": str(call.base.id)},
            )
        return HandlerTimeoutError(call.handler, timeout_s)

    async def _result(self, handler: Handler, args: tuple[Any, ...]) -> Any:
        if handler.is_async:
            return await handler.fn(*args)
        if self.inline:
            result = handler.fn(*args)
        else:
            result, error = await self._threads.call(handler.fn, args)
            if error is not None:
                raise error
        return await result if inspect.isawaitable(result) else result

    def _cancelled(self, retry: Retry | None, call: Call, error: asyncio.CancelledError) -> Outcome:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            return self._failed(error, retry, call)
        is_stopped = False if self.inline else self._own.get(task)
        if is_stopped is None or (is_stopped and call.run is None and call.handler != "on_idle"):
            raise error
        while task.cancelling():
            task.uncancel()
        if is_stopped and call.run is not None:
            return GaveBack()
        return self._failed(error, retry, call)

    def _failed(self, raised: BaseException, retry: Retry | None, call: Call) -> Failed:
        if self.inline and isinstance(raised, KeyboardInterrupt):
            raise raised  # of the person who runs the simulation
        error = raised
        if isinstance(raised, RetryAfter | GiveUp):
            error = raised.cause or raised.__cause__ or raised
        lines = traceback.format_exception(error)
        return Failed(
            error,
            type(error).__qualname__,
            _clean(_message(error))[:MAX_MESSAGE],
            _clean("".join(lines))[-MAX_TRACEBACK:],
            self._clock.now_us(),
            advice(retry, raised, error, call.attempt),
        )


def context(definition: Definition, call: Call, instance: Instance, now_us: int) -> JobContext[Any]:
    """The context for one call."""
    return definition.context(call, instance, now_us)


def context_of_caller() -> JobContext[Any] | None:
    """The context of the handler that is being called here, if one is."""
    ctx = CURRENT.get()
    return ctx if ctx is not None and ctx.is_open else None


def _argument(definition: Definition, call: Call) -> tuple[Any, ...]:
    if call.error is not None:
        return (call.error,)
    if call.payload is not None:
        return (definition.event.load(call.payload),)
    return ()


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as unprintable:
        return f"(its message cannot be shown: {type(unprintable).__name__})"


def _clean(text: str) -> str:
    """`text` as any store and any reader can take it: no lone surrogates, no NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
