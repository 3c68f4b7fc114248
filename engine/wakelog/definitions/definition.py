"""Definitions: what users fill in. The name comes later, as the key given to `Jobs(...)`."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, ClassVar, Self, TypeVar

from wakelog.bounds import at_least
from wakelog.core.calls import HandlerCall
from wakelog.core.commands import HandlerName
from wakelog.core.instance import Instance
from wakelog.core.requests import Receive, Start
from wakelog.core.retry import Retry
from wakelog.definitions.context import Context
from wakelog.definitions.handlers import ARGUMENTS, Handler, HandlerSlot
from wakelog.definitions.messages import Accepts, Targets
from wakelog.definitions.schema import TypeSchema
from wakelog.definitions.steps import StepRunner
from wakelog.errors import InvalidStateError, Issue, UnknownActionError, ValidationError, quoted
from wakelog.ids import Kind
from wakelog.kinds.behaviour import Behaviour, BoundPolicy

__all__ = ["Definition", "Maybe"]

S = TypeVar("S")
E = TypeVar("E")

Maybe = Awaitable[None] | None
"""What a handler returns that has no result: nothing, or an awaitable of nothing."""


class Definition:
    """What all types of definition have in common: handlers, policy and resources."""

    kind: ClassVar[Kind]
    has_instances: ClassVar[bool] = True
    """Whether its work is done by instances, each with a stream and alarms of its own."""
    accepts: ClassVar[Accepts] = "send"
    """By which call of a context it is sent messages."""
    needs: ClassVar[HandlerName]
    """The handler that a user must give."""
    state: TypeSchema[Any]
    event: TypeSchema[Any]

    def __init__(self, *, max_waiting: int, max_running: int | None, retry: Retry | None) -> None:
        at_least(1, "max_waiting", max_waiting)
        if max_running is not None:
            at_least(1, "max_running", max_running)
        if retry is not None and not isinstance(retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
            issue = Issue(loc="retry", msg="expected a Retry(...)", type="type")
            raise ValidationError(f"retry {quoted(retry)}", [issue])
        self.retry = retry
        self.name = ""
        self.handlers: dict[HandlerName, Handler] = {}
        self.max_waiting = max_waiting
        self.max_running = max_running
        self.resources: Any = None
        self.targets: Targets | None = None
        """The definitions that it is registered with, to send messages to."""
        self.followed: Any = None
        """The log that it follows, if it does: see `wakelog.follow.jobs`."""
        self.has_threads = False
        """Whether a handler that a request may call is a `def`, which is called in a thread; known
        once it is registered."""
        self.policy: BoundPolicy | None = None
        """The answers to what the core asks, once it is registered."""

    @property
    def job(self) -> str:
        """Kind and name, as in `task:order`; the name is there once it is registered."""
        return f"{self.kind}:{self.name}"

    @property
    def autostarted(self) -> Mapping[str, str]:
        """The ids, and inputs as JSON, of the instances that a worker starts when it opens."""
        return {}

    def behaviour(self) -> Behaviour:
        """The answers of its type of job."""
        raise NotImplementedError

    def context(
        self, call: HandlerCall, instance: Instance, now_us: int, steps: StepRunner | None = None
    ) -> Context[Any]:
        """The context that its handler gets in this call; `steps` are its run's, if any."""
        raise NotImplementedError

    def message(self, value: Any) -> str:
        """The JSON text of an event that it is sent. Raises `ValidationError`."""
        return self.event.dump(value, self.name)[0]

    def delivery(self, text: str) -> Receive | Start:
        """The request that delivers a message to one of its instances. Raises what its type raises
        if that cannot be read."""
        self.event.load(text)
        return Receive(text, defer=True)

    def check_readable(self, state: str | None, events: Iterable[str]) -> Exception | None:
        """The error of its types, if they do not fit a recorded state or these events."""
        try:
            if state is not None:
                self.state.load(state)
            for text in events:
                self.event.load(text)
        except Exception as error:  # a validator may raise anything
            return error
        return None

    def arguments_of(self, name: HandlerName) -> tuple[str, ...]:
        """What that handler is called with."""
        return ARGUMENTS[name]

    def add_handler(self, name: HandlerName, handler: Handler) -> None:
        """Set a handler. Raises `InvalidStateError` after the definition has been registered."""
        if self.policy is not None:
            raise InvalidStateError(
                f"{name} comes too late: decorate before the definition goes to Jobs(...)"
            )
        self.handlers[name] = handler

    def with_resources(self, resources: Any) -> Self:
        """A copy whose handlers see `resources` as `ctx.resources`. Handlers that are added to
        either of them later are not added to the other."""
        copied = copy.copy(self)
        copied.handlers = dict(self.handlers)
        copied.resources = resources
        copied.policy = None
        return copied

    def registered(self, name: str) -> Self:
        """A copy under its name, complete: no handler can be added to either of them from now on.

        Raises `ValidationError` if something is missing or does not fit together.
        """
        if self.needs not in self.handlers:
            message = f"decorate a function with @….{self.needs}"
            raise self._invalid(name, Issue(loc=self.needs, msg=message, type="missing"))
        for schema in (self.event, self.state):
            schema.complete()
            schema.check_unions()
        behaviour = self.behaviour()
        on_exhausted = None if self.retry is None else self.retry.on_exhausted
        if on_exhausted == "dead_letter" and on_exhausted != behaviour.ON_EXHAUSTED:
            message = "there is no batch to dead-letter: expected 'fail', 'continue' or 'clear'"
            issue = Issue(loc="retry.on_exhausted", msg=message, type="on_exhausted")
            raise self._invalid(name, issue)
        copied = self.with_resources(self.resources)
        copied.name = name
        called = (copied.handlers.get(each) for each in ("on_event", "on_error", "on_idle"))
        copied.has_threads = any(handler and not handler.is_async for handler in called)
        copied.handlers.setdefault("execute", Handler(_no_execute, False, None))
        names = frozenset[str](copied.handlers)
        copied.policy = BoundPolicy(behaviour, names, self.max_waiting, self.retry)
        self.policy = copied.policy
        return copied

    def _slot(self, name: HandlerName) -> HandlerSlot[Any]:
        """The decorator for a handler; its documentation is that of the property of that name."""
        return HandlerSlot(self, name, getattr(type(self), name).__doc__)

    def _invalid(self, name: str, issue: Issue) -> ValidationError:
        return ValidationError(f"the definition of {self.kind} {quoted(name)}", [issue])


def _no_execute(ctx: Context[Any]) -> None:
    raise UnknownActionError(
        "run", "task", "decorate a function with @….execute, deploy it, then trigger the instance"
    )
