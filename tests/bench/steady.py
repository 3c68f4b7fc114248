"""W3 again: alarms that come due one after the other, among many more that are pending."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from tests.bench.drain import recorded
from tests.bench.measuring import Plan, Round, Row, call_all, fresh_heap, opened, row
from tests.bench.sample import Tick, ticking
from wakelog.application import Application
from wakelog.core.events import RunStarted
from wakelog.settings import WorkerSettings
from wakelog_adapters.alarm_scheduler import open_alarm_clock

__all__ = ["measure"]

PENDING = 100_000
A_SECOND = 200
LEAD_S = 0.5
"""How far ahead the first alarm is: all are set before it comes."""


def measure(plan: Plan) -> Iterator[Row]:
    """Two rows for each number of pending alarms: how late runs begin, and what waiting costs.

    The latencies are how late. Raises `AssertionError` where an alarm was not run, or run twice.
    """
    for size in plan.sized(PENDING):
        late, idle = asyncio.run(_rounds(plan, size))
        case = f"{A_SECOND}/s, steady, beside as many pending"
        yield row(plan, "W3 alarms", case, size, "runs/s", late, "p99 late ≤ 50 ms")
        yield row(plan, "W3 alarms", "idle, as many pending", size, "% of a core", idle, "≤ 1 %")


async def _rounds(plan: Plan, pending: int) -> tuple[list[Round], list[Round]]:
    """The pending alarms are set once; each round has its own that come due."""
    late: list[Round] = []
    idle: list[Round] = []
    count = max(1, round(A_SECOND * plan.seconds))
    runs = 0
    all_ran = asyncio.Event()

    def on_run() -> None:
        nonlocal runs
        runs += 1
        if runs % count == 0:
            all_ran.set()

    async with opened(ticking(first="30d", on_run=on_run), plan.storage.fresh()) as (app, inner):
        client = app.task("ticker")
        await call_all(lambda n: client.send(f"p-{n}", Tick()), pending, 256)
        await app.start_worker(WorkerSettings(), open_alarm_clock)
        for number in range(plan.rounds):
            fresh_heap()
            position = inner.recorder.max_notification_id() or 0
            all_ran.clear()

            async def send(n: int, number: int = number) -> None:
                await client.send(f"s-{number}-{n}", Tick(after_s=LEAD_S + n / A_SECOND))

            await call_all(send, count, 64)
            await all_ran.wait()
            late.append(_late(inner, position, count))
            idle.append(await _idle(plan.seconds))
    return late, idle


def _late(application: Application, position: int, count: int) -> Round:
    found = recorded(application, position, (RunStarted.TOPIC,))
    starts = [each.event for each in found if isinstance(each.event, RunStarted)]
    streams = {each.stream for each in found}
    if not len(starts) == len(streams) == count:
        raise AssertionError(f"{count} alarms, {len(starts)} runs of {len(streams)} instances")
    late_s = [each.late_us / 1_000_000 for each in starts]
    took_us = max(each.due_us + each.late_us for each in starts) - min(e.due_us for e in starts)
    return Round(count * 1_000_000 / max(1, took_us), latencies_s=late_s, counts={"runs": count})


async def _idle(seconds: float) -> Round:
    """What part of a core the process takes while there is nothing to do."""
    began, used = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    used_s = time.process_time() - used
    return Round(100 * used_s / (time.perf_counter() - began))
