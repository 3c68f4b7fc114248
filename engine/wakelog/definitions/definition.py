"""Definitions: what users fill in. The name comes later, as the key given to `Jobs(...)`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from wakelog.arguments import at_least
from wakelog.core.calls import HandlerCall
from wakelog.core.commands import HandlerName
from wakelog.core.instance import Instance
from wakelog.core.retry import Retry
from wakelog.core.time import Duration, duration_us
from wakelog.core.windows import Batching
from wakelog.definitions.context import Context
from wakelog.definitions.schema import TypeSchema
from wakelog.definitions.steps import StepRunner
from wakelog.errors import InvalidStateError, Issue, UnknownActionError, ValidationError
from wakelog.ids import Kind
from wakelog.kinds.behaviour import Behaviour, BoundPolicy

__all__ = ["Definition", "Function", "Handler", "is_async"]

S = TypeVar("S")
E = TypeVar("E")

Maybe = Awaitable[None] | None
Function = TypeVar("Function", bound=Callable[..., Any])


class Handler(NamedTuple):
    """A user's function, and how to call it."""

    fn: Callable[..., Any]
    is_async: bool
    timeout_us: int | None


class Definition:
    """What all types of definition have in common: handlers, policy and resources."""

    kind: ClassVar[Kind]
    needs: ClassVar[HandlerName]
    """The handler that it cannot do without."""
    has_rule: ClassVar[bool] = False
    """Whether its policy sets schedules by a rule, which may change with a deploy."""
    state: TypeSchema[Any]
    event: TypeSchema[Any]
    batching: Batching | None = None
    """How its events are put into windows, where they are handled in batches."""

    def __init__(self, *, max_waiting: int, max_running: int | None, retry: Retry | None) -> None:
        at_least(1, "max_waiting", max_waiting)
        if max_running is not None:
            at_least(1, "max_running", max_running)
        if retry is not None and not isinstance(retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
            issue = Issue(loc="retry", msg="give a Retry(...)", type="type")
            raise ValidationError(f"retry {retry!r}", [issue])
        self.retry = retry
        self.name = ""
        self.handlers: dict[HandlerName, Handler] = {}
        self.max_waiting = max_waiting
        self.max_running = max_running
        self.resources: Any = None
        self._has_threads = False
        self.policy: BoundPolicy | None = None

    @property
    def job(self) -> str:
        """Kind and name, as in `task:order`; the name is there once it is registered."""
        return f"{self.kind}:{self.name}"

    @property
    def autostarted(self) -> Mapping[str, str]:
        """Ids, and inputs as JSON, of what a worker starts when it opens."""
        return {}

    @property
    def has_threads(self) -> bool:
        """Whether a handler that a request may call is a `def`, and so is called in a thread."""
        return self._has_threads

    def behaviour(self) -> Behaviour:
        """How its type of job answers what the lifecycle asks."""
        raise NotImplementedError

    def context(
        self, call: HandlerCall, instance: Instance, now_us: int, steps: StepRunner | None = None
    ) -> Context[Any]:
        """What its handler gets in this call; `steps` are its run's, if any."""
        raise NotImplementedError

    def with_resources(self, resources: Any) -> Self:
        """A copy whose handlers see `resources` as `ctx.resources`."""
        copied = copy.copy(self)
        copied.handlers = dict(self.handlers)
        copied.resources = resources
        copied.policy = None
        return copied

    def registered(self, name: str) -> Self:
        """A copy under its name, complete: no handler can be added any more."""
        if self.needs not in self.handlers:
            issue = Issue(
                loc=self.needs, msg=f"decorate a function with @….{self.needs}", type="missing"
            )
            raise ValidationError(f"the definition of {self.kind} {name!r}", [issue])
        self.state.complete()
        self.event.complete()
        behaviour = self.behaviour()
        says = None if self.retry is None else self.retry.on_exhausted
        if says == "dead_letter" and says != behaviour.ON_EXHAUSTED:
            issue = Issue(
                loc="retry.on_exhausted",
                msg="it has no batch to dead-letter: give 'fail', 'continue' or 'clear'",
                type="on_exhausted",
            )
            raise ValidationError(f"the definition of {self.kind} {name!r}", [issue])
        copied = self.with_resources(self.resources)
        copied.name = name
        called = (copied.handlers.get(name) for name in ("on_event", "on_error", "on_idle"))
        copied._has_threads = any(handler and not handler.is_async for handler in called)
        copied.handlers.setdefault("execute", Handler(_no_execute, False, None))
        names = frozenset[str](copied.handlers)
        copied.policy = BoundPolicy(behaviour, names, self.max_waiting, self.retry, self.batching)
        self.policy = copied.policy
        return copied

    def _add(
        self, handler: HandlerName, fn: Function | None, timeout: Duration | None
    ) -> Function | Callable[[Function], Function]:
        timeout_us = None if timeout is None else duration_us(timeout, "timeout")

        def add(fn: Function) -> Function:
            if self.policy is not None:
                raise InvalidStateError(
                    f"{handler} comes too late: decorate before the definition goes to Jobs(...)"
                )
            if not callable(fn):
                issue = Issue(loc=handler, msg="a handler must be callable", type="callable")
                raise ValidationError(f"{handler} {fn!r}", [issue])
            if any(map(_is_generator, (fn, getattr(fn, "__call__", None)))):  # noqa: B004
                issue = Issue(
                    loc=handler,
                    msg="a handler must not yield: nobody would go on",
                    type="generator",
                )
                raise ValidationError(f"{handler} {fn!r}", [issue])
            self.handlers[handler] = Handler(fn, is_async(fn), timeout_us)
            return fn

        return add if fn is None else add(fn)


def is_async(fn: object) -> bool:
    """Whether to call `fn` makes a coroutine: an `async def`, or an object whose call is one."""
    return any(map(inspect.iscoroutinefunction, (fn, getattr(fn, "__call__", None))))  # noqa: B004


def _is_generator(fn: object) -> bool:
    return inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)


def _no_execute(ctx: Context[Any]) -> None:
    raise UnknownActionError(
        "run", "task", "decorate a function with @….execute, deploy it, then trigger the instance"
    )
