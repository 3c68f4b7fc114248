"""A process that is interrupted while its event is being appended: `python -m … URL`."""

from __future__ import annotations

import asyncio
import signal
import sys

from wakelog import Jobs, Task, TaskContext

task: Task[int, int] = Task(state=int, event=int)


@task.on_event
def add(ctx: TaskContext[int], event: int) -> None:
    ctx.set_state((ctx.state or 0) + event)


jobs = Jobs(job=task)


async def main(url: str) -> None:
    async with jobs.open(url) as app:
        try:
            await app.task(task).send("a", 1)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise


if __name__ == "__main__":
    # The process that began the tests may ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asyncio.run(main(sys.argv[1]))
