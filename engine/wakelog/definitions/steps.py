"""Steps, as a handler sees them: parts of a run whose results outlive its attempts (I4).

Everything else that a handler asks for takes effect when the handler has ended. A step is executed,
and its result recorded, when it is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, TypeVarTuple, overload

from typing_extensions import TypeForm

from wakelog.core.retry import Retry
from wakelog.errors import InvalidStateError, Issue, LeaseLostError, ValidationError
from wakelog.ids import check_step

if TYPE_CHECKING:
    from wakelog.core.calls import HandlerCall
    from wakelog.core.instance import Instance

__all__ = [
    "Check",
    "Step",
    "StepCall",
    "StepMethods",
    "StepRunner",
    "calling",
    "is_on_a_loop",
    "step_key",
]

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

NOT_GIVEN: Any = None
"""No type was given. Typed as `Any`, since for a type checker None itself is a type."""

Check = Callable[[], None]
"""Raises if the handler has ended or has cleared its instance: what it does no longer counts."""


class Step(NamedTuple):
    """What a handler asks for: a function to be executed once for its run."""

    asked_of: StepMethods
    """The context."""
    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    result: Any
    """The type of the result, if it was given beside the function."""
    retry: Retry | None


class StepCall:
    """A call of a step's function that is going on."""

    __slots__ = ("has_nested", "step")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.has_nested = False
        """Whether a step was refused that the function asked for."""


_CALL: contextvars.ContextVar[StepCall | None] = contextvars.ContextVar(
    "wakelog_step", default=None
)
"""The step in whose function this is called."""


@contextlib.contextmanager
def calling(step: Step) -> Generator[StepCall]:
    """Within it the function of a step is called: other steps of its context are refused (I5)."""
    outer, call = _CALL.get(), StepCall(step)
    _CALL.set(call)
    try:
        yield call
    finally:
        _CALL.set(outer)  # not by a token: the rest of a request may be in another task


class StepRunner(Protocol):
    """Executes the steps of one attempt of a run, and records their results."""

    def run(self, step: Step, check: Check) -> Coroutine[Any, Any, Any]:
        """Execute the step, or return the result that an earlier attempt of the run recorded."""
        ...

    def run_blocking(self, step: Step, check: Check) -> Any:
        """The same, for a handler in a thread."""
        ...

    def close(self) -> None:
        """The handler has ended: no step is tried again."""
        ...


class StepMethods:
    """The part of a context that is about steps; for `execute` only, which has a lease."""

    __slots__ = ()

    _call: HandlerCall
    _instance: Instance
    _steps: StepRunner | None
    _is_given_back: bool

    @overload
    def step(
        self,
        name: str,
        fn: Callable[[*Ts], Awaitable[R]],
        /,
        *args: *Ts,
        result: TypeForm[R] = NOT_GIVEN,
        retry: Retry | None = None,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self,
        name: str,
        fn: Callable[[*Ts], R],
        /,
        *args: *Ts,
        result: TypeForm[R] = NOT_GIVEN,
        retry: Retry | None = None,
    ) -> Coroutine[Any, Any, R]: ...
    def step(
        self,
        name: str,
        fn: Callable[[*Ts], Any],
        /,
        *args: *Ts,
        result: Any = NOT_GIVEN,
        retry: Retry | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Call `fn(*args)` and record its result, as in `await ctx.step("mail", send, ctx.id)`.

        If an earlier attempt of the run has recorded a step of this name, its result is returned
        and `fn` is not called. Until then `fn` may be called more than once: if it raised, or if
        the process crashed between its end and the record. So pass `step_key(name)` to services
        that accept a key.

        `fn` is an `async def`, or a `def`, which is called in a thread. `result` is the type of its
        result, if `fn` has no annotation for it; without either it is plain JSON data. With
        `retry`, a failing `fn` is retried within this attempt, while the run stays open (its
        `on_exhausted` is for runs, and is ignored here).

        Raises `ValidationError` for a type that cannot be kept (`fn` is not called) and for a
        result that does not read back as the same (it is not recorded), `InvalidStateError` for a
        name that is repeated in one attempt, inside the `fn` of another step, outside `execute` and
        after its end, `LeaseLostError` if the run no longer belongs to this worker, and what `fn`
        raises.
        """
        steps = self._of_a_run("step")
        step = self._step(name, fn, args, result, retry)
        if not is_on_a_loop():
            raise InvalidStateError("a `def` cannot await ctx.step(…): use ctx.step_blocking(…)")
        return steps.run(step, self._check_step)

    def step_blocking(
        self,
        name: str,
        fn: Callable[[*Ts], R],
        /,
        *args: *Ts,
        result: TypeForm[R] = NOT_GIVEN,
        retry: Retry | None = None,
    ) -> R:
        """As `step`, for an `execute` that is a `def`: calls `fn`, a `def` too, in its thread."""
        steps = self._of_a_run("step_blocking")
        step = self._step(name, fn, args, result, retry)
        recorded: R = steps.run_blocking(step, self._check_step)
        return recorded

    def step_key(self, name: str) -> str:
        """A key for the outside effects of the step `name`: the same in each attempt of this run,
        and of no other step of any run, not even after a clear."""
        self._of_a_run("step_key")
        return step_key(self._instance, check_step(name))

    def _of_a_run(self, member: str) -> StepRunner:
        self._check_step(member)
        if self._call.handler != "execute" or self._steps is None:
            raise InvalidStateError(
                f"ctx.{member} is for execute, which works under a lease, not for "
                f"{self._call.handler}: use ctx.schedule(0) there, and the step in execute"
            )
        return self._steps

    def _check_step(self, member: str = "step") -> None:
        if self._is_given_back:
            run = self._call.run
            raise LeaseLostError(str(self._instance.id), run.number if run else 0)
        self._check_command(member)

    def _step(
        self,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        result: Any,
        retry: Retry | None,
    ) -> Step:
        """Raises `ValidationError` for an invalid argument, and `InvalidStateError` inside another
        step: a repetition of that one would find the name in use (I5)."""
        check_step(name)
        if not callable(fn):
            raise _unfit(name, "fn", "expected a function, followed by its arguments")
        if retry is not None and not isinstance(retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _unfit(name, "retry", "expected a Retry(...)")
        outer = _CALL.get()
        if outer is not None and outer.step.asked_of is self:
            outer.has_nested = True
            raise InvalidStateError(
                f"step {name!r} is inside step {outer.step.name!r}: a step's function has no steps "
                f"of its own; make it part of the handler, or call its function without ctx.step"
            )
        return Step(self, name, fn, args, result, retry)

    def _check_command(self, member: str) -> None:
        raise NotImplementedError


def step_key(instance: Instance, name: str) -> str:
    """Stream, version of the newest run's first `RunStarted`, name: versions never repeat."""
    return f"{instance.id}@{instance.run_version}:{name}"


def is_on_a_loop() -> bool:
    """Whether an event loop is running in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _unfit(name: str, loc: str, message: str) -> ValidationError:
    return ValidationError(f"step {name!r}", [Issue(loc=loc, msg=message, type="type")])
