"""W7: jobs that run every hour, over a year of virtual time, all history kept.

A Task that schedules itself, and a Continuous by cron in Berlin, over both changes of its clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tests.bench.measuring import Plan, Round, Row, fresh_heap, row
from tests.bench.sample import Count, Tick, hourly, ticking
from wakelog.testing import Simulation

__all__ = ["measure"]

HOURS = 8_760
EVENTS_A_RUN = 4
"""`RunStarted`, `Executed`, `StateSet`, `Scheduled`."""
START = datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))
TARGET = "≤ 1 s"


class Hourly(NamedTuple):
    """A job to let run: how it is begun, in a simulation of its own."""

    name: str
    instance: str
    begin: Callable[[], Simulation]
    events_before: int


def _task() -> Simulation:
    sim = Simulation(ticking(first="1h"), start=START)
    sim.task("ticker").send("t", Tick())
    return sim


def _continuous() -> Simulation:
    sim = Simulation(hourly("Europe/Berlin"), start=START)
    sim.continuous("hourly").start("t", Count(n=0))
    return sim


JOBS = (
    Hourly("hourly Task", "task:ticker:t", _task, events_before=4),
    Hourly("hourly Continuous, cron in Berlin", "continuous:hourly:t", _continuous, 2),
)


def measure(plan: Plan) -> Iterator[Row]:
    """A row for each job, on the memory store, their rounds in turns. Raises `AssertionError` where
    a run or an event is missing."""
    for size in plan.sized(HOURS):
        rounds: dict[str, list[Round]] = {job.name: [] for job in JOBS}
        for _ in range(plan.rounds):
            for job in JOBS:
                rounds[job.name].append(_round(job, size))
        target = TARGET if size == HOURS else ""
        for name, measured in rounds.items():
            yield row(plan, "W7 simulation", name, size, "s", measured, target)


def _round(job: Hourly, hours: int) -> Round:
    fresh_heap()
    with job.begin() as sim:
        began = time.perf_counter()
        runs = sim.advance(3600.0 * hours)
        elapsed_s = time.perf_counter() - began
        recorded = sim.events(job.instance)
    events, n = len(recorded), sum(type(each.event).__name__ == "Executed" for each in recorded)
    if not runs == n == hours or events != job.events_before + EVENTS_A_RUN * hours:
        raise AssertionError(f"{job.name}, {hours} hours: {runs} runs, {n} ended, {events} events")
    return Round(elapsed_s, counts={"runs": runs, "events": events})
