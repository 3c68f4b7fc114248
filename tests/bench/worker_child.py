"""A process of W10: a worker that says how many runs it has begun, and when."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from tests.bench.measuring import opened
from tests.bench.sample import ticking
from wakelog.settings import WorkerSettings
from wakelog_adapters.alarm_scheduler import open_alarm_clock

REPORT_S = 0.01
"""How long runs are gathered before they are told: a line for each would be measured with it."""


class Teller:
    """Tells the parent of runs, with the moments at which they began."""

    def __init__(self) -> None:
        self._began_s: list[float] = []

    def on_run(self) -> None:
        """A run has begun."""
        if not self._began_s:
            asyncio.get_running_loop().call_later(REPORT_S, self._tell)
        self._began_s.append(time.perf_counter())

    def _tell(self) -> None:
        print(json.dumps(self._began_s), flush=True)
        self._began_s.clear()


async def main(url: str) -> None:
    """Open, say so, work from the first line of input until the second; say when all is done."""
    loop = asyncio.get_running_loop()
    async with opened(ticking(first=0, on_run=Teller().on_run), url) as (app, _):
        print("open", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        await app.start_worker(WorkerSettings(), open_alarm_clock)
        before_s = time.process_time()
        print("working", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        while not app.is_idle:  # noqa: ASYNC110  an event for each run would be measured with it
            await asyncio.sleep(0)
        print(f"idle {time.process_time() - before_s}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
