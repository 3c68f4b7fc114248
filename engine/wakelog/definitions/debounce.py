"""Debounce: the definition that users fill in, and what its handlers get."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, get_args, overload

from typing_extensions import TypeForm

from wakelog.arguments import at_least
from wakelog.core.calls import HandlerCall
from wakelog.core.commands import HandlerName
from wakelog.core.events import FlushReason
from wakelog.core.instance import Instance
from wakelog.core.retry import Retry
from wakelog.core.time import Duration, as_datetime, duration_us
from wakelog.core.windows import MAX_WINDOW_EVENTS, Batching, Window, WindowMode
from wakelog.definitions.context import EventContext
from wakelog.definitions.definition import Definition, Handler
from wakelog.definitions.schema import TypeSchema
from wakelog.definitions.steps import StepRunner
from wakelog.errors import InvalidStateError, Issue, ValidationError
from wakelog.ids import Kind
from wakelog.kinds.behaviour import MAX_WAITING, Behaviour
from wakelog.kinds.debounce import DebounceBehaviour

__all__ = ["Debounce", "DebounceContext"]

S = TypeVar("S")
E = TypeVar("E")
L = TypeVar("L")


class DebounceContext(EventContext[S], Generic[S, E]):
    """A Debounce's view of itself during one call of one handler.

    `on_event` says what the state is to be by returning it. A run sees the whole batch, in each of
    its attempts the same one. After the handler has ended every use raises `InvalidStateError`.
    """

    __slots__ = ("_event_schema", "_events")

    def __init__(
        self,
        state: TypeSchema[S],
        event: TypeSchema[E],
        call: HandlerCall,
        instance: Instance,
        now_us: int,
        resources: Any,
        steps: StepRunner | None = None,
    ) -> None:
        super().__init__(state, call, instance, now_us, resources, steps)
        self._event_schema = event
        self._events: list[E] | None = None

    @property
    def events(self) -> list[E]:
        """In a flush: all events of the window, in the order in which they were accepted."""
        self._in_flush("events")
        if self._events is None:
            self._events = [self._event_schema.load(text) for text in self._call.batch]
        return list(self._events)

    @property
    def event_count(self) -> int:
        """How many events the window holds; in `on_event` up to this one."""
        self._check()
        events = self._instance.windows[0].events if self._instance.windows else ()
        version = self._call.event_version
        return len(events) if version is None else events.index(version) + 1

    @property
    def flush_reason(self) -> FlushReason:
        """In a flush: `flush_after`, `max_wait`, `max_events` or `manual`; it stays the same over
        all attempts."""
        self._in_flush("flush_reason")
        return self._window.reason

    @property
    def started_at(self) -> datetime:
        """When the window was opened (aware, UTC)."""
        return as_datetime(self._window.opened_us)

    def returned(self, result: Any) -> None:
        """What `on_event` returns is the new state. Raises `ValidationError` if it does not fit."""
        if self._call.handler != "on_event":
            return
        if result is None:
            issue = Issue(loc="", msg="return the new state from on_event", type="none")
            raise ValidationError(f"state of {self.job_name!r}", [issue])
        self._keep(result)

    @property
    def _window(self) -> Window:
        self._check()
        windows = self._instance.windows
        if not windows:
            handler = self._call.handler
            raise InvalidStateError(f"no window is open in {handler} of {self.instance_id}")
        return windows[0]

    def _in_flush(self, member: str) -> None:
        self._check()
        if self._call.run is None:
            raise InvalidStateError(f"ctx.{member} is for execute, not for {self._call.handler}")


Maybe = Awaitable[None] | None
Reducer = Callable[[DebounceContext[S, E], E], Awaitable[S] | S]
Plain = Callable[[DebounceContext[S, E]], Maybe]
OnError = Callable[[DebounceContext[S, E], BaseException], Maybe]
OnClientGetState = Callable[[DebounceContext[S, E], S], Awaitable[S | None] | S | None]


class Debounce(Definition, Generic[S, E]):
    """Collects the events of a while, and hands them over together.

        webhook = Debounce(event=Webhook, flush_after="5s", max_events=100)

        @webhook.execute
        async def deliver(ctx: DebounceContext[Webhook, Webhook]) -> None:
            await post(ctx.id, ctx.events)

    The first event of an instance opens a window, which is flushed `flush_after` its first event
    (`mode="fixed"`) or its newest one (`mode="sliding"`), but never later than `max_wait` after
    its first, and at once when it holds `max_events` (1 to 10,000). `on_event` reduces the events
    to a state of type `state=`; without it the state is the newest event.

    A flush that fails is tried again as `retry` says, with the same events; then, unless
    `Retry(on_exhausted=…)` says otherwise, its events are kept as a dead letter. `max_waiting`
    bounds how many accepted events of one instance may wait to be reduced, `max_running` how many
    instances may be flushed at a time, over all workers.
    """

    kind: ClassVar[Kind] = "debounce"
    needs: ClassVar[HandlerName] = "execute"
    has_rule: ClassVar[bool] = True

    @overload
    def __init__(
        self: Debounce[L, L],
        *,
        event: TypeForm[L],
        flush_after: Duration,
        mode: WindowMode = ...,
        max_wait: Duration | None = ...,
        max_events: int = ...,
        retry: Retry | None = ...,
        max_waiting: int = ...,
        max_running: int | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        *,
        event: TypeForm[E],
        state: TypeForm[S],
        flush_after: Duration,
        mode: WindowMode = ...,
        max_wait: Duration | None = ...,
        max_events: int = ...,
        retry: Retry | None = ...,
        max_waiting: int = ...,
        max_running: int | None = ...,
    ) -> None: ...
    def __init__(
        self,
        *,
        event: Any,
        state: Any = None,
        flush_after: Duration,
        mode: WindowMode = "fixed",
        max_wait: Duration | None = None,
        max_events: int = 1_000,
        retry: Retry | None = None,
        max_waiting: int = MAX_WAITING,
        max_running: int | None = None,
    ) -> None:
        super().__init__(max_waiting=max_waiting, max_running=max_running, retry=retry)
        self._has_own_state = state is not None
        self.state = TypeSchema[S](event if state is None else state, "state")
        self.event = TypeSchema[E](event, "event")
        batching = _batching(flush_after, mode, max_wait, max_events)
        said = None if retry is None else retry.on_exhausted
        self.batching = batching
        self._behaviour = DebounceBehaviour(batching, said or DebounceBehaviour.ON_EXHAUSTED)

    def behaviour(self) -> Behaviour:
        """A debounce's."""
        return self._behaviour

    def context(
        self, call: HandlerCall, instance: Instance, now_us: int, steps: StepRunner | None = None
    ) -> DebounceContext[S, E]:
        """A debounce's."""
        schemas = self.state, self.event
        return DebounceContext(*schemas, call, instance, now_us, self.resources, steps)

    def registered(self, name: str) -> Self:
        """A copy under its name, complete: no handler can be added any more."""
        if "on_event" not in self.handlers and self._has_own_state:
            issue = Issue(
                loc="on_event", msg="state= needs @….on_event, which returns it", type="missing"
            )
            raise ValidationError(f"the definition of debounce {name!r}", [issue])
        whole = self.with_resources(self.resources)
        whole.handlers.setdefault("on_event", Handler(_newest, True, None))
        copied = super(Debounce, whole).registered(name)
        self.policy = copied.policy
        return copied

    @overload
    def on_event(
        self, fn: Callable[[DebounceContext[S, E], E], Awaitable[S] | S], /
    ) -> Reducer[S, E]: ...
    @overload
    def on_event(self, /, *, timeout: Duration) -> Callable[[Reducer[S, E]], Reducer[S, E]]: ...
    def on_event(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called with each event of a window, in order; returns the new state (`ctx.state` is None
        for the first). Redone where another process was first: effects belong in `execute`."""
        return self._add("on_event", fn, timeout)

    @overload
    def execute(self, fn: Callable[[DebounceContext[S, E]], Maybe], /) -> Plain[S, E]: ...
    @overload
    def execute(self, /, *, timeout: Duration) -> Callable[[Plain[S, E]], Plain[S, E]]: ...
    def execute(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called with a window that is flushed, under a lease: the place for effects."""
        return self._add("execute", fn, timeout)

    @overload
    def on_idle(self, fn: Callable[[DebounceContext[S, E]], Maybe], /) -> Plain[S, E]: ...
    @overload
    def on_idle(self, /, *, timeout: Duration) -> Callable[[Plain[S, E]], Plain[S, E]]: ...
    def on_idle(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called after a flush that ended well and left no event."""
        return self._add("on_idle", fn, timeout)

    @overload
    def on_error(
        self, fn: Callable[[DebounceContext[S, E], BaseException], Maybe], /
    ) -> OnError[S, E]: ...
    @overload
    def on_error(self, /, *, timeout: Duration) -> Callable[[OnError[S, E]], OnError[S, E]]: ...
    def on_error(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called with the error of `on_event` or `execute` where that is not tried again; if it
        ends well the event is accepted, or the batch taken for handed over."""
        return self._add("on_error", fn, timeout)

    @overload
    def on_retry_exhausted(
        self, fn: Callable[[DebounceContext[S, E], BaseException], Maybe], /
    ) -> OnError[S, E]: ...
    @overload
    def on_retry_exhausted(
        self, /, *, timeout: Duration
    ) -> Callable[[OnError[S, E]], OnError[S, E]]: ...
    def on_retry_exhausted(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called in the place of `on_error` for a flush that has no attempt left."""
        return self._add("on_retry_exhausted", fn, timeout)

    @overload
    def on_client_get_state(
        self, fn: Callable[[DebounceContext[S, E], S], Awaitable[S | None] | S | None], /
    ) -> OnClientGetState[S, E]: ...
    @overload
    def on_client_get_state(
        self, /, *, timeout: Duration
    ) -> Callable[[OnClientGetState[S, E]], OnClientGetState[S, E]]: ...
    def on_client_get_state(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called when an outside caller asks for the state: redact, derive or enrich it."""
        return self._add("on_client_get_state", fn, timeout)


async def _newest(ctx: DebounceContext[Any, E], event: E) -> E:
    """The reducer of a definition without one."""
    return event


def _batching(
    flush_after: Duration, mode: WindowMode, max_wait: Duration | None, max_events: int
) -> Batching:
    if mode not in get_args(WindowMode):
        issue = Issue(loc="mode", msg="give 'fixed' or 'sliding'", type="mode")
        raise ValidationError(f"mode {cast(object, mode)!r}", [issue])
    flush_after_us = _positive_us(flush_after, "flush_after")
    max_wait_us = None if max_wait is None else _positive_us(max_wait, "max_wait")
    at_least(1, "max_events", max_events)
    if max_events > MAX_WINDOW_EVENTS:
        issue = Issue(loc="max_events", msg=f"it must be 1 to {MAX_WINDOW_EVENTS}", type="bound")
        raise ValidationError(f"max_events {max_events}", [issue])
    return Batching(flush_after_us, mode, max_wait_us, max_events)


def _positive_us(duration: Duration, what: str) -> int:
    us = duration_us(duration, what)
    if us == 0:
        issue = Issue(loc=what, msg="it must be longer than nothing", type="bound")
        raise ValidationError(f"{what} {duration!r}", [issue])
    return us
