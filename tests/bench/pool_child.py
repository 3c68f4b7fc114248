"""A process of W4: a worker that works off a pool, and says how large it is after each part."""

from __future__ import annotations

import asyncio
import itertools
import sys

import psutil  # type: ignore[import-untyped]

from tests.bench.measuring import opened
from tests.bench.pools import TENTHS, check, until_processed
from tests.bench.sample import mailing
from wakelog.settings import WorkerSettings
from wakelog_adapters.alarm_scheduler import open_alarm_clock

POLL_S = 0.01
MIB = 1024 * 1024


async def main(url: str, size: int) -> None:
    """Print the resident size in MiB after each tenth of so many events."""
    numbers, process = itertools.count(), psutil.Process()
    async with opened(mailing(on_run=numbers.__next__), url) as (app, _):
        await app.start_worker(WorkerSettings(), open_alarm_clock)
        for part in range(1, TENTHS + 1):
            await until_processed(app, size * part // TENTHS, POLL_S)
            print(process.memory_info().rss / MIB, flush=True)
        check(await app.worker_pool("mails").status(), size, next(numbers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
