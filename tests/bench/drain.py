"""W3: alarms that are due at once, drained by a worker that has just started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

from tests.bench.measuring import AppendCounter, Plan, Round, Row, call_all, fresh_heap, opened, row
from tests.bench.sample import Tick, ticking
from wakelog.app import App
from wakelog.application import Application
from wakelog.core.events import Executed, RunStarted
from wakelog.log.records import Recorded, decode
from wakelog.ports.records import StoredEvent
from wakelog.settings import WorkerSettings
from wakelog_adapters.alarm_scheduler import open_alarm_clock

__all__ = ["measure", "recorded"]

ALARMS = (2_000, 10_000)
TARGET = "≥ 2,000 runs/s"
PAGE = 10_000


def measure(plan: Plan) -> Iterator[Row]:
    """For each size a worker that knows the instances, and one that has to load each.

    The latencies are how long after the worker's start the runs began: they were all due then.
    Raises `AssertionError` where an alarm was not run, or run twice.
    """
    for size in plan.sized(*ALARMS):
        for knows in (True, False):
            if plan.storage.name == "memory" and not knows:
                continue  # a store that is gone with its process has no worker in another one
            rounds = [asyncio.run(_round(plan, size, knows)) for _ in range(plan.rounds)]
            case = "due at once, " + ("instances cached" if knows else "nothing cached")
            yield row(plan, "W3 alarms", case, size, "runs/s", rounds, TARGET)


async def _round(plan: Plan, size: int, knows: bool) -> Round:
    fresh_heap()
    url = plan.storage.fresh()
    runs = 0
    all_began = asyncio.Event()

    def on_run() -> None:
        nonlocal runs
        runs += 1
        if runs == size:
            all_began.set()

    jobs = ticking(first=0, on_run=on_run)
    async with opened(jobs, url) as (app, application):
        client = app.task("ticker")
        await call_all(lambda n: client.send(f"t-{n}", Tick()), size, 64)
        if knows:
            return await _drained(plan, url, app, application, all_began)
    async with opened(jobs, url) as (app, application):
        return await _drained(plan, url, app, application, all_began)


async def _drained(
    plan: Plan, url: str, app: App, application: Application, all_began: asyncio.Event
) -> Round:
    """Start a worker, and stop the clock when the last outcome is recorded."""
    mark = plan.storage.mark(url)
    position = application.recorder.max_notification_id() or 0
    appends = AppendCounter(application)
    began, began_us = time.perf_counter(), application.clock.now_us()
    await app.start_worker(WorkerSettings(), open_alarm_clock)
    await all_began.wait()
    while not app.is_idle:  # noqa: ASYNC110  an event for each run would be measured with it
        await asyncio.sleep(0)
    elapsed_s = time.perf_counter() - began
    mean_batch = appends.mean_batch
    found = recorded(application, position, (RunStarted.TOPIC, Executed.TOPIC))
    started = [each for each in found if isinstance(each.event, RunStarted)]
    streams = {each.stream for each in started}
    if not len(started) == len(streams) == len(found) - len(started):
        raise AssertionError(f"{len(started)} runs of {len(streams)} in {len(found)} events")
    floor = plan.storage.floor(url, mark, mean_batch)
    return Round(
        len(started) / elapsed_s,
        None if floor is None else floor / 2,  # two units a run: its claim and its outcome
        mean_batch,
        [(each.at_us - began_us) / 1_000_000 for each in started],
        {"runs": len(started), "instances": len(streams)},
    )


def recorded(app: Application, after: int, topics: Sequence[str]) -> list[Recorded]:
    """The events of these topics behind a position of the log."""
    found: list[Recorded] = []
    while page := app.recorder.select_notifications(
        start=after, limit=PAGE, topics=topics, inclusive_of_start=False
    ):
        for n in page:
            stream, version = str(n.originator_id), n.originator_version
            found.append(decode(StoredEvent(stream, version, n.topic, n.state)))
        after = page[-1].id
    return found
