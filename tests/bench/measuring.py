"""What a benchmark is given, and what it answers: figures beside their floors, and counts."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from tests.bench.storage import Storage
from wakelog.app import App
from wakelog.application import Application
from wakelog.clock import SystemClock
from wakelog.jobs import Jobs, open_store
from wakelog.settings import Settings

__all__ = [
    "AppendCounter",
    "Plan",
    "Round",
    "Row",
    "Used",
    "call_all",
    "fresh_heap",
    "opened",
    "percentile",
    "row",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to measure: where, how often, and how much."""

    storage: Storage
    rounds: int = 3
    """Of the engine and of the floor each, in turn."""
    sizes: tuple[int, ...] | None = None
    """How many sends, alarms, events or reads, in the place of a benchmark's own sizes."""
    share: float = 1.0
    """What part of a benchmark's own sizes to do."""
    seconds: float = 0.0
    """How long to look at what takes its time."""

    def sized(self, *own: int) -> tuple[int, ...]:
        """The sizes to measure, where a benchmark's own are these."""
        return self.sizes or tuple(max(1, round(size * self.share)) for size in own)


class Round(NamedTuple):
    """One round: the engine's figure, the floor's, and what was counted."""

    value: float
    floor: float | None = None
    mean_batch: float | None = None
    latencies_s: Sequence[float] = ()
    counts: dict[str, int] = {}  # noqa: RUF012  a NamedTuple's default, never changed
    used: Used | None = None


class Used(NamedTuple):
    """Processor time for each run, in microseconds."""

    clients_us: float
    """To send what it is for."""
    workers_us: float
    server_us: float | None
    """While the workers worked; None if the database has no process of its own here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    workload: str
    store: str
    case: str
    size: int
    unit: str
    value: float
    """The median of the rounds."""
    rounds: tuple[float, ...]
    floor: float | None
    ratio: float | None
    """The median of the rounds' own ratios: each stands beside a floor of the same minute."""
    mean_batch: float | None
    p50_ms: float | None
    p99_ms: float | None
    used: Used | None
    """The medians of the rounds."""
    counts: dict[str, int]
    """What the last round counted: proof that the work was done."""
    target: str


def row(
    plan: Plan,
    workload: str,
    case: str,
    size: int,
    unit: str,
    rounds: Sequence[Round],
    target: str = "",
) -> Row:
    """The line for a case, out of its rounds."""
    floors = [each.floor for each in rounds if each.floor is not None]
    ratios = [each.value / each.floor for each in rounds if each.floor]
    batches = [each.mean_batch for each in rounds if each.mean_batch is not None]
    latencies_s = sorted(s for each in rounds for s in each.latencies_s)
    return Row(
        workload=workload,
        store=plan.storage.name,
        case=case,
        size=size,
        unit=unit,
        value=median(each.value for each in rounds),
        rounds=tuple(each.value for each in rounds),
        floor=median(floors) if floors else None,
        ratio=median(ratios) if ratios else None,
        mean_batch=median(batches) if batches else None,
        p50_ms=percentile(latencies_s, 50) * 1000 if latencies_s else None,
        p99_ms=percentile(latencies_s, 99) * 1000 if latencies_s else None,
        used=_median_use([each.used for each in rounds if each.used is not None]),
        counts=rounds[-1].counts,
        target=target,
    )


def _median_use(rounds: Sequence[Used]) -> Used | None:
    if not rounds:
        return None
    servers = [each.server_us for each in rounds if each.server_us is not None]
    return Used(
        median(each.clients_us for each in rounds),
        median(each.workers_us for each in rounds),
        median(servers) if servers else None,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the ordered values do not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def fresh_heap() -> None:
    """Begin a round without the garbage of the one before."""
    gc.collect()


@asynccontextmanager
async def opened(
    jobs: Jobs, url: str, settings: Settings | None = None
) -> AsyncIterator[tuple[App, Application]]:
    """An app as `jobs.open(url)` makes it, and the application behind it."""
    factory = open_store(url)
    application = Application(factory, jobs.registry, SystemClock(), settings or Settings())
    app = App(application, handlers=True)
    try:
        yield app, application
    finally:
        await app.close()
        factory.close()


class AppendCounter:
    """Counts the appends from now on."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._appends, self._units = application.commits.appends, application.commits.units

    @property
    def mean_batch(self) -> float:
        """Units of work in one append, on average."""
        commits = self.application.commits
        return (commits.units - self._units) / max(1, commits.appends - self._appends)


async def call_all(
    call: Callable[[int], Awaitable[Any]], count: int, in_flight: int
) -> tuple[float, Sequence[float]]:
    """Call with 0 to `count - 1`, so many at a time; answer the seconds of all and of each."""
    numbers = iter(range(count))
    each_s: list[float] = []

    async def caller() -> None:
        for number in numbers:
            began = time.perf_counter()
            await call(number)
            each_s.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return time.perf_counter() - began, each_s
