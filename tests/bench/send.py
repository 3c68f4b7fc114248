"""W1: `send` to a Task over 1,000 instances, so many in flight, and by a blocking client alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from tests.bench.measuring import AppendCounter, Plan, Round, Row, call_all, fresh_heap, opened, row
from tests.bench.sample import Order, Placed, orders
from wakelog.app import App
from wakelog.application import Application
from wakelog.client.task import TaskClient

__all__ = ["measure"]

INSTANCES = 1_000
SENDS = {1: 1_500, 16: 8_000, 256: 20_000}
"""In flight -> sends of one round."""
TARGETS = {
    ("memory", 1): "",
    ("sqlite", 16): "p99 ≤ 20 ms",
    ("sqlite", 256): "≥ 25 % of the floor; ≥ 7,000/s",
}
ALONE_TARGET = "≥ 1,000/s"


def measure(plan: Plan) -> Iterator[Row]:
    """A row for each kind of handler and number in flight; then the blocking client's."""
    for handler in ("async def", "def"):
        for in_flight, own in SENDS.items():
            for size in plan.sized(own):
                rounds = [
                    asyncio.run(_round(plan, handler == "def", in_flight, size))
                    for _ in range(plan.rounds)
                ]
                target = TARGETS.get((plan.storage.name, in_flight), "")
                case = f"{handler}, {in_flight} in flight"
                yield row(plan, "W1 send", case, size, "sends/s", rounds, target)
    for size in plan.sized(SENDS[1]):
        rounds = [_alone(plan, size) for _ in range(plan.rounds)]
        yield row(plan, "W1 send", "blocking client, alone", size, "sends/s", rounds, ALONE_TARGET)


def stream_number(number: int) -> str:
    """Sends go round the instances."""
    return f"o-{number % INSTANCES}"


async def _round(plan: Plan, blocking: bool, in_flight: int, size: int) -> Round:
    fresh_heap()
    url = plan.storage.fresh()
    async with opened(orders(blocking=blocking), url) as (app, application):
        client: TaskClient[Order, Placed] = app.task("order")

        async def send(number: int) -> None:
            await client.send(stream_number(number), Placed(items=number))

        await call_all(send, min(INSTANCES, size), 64)
        before = await _counted(app, application)
        mark = plan.storage.mark(url)
        appends = AppendCounter(application)
        elapsed_s, each_s = await call_all(send, size, in_flight)
        mean_batch = appends.mean_batch
        after = await _counted(app, application)
    counts = {name: after[name] - before[name] for name in after}
    floor = plan.storage.floor(url, mark, mean_batch)
    return Round(size / elapsed_s, floor, mean_batch, each_s, counts)


async def _counted(app: App, application: Application) -> dict[str, int]:
    """What the store shows: events in the log, events that instances say they have accepted."""
    rows = await app.list(limit=INSTANCES)
    return {
        "log": application.recorder.max_notification_id() or 0,
        "accepted": sum(each.event_count for each in rows),
    }


def _alone(plan: Plan, size: int) -> Round:
    fresh_heap()
    url = plan.storage.fresh()
    each_s: list[float] = []
    with orders().open(url) as app:
        client = app.task("order")
        for number in range(min(INSTANCES, size)):
            client.send(stream_number(number), Placed(items=number))
        mark = plan.storage.mark(url)
        began = last = time.perf_counter()
        for number in range(size):
            client.send(stream_number(number), Placed(items=number))
            now = time.perf_counter()
            each_s.append(now - last)
            last = now
        accepted = sum(each.event_count for each in app.list(limit=INSTANCES))
    elapsed_s = last - began
    counts = {"accepted": accepted - min(INSTANCES, size)}
    return Round(size / elapsed_s, plan.storage.floor(url, mark, 1), 1, each_s, counts)
