"""Definitions: what users fill in. The name comes later, as the key given to `Jobs(...)`."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar, cast, overload

import pydantic
from pydantic import TypeAdapter
from typing_extensions import TypeForm

from wakelog.bounds import at_least
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

        Raises `ValidationError` with each issue, also where the text would not read back as the
        same value.
        """
        data, valid, again = self._through(value, name)
        if (type(again) is type(valid) and _equal(again, valid)) or self._same(data, valid, again):
            return data.decode(), again
        raise ValidationError(f"{self.what} of {name!r}", [_CHANGED])

    def shown(self, value: object, name: str) -> str:
        """JSON text of a value that is only shown. Raises `ValidationError`."""
        return self._through(value, name)[0].decode()

    def _through(self, value: object, name: str) -> tuple[bytes, S, S]:
        """The text, the value that it was made from, and the one that it makes."""
        try:
            valid = self._adapter.validate_python(value)
            data = self._text(valid)
            return data, valid, self._adapter.validate_json(data, by_name=True)
        except pydantic.ValidationError as error:
            raise ValidationError(f"{self.what} of {name!r}", issues_of(error)) from error
        except (ValueError, TypeError) as error:
            issue = Issue(loc="", msg=str(error), type=type(error).__name__)
            raise ValidationError(f"{self.what} of {name!r}", [issue]) from error

    def _text(self, valid: S) -> bytes:
        return self._adapter.dump_json(valid, by_alias=False, round_trip=True, warnings=False)

    def _same(self, data: bytes, valid: S, again: S) -> bool:
        """Whether what was read back is the same, part by part: the long way."""
        likeness = _Likeness(frozenset(_classes(self._adapter.core_schema)))
        if not likeness.same(valid, again):
            return False
        return not likeness.is_opaque or self._text(again) == data

    def load(self, text: str) -> S:
        """A fresh value of recorded JSON text. Raises pydantic's error: the text was recorded."""
        return self._adapter.validate_json(text, by_name=True)

    def try_load(self, text: str) -> S | Exception:
        """As `load`, but answers the exception."""
        try:
            return self.load(text)
        except pydantic.ValidationError as error:
            return error


_CHANGED = Issue(
    loc="",
    msg="it does not read back as what was given: give each class of a union a literal `kind`, "
    "and keep secrets and infinities out",
    type="round_trip",
)


class _Likeness:
    """Whether two values are the same for whoever reads them, where `==` alone will not do."""

    def __init__(self, declared: frozenset[type]) -> None:
        self._declared = declared
        self.is_opaque = False
        """Something in it has no `==`: only its text can tell."""

    def same(self, a: Any, b: Any) -> bool:
        """`a` may be of a subclass that adds no field, unless the type names that class itself."""
        fields = _fields_of(b)
        if _is_row(a) and _is_row(b):  # JSON knows one kind
            return len(a) == len(b) and all(map(self.same, a, b))
        if type(a) is type(b):
            equal = _equal(a, b)
            if equal or isinstance(a, float | Decimal):
                return equal or (a != a and b != b)  # not a number
        elif type(a) in self._declared or fields is None or not isinstance(a, type(b)):
            return False
        else:
            equal = False
            if _fields_of(a) != fields:
                return False
        if fields is not None:
            alike = (self.same(getattr(a, f, None), getattr(b, f, None)) for f in fields)
            return all(alike) and self.same(_extra(a), _extra(b))
        if issubclass(type(a), dict):
            return a.keys() == b.keys() and all(self.same(a[key], b[key]) for key in a)
        if issubclass(type(a), deque):
            return len(a) == len(b) and all(map(self.same, a, b))
        if isinstance(a, datetime):  # an hour that comes twice equals none of another time zone
            aware = a.tzinfo is not None and b.tzinfo is not None
            return aware and a.timestamp() == b.timestamp()
        self.is_opaque = self.is_opaque or equal is None
        return equal is None


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _equal(a: Any, b: Any) -> bool | None:
    """Whether `a == b`; None where their class does not say."""
    try:
        if a == b:
            return True
    except Exception:  # such as an array's, which is equal in parts
        return None
    own: object = type(a).__eq__
    return None if own is object.__eq__ else False


def _fields_of(value: Any) -> list[str] | None:
    """The names of the fields that are kept, of a model or a dataclass."""
    fields: dict[str, Any] | None = getattr(value, "__pydantic_fields__", None)
    if fields is not None:
        return [
            name
            for name, field in fields.items()
            if not field.exclude and getattr(field, "exclude_if", None) is None
        ]
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value) if field.compare]
    return None


def _extra(value: Any) -> dict[str, Any] | None:
    return getattr(value, "__pydantic_extra__", None)


def _classes(schema: Any) -> Iterator[type]:
    """The classes that a pydantic core schema names."""
    if isinstance(schema, dict):
        for key, part in cast("dict[str, Any]", schema).items():
            if key == "cls" and isinstance(part, type):
                yield part
            elif key not in ("metadata", "default"):
                yield from _classes(part)
    elif isinstance(schema, list | tuple):
        for part in cast("list[Any]", schema):
            yield from _classes(part)


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

    def __init__(self, *, max_waiting: int, max_running: int | None) -> None:
        at_least(1, "max_waiting", max_waiting)
        if max_running is not None:
            at_least(1, "max_running", max_running)
        self.name = ""
        self.handlers: dict[HandlerName, Handler] = {}
        self.max_waiting = max_waiting
        self.max_running = max_running
        self.resources: Any = None
        self._has_threads = False
        self.policy: BoundPolicy | None = None

    @property
    def has_threads(self) -> bool:
        """Whether a handler that a request may call is a `def`, and so is called in a thread."""
        return self._has_threads

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
        called = (copied.handlers.get(name) for name in ("on_event", "on_error", "on_idle"))
        copied._has_threads = any(handler and not handler.is_async for handler in called)
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
            call = getattr(fn, "__call__", None)  # noqa: B004  an object whose call is a coroutine
            if any(map(_is_generator, (fn, call))):
                issue = Issue(
                    loc=handler,
                    msg="a handler must not yield: nobody would go on",
                    type="generator",
                )
                raise ValidationError(f"{handler} {fn!r}", [issue])
            is_async = any(map(inspect.iscoroutinefunction, (fn, call)))
            self.handlers[handler] = Handler(fn, is_async, timeout_us)
            return fn

        return add if fn is None else add(fn)


def _is_generator(fn: object) -> bool:
    return inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)


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
    accepted events of one instance may wait to be handled, `max_running` how many instances may be
    in `execute` at a time, over all workers (each goes by the number in its own code).

    Each handler may be `def` (called in a thread) or `async def`, and may be given a `timeout=`: an
    `async def` is then cancelled and has failed; a `def` cannot be stopped, so it goes on but
    nothing that it does afterwards counts.
    """

    kind: ClassVar[Kind] = "task"

    def __init__(
        self,
        *,
        state: TypeForm[S],
        event: TypeForm[E],
        max_waiting: int = MAX_WAITING,
        max_running: int | None = None,
    ) -> None:
        super().__init__(max_waiting=max_waiting, max_running=max_running)
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
