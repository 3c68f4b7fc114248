"""Calls one handler of user code and turns whatever it does into a plain outcome."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pydantic

from wakelog.clock import Clock
from wakelog.core.calls import (
    TAKEN,
    HandlerCall,
    HandlerEnded,
    HandlerFailed,
    Outcome,
    PayloadUnread,
    RunGivenBack,
)
from wakelog.core.instance import Instance
from wakelog.core.retry import Advice
from wakelog.definitions.context import CURRENT, Context
from wakelog.definitions.definition import Definition
from wakelog.definitions.handlers import Handler
from wakelog.definitions.schema import issues_of
from wakelog.definitions.steps import StepRunner
from wakelog.errors import HandlerTimeoutError, ThreadsExhaustedError
from wakelog.execution.error_text import MAX_MESSAGE, clean, error_text
from wakelog.execution.failure_log import FailureLog
from wakelog.execution.isolation import in_context
from wakelog.execution.outliving import in_a_task, is_outliving
from wakelog.execution.retry_advice import advice, cause_of
from wakelog.execution.thread_pool import HandlerPool, Returned
from wakelog.execution.time_limit import in_time

__all__ = ["HandlerRunner"]

_LOG = logging.getLogger("wakelog.call")
R = TypeVar("R")


class HandlerRunner:
    """Calls handlers: `async def` on the event loop, `def` in a thread, or all of them inline."""

    def __init__(self, application: Any, clock: Clock, *, inline: bool, limit: int) -> None:
        self._clock = clock
        self.failures = FailureLog(clock)
        """To be told what has failed, once that is recorded."""
        self.application = application
        """Who calls handlers, for those of the engine itself."""
        self.inline = inline
        """Whether a `def` is called on the event loop too."""
        self._threads = HandlerPool(limit, starts=not inline)
        self._owned: weakref.WeakKeyDictionary[asyncio.Task[Any], bool] = (
            weakref.WeakKeyDictionary()
        )
        """The engine's tasks, and whether `stop` has cancelled each."""

    def own(self, task: asyncio.Task[Any]) -> None:
        """Mark `task` as engine-owned: a cancellation that does not come from `stop` counts as a
        failure of the running handler (user code can cancel the task that it runs in)."""
        self._owned[task] = False

    def stop(self, task: asyncio.Task[Any]) -> None:
        """Cancel an engine-owned task: the run that is going on in it is given back."""
        self._owned[task] = True
        task.cancel()

    def start(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Begin work of the engine, in a task that it owns and that sees no context variables of
        what has led to it, such as those of a request."""
        context = contextvars.Context()
        task = asyncio.get_running_loop().create_task(work, context=context)
        self.own(task)
        return task

    @property
    def is_exhausted(self) -> bool:
        """Whether no `def` handler can be called: see `HandlerPool.is_exhausted`."""
        return self._threads.is_exhausted

    def hand_down(self, future: object) -> bool:
        """Whether a `def` is waited for by `future`: see `HandlerPool.hand_down`."""
        return self._threads.hand_down(future)

    def close(self) -> None:
        """Close the thread pool; a thread that is stuck in a handler ends after it."""
        self._threads.close()

    async def call(
        self,
        definition: Definition,
        call: HandlerCall,
        instance: Instance,
        now_us: int,
        steps: StepRunner | None = None,
    ) -> Outcome:
        """Call the handler on `instance` and return its outcome; `steps` are its run's, if any.

        A cancellation is raised only if it comes from `stop`, or from the caller in whose own task
        the handler runs. During a run it gives the run back; during `on_idle` it is a failure of
        `on_idle`, so that the rest of the unit is kept. If no thread is left for a `def`, a run is
        given back and `on_idle` fails in the same way, else `ThreadsExhaustedError` is raised.
        """
        handler = definition.handlers[call.handler]
        ctx = definition.context(call, instance, now_us, steps)
        ctx.application, ctx.targets = self.application, definition.targets
        token = CURRENT.set(ctx)
        is_given_back = False
        try:
            extra = _read(definition, call, ctx)
            if isinstance(extra, PayloadUnread):
                return extra
            if (handler.is_async or handler.timeout_us is not None) and is_outliving():
                await in_a_task()
            result, error = await self._run(handler, call, (ctx, *extra))
            if self._is_self_cancelled():
                await self._raise_own_cancellation()
            if not ctx.cleared:
                if error is not None:
                    return self._failed(error, definition, call)
                ctx.returned(result)
        except asyncio.CancelledError as error:
            if not ctx.cleared:
                outcome = self._cancelled(definition, call, error)
                is_given_back = isinstance(outcome, RunGivenBack)
                return outcome
        except ThreadsExhaustedError as error:  # it has not begun; one of the handler's is a value
            if call.is_epilogue:
                return self._failed(error, definition, call)
            if call.run is None:
                raise
            return RunGivenBack()
        except BaseException as error:
            if not ctx.cleared:
                return self._failed(error, definition, call)
        finally:
            ctx.close(is_given_back=is_given_back)
            _reset(token)
        now_us = self._clock.now_us()
        return HandlerEnded(tuple(ctx.commands), ctx.cleared, ctx.clear_reason, now_us)

    async def run(self, fn: Callable[..., Any], is_async: bool, args: tuple[Any, ...]) -> Any:
        """Call a function as handlers are called; raises what it raises."""
        result, error = await self._outcome(fn, is_async, args)
        if error is not None:
            raise error
        return result

    async def shown(
        self, definition: Definition, instance: Instance, now_us: int
    ) -> Any | BaseException:
        """The state as `on_client_get_state` returns it; or the exception that it raised."""
        call = HandlerCall("on_client_get_state", base=instance)
        ctx = definition.context(call, instance, now_us)
        token = CURRENT.set(ctx)
        try:
            handler = definition.handlers[call.handler]
            result, error = await self._run(handler, call, (ctx, ctx.state))
            if self._is_self_cancelled():
                await self._raise_own_cancellation()
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                if self._is_stopped(task) is not False:
                    raise
                _uncancel(task)
            return cancelled
        except Exception as raised:  # the recorded state does not fit the type of today
            return raised
        finally:
            ctx.close()
            _reset(token)
        if self.inline and isinstance(error, KeyboardInterrupt):
            raise error  # Ctrl-C ends the simulation, not the handler
        return result if error is None else error

    def _run(
        self, handler: Handler, call: HandlerCall, args: tuple[Any, ...]
    ) -> Coroutine[Any, Any, Returned]:
        """The handler's result or exception, as values; only a cancellation is raised."""
        if handler.timeout_us is None:
            return self._outcome(handler.fn, handler.is_async, args)
        return self._in_time(handler, call, args, handler.timeout_us / 1_000_000)

    async def _in_time(
        self, handler: Handler, call: HandlerCall, args: tuple[Any, ...], timeout_s: float
    ) -> Returned:
        """As `_outcome`, with a timeout that counts from when the handler begins (U10)."""
        ended = await in_time(
            lambda begin: self._outcome(handler.fn, handler.is_async, args, begin), timeout_s
        )
        if not ended.is_over:
            return ended.returned
        is_in_thread = not handler.is_async and not self.inline
        if is_in_thread or ended.is_stuck:
            _LOG.error(
                "%s of %s is stuck%s after %g s; its outcome is ignored",
                call.handler,
                call.base.id,
                " in its thread" if is_in_thread else ", having caught its cancellation,",
                timeout_s,
                extra={"instance": str(call.base.id)},
            )
        late = HandlerTimeoutError(call.handler, timeout_s)
        late.__cause__ = ended.returned[1]
        return None, late

    async def _outcome(
        self,
        fn: Callable[..., Any],
        is_async: bool,
        args: tuple[Any, ...],
        on_begin: Callable[[], object] | None = None,
    ) -> Returned:
        """The result or the exception of `fn`, as values: a coroutine cannot raise `StopIteration`.

        What `fn` does to context variables is seen by nothing else: see `isolation`. `on_begin` is
        called when `fn` begins: a `def` may have to wait for a thread first. Raises
        `ThreadsExhaustedError` if it will get none.
        """
        is_threaded = not is_async and not self.inline
        result: Any = None
        if is_threaded:
            result, error = await self._threads.call(fn, args, on_begin)
            if error is not None or result is None:
                return None, error
        context = contextvars.copy_context()
        try:
            if not is_threaded:
                if on_begin is not None:
                    on_begin()
                result = context.run(fn, *args)
            if is_async or inspect.isawaitable(result):
                if is_outliving():
                    await in_a_task()
                coroutine = result if inspect.iscoroutine(result) else _awaited(result)
                return await in_context(coroutine, context), None
            return result, None
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return None, error

    def _is_self_cancelled(self) -> bool:
        """Whether the handler has cancelled its own task, and that has not been raised yet."""
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0 and self._is_stopped(task) is False

    async def _raise_own_cancellation(self) -> None:
        """Let the handler's cancellation of its own task be raised now, not in later code."""
        await asyncio.sleep(0)
        task = asyncio.current_task()
        if task is not None:
            _uncancel(task)

    def _is_stopped(self, task: asyncio.Task[Any]) -> bool | None:
        """Whether `stop` has cancelled this engine-owned task; None for a caller's own task."""
        return False if self.inline else self._owned.get(task)

    def _cancelled(
        self, definition: Definition, call: HandlerCall, error: asyncio.CancelledError
    ) -> Outcome:
        """The outcome of a handler that raised `CancelledError` (U6): see `call`."""
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            return self._failed(error, definition, call)
        is_stopped = self._is_stopped(task)
        if is_stopped is None or (is_stopped and call.run is None and not call.is_epilogue):
            raise error
        _uncancel(task)
        if is_stopped and call.run is not None:
            return RunGivenBack()
        return self._failed(error, definition, call)

    def _failed(
        self, raised: BaseException, definition: Definition, call: HandlerCall
    ) -> HandlerFailed:
        if self.inline and isinstance(raised, KeyboardInterrupt):
            raise raised  # Ctrl-C ends the simulation, not the handler
        error = cause_of(raised)
        handler = definition.handlers[call.handler].fn
        kind, message, trace, where = error_text(error, raised, handler)
        hint = advice(definition.retry, raised, call.attempt) if call.may_be_repeated else Advice()
        return HandlerFailed(error, kind, message, trace, self._clock.now_us(), hint, where)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _read(
    definition: Definition, call: HandlerCall, ctx: Context[Any]
) -> tuple[Any, ...] | PayloadUnread:
    """The handler's arguments after its context. Everything recorded that the handler gets is
    read before it is called: what this code cannot read is no failure of the handler (K4).

    The handlers that follow one that was called get what it got, and the state that it has set.
    """
    if call.error is not None or call.source is not None:
        return _argument(definition, call)
    is_event = True
    try:
        extra = _argument(definition, call)
        ctx.read_batch()
        is_event = False
        ctx.read_state()
    except Exception as error:  # a validator may raise anything
        return PayloadUnread(is_event, clean(type(error).__qualname__), _unread_message(error))
    return extra


def _unread_message(error: Exception) -> str:
    """What does not fit, without the values."""
    if not isinstance(error, pydantic.ValidationError):
        return "raised while it was read"
    parts: list[str] = []
    for issue in issues_of(error):
        is_users = issue["type"] in ("value_error", "assertion_error")  # a text that user code made
        text = issue["type"] if is_users else issue["msg"]
        parts.append(f"{issue['loc']}: {text}" if issue["loc"] else text)
    return clean("; ".join(parts))[:MAX_MESSAGE]


def _argument(definition: Definition, call: HandlerCall) -> tuple[Any, ...]:
    """The handler's arguments after its context: the event, the error, both or none."""
    if call.payload is None:
        return () if call.error is None else (call.error,)
    if call.error is not None:
        return definition.event.load(call.payload), call.error
    event = TAKEN if call.copy is None else call.copy.take()
    return (definition.event.load(call.payload) if event is TAKEN else event,)


def _reset(token: contextvars.Token[Context[Any] | None]) -> None:
    """Let the caller be without a context again; not if the rest of it is in another task: see
    `outliving`."""
    try:  # noqa: SIM105  `suppress` takes four times as long, and this is done for each call
        CURRENT.reset(token)
    except ValueError:
        pass


def _uncancel(task: asyncio.Task[Any]) -> None:
    while task.cancelling():
        task.uncancel()
