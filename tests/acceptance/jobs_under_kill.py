"""Jobs whose processes are killed, and the processes: `python -m tests.acceptance.jobs_under_kill`.

    worker URL LEASE SLOTS …    works on so many instances at a time, until its stdin ends;
                                for each line of it its clock is set so many seconds on or back
    sender URL FIRST            sends FIRST, FIRST + 1, … and prints each number once acknowledged
    adder URL ID COUNT          on a line of its stdin, sends COUNT events at once
    caller URL NUMBER SEED IDS GRACE HANDLERS
                                for each line of its stdin sends or reads, and prints the `Call`

Each prints `ready PID` first; worker and caller understand the lines of `reopening` too. A run of a
chore prints lines of six words: what it is at (`run`, `part`, `end`, or `left` however it came
out), instance, run, attempt, monotonic microseconds, pid.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import time_machine
from pydantic import BaseModel

from tests.acceptance.linearizable import Call
from tests.acceptance.reopening import Reopening
from wakelog import (
    Continuous,
    ContinuousContext,
    Debounce,
    DebounceContext,
    InvalidStateError,
    Jobs,
    StoreUnavailableError,
    Task,
    TaskContext,
)
from wakelog.jobs import Opening

__all__ = [
    "AT_A_TIME",
    "CANNOT_NOW",
    "MAX_BATCH",
    "PARTS",
    "Chore",
    "Done",
    "batch",
    "chore",
    "counter",
    "hog",
    "jobs",
    "narrow",
    "now_us",
    "pulse",
    "say",
    "slow",
    "told",
    "why",
]

MAX_BATCH = 10
"""Events in one batch, at most."""
PARTS = 5
"""A run prints so many lines between its beginning and its end."""
CALLERS = 6
"""Calls of one caller at a time."""
READS, KEYED = 0.3, 0.7
"""How many of its calls only read; how many of the others have a key."""
AFTER_S = (None, 0, 0, 0.1, 0.5)
WORK_S = (0.02, 0.1, 0.3)
"""What its events ask for."""


AT_A_TIME = 2
"""How many runs of the narrow job there may be, over all processes."""


IN_TIME_S = 0.3
"""How long a run of the slow job may take."""


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
hog = Task(state=Done, event=Chore)
slow = Task(state=Done, event=Chore)
narrow = Task(state=Done, event=Chore, max_running=AT_A_TIME)
counter = Task(state=int, event=int)
batch = Debounce(event=int, state=int, flush_after="50ms", max_events=MAX_BATCH)
pulse = Continuous(state=int, every="100ms", mode="fixed_rate")


@narrow.on_event
@chore.on_event
def told(ctx: TaskContext[Done], event: Chore) -> None:
    done = ctx.state or Done()
    ctx.set_state(Done(told=done.told + 1, runs=done.runs, work_s=event.work_s))
    if event.after_s is not None:
        ctx.schedule(event.after_s)


@narrow.execute
@chore.execute
async def do(ctx: TaskContext[Done]) -> None:
    say("run", ctx)
    try:
        for _ in range(PARTS):
            await asyncio.sleep((ctx.state or Done()).work_s / PARTS)
            say("part", ctx)
        ctx.update_state(lambda done: done.model_copy(update={"runs": done.runs + 1}))
        say("end", ctx)
    finally:
        say("left", ctx)


@slow.on_event
@hog.on_event
def fed(ctx: TaskContext[Done], event: Chore) -> None:
    ctx.set_state(Done(work_s=event.work_s))
    ctx.schedule(0)


@hog.execute
async def block(ctx: TaskContext[Done]) -> None:
    """Holds up the event loop of its worker, and all else that it works on."""
    say("run", ctx)
    threading.Event().wait((ctx.state or Done()).work_s)
    say("left", ctx)


@slow.execute(timeout=IN_TIME_S)
def take_time(ctx: TaskContext[Done]) -> None:
    """In a thread, which nothing can stop."""
    say("run", ctx)
    which, work_s = f"{ctx.id} {ctx.run_count} {ctx.attempt}", (ctx.state or Done()).work_s
    threading.Event().wait(work_s)
    print("left", which, now_us(), os.getpid(), flush=True)  # its context may be closed by now


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
    say("run", ctx)
    for _ in range(PARTS):
        await asyncio.sleep(0.02)
        say("part", ctx)
    say("end", ctx)


@pulse.execute
async def beat(ctx: ContinuousContext[int]) -> None:
    say("run", ctx)
    for _ in range(PARTS):
        await asyncio.sleep(0.02)
        say("part", ctx)
    ctx.set_state((ctx.state or 0) + 1)
    say("end", ctx)


jobs = Jobs(
    chore=chore,
    narrow=narrow,
    counter=counter,
    hog=hog,
    slow=slow,
    batch=batch,
    pulse=pulse,
)


def say(
    what: str, ctx: TaskContext[Done] | DebounceContext[int, int] | ContinuousContext[int]
) -> None:
    """Print where a run is."""
    print(what, ctx.id, ctx.run_count, ctx.attempt, now_us(), os.getpid(), flush=True)


def now_us() -> int:
    """The same in all processes, whatever is done to their clocks."""
    return time.monotonic_ns() // 1000


async def worker(url: str, lease: str, slots: str, *more: str) -> None:
    """Work; more may be said (`grace=0`, `only=chore`).

    Unless that is `max_lost=3` or the like, a run may cost any number of workers.
    """
    given = dict(word.split("=") for word in more)
    max_lost, grace = int(given.get("max_lost", 1_000_000)), given.get("grace", "30s")

    def opening() -> Opening:
        return jobs.open(
            url,
            worker=True,
            lease=lease,
            concurrency=int(slots),
            max_lost=max_lost,
            grace=grace,
            only=[given["only"]] if "only" in given else [],
        )

    def set_clock(seconds: str) -> None:
        travels.enter_context(time_machine.travel(time.time() + float(seconds), tick=True))
        print("set", os.getpid(), flush=True)

    with ExitStack() as travels:
        async with Reopening(opening, set_clock) as process:
            await process.over()


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


async def caller(url: str, number: str, seed: str, ids: str, grace: str, handlers: str) -> None:
    """Call for each line, at most CALLERS at a time."""
    rng = random.Random(int(seed))
    tickets = asyncio.Semaphore(0)
    numbers = iter(range(1_000_000 * int(number) + 1, 1_000_000 * (int(number) + 1)))

    async def call_on() -> None:
        while True:
            await tickets.acquire()
            id = f"c-{rng.randrange(int(ids))}"
            if rng.random() < READS:
                called = await _read(process, id)
            else:
                after_s, work_s = rng.choice(AFTER_S), rng.choice(WORK_S)
                event = Chore(number=next(numbers), after_s=after_s, work_s=work_s)
                called = await _send(process, id, event, keyed=rng.random() < KEYED)
            print(called.line(), flush=True)

    def opening() -> Opening:
        return jobs.open(url, grace=grace, handlers=handlers == "handlers")

    async with Reopening(opening, lambda line: tickets.release()) as process:
        calling = asyncio.gather(*[call_on() for _ in range(CALLERS)])
        await process.over(calling)
        calling.cancel()


async def _read(process: Reopening, id: str) -> Call:
    app, asked_us = await process.app(), now_us()
    try:
        status = await app.task(chore).status(id)
    except CANNOT_NOW as error:
        return Call(id, 0, asked_us, None, errors=(why(error),), tries=((asked_us, now_us()),))
    return Call(id, 0, asked_us, now_us(), status.event_count)


async def _send(process: Reopening, id: str, event: Chore, *, keyed: bool) -> Call:
    """Send, with a key again and again until it is answered, without one once."""
    asked_us = now_us()
    key = str(event.number) if keyed else None
    errors: list[str] = []
    tries: list[tuple[int, int]] = []
    while keyed or not errors:
        app, tried_us = await process.app(), now_us()
        try:
            sent = await app.task(chore).send(id, event, event_id=key)
        except CANNOT_NOW as error:
            errors.append(why(error))
            tries.append((tried_us, now_us()))
        else:
            answer = now_us(), sent.event_count
            return Call(id, event.number, asked_us, *answer, keyed, tuple(errors), tuple(tries))
    return Call(id, event.number, asked_us, None, None, keyed, tuple(errors), tuple(tries))


CANNOT_NOW = (StoreUnavailableError, InvalidStateError)
"""What a call may meet while its store is away, or its app is closed."""


def why(error: Exception) -> str:
    """`unknown` where it was perhaps recorded, else the reason why it was not."""
    if isinstance(error, StoreUnavailableError):
        return "unknown" if "is not known" in error.detail else error.reason
    return "closed" if "the app is closed" in str(error) else "unknown"


ROLES: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "worker": worker,
    "sender": sender,
    "adder": adder,
    "caller": caller,
}

if __name__ == "__main__":
    asyncio.run(ROLES[sys.argv[1]](*sys.argv[2:]))
