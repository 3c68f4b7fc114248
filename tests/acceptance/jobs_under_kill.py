"""Jobs whose processes are killed, and the processes: `python -m tests.acceptance.jobs_under_kill`.

    worker URL LEASE SLOTS      works until it is killed, on so many instances at a time
    sender URL FIRST            sends FIRST, FIRST + 1, … and prints each number once acknowledged
    adder URL ID COUNT          on a line of its stdin, sends COUNT events at once

Each prints `ready PID` first. A run of a chore prints lines of six words: what it is at (`run`,
`part`, `end`, or `left` however it came out), instance, run, attempt, monotonic microseconds, pid.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from pydantic import BaseModel

from wakelog import Debounce, DebounceContext, Jobs, Task, TaskContext

__all__ = ["MAX_BATCH", "PARTS", "Chore", "Done", "batch", "chore", "counter", "jobs"]

MAX_BATCH = 10
"""Events in one batch, at most."""
PARTS = 5
"""A run prints so many lines between its beginning and its end."""


class Chore(BaseModel):
    """Something to do; `after_s` None asks for no run."""

    number: int = 0
    after_s: float | None = 0
    work_s: float = 0.2


class Done(BaseModel):
    """How many events were handled, how many runs ended, and how long the next run takes."""

    told: int = 0
    runs: int = 0
    work_s: float = 0


chore = Task(state=Done, event=Chore)
counter = Task(state=int, event=int)
batch = Debounce(event=int, state=int, flush_after="50ms", max_events=MAX_BATCH)


@chore.on_event
def told(ctx: TaskContext[Done], event: Chore) -> None:
    done = ctx.state or Done()
    ctx.set_state(Done(told=done.told + 1, runs=done.runs, work_s=event.work_s))
    if event.after_s is not None:
        ctx.schedule(event.after_s)


@chore.execute
async def do(ctx: TaskContext[Done]) -> None:
    _say("run", ctx)
    try:
        for _ in range(PARTS):
            await asyncio.sleep((ctx.state or Done()).work_s / PARTS)
            _say("part", ctx)
        ctx.update_state(lambda done: done.model_copy(update={"runs": done.runs + 1}))
        _say("end", ctx)
    finally:
        _say("left", ctx)


@counter.on_event
async def add(ctx: TaskContext[int], event: int) -> None:
    count = ctx.state or 0
    await asyncio.sleep(0.002)
    ctx.set_state(count + event)


@batch.on_event
async def sum_up(ctx: DebounceContext[int, int], event: int) -> int:
    return (ctx.state or 0) + event


@batch.execute
async def hand_over(ctx: DebounceContext[int, int]) -> None:
    assert ctx.events == sorted(set(ctx.events))
    assert ctx.state == sum(ctx.events)
    _say("run", ctx)
    for _ in range(PARTS):
        await asyncio.sleep(0.02)
        _say("part", ctx)
    _say("end", ctx)


jobs = Jobs(chore=chore, counter=counter, batch=batch)


def _say(what: str, ctx: TaskContext[Done] | DebounceContext[int, int]) -> None:
    at_us = time.monotonic_ns() // 1000
    print(what, ctx.id, ctx.run_count, ctx.attempt, at_us, os.getpid(), flush=True)


async def worker(url: str, lease: str, slots: str) -> None:
    """Work; a run may cost any number of workers."""
    concurrency = int(slots)
    async with jobs.open(
        url, worker=True, lease=lease, concurrency=concurrency, max_lost=1_000_000
    ):
        print("ready", os.getpid(), flush=True)
        await asyncio.Event().wait()


async def sender(url: str, first: str) -> None:
    """Send one event after the other, to five instances in turn."""
    async with jobs.open(url) as app:
        print("ready", os.getpid(), flush=True)
        number = int(first)
        while True:
            event = Chore(number=number, after_s=3600)
            await app.task(chore).send(f"s-{number % 5}", event)
            print(number, flush=True)
            number += 1


async def adder(url: str, id: str, count: str) -> None:
    """Send all at once, when told to."""
    async with jobs.open(url) as app:
        print("ready", os.getpid(), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        sends = [app.task(counter).send(id, 1) for _ in range(int(count))]
        results = await asyncio.gather(*sends)
        print("added", sum(result.deferred for result in results), flush=True)


ROLES: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "worker": worker,
    "sender": sender,
    "adder": adder,
}

if __name__ == "__main__":
    asyncio.run(ROLES[sys.argv[1]](*sys.argv[2:]))
