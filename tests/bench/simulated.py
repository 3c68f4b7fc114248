"""W7: a job that schedules itself every hour, over a year of virtual time, all history kept."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench.measuring import Plan, Round, Row, fresh_heap, row
from tests.bench.sample import Tick, ticking
from wakelog.testing import Simulation

__all__ = ["measure"]

HOURS = 8_760
EVENTS_BEFORE, EVENTS_A_RUN = 4, 4
"""`Started`, `EventReceived`, `StateSet`, `Scheduled`; then `RunStarted`, `Executed` and two."""
TARGET = "≤ 1 s"


def measure(plan: Plan) -> Iterator[Row]:
    """One row, on the memory store. Raises `AssertionError` where a run or an event is missing."""
    for size in plan.sized(HOURS):
        rounds = [_round(size) for _ in range(plan.rounds)]
        target = TARGET if size == HOURS else ""
        yield row(plan, "W7 simulation", "hourly Task", size, "s", rounds, target)


def _round(hours: int) -> Round:
    fresh_heap()
    with Simulation(ticking(first="1h")) as sim:
        sim.task("ticker").send("t", Tick())
        began = time.perf_counter()
        runs = sim.advance(3600.0 * hours)
        elapsed_s = time.perf_counter() - began
        events = len(sim.events("task:ticker:t"))
        state = sim.task("ticker").get_state("t")
    n = state.n if state else None
    if not runs == n == hours or events != EVENTS_BEFORE + EVENTS_A_RUN * hours:
        raise AssertionError(f"{hours} hours: {runs} runs, {events} events, {state!r}")
    return Round(elapsed_s, counts={"runs": runs, "events": events})
