"""Calls the steps of a run and records their results, one object for each attempt (I4).

A result is appended when the step ends, on top of what others have appended meanwhile, and only
while the run is open and its lease is held: after a timeout, a clear or a takeover a late step
records nothing. A crash before the append leaves nothing of a step, and the next attempt calls it
again; after it, the result.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from wakelog.application import Application
from wakelog.core.calls import HandlerCall
from wakelog.core.events import StepCompleted
from wakelog.core.instance import OpenRun
from wakelog.core.requests import RecordStep
from wakelog.core.retry import Again, judge
from wakelog.definitions.definition import Definition
from wakelog.definitions.return_type import result_schema
from wakelog.definitions.schema import TypeSchema
from wakelog.definitions.steps import Check, Step, StepCall, calling, is_on_a_loop, step_key
from wakelog.errors import (
    InvalidStateError,
    Issue,
    LeaseLostError,
    StoreUnavailableError,
    ValidationError,
)
from wakelog.execution.retry_advice import advice
from wakelog.functions import is_async
from wakelog.log.records import decode, whole
from wakelog.runtime.unit_records import Origin

__all__ = ["StepRecorder"]

R = TypeVar("R")
Done = tuple[Any, asyncio.CancelledError | None]
"""The result of a step; and a cancellation that came too late for it."""

PAGE = 500
"""Events read at a time when recorded steps are looked up."""
FIRST_PAUSE_S, MAX_PAUSE_S = 0.05, 5.0
"""Pauses between two tries while the store is unavailable."""

_LOG = logging.getLogger("wakelog.steps")


class StepRecorder:
    """The steps of one attempt: the `StepRunner` of its context. Made on the event loop, or for a
    `loop` that is given."""

    def __init__(
        self,
        app: Application,
        definition: Definition,
        call: HandlerCall,
        origin: Origin,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if call.run is None:
            raise AssertionError("only a run has steps")
        self._app = app
        self._definition = definition
        self._origin = origin
        self._base = call.base
        self._run: OpenRun = call.run
        self._loop = loop or asyncio.get_running_loop()
        self._names: set[str] = set()
        self._recorded: dict[str, str] | None = None
        self._reading = asyncio.Lock()
        self._closed = False
        self._pauses: list[threading.Event] = []
        """Those of threads that wait for the next try of a step. Few runs have any."""
        self._lost: LeaseLostError | None = None

    def close(self) -> None:
        """The handler has ended: a thread that waits for the next try of a step is woken."""
        self._closed = True
        for pause in tuple(self._pauses):
            pause.set()

    # -- from an `async def`, on the loop

    async def run(self, step: Step, check: Check) -> Any:
        """Do the step, or return its recorded result. See `StepMethods.step`."""
        self._app.affinity.check_process()
        schema = self._schema(step)
        recorded = await self._begun(step)
        if recorded is not None:
            return _read(schema, step, recorded)
        value, cancelled = await self._tried(step, check)
        text, kept = _kept(schema, step, value)
        await self._record(step, text, check)
        if cancelled is not None:
            raise cancelled
        return kept

    async def _tried(self, step: Step, check: Check) -> Done:
        began_us = self._app.clock.now_us()
        for attempt in itertools.count(1):
            await self._check_lease(step)
            with calling(step) as call:
                try:
                    return await self._called(step)
                except Exception as error:
                    check()
                    pause_us = self._pause_us(call, error, attempt, began_us)
            await asyncio.sleep(pause_us / 1_000_000)
            check()
        raise AssertionError("a step is tried until it ends")

    async def _called(self, step: Step) -> Done:
        """Call it; a shutdown waits for a step in a thread, as it does for a handler there.

        A cancellation does not discard a result that is there: it is recorded first.
        """
        runner, on_loop = self._app.handler_runner, is_async(step.fn)
        result = runner.run(step.fn, on_loop, step.args)
        if on_loop or runner.inline:
            return await result, None
        cancelled: asyncio.CancelledError | None = None
        calling = asyncio.ensure_future(_outcome(result))
        try:
            value, error = await asyncio.shield(calling)
        except asyncio.CancelledError as too_late:
            if not (self._app.stopping or calling.done()):
                calling.cancel()
                raise
            await asyncio.wait([calling])
            value, error = calling.result()
            if error is not None:
                raise
            cancelled = too_late
        if error is not None:
            raise error
        return value, cancelled

    # -- from a `def`, in its thread; in a simulation, on the loop

    def run_blocking(self, step: Step, check: Check) -> Any:
        """Do the step, or return its recorded result. See `StepMethods.step_blocking`."""
        inline = self._app.handler_runner.inline
        if self._definition.handlers["execute"].is_async or (not inline and is_on_a_loop()):
            raise InvalidStateError("use `await ctx.step(…)` here: step_blocking is for a `def`")
        if is_async(step.fn):
            issue = Issue(
                loc="fn",
                msg="give a `def`; an `async def` needs an `async def` handler",
                type="async",
            )
            raise ValidationError(f"step {step.name!r}", [issue])
        schema = self._schema(step)
        recorded = self._wait(self._begun(step))
        if recorded is not None:
            return _read(schema, step, recorded)
        value = self._tried_here(step, check)
        text, kept = _kept(schema, step, value)
        self._wait(self._record(step, text, check))
        return kept

    def _tried_here(self, step: Step, check: Check) -> Any:
        clock = self._app.clock
        began_us = clock.now_us()
        for attempt in itertools.count(1):
            self._wait(self._check_lease(step))
            with calling(step) as call:
                try:
                    return contextvars.copy_context().run(step.fn, *step.args)
                except Exception as error:
                    check()
                    pause_us = self._pause_us(call, error, attempt, began_us)
            self._wait_here(pause_us)
            check()

    def _wait_here(self, pause_us: int) -> None:
        """Block this thread, at most until the handler ends: `close` ends each pause that is in the
        list, and a later one sees that it is closed."""
        pause = threading.Event()
        self._pauses.append(pause)
        if not self._closed:
            self._app.clock.wait(pause, pause_us)
        self._pauses.remove(pause)

    def _wait(self, coroutine: Coroutine[Any, Any, R]) -> R:
        try:
            self._app.affinity.check_process()
        except InvalidStateError:
            coroutine.close()
            raise
        if self._app.handler_runner.inline:
            return _at_once(coroutine)
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:  # the loop is closed, and the handler was abandoned
            coroutine.close()
            raise InvalidStateError("the app was closed meanwhile: nothing is recorded") from None
        return future.result()

    # -- the same for both

    def _schema(self, step: Step) -> TypeSchema[Any]:
        return result_schema(step.fn, step.result, f"step {step.name!r}")

    async def _begun(self, step: Step) -> str | None:
        """The recorded result of a step that is about to begin, as JSON. A name is used once."""
        if self._lost is not None:
            raise self._lost
        if step.name in self._names:
            raise InvalidStateError(
                f"step {step.name!r} was used before in this attempt: give each step a name of its "
                f"own, and retry= to one that is to be tried again"
            )
        self._names.add(step.name)
        if self._is_first_attempt():
            return None
        async with self._reading:
            if self._recorded is None:
                self._recorded = await self._patiently(step, self._read_all)
        return self._recorded.get(step.name)

    async def _check_lease(self, step: Step) -> None:
        """Look at the run's lease before a step's function is called: after a clear, a terminate or
        a takeover by another process no further one is called (U14). Raises `LeaseLostError`."""
        stream = str(self._base.id)
        token = await self._patiently(step, lambda: self._app.lease_tokens.read(stream))
        if token != self._run.token:
            self._lost = LeaseLostError(stream, self._run.number)
            raise self._lost

    async def _read_all(self) -> dict[str, str]:
        """The results recorded since the first attempt of this run began."""
        found: dict[str, str] = {}
        after = self._base.run_version
        while True:
            store = self._app.store
            page = await self._app.threads.read(
                store.events, str(self._base.id), after=after, limit=PAGE
            )
            for stored in page:
                event = (recorded := decode(stored)).event
                if isinstance(event, StepCompleted):
                    whole(recorded)
                    if event.result is not None:
                        found[event.step] = event.result
            if len(page) < PAGE:
                return found
            after = page[-1].version

    def _pause_us(self, call: StepCall, error: Exception, attempt: int, began_us: int) -> int:
        """Microseconds until the next try; raises `error` where there is none. None mends a step
        inside a step."""
        step = call.step
        if step.retry is None or call.has_nested:
            raise error
        now_us = self._app.clock.now_us()
        wish = advice(step.retry, error, attempt)
        seed = f"{step_key(self._base, step.name)}.{self._run.attempt}.{attempt}"
        verdict = judge(step.retry, wish, attempt, began_us, now_us, seed)
        if not isinstance(verdict, Again):
            raise error
        failures, who = self._app.handler_runner.failures, self._named()
        failures.try_failed(who, self._run, step.name, attempt, error, verdict.due_us)
        return verdict.due_us - now_us

    async def _record(self, step: Step, text: str, check: Check) -> None:
        check()
        try:
            await self._patiently(step, lambda: self._append(step.name, text))
        except LeaseLostError as error:
            self._lost = error
            raise

    # -- whose steps they are, and where they are recorded

    def _named(self) -> str:
        """The instance, as failures are logged of it."""
        return str(self._base.id)

    def _is_first_attempt(self) -> bool:
        """Whether no step of the run can be recorded yet."""
        return self._run.token == self._base.run_version

    def _append(self, name: str, text: str) -> Coroutine[Any, Any, Any]:
        """Record a result. Raises `LeaseLostError` and `StoreUnavailableError`."""
        return self._app.request(
            self._definition,
            self._base.id,
            RecordStep(self._run, name, text),
            origin=self._origin,
            lease_token=self._run.token,
        )

    async def _patiently(self, step: Step, call: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Repeat until the store answers: a run does not fail because it was unavailable."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await (call() if self._app.handler_runner.inline else _shielded(call()))
            except StoreUnavailableError as error:
                if error.reason == "refused" or self._app.handler_runner.inline:
                    raise
                stream = str(self._base.id)
                _LOG.error(
                    "step %r of %s has to wait for the store: %s",
                    step.name,
                    stream,
                    error,
                    extra={"instance": stream},
                )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)


def _kept(schema: TypeSchema[Any], step: Step, value: Any) -> tuple[str, Any]:
    """The JSON of a result, and the value that every attempt gets: what it reads back as."""
    return schema.dump(value, step.name)


def _read(schema: TypeSchema[Any], step: Step, text: str) -> Any:
    value = schema.try_load(text)
    if isinstance(value, Exception):
        message = f"the recorded result is of another type now ({value}): take a new name for it"
        issue = Issue(loc="", msg=message, type="recorded")
        raise ValidationError(f"the result of step {step.name!r}", [issue]) from value
    return value


async def _outcome(result: Awaitable[R]) -> tuple[R | None, BaseException | None]:
    """How it ended, as a value: an exception that ends a process would end the loop if it were
    raised in a task of its own."""
    try:
        return await result, None
    except BaseException as error:
        return None, error


async def _shielded(append: Awaitable[R]) -> R:
    """Shields an append from cancellation; the cancellation is re-raised once the append has
    finished."""
    task = asyncio.ensure_future(append)
    task.add_done_callback(_read_error)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _read_error(task: asyncio.Future[Any]) -> None:
    """The caller may be gone; then its error is read here, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()


def _at_once(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine that never waits, as all do in a simulation, without the event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: R = done.value
        return result
    finally:
        coroutine.close()
    raise AssertionError("in a simulation a step never waits")
