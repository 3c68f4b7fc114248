"""The public types, as a user's checker sees them. Type-checked by pyright and mypy; never run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, assert_type

from pydantic import BaseModel

from wakelog import (
    AddResult,
    App,
    BlockingApp,
    BlockingDebounceClient,
    BlockingTaskClient,
    ClearResult,
    Continuous,
    ContinuousContext,
    ContinuousStatus,
    Debounce,
    DebounceClient,
    DebounceContext,
    DebounceStatus,
    FlushResult,
    HistoryEntry,
    InstanceRow,
    JobCount,
    Jobs,
    PastState,
    Retry,
    SendResult,
    StartResult,
    StopResult,
    Task,
    TaskClient,
    TaskContext,
    TaskStatus,
    TriggerResult,
    Work,
    WorkerStatus,
)
from wakelog.testing import Alarm, Simulation


class Order(BaseModel):
    status: Literal["pending", "paid"]


class Placed(BaseModel):
    kind: Literal["placed"] = "placed"


class Paid(BaseModel):
    kind: Literal["paid"] = "paid"


order = Task(state=Order, event=Placed | Paid)
assert_type(order, Task[Order, Placed | Paid])

counts = Task(state=dict[str, int], event=int)
assert_type(counts, Task[dict[str, int], int])

maybe = Task(state=Order | None, event=str | None)
assert_type(maybe, Task[Order | None, str | None])


@order.on_event
def received(ctx: TaskContext[Order], event: Placed | Paid) -> None:
    assert_type(ctx.state, Order | None)
    assert_type(ctx.now, datetime)
    assert_type(ctx.scheduled_at, datetime | None)
    assert_type(ctx.is_first_event, bool)
    assert_type(ctx.event_id, str | None)
    ctx.set_state(Order(status="pending"))
    ctx.set_state("pending")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.update_state(lambda state: state.model_copy(update={"status": "paid"}))
    ctx.update_state(lambda state: 5)  # type: ignore[arg-type,return-value]  # pyright: ignore[reportArgumentType]
    ctx.schedule("5m")
    ctx.schedule(timedelta(minutes=5))
    ctx.schedule(300)
    ctx.schedule(ctx.now)
    ctx.schedule(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    match event:
        case Placed():
            assert_type(event, Placed)
        case Paid():
            assert_type(event, Paid)


@order.execute(timeout="30s")
async def remind(ctx: TaskContext[Order]) -> None:
    assert_type(ctx.attempt, int)
    assert_type(ctx.scheduled_for, datetime)
    assert_type(ctx.step_key("mail"), str)
    assert_type(await ctx.step("mail", send_mail, ctx.id), Order)
    assert_type(await ctx.step("count", count, "a", 2), int)
    assert_type(await ctx.step("count", count, "a", 2, retry=Retry(max_attempts=5)), int)
    assert_type(await ctx.step("close", close), None)
    assert_type(await ctx.step("plain", lambda: 5, result=int), int)
    await ctx.step("mail", send_mail)  # type: ignore[call-arg,arg-type]  # pyright: ignore[reportCallIssue,reportArgumentType]
    await ctx.step("mail", send_mail, 5)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue,reportArgumentType]
    await ctx.step("mail", send_mail, ctx.id, retry=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue,reportArgumentType]
    ctx.clear("done")


async def send_mail(to: str) -> Order: ...  # type: ignore[empty-body]  # pyright: ignore[reportReturnType]


def count(word: str, times: int) -> int:
    return times


def close() -> None: ...


@order.on_idle
def idle(ctx: TaskContext[Order]) -> None:
    assert_type(ctx.event_count, int)


@order.on_error
async def failed(ctx: TaskContext[Order], error: Exception) -> None:
    ctx.emit("failed", str(error))


@order.on_client_get_state
def shown(ctx: TaskContext[Order], state: Order) -> Order:
    return state


class Idle:
    """A callable object is a handler too."""

    async def __call__(self, ctx: TaskContext[Order]) -> None: ...


order.on_idle(Idle())
order.on_idle(timeout="5s")(Idle())
order.execute(lambda ctx: ctx.set_state(Order(status="paid")))
order.execute(lambda ctx: ctx.set_state("paid"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType,reportCallIssue]
order.on_event(timeout="5s")(lambda ctx, event: ctx.emit(event.kind, None))
order.on_event(lambda ctx: None)  # type: ignore[arg-type,misc]  # pyright: ignore[reportArgumentType,reportCallIssue]
order.with_resources(object()).on_error(failed)
assert_type(order.on_idle(idle), Callable[[TaskContext[Order]], Awaitable[None] | None])
order.on_idle(Idle)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType,reportCallIssue]
order.on_idle(idle, timeout="5s")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
order.on_idle(timeout=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType,reportCallIssue]
order.on_idle(timeout="5s")(failed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
order.on_idle = order.on_error  # type: ignore[misc,assignment]  # pyright: ignore[reportAttributeAccessIssue]


@order.on_retry_exhausted(timeout=5)
async def gave_up(ctx: TaskContext[Order], error: BaseException) -> None:
    assert_type(error, BaseException)


@counts.on_event
def wrong_event(ctx: TaskContext[dict[str, int]], event: int) -> None:
    assert_type(ctx.state, dict[str, int] | None)


@counts.on_event  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def other_event(ctx: TaskContext[dict[str, int]], event: str) -> None: ...


@counts.execute  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def other_state(ctx: TaskContext[Order]) -> None: ...


latest = Debounce(event=Paid, flush_after="5s")
assert_type(latest, Debounce[Paid, Paid])

batch = Debounce(
    event=int, state=list[int], flush_after=5, mode="sliding", max_wait="1m", max_events=100
)
assert_type(batch, Debounce[list[int], int])


@batch.on_event
def reduced(ctx: DebounceContext[list[int], int], event: int) -> list[int]:
    assert_type(ctx.state, list[int] | None)
    assert_type(ctx.event_count, int)
    return [*(ctx.state or []), event]


@batch.on_event(timeout="5s")
async def reduced_async(ctx: DebounceContext[list[int], int], event: int) -> list[int]:
    return [event]


@batch.on_event  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def reduced_to_another(ctx: DebounceContext[list[int], int], event: int) -> str:
    return "text"


@batch.execute
async def flushed(ctx: DebounceContext[list[int], int]) -> None:
    assert_type(ctx.events, list[int])
    assert_type(ctx.started_at, datetime)
    assert_type(ctx.flush_reason, Literal["flush_after", "max_wait", "max_events", "manual"])
    ctx.schedule("5m")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType]


@latest.execute
def flushed_latest(ctx: DebounceContext[Paid, Paid]) -> None:
    assert_type(ctx.state, Paid | None)


@counts.execute
def blocking_steps(ctx: TaskContext[dict[str, int]]) -> None:
    assert_type(ctx.step_blocking("count", count, "a", 2), int)
    assert_type(ctx.step_blocking("close", close, retry=Retry.simple()), None)
    ctx.step_blocking("count", count, 2, "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


jobs = Jobs(order=order, counts=counts, batch=batch, latest=latest, resources=object())


async def asynchronous() -> None:
    async with jobs.open("sqlite:///orders.db", worker=True, lease="30s") as app:
        assert_type(app, App)
        orders = app.task(order)
        assert_type(orders, TaskClient[Order, Placed | Paid])
        assert_type(app.task("order"), TaskClient[Any, Any])
        assert_type(await orders.send("o-17", Placed(), delay="5m", wait=True), SendResult)
        await orders.send("o-17", "placed")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
        await orders.send("o-17")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        await orders.send(17, Placed())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
        assert_type(await orders.get_state("o-17"), Order | None)
        assert_type(await app.task(counts).get_state("a"), dict[str, int] | None)
        assert_type(await orders.status("o-17", stale_ok=True), TaskStatus)
        assert_type(await orders.trigger("o-17", consume_alarm=True), TriggerResult)
        assert_type(await orders.clear("o-17", after="1h"), ClearResult)
        assert_type(await orders.cancel_clear("o-17"), ClearResult)
        assert_type(await orders.forget_key("o-17", "k"), bool)
        assert_type(await app.history("task:order:o-17"), list[HistoryEntry])
        assert_type(await app.state_at("task:order:o-17", version=3), PastState)
        assert_type(await app.list(status="failed"), list[InstanceRow])
        assert_type(await app.count(name="order", updated_after=datetime.now(UTC)), int)
        assert_type(await app.counts(), list[JobCount])
        assert_type(await app.workers(), list[WorkerStatus])
        await app.count(stauts="failed")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        assert_type(app.names("task"), tuple[str, ...])
        batches = app.debounce(batch)
        assert_type(batches, DebounceClient[list[int], int])
        assert_type(app.debounce("batch"), DebounceClient[Any, Any])
        assert_type(await batches.add("a", 1, event_id="k"), AddResult)
        await batches.add("a", "one")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
        assert_type(await batches.flush("a", timeout="5s"), FlushResult)
        assert_type(await batches.status("a", stale_ok=True), DebounceStatus)
        assert_type(await batches.get_state("a"), list[int] | None)
        assert_type(await batches.clear("a"), ClearResult)
        app.debounce(order)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType,reportCallIssue]


def blocking() -> None:
    with jobs.open("sqlite:///orders.db") as app:
        assert_type(app, BlockingApp)
        orders = app.task(order)
        assert_type(orders, BlockingTaskClient[Order, Placed | Paid])
        assert_type(app.task("order"), BlockingTaskClient[Any, Any])
        assert_type(orders.send("o-17", Placed(), delay="5m", wait=True), SendResult)
        orders.send("o-17", "placed")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
        assert_type(orders.get_state("o-17"), Order | None)
        assert_type(app.task(counts).get_state("a"), dict[str, int] | None)
        assert_type(orders.status("o-17"), TaskStatus)
        assert_type(orders.trigger("o-17", wait=False), TriggerResult)
        assert_type(orders.clear("o-17"), ClearResult)
        assert_type(app.history("task:order:o-17"), list[HistoryEntry])
        assert_type(app.state_at("task:order:o-17", version=3), PastState)
        assert_type(app.list(), list[InstanceRow])
        assert_type(app.count(status="failed"), int)
        assert_type(app.workers()[0].work, tuple[Work, ...])
        batches = app.debounce(batch)
        assert_type(batches, BlockingDebounceClient[list[int], int])
        assert_type(batches.add("a", 1), AddResult)
        assert_type(batches.flush("a"), FlushResult)
        assert_type(batches.status("a"), DebounceStatus)


def simulated() -> None:
    with Simulation(jobs, seed=1) as sim:
        orders = sim.task(order)
        assert_type(orders, BlockingTaskClient[Order, Placed | Paid])
        assert_type(orders.send("o-17", Placed()), SendResult)
        assert_type(orders.get_state("o-17"), Order | None)
        assert_type(sim.debounce(batch), BlockingDebounceClient[list[int], int])
        assert_type(sim.alarms(), list[Alarm])
        assert_type(sim.advance("1h"), int)
        assert_type(sim.now, datetime)
        assert_type(sim.history("task:order:o-17"), list[HistoryEntry])


refresh = Continuous(state=Order, every="30m", autostart={"main": Order(status="pending")})
assert_type(refresh, Continuous[Order])


@refresh.execute
async def renew(ctx: ContinuousContext[Order]) -> None:
    assert_type(ctx.state, Order | None)
    ctx.stop("done")
    ctx.schedule("5m")


@refresh.on_error  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def renewal_failed(ctx: TaskContext[Order], error: BaseException) -> None: ...


@refresh.on_client_get_state
def token_shown(ctx: ContinuousContext[Order], state: Order) -> Order | None:
    return None


async def without_a_block(url: str) -> None:
    app = await Jobs(order=order).open_async(url, worker=True, grace="5s")
    assert_type(app, App)
    assert_type(app.blocking, BlockingApp)
    assert_type(app.blocking.task(order).send("a", Paid()), SendResult)
    assert_type(app.blocking.task(order).get_state("a"), Order | None)
    app.blocking.task(order).send("a", 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    assert_type(Jobs(order=order).open_blocking(url), BlockingApp)
    Jobs(order=order).open_blocking(url, workers=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Jobs(order=order).open(url).task(order)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def recurring(app: App, blocking: BlockingApp) -> None:
    client = app.continuous(refresh)
    assert_type(await client.start("a", Order(status="pending")), StartResult)
    await client.start("a", "pending")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    assert_type(await client.get_state("a"), Order | None)
    assert_type(await client.status("a"), ContinuousStatus)
    standing = await app.status_of("continuous:refresh:a")
    assert_type(standing, TaskStatus | ContinuousStatus | DebounceStatus)
    assert_type(blocking.continuous(refresh).stop("a"), StopResult)
