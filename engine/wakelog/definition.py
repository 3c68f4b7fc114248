"""Definitions: what users fill in. The name comes later, as the key given to `Jobs(...)`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar, overload

import pydantic
from pydantic import TypeAdapter
from typing_extensions import TypeForm

from wakelog.context import TaskContext
from wakelog.core.commands import HandlerName
from wakelog.core.schedule import Duration, duration_us
from wakelog.errors import InvalidStateError, Issue, UnknownActionError, ValidationError
from wakelog.ids import Kind
from wakelog.kinds import BEHAVIOURS
from wakelog.kinds.policy import MAX_WAITING, BoundPolicy

__all__ = ["Definition", "Handler", "Task"]

S = TypeVar("S")
E = TypeVar("E")

Maybe = Awaitable[None] | None
OnEvent = Callable[[TaskContext[S], E], Maybe]
Plain = Callable[[TaskContext[S]], Maybe]
OnError = Callable[[TaskContext[S], BaseException], Maybe]
OnClientGetState = Callable[[TaskContext[S], S], Awaitable[S | None] | S | None]
Function = TypeVar("Function", bound=Callable[..., Any])


class Handler(NamedTuple):
    """A user's function, and how to call it."""

    fn: Callable[..., Any]
    is_async: bool
    timeout_us: int | None


class Schema(Generic[S]):
    """A user's type: checked and dumped at the door, decoded anew for each reader.

    The text names fields as the class does, whatever aliases they have, and leaves out what is
    computed: so that it always reads back.
    """

    def __init__(self, type_: Any, what: str) -> None:
        self.what = what
        try:
            self._adapter: TypeAdapter[S] = TypeAdapter(type_)
        except pydantic.errors.PydanticUserError as error:
            raise self._no_type(error) from error

    def complete(self) -> None:
        """Resolve what the type names; raises `ValidationError` where something is not defined."""
        try:
            self._adapter.rebuild()
            _ = self._adapter.validator.title  # a type that is not complete says so here
        except (pydantic.errors.PydanticUserError, NameError) as error:
            raise self._no_type(error) from error

    def _no_type(self, error: Exception) -> ValidationError:
        issue = Issue(loc="", msg=str(error).split("\n")[0], type="type")
        return ValidationError(f"the type given as {self.what}=", [issue])

    def dump(self, value: object, name: str) -> tuple[str, S]:
        """JSON text of `value`, and what reading it back gives: a copy of its own.

        Raises `ValidationError` with each issue, also where the text would not read back.
        """
        try:
            valid = self._adapter.validate_python(value)
            data = self._adapter.dump_json(valid, by_alias=False, round_trip=True, warnings=False)
            return data.decode(), self._adapter.validate_json(data, by_name=True)
        except pydantic.ValidationError as error:
            raise ValidationError(f"{self.what} of {name!r}", issues_of(error)) from error
        except (ValueError, TypeError) as error:
            issue = Issue(loc="", msg=str(error), type=type(error).__name__)
            raise ValidationError(f"{self.what} of {name!r}", [issue]) from error

    def load(self, text: str) -> S:
        """A fresh value of recorded JSON text. Raises pydantic's error: the text was recorded."""
        return self._adapter.validate_json(text, by_name=True)

    def try_load(self, text: str) -> S | Exception:
        """As `load`, but answers the exception."""
        try:
            return self.load(text)
        except pydantic.ValidationError as error:
            return error


