"""Task: the definition of a keyed state machine, and the context of its handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, Generic

from typing_extensions import TypeForm

from wakelog.core.calls import HandlerCall
from wakelog.core.commands import CancelSchedule, HandlerName
from wakelog.core.instance import Instance
from wakelog.core.retry import Retry
from wakelog.definitions.context import EventContext, SettingContext
from wakelog.definitions.definition import Definition, E, Maybe, S
from wakelog.definitions.handlers import HandlerSlot
from wakelog.definitions.schema import TypeSchema
from wakelog.definitions.steps import StepRunner
from wakelog.ids import Kind
from wakelog.kinds.behaviour import MAX_WAITING, Behaviour
from wakelog.kinds.task import TaskBehaviour

__all__ = ["Task", "TaskContext"]


class TaskContext(EventContext[S], SettingContext[S]):
    """A Task's view of itself during one call of one handler."""

    __slots__ = ()

    def cancel_schedule(self) -> None:
        """Remove the schedule."""
        self._check_command("cancel_schedule")
        self.commands.append(CancelSchedule())

    @property
    def event_count(self) -> int:
        """How many events this life has accepted, the current one included."""
        return self._instance.event_count


OnEvent = Callable[[TaskContext[S], E], Maybe]
Plain = Callable[[TaskContext[S]], Maybe]
OnError = Callable[[TaskContext[S], Exception], Maybe]
OnClientGetState = Callable[[TaskContext[S], S], Awaitable[S | None] | S | None]


class Task(Definition, Generic[S, E]):
    """A keyed, durable state machine: events change its state, and it may set itself one alarm.

        order = Task(state=Order, event=Placed | Paid)

        @order.on_event
        def received(ctx: TaskContext[Order], event: Placed | Paid) -> None: ...

        @order.execute
        async def remind(ctx: TaskContext[Order]) -> None: ...

    `state` and `event` are any types that pydantic can validate. `max_waiting` bounds how many
    accepted events of one instance may wait to be handled, `max_running` how many instances may be
    in `execute` at a time, over all workers (each worker uses the number in its own code). `retry`
    is the policy for failing runs and for failing handlers of deferred events.

    Each handler may be `def` (called in a thread) or `async def`, and may be given a `timeout=`: an
    `async def` is then cancelled and has failed; a `def` cannot be stopped, so it continues, but
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
        """The answers of a Task."""
        return TaskBehaviour()

    def context(
        self, call: HandlerCall, instance: Instance, now_us: int, steps: StepRunner | None = None
    ) -> TaskContext[S]:
        """The context of one call."""
        return TaskContext(self.state, call, instance, now_us, self.resources, steps)

    # -- handlers

    @property
    def on_event(self) -> HandlerSlot[OnEvent[S, E]]:
        """Called with each event, in order. Called again if another process changed the instance
        first, so outside effects belong in `execute`."""
        return self._slot("on_event")

    @property
    def execute(self) -> HandlerSlot[Plain[S]]:
        """Called when the alarm fires, or on a trigger, under a lease: the place for effects."""
        return self._slot("execute")

    @property
    def on_idle(self) -> HandlerSlot[Plain[S]]:
        """Called after a handler that ended well and left nothing to wait for."""
        return self._slot("on_idle")

    @property
    def on_error(self) -> HandlerSlot[OnError[S]]:
        """Called with the error of `on_event` or `execute` if there is no other attempt; if it ends
        well, the failure is recovered."""
        return self._slot("on_error")

    @property
    def on_retry_exhausted(self) -> HandlerSlot[OnError[S]]:
        """Called in place of `on_error` for a run that has no attempt left."""
        return self._slot("on_retry_exhausted")

    @property
    def on_client_get_state(self) -> HandlerSlot[OnClientGetState[S]]:
        """Called when an outside caller gets the state: redact, derive or enrich it."""
        return self._slot("on_client_get_state")
