"""Handlers: users' functions, and the decorators that add them to a definition."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, overload

from wakelog.core.commands import HandlerName
from wakelog.core.time import Duration, duration_us
from wakelog.errors import Issue, ValidationError, quoted
from wakelog.functions import is_async, is_generator

__all__ = ["ARGUMENTS", "Handler", "HandlerSlot"]

F = TypeVar("F", bound=Callable[..., Any])


ARGUMENTS: dict[HandlerName, tuple[str, ...]] = {
    "on_event": ("ctx", "event"),
    "execute": ("ctx",),
    "on_idle": ("ctx",),
    "on_error": ("ctx", "error"),
    "on_retry_exhausted": ("ctx", "error"),
    "on_client_get_state": ("ctx", "state"),
    "on_dead_letter": ("ctx", "event", "error"),
    "on_empty": ("ctx",),
}
"""What handlers are called with; a definition may have it otherwise."""


class Handler(NamedTuple):
    """A user's function, and how to call it."""

    fn: Callable[..., Any]
    is_async: bool
    timeout_us: int | None


class HasHandlers(Protocol):
    """What a slot adds its handler to: a definition."""

    def arguments_of(self, name: HandlerName) -> tuple[str, ...]:
        """What that handler is called with."""
        ...

    def add_handler(self, name: HandlerName, handler: Handler) -> None:
        """Set a handler."""
        ...


class HandlerSlot(Generic[F]):
    """A decorator that adds one handler, a function of type `F`, to its definition.

        @order.on_event
        def received(ctx, event): ...

        @order.execute(timeout="30s")
        async def remind(ctx): ...

    The function may be a `def` (called in a thread), an `async def`, a lambda or another callable;
    it is returned as it is. A second one takes the place of the first. Raises `ValidationError` for
    what is not callable, yields, or takes other arguments, and for a bad `timeout`;
    `InvalidStateError` after the definition has been given to `Jobs(...)`.
    """

    def __init__(self, definition: HasHandlers, name: HandlerName, doc: str | None) -> None:
        self._definition = definition
        self._name: HandlerName = name
        self.__doc__ = doc

    @overload
    def __call__(self, fn: F, /) -> F: ...
    @overload
    def __call__(self, /, *, timeout: Duration) -> Callable[[F], F]: ...
    def __call__(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        timeout_us = None if timeout is None else duration_us(timeout, "timeout")

        def add(fn: F) -> F:
            _check(self._name, fn, self._definition.arguments_of(self._name))
            self._definition.add_handler(self._name, Handler(fn, is_async(fn), timeout_us))
            return fn

        return add if fn is None else add(fn)


def _check(name: HandlerName, fn: object, arguments: tuple[str, ...]) -> None:
    """Raise `ValidationError` unless `fn` can be a handler that is called with these."""
    if not callable(fn):
        issue = Issue(loc=name, msg="a handler must be callable", type="callable")
    elif is_generator(fn):
        message = "a handler must not yield: it would not be resumed"
        issue = Issue(loc=name, msg=message, type="generator")
    elif (fault := _fault_of_call(fn, arguments)) is not None:
        message = f"it is called with ({', '.join(arguments)}): {fault}"
        issue = Issue(loc=name, msg=message, type="arguments")
    else:
        return
    raise ValidationError(f"{name} {quoted(fn)}", [issue])


def _fault_of_call(fn: Callable[..., Any], arguments: tuple[str, ...]) -> str | None:
    """Why `fn` cannot be called with so many arguments by position; None if it can, or if only the
    call will tell. What it wraps does not matter: a wrapper may pass more."""
    try:
        signature = inspect.signature(fn, follow_wrapped=False)
    except (ValueError, TypeError):  # a builtin
        return None
    try:
        signature.bind(*arguments)
    except TypeError as error:
        return str(error)
    return None
