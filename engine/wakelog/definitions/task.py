"""Task: the definition of a keyed state machine, and what its handlers get."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Generic, overload

from typing_extensions import TypeForm

from wakelog.core.calls import HandlerCall
from wakelog.core.commands import CancelSchedule, HandlerName
from wakelog.core.instance import Instance
from wakelog.core.retry import Retry
from wakelog.core.time import Duration
from wakelog.definitions.context import EventContext, SettingContext
from wakelog.definitions.definition import Definition, E, Maybe, S
from wakelog.definitions.schema import TypeSchema
from wakelog.definitions.steps import StepRunner
from wakelog.ids import Kind
from wakelog.kinds.behaviour import MAX_WAITING, Behaviour
from wakelog.kinds.task import TaskBehaviour

__all__ = ["OnClientGetState", "OnError", "OnEvent", "Plain", "Task", "TaskContext"]


class Task(Definition, Generic[S, E]):
    """A keyed, durable state machine: events change its state, and it may set itself one alarm.

        order = Task(state=Order, event=Placed | Paid)

        @order.on_event
        def received(ctx: TaskContext[Order], event: Placed | Paid) -> None: ...

        @order.execute
        async def remind(ctx: TaskContext[Order]) -> None: ...

    `state` and `event` are any types that pydantic can validate. `max_waiting` bounds how many
    accepted events of one instance may wait to be handled, `max_running` how many instances may be
    in `execute` at a time, over all workers (each goes by the number in its own code). `retry` says
    how often a failing run, or the handler of a deferred event, is tried again.

    Each handler may be `def` (called in a thread) or `async def`, and may be given a `timeout=`: an
    `async def` is then cancelled and has failed; a `def` cannot be stopped, so it goes on but
    nothing that it does afterwards counts.
    """

    kind: ClassVar[Kind] = "task"
    needs: ClassVar[HandlerName] = "on_event"

    def __init__(
        self,
        *,
        state: TypeForm[S],
        event: TypeForm[E],
        retry: Retry | None = None,
        max_waiting: int = MAX_WAITING,
        max_running: int | None = None,
    ) -> None:
        super().__init__(max_waiting=max_waiting, max_running=max_running, retry=retry)
        self.state = TypeSchema[S](state, "state")
        self.event = TypeSchema[E](event, "event")

    def behaviour(self) -> Behaviour:
        """A task's."""
        return TaskBehaviour()

    def context(
        self, call: HandlerCall, instance: Instance, now_us: int, steps: StepRunner | None = None
    ) -> TaskContext[S]:
        """A task's."""
        return TaskContext(self.state, call, instance, now_us, self.resources, steps)

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
        """Called with the error of `on_event` or `execute` where that is not tried again; if it
        ends well, all is well."""
        return self._add("on_error", fn, timeout)

    @overload
    def on_retry_exhausted(
        self, fn: Callable[[TaskContext[S], BaseException], Maybe], /
    ) -> OnError[S]: ...
    @overload
    def on_retry_exhausted(self, /, *, timeout: Duration) -> Callable[[OnError[S]], OnError[S]]: ...
    def on_retry_exhausted(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called in the place of `on_error` for a run that has no attempt left."""
        return self._add("on_retry_exhausted", fn, timeout)

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


class TaskContext(EventContext[S], SettingContext[S]):
    """A Task's view of itself during one call of one handler."""

    __slots__ = ()

    def cancel_schedule(self) -> None:
        """Let there be no schedule."""
        self._check_command("cancel_schedule")
        self.commands.append(CancelSchedule())

    @property
    def event_count(self) -> int:
        """How many events this life has accepted, the current one included."""
        return self._instance.event_count


OnClientGetState = Callable[[TaskContext[S], S], Awaitable[S | None] | S | None]


OnError = Callable[[TaskContext[S], BaseException], Maybe]


Plain = Callable[[TaskContext[S]], Maybe]


OnEvent = Callable[[TaskContext[S], E], Maybe]
