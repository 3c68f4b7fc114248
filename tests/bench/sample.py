"""The jobs that are measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel

from wakelog.core.time import Duration
from wakelog.definitions.continuous import Continuous, ContinuousContext
from wakelog.definitions.task import Task, TaskContext
from wakelog.definitions.worker_pool import WorkerPool, WorkerPoolContext
from wakelog.jobs import Jobs

__all__ = [
    "Count", "Mail", "Order", "Placed", "Tick",
    "counting", "hourly", "mailing", "orders", "ticking",
]  # fmt: skip


class Order(BaseModel):
    """A small state."""

    status: Literal["pending", "paid"]
    items: int
    note: str


class Placed(BaseModel):
    """A small event."""

    kind: Literal["placed"] = "placed"
    items: int
    note: str = "please ring twice"


class Mail(BaseModel):
    """An event of a pool."""

    to: str = "someone@example.org"
    n: int


def orders(*, blocking: bool = False) -> Jobs:
    """`on_event` sets the state and schedules: three events and two view rows for each send."""
    order = Task(state=Order, event=Placed)

    def placed(ctx: TaskContext[Order], event: Placed) -> None:
        ctx.set_state(Order(status="pending", items=event.items, note=event.note))
        ctx.schedule("1h")

    async def placed_async(ctx: TaskContext[Order], event: Placed) -> None:
        placed(ctx, event)

    order.on_event(placed if blocking else placed_async)
    return Jobs(order=order)


class Count(BaseModel):
    """A state that shows whether an event was lost."""

    n: int


class Tick(BaseModel):
    """An event that says little more than that it was."""

    after_s: float | None = None
    """When the first run is to be, where it is not as usual."""


def counting() -> Jobs:
    """`on_event` reads the state and writes it back, one more."""
    counter = Task(state=Count, event=Tick)

    @counter.on_event
    async def ticked(ctx: TaskContext[Count], event: Tick) -> None:
        ctx.set_state(Count(n=ctx.state.n + 1 if ctx.state else 1))
        ctx.schedule("1h")

    return Jobs(counter=counter)


def ticking(*, first: Duration, on_run: Callable[[], None] = lambda: None) -> Jobs:
    """An event schedules; each run counts itself and schedules the next, an hour later.

    `on_run` hears of each run; its outcome is not recorded yet.
    """
    ticker = Task(state=Count, event=Tick)

    @ticker.on_event
    async def begun(ctx: TaskContext[Count], event: Tick) -> None:
        ctx.set_state(Count(n=0))
        ctx.schedule(first if event.after_s is None else event.after_s)

    @ticker.execute
    async def ran(ctx: TaskContext[Count]) -> None:
        ctx.update_state(lambda count: Count(n=count.n + 1))
        ctx.schedule("1h")
        on_run()

    return Jobs(ticker=ticker)


def hourly(timezone: str) -> Jobs:
    """Runs every full hour, after one is over, and counts itself."""
    hourly = Continuous(state=Count, cron="0 * * * *", timezone=timezone, start_immediately=False)

    @hourly.execute
    async def ran(ctx: ContinuousContext[Count]) -> None:
        ctx.update_state(lambda count: Count(n=count.n + 1))

    return Jobs(hourly=hourly)


def mailing(
    *, blocking: bool = False, concurrency: int = 16, on_run: Callable[[], object] = lambda: None
) -> Jobs:
    """A pool whose handler does nothing; `on_run` hears of each run, in whatever thread."""
    mails = WorkerPool(event=Mail, concurrency=concurrency)

    def sent(ctx: WorkerPoolContext, mail: Mail) -> None:
        on_run()

    async def sent_async(ctx: WorkerPoolContext, mail: Mail) -> None:
        on_run()

    mails.execute(sent if blocking else sent_async)
    return Jobs(mails=mails)