def issues_of(error: pydantic.ValidationError) -> list[Issue]:
    """Each issue of a pydantic error, without the values (they may be secrets)."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        Issue(loc=".".join(map(str, each["loc"])), msg=each["msg"], type=each["type"])
        for each in found
    ]


class Definition:
    """What all types of definition have in common: handlers, policy and resources."""

    kind: ClassVar[Kind]
    state: Schema[Any]
    event: Schema[Any]

    def __init__(self, *, max_waiting: int) -> None:
        if max_waiting < 1:
            issue = Issue(loc="", msg="it must be at least 1", type="bound")
            raise ValidationError(f"max_waiting {max_waiting!r}", [issue])
        self.name = ""
        self.handlers: dict[HandlerName, Handler] = {}
        self.max_waiting = max_waiting
        self.resources: Any = None
        self.policy: BoundPolicy | None = None

    def with_resources(self, resources: Any) -> Self:
        """A copy whose handlers see `resources` as `ctx.resources`."""
        copied = copy.copy(self)
        copied.handlers = dict(self.handlers)
        copied.resources = resources
        copied.policy = None
        return copied

    def registered(self, name: str) -> Self:
        """A copy under its name, complete: no handler can be added any more."""
        if "on_event" not in self.handlers:
            issue = Issue(
                loc="on_event", msg="decorate a function with @….on_event", type="missing"
            )
            raise ValidationError(f"the definition of {self.kind} {name!r}", [issue])
        self.state.complete()
        self.event.complete()
        copied = self.with_resources(self.resources)
        copied.name = name
        copied.handlers.setdefault("execute", Handler(_no_execute, False, None))
        names = frozenset[str](copied.handlers)
        copied.policy = BoundPolicy(BEHAVIOURS[self.kind], names, self.max_waiting)
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
            is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
                getattr(fn, "__call__", None)  # noqa: B004  an object whose call is a coroutine
            )
            self.handlers[handler] = Handler(fn, is_async, timeout_us)
            return fn

        return add if fn is None else add(fn)


def _no_execute(ctx: TaskContext[Any]) -> None:
    raise UnknownActionError(
        "run", "task", "decorate a function with @….execute, deploy it, then trigger the instance"
    )


class Task(Definition, Generic[S, E]):
    """A keyed, durable state machine: events change its state, and it may set itself one alarm.

        order = Task(state=Order, event=Placed | Paid)

        @order.on_event
        def received(ctx: TaskContext[Order], event: Placed | Paid) -> None: ...

        @order.execute
        async def remind(ctx: TaskContext[Order]) -> None: ...

    `state` and `event` are any types that pydantic can validate. `max_waiting` bounds how many
    accepted events of one instance may wait to be handled. Each handler may be `def` (called in a
    thread) or `async def`, and may be given a `timeout=`: an `async def` is then cancelled and has
    failed; a `def` cannot be stopped, so it goes on but nothing that it does afterwards counts.
    """

    kind: ClassVar[Kind] = "task"

    def __init__(
        self, *, state: TypeForm[S], event: TypeForm[E], max_waiting: int = MAX_WAITING
    ) -> None:
        super().__init__(max_waiting=max_waiting)
        self.state = Schema[S](state, "state")
        self.event = Schema[E](event, "event")

    @overload
    def on_event(self, fn: Callable[[TaskContext[S], E], Maybe], /) -> OnEvent[S, E]: ...
    @overload
    def on_event(self, /, *, timeout: Duration) -> Callable[[OnEvent[S, E]], OnEvent[S, E]]: ...
    def on_event(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called with each event, in order. Redone where another process was first, so outside
        effects belong in `execute`."""
        return self._add("on_event", fn, timeout)

    @overload
    def execute(self, fn: Callable[[TaskContext[S]], Maybe], /) -> Plain[S]: ...
    @overload
    def execute(self, /, *, timeout: Duration) -> Callable[[Plain[S]], Plain[S]]: ...
    def execute(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called when the alarm fires, or on a trigger, under a lease: the place for effects."""
        return self._add("execute", fn, timeout)

    @overload
    def on_idle(self, fn: Callable[[TaskContext[S]], Maybe], /) -> Plain[S]: ...
    @overload
    def on_idle(self, /, *, timeout: Duration) -> Callable[[Plain[S]], Plain[S]]: ...
    def on_idle(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called after a handler that ended well and left nothing to wait for."""
        return self._add("on_idle", fn, timeout)

    @overload
    def on_error(self, fn: Callable[[TaskContext[S], BaseException], Maybe], /) -> OnError[S]: ...
    @overload
    def on_error(self, /, *, timeout: Duration) -> Callable[[OnError[S]], OnError[S]]: ...
    def on_error(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called with the error of `on_event` or `execute`; if it ends well, all is well."""
        return self._add("on_error", fn, timeout)

    @overload
    def on_client_get_state(
        self, fn: Callable[[TaskContext[S], S], Awaitable[S | None] | S | None], /
    ) -> OnClientGetState[S]: ...
    @overload
    def on_client_get_state(
        self, /, *, timeout: Duration
    ) -> Callable[[OnClientGetState[S]], OnClientGetState[S]]: ...
    def on_client_get_state(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called when an outside caller asks for the state: redact, derive or enrich it."""
        return self._add("on_client_get_state", fn, timeout)
