"""Debounce: the definition of batches of events for each key, and the context of its handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, ClassVar, Generic, Self, TypeVar, get_args, overload

from typing_extensions import TypeForm

from wakelog.bounds import at_least
from wakelog.core.calls import HandlerCall
from wakelog.core.commands import HandlerName
from wakelog.core.events import FlushReason
from wakelog.core.instance import Instance
from wakelog.core.retry import Retry
from wakelog.core.time import Duration, as_datetime, duration_us
from wakelog.core.windows import MAX_WINDOW_EVENTS, Window, WindowMode, WindowRule
from wakelog.definitions.context import EventContext
from wakelog.definitions.definition import Definition, E, Maybe, S
from wakelog.definitions.handlers import Handler, HandlerSlot
from wakelog.definitions.schema import TypeSchema
from wakelog.definitions.steps import StepRunner
from wakelog.errors import InvalidStateError, Issue, ValidationError, quoted
from wakelog.ids import Kind
from wakelog.kinds.behaviour import MAX_WAITING, Behaviour
from wakelog.kinds.debounce import DebounceBehaviour

__all__ = ["Debounce", "DebounceContext"]

L = TypeVar("L")


class DebounceContext(EventContext[S], Generic[S, E]):
    """A Debounce's view of itself during one call of one handler.

    `on_event` sets the state by returning it. A run sees the whole batch, the same one in each of
    its attempts. After the handler has ended every use raises `InvalidStateError`.
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
            self.read_batch()
        return list(self._events or ())

    def read_batch(self) -> None:
        """Read the events of the window. Raises what their type raises if one does not fit."""
        self._events = [self._event_schema.load(text) for text in self._call.batch]

    @property
    def event_count(self) -> int:
        """How many events the window has; in `on_event`, up to the current one."""
        self._check()
        events = self._instance.windows[0].events if self._instance.windows else ()
        version = self._call.event_version
        return len(events) if version is None else events.index(version) + 1

    @property
    def flush_reason(self) -> FlushReason:
        """In a flush: `flush_after`, `max_wait`, `max_events` or `manual`; the same in all
        attempts."""
        self._in_flush("flush_reason")
        return self._window.reason

    @property
    def started_at(self) -> datetime:
        """When the window was opened (aware, UTC)."""
        return as_datetime(self._window.opened_us)

    def returned(self, result: Any) -> None:
        """Set the state to what `on_event` returned. Raises `ValidationError` if it is invalid."""
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


Reducer = Callable[[DebounceContext[S, E], E], Awaitable[S] | S]
Plain = Callable[[DebounceContext[S, E]], Maybe]
OnError = Callable[[DebounceContext[S, E], Exception], Maybe]
OnClientGetState = Callable[[DebounceContext[S, E], S], Awaitable[S | None] | S | None]


class Debounce(Definition, Generic[S, E]):
    """Collects events for a while, and hands them over together.

        webhook = Debounce(event=Webhook, flush_after="5s", max_events=100)

        @webhook.execute
        async def deliver(ctx: DebounceContext[Webhook, Webhook]) -> None:
            await post(ctx.id, ctx.events)

    The first event of an instance opens a window. It is flushed `flush_after` its first event
    (`mode="fixed"`) or its newest one (`mode="sliding"`), but never later than `max_wait` after
    its first, and at once when it has `max_events` (1 to 10,000). `on_event` reduces the events to
    a state of type `state=`; without it the state is the newest event.

    A flush that fails is retried by the policy `retry`, with the same events; after the last
    attempt its events are kept as a dead letter, or as `Retry(on_exhausted=…)` decides.
    `max_waiting` bounds how many accepted events of one instance may wait to be reduced,
    `max_running` how many instances may be flushed at a time, over all workers.
    """

    kind: ClassVar[Kind] = "debounce"
    needs: ClassVar[HandlerName] = "execute"

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
        self.window_rule = _rule(flush_after, mode, max_wait, max_events)
        """How long its windows stay open, and how many events each takes."""
        on_exhausted = retry and retry.on_exhausted
        self._behaviour = DebounceBehaviour(
            self.window_rule, on_exhausted or DebounceBehaviour.ON_EXHAUSTED
        )

    def behaviour(self) -> Behaviour:
        """The answers of a Debounce."""
        return self._behaviour

    def context(
        self, call: HandlerCall, instance: Instance, now_us: int, steps: StepRunner | None = None
    ) -> DebounceContext[S, E]:
        """The context of one call."""
        schemas = self.state, self.event
        return DebounceContext(*schemas, call, instance, now_us, self.resources, steps)

    def registered(self, name: str) -> Self:
        """As for any definition; without `on_event` the state is the newest event."""
        if "on_event" not in self.handlers and self._has_own_state:
            message = "state= needs @….on_event, which returns it"
            raise self._invalid(name, Issue(loc="on_event", msg=message, type="missing"))
        whole = self.with_resources(self.resources)
        whole.handlers.setdefault("on_event", Handler(_newest, True, None))
        copied = super(Debounce, whole).registered(name)
        self.policy = copied.policy
        return copied

    # -- handlers

    @property
    def on_event(self) -> HandlerSlot[Reducer[S, E]]:
        """Called with each event of a window, in order; returns the new state (`ctx.state` is None
        for the first). Called again if another process changed the instance first, so outside
        effects belong in `execute`."""
        return self._slot("on_event")

    @property
    def execute(self) -> HandlerSlot[Plain[S, E]]:
        """Called when a window is flushed, under a lease: the place for effects."""
        return self._slot("execute")

    @property
    def on_idle(self) -> HandlerSlot[Plain[S, E]]:
        """Called after a flush that ended well and left no event."""
        return self._slot("on_idle")

    @property
    def on_error(self) -> HandlerSlot[OnError[S, E]]:
        """Called with the error of `on_event` or `execute` if there is no other attempt; if it ends
        well the event is accepted, or the batch taken for handed over."""
        return self._slot("on_error")

    @property
    def on_retry_exhausted(self) -> HandlerSlot[OnError[S, E]]:
        """Called in place of `on_error` for a flush that has no attempt left."""
        return self._slot("on_retry_exhausted")

    @property
    def on_client_get_state(self) -> HandlerSlot[OnClientGetState[S, E]]:
        """Called when an outside caller gets the state: redact, derive or enrich it."""
        return self._slot("on_client_get_state")


async def _newest(ctx: DebounceContext[Any, E], event: E) -> E:
    """The `on_event` of a definition without one: keep the newest event."""
    return event


def _rule(
    flush_after: Duration, mode: WindowMode, max_wait: Duration | None, max_events: int
) -> WindowRule:
    """Raises `ValidationError` if a value is out of bounds."""
    if mode not in get_args(WindowMode):
        issue = Issue(loc="mode", msg="expected 'fixed' or 'sliding'", type="mode")
        raise ValidationError(f"mode {quoted(mode)}", [issue])
    flush_after_us = _positive_us(flush_after, "flush_after")
    max_wait_us = None if max_wait is None else _positive_us(max_wait, "max_wait")
    at_least(1, "max_events", max_events, most=MAX_WINDOW_EVENTS)
    return WindowRule(flush_after_us, mode, max_wait_us, max_events)


def _positive_us(duration: Duration, what: str) -> int:
    us = duration_us(duration, what)
    if us == 0:
        issue = Issue(loc=what, msg="must be greater than zero", type="bound")
        raise ValidationError(f"{what} {quoted(duration)}", [issue])
    return us
