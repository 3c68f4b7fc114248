"""Steps, as a handler sees them: parts of a run whose results outlive its attempts (I4).

Everything else that a handler asks for takes effect when the handler has ended. A step is executed,
and its result recorded, when it is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, TypeVarTuple, overload

from typing_extensions import TypeForm

from wakelog.core.retry import Retry
from wakelog.errors import InvalidStateError, Issue, ValidationError
from wakelog.ids import check_step

if TYPE_CHECKING:
    from wakelog.core.calls import HandlerCall
    from wakelog.core.instance import Instance

__all__ = ["Check", "Step", "StepMethods", "StepRunner", "is_on_a_loop", "step_key"]

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

NOT_GIVEN: Any = None
"""No type was given. Typed as `Any`, since for a type checker None itself is a type."""

Check = Callable[[], None]
"""Raises if the handler has ended or has cleared its instance: what it does no longer counts."""


class Step(NamedTuple):
    """What a handler asks for: a function to be executed once for its run."""

    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    result: Any
    """The type of the result, if it was given beside the function."""
    retry: Retry | None


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
        name that is repeated in one attempt, outside `execute` and after its end, `LeaseLostError`
        if the run no longer belongs to this worker, and what `fn` raises.
        """
        steps = self._of_a_run("step")
        if not is_on_a_loop():
            raise InvalidStateError("a `def` cannot await ctx.step(…): use ctx.step_blocking(…)")
        return steps.run(_step(name, fn, args, result, retry), self._check_step)

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
        recorded: R = steps.run_blocking(_step(name, fn, args, result, retry), self._check_step)
        return recorded

    def step_key(self, name: str) -> str:
        """A key for the outside effects of the step `name`: the same in each attempt of this run,
        and of no other step of any run, not even after a clear."""
        self._of_a_run("step_key")
        return step_key(self._instance, check_step(name))

    def _of_a_run(self, member: str) -> StepRunner:
        self._check_command(member)
        if self._call.handler != "execute" or self._steps is None:
            raise InvalidStateError(
                f"ctx.{member} is for execute, which works under a lease, not for "
                f"{self._call.handler}: use ctx.schedule(0) there, and the step in execute"
            )
        return self._steps

    def _check_step(self) -> None:
        self._check_command("step")

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


def _step(
    name: str, fn: Callable[..., Any], args: tuple[Any, ...], result: Any, retry: Retry | None
) -> Step:
    """Raises `ValidationError` for an invalid argument."""
    check_step(name)
    if not callable(fn):
        raise _unfit(name, "fn", "expected a function, followed by its arguments")
    if retry is not None and not isinstance(retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _unfit(name, "retry", "expected a Retry(...)")
    return Step(name, fn, args, result, retry)


def _unfit(name: str, loc: str, message: str) -> ValidationError:
    return ValidationError(f"step {name!r}", [Issue(loc=loc, msg=message, type="type")])
