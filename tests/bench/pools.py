"""W4: a pool of no-ops: enqueued, completed, picked up by an idle worker, and a worker's memory.

The floor is a bare loop that appends the same events, and nothing beside them, in as many commits.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median

from tests.bench.measuring import Plan, Round, Row, call_all, fresh_heap, opened, row
from tests.bench.sample import Mail, mailing
from tests.bench.storage import Mark
from wakelog.app import App
from wakelog.client.pool.results import PoolStatus
from wakelog.settings import WorkerSettings
from wakelog_adapters.alarm_scheduler import open_alarm_clock

__all__ = ["TENTHS", "check", "enqueue", "measure", "until_processed"]

WORKLOAD = "W4 pool"
BATCH = 500
IN_BATCHES = 100_000
SINGLY = 20_000
PENDING = 10_000
MANY_PENDING = 1_000_000
"""In a run of the full size alone."""
PICK_UPS = 100
MEMORY = 1_000_000
TENTHS = 10
"""How often a worker says how large it is."""
CALM = 0.004
"""The pause before a pick-up, as a part of the plan's seconds: the worker is idle again."""
POLL_S = 0.001
"""How often the end is looked for, once every handler has begun."""
PATIENCE_S = 600.0
ROOT = Path(__file__).resolve().parents[2]
TARGETS = {
    "batches": "≥ PgQueuer's (`make bench-peers`)",
    "async def": "≥ 2 times PgQueuer's; SQLite ≥ 40,000/s",
    "snapshot": "≥ 90 % of without",
    "pick-up": "p50 ≤ PgQueuer's + 1 ms",
    "memory": "flat",
}


def measure(plan: Plan) -> Iterator[Row]:
    """Raises `AssertionError` where an event was lost, or worked on twice."""
    yield from _enqueues(plan)
    full = (MANY_PENDING,) if plan.sizes is None and plan.share == 1.0 else ()
    for size in (*plan.sized(PENDING), *full):
        for handler in ("async def", "def"):
            yield from _completions(plan, handler, size)
    for size in sorted({min(size, PICK_UPS) for size in plan.sized(PICK_UPS)}):
        rounds = [asyncio.run(_picked_up(plan, size)) for _ in range(plan.rounds)]
        case = "picked up by an idle worker"
        yield row(plan, WORKLOAD, case, size, "events", rounds, TARGETS["pick-up"])
    if plan.storage.name != "memory":  # a store that is gone with its process
        for size in plan.sized(MEMORY):
            yield _memory(plan, size)


# -- enqueueing


def _enqueues(plan: Plan) -> Iterator[Row]:
    for in_flight in (1, 4):
        for size in plan.sized(IN_BATCHES):
            rounds = [
                asyncio.run(_enqueued(plan, size, min(BATCH, size), in_flight))
                for _ in range(plan.rounds)
            ]
            case = f"enqueue, batches of {BATCH}, {in_flight} in flight"
            yield row(plan, WORKLOAD, case, size, "enqueues/s", rounds, TARGETS["batches"])
    for size in plan.sized(SINGLY):
        rounds = [asyncio.run(_enqueued(plan, size, 1, 64)) for _ in range(plan.rounds)]
        yield row(plan, WORKLOAD, "enqueue, one by one, 64 in flight", size, "enqueues/s", rounds)


async def _enqueued(plan: Plan, size: int, batch: int, in_flight: int) -> Round:
    """The latencies are those of the calls."""
    fresh_heap()
    url = plan.storage.fresh()
    async with opened(mailing(), url) as (app, _):
        await app.worker_pool("mails").enqueue(Mail(n=0))  # connections and plans
        mark = plan.storage.mark(url)
        elapsed_s, each_s = await enqueue(app, size, batch, in_flight)
        pending = (await app.worker_pool("mails").status()).pending - 1
    if pending != size:
        raise AssertionError(f"{size} events enqueued, {pending} pending")
    floor, mean = _floor(plan, url, mark, size)
    return Round(size / elapsed_s, floor, mean, each_s, {"pending": pending})


async def enqueue(
    app: App, size: int, batch: int = BATCH, in_flight: int = 4
) -> tuple[float, Sequence[float]]:
    """Enqueue so many, so many with each call; answer the seconds of all and of each call."""
    client = app.worker_pool("mails")
    mails = [Mail(n=n) for n in range(size)]
    if batch == 1:
        return await call_all(lambda n: client.enqueue(mails[n]), size, in_flight)
    batches = [mails[at : at + batch] for at in range(0, size, batch)]
    return await call_all(lambda n: client.enqueue_many(batches[n]), len(batches), in_flight)


def _floor(plan: Plan, url: str, mark: Mark | None, size: int) -> tuple[float | None, float | None]:
    """Events a second of the floor, and how many the engine had in one commit, on average."""
    bare = plan.storage.bare_appends(url, mark)
    return (None, None) if bare is None else (size / bare.took_s, size / bare.commits)


# -- completing


