"""W10: W3's alarms drained by several worker processes; and how soon an idle one picks up work."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.bench.drain import recorded
from tests.bench.measuring import Plan, Round, Row, Used, call_all, fresh_heap, opened, row
from tests.bench.sample import Tick, ticking
from wakelog.application import Application
from wakelog.core.events import Executed, RunStarted

__all__ = ["measure"]

ALARMS = 10_000
PROCESSES = (1, 2, 4)
PICK_UPS = 200
CALM = 0.004
"""What part of the seconds of a plan lies between two pick-ups: the worker is idle again."""
FIRST_S = 60.0
"""How long a process may take for its first word, and for any other."""
ROOT = Path(__file__).resolve().parents[2]


def measure(plan: Plan) -> Iterator[Row]:
    """A row for each number of processes, their rounds in turn; then one for the pick-up.

    The latencies are from the start to the beginning of a run; for the pick-up, from before the
    send. Raises `AssertionError` where an alarm was not run, or run twice.
    """
    if plan.storage.name == "memory":
        return  # it lies in one process
    for size in plan.sized(ALARMS):
        rounds: dict[int, list[Round]] = {number: [] for number in PROCESSES}
        for _ in range(plan.rounds):
            for number in PROCESSES:
                rounds[number].append(asyncio.run(_drained(plan, size, number)))
        for number in PROCESSES:
            case = f"due at once, {number} worker process" + ("es" if number > 1 else "")
            target = "" if number == 1 else "≥ one process; no run twice"
            yield row(plan, "W10 workers", case, size, "runs/s", rounds[number], target)
    for size in plan.sized(PICK_UPS):
        found = [asyncio.run(_picked_up(plan, size)) for _ in range(plan.rounds)]
        case = "picked up by an idle process"
        yield row(plan, "W10 workers", case, size, "runs", found, "p50 < 10 ms")


class _Child:
    """A worker process, which answers what it is told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to, self._from = process.stdin, process.stdout

    async def hear(self) -> str:
        """The next line. Raises `TimeoutError`, and `EOFError` if it has ended."""
        async with asyncio.timeout(FIRST_S):
            line = (await self._from.readline()).decode().strip()
        if not line:
            raise EOFError("a worker process has ended")
        return line

    async def used_s(self) -> float:
        """Once it is idle: the processor time that it has used since it began to work."""
        word, used_s = (await self.hear()).split()
        assert word == "idle"
        return float(used_s)

    async def runs(self) -> Sequence[float]:
        """When the next runs began, by `time.perf_counter` (one clock for all processes)."""
        began_s: list[float] = json.loads(await self.hear())
        return began_s

    def go_on(self) -> None:
        """Let it take its next step: begin to work, and end."""
        self._to.write(b"\n")


@asynccontextmanager
async def _children(url: str, number: int) -> AsyncIterator[Sequence[_Child]]:
    """So many processes that have opened the store, and do not work yet."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_child(url)) for _ in range(number)]


@asynccontextmanager
async def _child(url: str) -> AsyncIterator[_Child]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.worker_child", url),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        child = _Child(process)
        assert await child.hear() == "open"
        yield child
        async with asyncio.timeout(FIRST_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _drained(plan: Plan, size: int, number: int) -> Round:
    fresh_heap()
    url = plan.storage.fresh()
    async with opened(ticking(first=0), url) as (app, application):
        client = app.task("ticker")
        clients_s = -time.process_time()
        await call_all(lambda n: client.send(f"t-{n}", Tick()), size, 64)
        clients_s += time.process_time()
        position = application.recorder.max_notification_id() or 0
        async with _children(url, number) as children:
            before_s = plan.storage.processor_s()
            began = time.perf_counter()
            began_s = await _all_runs(children, size)
            for child in children:
                child.go_on()
            workers_s = sum([await child.used_s() for child in children])
            elapsed_s = time.perf_counter() - began
            after_s = plan.storage.processor_s()
        server_s = None if before_s is None or after_s is None else after_s - before_s
        counts = _counted(application, position)
    if counts != {"runs": size, "instances": size}:
        raise AssertionError(f"{size} alarms: {counts}")
    per_run = 1_000_000 / size
    server_us = None if server_s is None else server_s * per_run
    used = Used(clients_s * per_run, workers_s * per_run, server_us)
    latencies_s = [each - began for each in began_s]
    return Round(size / elapsed_s, latencies_s=latencies_s, counts=counts, used=used)


async def _all_runs(children: Sequence[_Child], size: int) -> list[float]:
    """Let all begin to work; when each run began, as soon as there are as many as alarms."""
    for child in children:
        child.go_on()
    for child in children:
        assert await child.hear() == "working"
    began_s: list[float] = []
    done = asyncio.Event()

    async def listen(child: _Child) -> None:
        while True:
            began_s.extend(await child.runs())
            if len(began_s) >= size:
                done.set()

    async with asyncio.TaskGroup() as group:
        listening = [group.create_task(listen(child)) for child in children]
        await done.wait()
        for task in listening:
            task.cancel()
    return began_s


def _counted(application: Application, position: int) -> dict[str, int]:
    """What the log shows: runs begun and ended well, and of how many instances."""
    found = recorded(application, position, (RunStarted.TOPIC, Executed.TOPIC))
    started = [each.stream for each in found if isinstance(each.event, RunStarted)]
    if len(found) != 2 * len(started):
        raise AssertionError(f"{len(started)} runs begun, {len(found) - len(started)} ended well")
    return {"runs": len(started), "instances": len(set(started))}


async def _picked_up(plan: Plan, size: int) -> Round:
    """Send, one after the other, what another process is to run now."""
    fresh_heap()
    url = plan.storage.fresh()
    latencies_s: list[float] = []
    async with opened(ticking(first=0), url) as (app, application):
        client = app.task("ticker")
        await client.send("first", Tick(after_s=3600))
        async with _children(url, 1) as [child]:
            child.go_on()
            assert await child.hear() == "working"
            for number in range(size):
                await asyncio.sleep(CALM * plan.seconds)
                sent_s = time.perf_counter()
                await client.send(f"t-{number}", Tick())
                latencies_s += [began_s - sent_s for began_s in await child.runs()]
            child.go_on()
            await child.used_s()
        counts = _counted(application, 0)
    if counts != {"runs": size, "instances": size}:
        raise AssertionError(f"{size} sends: {counts}")
    return Round(len(latencies_s), latencies_s=latencies_s, counts=counts)
