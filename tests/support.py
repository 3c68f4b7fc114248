"""What tests share: definitions to try things on, and a stage to try them on.

`stage(...)` (a fixture, see conftest) puts one Task under the name `job` into a simulation, and
gives short verbs for its instance `a`. Its handlers are plain functions given as arguments; the
usual `on_event` is `scripted`: the event itself says what to ask of the context.

    job = stage(execute=lambda ctx: ctx.schedule("1h"))
    job.send({"set_state": 1, "schedule": "5m"})
    job.sim.advance("5m")
    assert job.status().scheduled_at == START + timedelta(minutes=65)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel

from tests.auditing import audit_all
from wakelog import (
    BlockingTaskClient,
    ClearResult,
    Jobs,
    PauseResult,
    ResumeResult,
    RetryResult,
    SendResult,
    Task,
    TaskContext,
    TaskStatus,
    TriggerResult,
)
from wakelog.core.events import Event
from wakelog.log.records import Recorded
from wakelog.testing import Simulation

__all__ = [
    "START",
    "WAIT_S",
    "Order",
    "Paid",
    "Placed",
    "Stage",
    "Staging",
    "counter_task",
    "elsewhere",
    "moment_at",
    "nothing",
    "numbers",
    "order_task",
    "scripted",
    "staged",
    "task_of",
]

START = datetime(2026, 1, 1, tzinfo=UTC)
"""When a simulation begins."""

WAIT_S = 20.0
"""How long a test of the real app waits for a signal before it fails: far more than it takes."""

Ctx = Any
"""A context, unchecked: tests/typing shows its types, and tests here misuse it on purpose."""

Raised = TypeVar("Raised", bound=Event)


# -- the order of the README -----------------------------------------------------------------------


class Order(BaseModel):
    """The state of the example that runs through the documentation."""

    status: Literal["pending", "paid"]
    reminders: int = 0


class Placed(BaseModel):
    """Opens an order."""

    kind: Literal["placed"] = "placed"


class Paid(BaseModel):
    """Ends an order."""

    kind: Literal["paid"] = "paid"


def order_task() -> Task[Order, Placed | Paid]:
    """Orders that are reminded of, after five minutes and then every hour, until they are paid."""
    order = Task(state=Order, event=Placed | Paid)

    @order.on_event
    def received(ctx: TaskContext[Order], event: Placed | Paid) -> None:
        match event:
            case Placed():
                ctx.set_state(Order(status="pending"))
                ctx.schedule("5m")
            case Paid():
                ctx.set_state(Order(status="paid"))
                ctx.cancel_schedule()

    @order.execute
    async def remind(ctx: TaskContext[Order]) -> None:
        ctx.update_state(lambda o: o.model_copy(update={"reminders": o.reminders + 1}))
        ctx.schedule("1h")

    return order


def counter_task(pause_s: float = 0.002) -> Task[int, int]:
    """Adds each event to the state, with an await between reading and writing."""
    counter = Task(state=int, event=int)

    @counter.on_event
    async def add(ctx: TaskContext[int], event: int) -> None:
        count = ctx.state or 0
        await asyncio.sleep(pause_s)
        ctx.set_state(count + event)

    @counter.execute
    def double(ctx: TaskContext[int]) -> None:
        ctx.update_state(lambda count: 2 * count)

    return counter


# -- a task of any handlers ------------------------------------------------------------------------


def scripted(ctx: Ctx, event: dict[str, Any]) -> None:
    """Ask of the context what the event says, in its order: `{"set_state": 1, "schedule": "5m"}`.

    None stands for a call without arguments, `raise` for a `ValueError` with that message.
    """
    for what, argument in event.items():
        if what == "raise":
            raise ValueError(argument)
        ask = getattr(ctx, what)
        ask() if argument is None else ask(argument)


def nothing(ctx: Ctx) -> None:
    """A handler that asks for nothing."""


def task_of(
    on_event: Callable[..., Any] = scripted,
    *,
    execute: Callable[..., Any] | None = nothing,
    on_idle: Callable[..., Any] | None = None,
    on_error: Callable[..., Any] | None = None,
    on_retry_exhausted: Callable[..., Any] | None = None,
    on_client_get_state: Callable[..., Any] | None = None,
    state: Any = Any,
    event: Any = Any,
    timeout: str | None = None,
    **options: Any,
) -> Task[Any, Any]:
    """A Task with these handlers; `timeout` is for `on_event` and `execute`."""
    task: Task[Any, Any] = Task(state=state, event=event, **options)
    bounds: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    if bounds:
        task.on_event(**bounds)(on_event)
    else:
        task.on_event(on_event)
    if execute is not None:
        task.execute(**bounds)(execute) if bounds else task.execute(execute)
    if on_idle is not None:
        task.on_idle(on_idle)
    if on_error is not None:
        task.on_error(on_error)
    if on_retry_exhausted is not None:
        task.on_retry_exhausted(on_retry_exhausted)
    if on_client_get_state is not None:
        task.on_client_get_state(on_client_get_state)
    return task


# -- the stage -------------------------------------------------------------------------------------


@dataclass
class Stage:
    """A simulation of one Task, `job`, with verbs for its instance `a`."""

    sim: Simulation
    task: Task[Any, Any]
    url: str

    def send(self, event: Any = None, id: str = "a", **options: Any) -> SendResult:
        """Send an event; None is one that asks for nothing."""
        given = {} if event is None else event
        result: SendResult = self.sim.task(self.task).send(id, given, **options)
        return result

    def trigger(self, id: str = "a", **options: Any) -> TriggerResult:
        return self.sim.task(self.task).trigger(id, **options)

    def retry(self, id: str = "a", **options: Any) -> RetryResult:
        return self.sim.task(self.task).retry(id, **options)

    def pause(self, id: str = "a", **options: Any) -> PauseResult:
        return self.sim.task(self.task).pause(id, **options)

    def resume(self, id: str = "a", **options: Any) -> ResumeResult:
        return self.sim.task(self.task).resume(id, **options)

    def clear(self, id: str = "a", **options: Any) -> ClearResult:
        return self.sim.task(self.task).clear(id, **options)

    def cancel_clear(self, id: str = "a", **options: Any) -> ClearResult:
        return self.sim.task(self.task).cancel_clear(id, **options)

    def status(self, id: str = "a") -> TaskStatus:
        return self.sim.task(self.task).status(id)

    def state(self, id: str = "a") -> Any:
        return self.sim.task(self.task).get_state(id)

    def recorded(self, id: str = "a") -> list[Recorded]:
        """What the log holds of an instance."""
        return self.sim.events(f"task:job:{id}")

    def names(self, id: str = "a") -> list[str]:
        """The names of the recorded events."""
        return [type(recorded.event).__name__ for recorded in self.recorded(id)]

    def found(self, kind: type[Raised], id: str = "a") -> list[Raised]:
        """The recorded events of one type."""
        return [r.event for r in self.recorded(id) if isinstance(r.event, kind)]

    def audit(self) -> None:
        """Check log and views of all that lives in the store (see `tests.auditing`)."""
        if not self.sim.is_closed:
            audit_all(self.sim.application.store)

    def commits(self, id: str = "a") -> list[list[str]]:
        """The names of the recorded events, unit of work by unit of work."""
        units: dict[str, list[str]] = {}
        for recorded in self.recorded(id):
            units.setdefault(recorded.commit, []).append(type(recorded.event).__name__)
        return list(units.values())


class Staging(Protocol):
    """Builds a stage: see `tests.support.task_of` for the handlers that it takes."""

    def __call__(self, *handlers: Callable[..., Any], sim: Any = None, **given: Any) -> Stage:
        """A stage for a task of these handlers, or for `task=`; `sim` is for the simulation."""
        ...


def staged(task: Task[Any, Any], url: str, **options: Any) -> Stage:
    """A stage for `task` on the store at `url`; `options` are the simulation's."""
    return Stage(Simulation(Jobs(job=task), url=url, **options), task, url)


def elsewhere(job: Stage, ask: Callable[[BlockingTaskClient[Any, Any]], Any]) -> Any:
    """What `ask` answers in another process on the same store, at the same time.

    It may be called in a handler: the other one has a thread, a loop and a context of its own.
    """

    def run() -> Any:
        with Simulation(Jobs(job=job.task), url=job.url, start=job.sim.now) as other:
            return ask(other.task(job.task))

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result(WAIT_S)


def moment_at(us: int) -> datetime:
    """A recorded moment as an aware datetime."""
    return datetime.fromtimestamp(us / 1_000_000, UTC)


def numbers() -> Iterator[int]:
    """1, 2, 3 …, for names that must not meet."""
    number = 0
    while True:
        number += 1
        yield number