def _completions(plan: Plan, handler: str, size: int) -> Iterator[Row]:
    """Without and with an old snapshot held open, in turn."""
    plain: list[Round] = []
    pinned: list[Round] = []
    for _ in range(plan.rounds):
        plain.append(asyncio.run(_completed(plan, size, blocking=handler == "def", pins=False)))
        if plan.storage.name != "memory":
            pinned.append(asyncio.run(_completed(plan, size, blocking=handler == "def", pins=True)))
    unit, target = "completions/s", TARGETS.get(handler, "")
    yield row(plan, WORKLOAD, f"{handler}, all pending", size, unit, plain, target)
    if pinned:
        share = median(old.value / own.value for old, own in zip(pinned, plain, strict=True))
        case = f"{handler}, all pending, an old snapshot held open ({share:.0%} of without)"
        yield row(plan, WORKLOAD, case, size, unit, pinned, TARGETS["snapshot"])


async def _completed(plan: Plan, size: int, *, blocking: bool, pins: bool) -> Round:
    """By a worker that has just started, from the beginning of the first handler until the store
    shows that all have ended well."""
    fresh_heap()
    url = plan.storage.fresh()
    runs = Runs(size)
    jobs = mailing(blocking=blocking, on_run=runs.one)
    async with opened(jobs, url) as (app, _):
        snapshot = plan.storage.old_snapshot(url) if pins else None
        with snapshot or nullcontext():
            await enqueue(app, size)
            mark = plan.storage.mark(url)
            if plan.storage.name == "memory":
                ended_s = await _drained(app, runs)
            else:
                async with opened(jobs, url) as (worker, _):
                    ended_s = await _drained(worker, runs)
            status = await app.worker_pool("mails").status()
    count = runs.count
    check(status, size, count)
    floor, mean = _floor(plan, url, mark, size)
    counts = {"runs": count, "processed": status.processed}
    return Round(size / (ended_s - runs.first_s), floor, mean, counts=counts)


class Runs:
    """Counts the handlers that begin, in whatever thread."""

    def __init__(self, size: int) -> None:
        self.all_began = asyncio.Event()
        self.first_s = 0.0
        self._numbers = itertools.count()
        self.last = size - 1
        """The number of the last one, from 0."""
        self._loop = asyncio.get_running_loop()

    def one(self) -> None:
        """One begins."""
        number = next(self._numbers)
        if number == 0:
            self.first_s = time.perf_counter()
        if number == self.last:
            self._loop.call_soon_threadsafe(self.all_began.set)

    @property
    def count(self) -> int:
        """How many have begun. To be asked once, at the end."""
        return next(self._numbers)


async def _drained(app: App, runs: Runs) -> float:
    """Work until all is recorded; when that was."""
    await app.start_worker(WorkerSettings(), open_alarm_clock)
    await runs.all_began.wait()
    await until_processed(app, runs.last + 1)
    return time.perf_counter()


async def until_processed(app: App, count: int, poll_s: float = POLL_S) -> None:
    """Wait until the store shows that so many events have ended well."""
    client = app.worker_pool("mails")
    while (await client.status()).processed < count:  # noqa: ASYNC110  the store is what counts
        await asyncio.sleep(poll_s)


def check(status: PoolStatus, size: int, runs: int) -> None:
    """Raises `AssertionError` if not each of so many events has run once and ended well."""
    if not (runs == status.processed == size and status.pending == status.processing == 0):
        raise AssertionError(f"{runs} runs of {size} events: {status}")


# -- an idle worker


async def _picked_up(plan: Plan, size: int) -> Round:
    """From the call of `enqueue` until the handler begins, in the process of an idle worker."""
    fresh_heap()
    latencies_s: list[float] = []
    began = asyncio.Event()
    async with opened(mailing(on_run=began.set), plan.storage.fresh()) as (app, _):
        await app.start_worker(WorkerSettings(), open_alarm_clock)
        client = app.worker_pool("mails")
        for number in range(size + 1):
            began.clear()
            await asyncio.sleep(CALM * plan.seconds)
            called_s = time.perf_counter()
            enqueuing = asyncio.ensure_future(client.enqueue(Mail(n=number)))
            await began.wait()
            latencies_s.append(time.perf_counter() - called_s)
            await enqueuing
        await until_processed(app, size + 1)
    return Round(size, latencies_s=latencies_s[1:], counts={"picked up": size})


# -- memory


def _memory(plan: Plan, size: int) -> Row:
    """How large a worker process is after each tenth; the ratio: the last by the first."""
    fresh_heap()
    url = plan.storage.fresh()
    asyncio.run(_filled(url, size))
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.pool_child", url, str(size)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    mib = [float(line) for line in done.stdout.split()]
    case = f"memory of a worker after each of {TENTHS} parts"
    rounds = [Round(each, counts={"processed": size}) for each in mib]
    found = row(plan, WORKLOAD, case, size, "MiB", rounds, TARGETS["memory"])
    return dataclasses.replace(found, value=mib[-1], floor=mib[0], ratio=mib[-1] / mib[0])


async def _filled(url: str, size: int) -> None:
    async with opened(mailing(), url) as (app, _):
        await enqueue(app, size)
