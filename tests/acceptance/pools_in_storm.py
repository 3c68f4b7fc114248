"""Two pools in a storm, and their processes: `python -m tests.acceptance.pools_in_storm`.

    worker URL GRACE LEASE FOLDER    works until its stdin ends
    client URL GRACE HANDLERS NUMBER SEED
                                     puts events into the pools and cancels some, until there is
                                     `end` on its stdin; prints each `Asked`, and `over` when all
                                     are answered

Each understands the lines of `reopening`. A worker writes what its handlers do into a file of its
own in FOLDER, as `Noted`: so what it did remains when it is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel

from tests.acceptance.jobs_under_kill import CANNOT_NOW, now_us, why
from tests.acceptance.reopening import Reopening
from wakelog import (
    App,
    Backoff,
    GiveUp,
    Jobs,
    NewEvent,
    Retry,
    WorkerPool,
    WorkerPoolContext,
)
from wakelog.jobs import Opening

__all__ = ["POOLS", "Asked", "Noted", "Parcel", "Sort", "jobs"]

POOLS = ("loose", "ordered")
"""`ordered` keeps the order of a key over retries, and its handler is async; `loose` neither."""
ANY = 1_000_000
"""A run may cost any number of workers."""
CALLERS = 4
KEYS = 6
SORTS = ("ok", "ok", "ok", "ok", "flaky", "bad")
WORK_MS = (0, 0, 0, 0, 1, 1, 5, 5, 20, 150)
NAMED, WITH_KEY, DELAYED, CANCELS, MANY = 0.8, 0.5, 0.1, 0.1, 5
"""How many events have an id, a key, a delay; how many calls cancel; how many events are put into
a pool at once, at most."""
PAUSE_S = 0.1
"""Between two calls of a caller."""
FAILURES = 2
"""How often an event that is not `ok` fails before it ends."""

Sort = Literal["ok", "flaky", "bad"]
R = TypeVar("R")
Met = tuple[tuple[str, ...], tuple[tuple[int, int], ...]]
"""What a call met before it was answered, try by try, and from when to when each lasted."""


class Parcel(BaseModel):
    """An event."""

    number: int
    sort: Sort
    work_ms: int


class Noted(NamedTuple):
    """What a handler noted: `run`; then `ok`, `failed`, `given up` or `stopped` for how that run
    came out; or `dead`, from `on_dead_letter`."""

    what: str
    pool: str
    number: int
    attempt: int
    at_us: int
    pid: int

    @classmethod
    def of(cls, line: str) -> Noted:
        return cls(*json.loads(line))


class Asked(NamedTuple):
    """One call of a client. With ids it is asked again until it is answered."""

    pool: str
    what: str
    """`enqueue` or `cancel`."""
    numbers: tuple[int, ...]
    named: bool
    asked_us: int
    answered_us: int | None
    """None: it never was."""
    answer: str | None = None
    """Of a cancel: its status."""
    errors: tuple[str, ...] = ()
    """What it met instead, try by try."""
    tries: tuple[tuple[int, int], ...] = ()
    """From when to when each of these tries lasted."""

    @classmethod
    def of(cls, line: str) -> Asked:
        pool, what, numbers, named, asked_us, answered_us, answer, errors, tries = json.loads(line)
        met = tuple(errors), tuple((began_us, ended_us) for began_us, ended_us in tries)
        return cls(pool, what, tuple(numbers), named, asked_us, answered_us, answer, *met)


# -- the pools -------------------------------------------------------------------------------------


class _Notes:
    """The file of this process. Each note is written at once, so none is lost with the process."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(
            folder / f"{os.getpid()}.notes", os.O_CREAT | os.O_APPEND | os.O_WRONLY
        )

    def note(self, what: str, ctx: WorkerPoolContext, parcel: Parcel) -> None:
        noted = Noted(what, ctx.job_name, parcel.number, ctx.attempts, now_us(), os.getpid())
        os.write(self._file, f"{json.dumps(noted)}\n".encode())


def _outcome(ctx: WorkerPoolContext, parcel: Parcel) -> str:
    """End a run whose work is done."""
    notes: _Notes = ctx.resources
    if parcel.sort != "ok" and ctx.attempts <= FAILURES:
        notes.note("failed", ctx, parcel)
        raise ValueError(parcel.sort)
    if parcel.sort == "bad":
        notes.note("given up", ctx, parcel)
        raise GiveUp("bad")
    notes.note("ok", ctx, parcel)
    return f"{ctx.attempts} {os.getpid()}"


def _dead(ctx: WorkerPoolContext, parcel: Parcel, error: BaseException) -> None:
    ctx.resources.note("dead", ctx, parcel)


def jobs(notes: _Notes | None = None) -> Jobs:
    """Both pools; workers have notes."""
    again = Retry(max_attempts=ANY, delay=Backoff.constant("20ms"))
    loose = WorkerPool(event=Parcel, concurrency=6, retry=again, keep_results=True)
    ordered = WorkerPool(event=Parcel, concurrency=4, ordered=True, retry=again, keep_results=True)

    @loose.execute
    def work(ctx: WorkerPoolContext, parcel: Parcel) -> str:
        ctx.resources.note("run", ctx, parcel)
        threading.Event().wait(parcel.work_ms / 1_000)
        return _outcome(ctx, parcel)

    @ordered.execute
    async def work_async(ctx: WorkerPoolContext, parcel: Parcel) -> str:
        ctx.resources.note("run", ctx, parcel)
        try:
            await asyncio.sleep(parcel.work_ms / 1_000)
        except asyncio.CancelledError:
            ctx.resources.note("stopped", ctx, parcel)
            raise
        return _outcome(ctx, parcel)

    loose.on_dead_letter(_dead)
    ordered.on_dead_letter(_dead)
    return Jobs(loose=loose, ordered=ordered, resources=notes)


# -- the processes ---------------------------------------------------------------------------------


async def worker(url: str, grace: str, lease: str, folder: str) -> None:
    notes = _Notes(Path(folder))

    def opening() -> Opening:
        return jobs(notes).open(url, worker=True, grace=grace, lease=lease, max_lost=ANY)

    async with Reopening(opening, lambda line: None) as process:
        await process.over()


async def client(url: str, grace: str, handlers: str, number: str, seed: str) -> None:
    def opening() -> Opening:
        return jobs().open(url, grace=grace, handlers=handlers == "handlers")

    def end(_: str) -> None:
        caller.is_ending = True

    async with Reopening(opening, end) as process:
        caller = _Caller(process, random.Random(int(seed)), 1_000_000 * int(number))
        await process.over(asyncio.gather(*[caller.call_on() for _ in range(CALLERS)]))
        print("over", flush=True)


class _Caller:
    def __init__(self, process: Reopening, rng: random.Random, number: int) -> None:
        self._process = process
        self._rng = rng
        self._number = number
        self._named: list[tuple[str, int]] = []
        """What was acknowledged and has an id, newest last."""
        self.is_ending = False

    async def call_on(self) -> None:
        while not self.is_ending:
            if self._named and self._rng.random() < CANCELS:
                asked = await self._cancel(*self._rng.choice(self._named[-50:]))
            else:
                asked = await self._enqueue(self._rng.choice(POOLS))
            print(json.dumps(asked), flush=True)
            await asyncio.sleep(PAUSE_S)

    async def _enqueue(self, pool: str) -> Asked:
        rng, asked_us = self._rng, now_us()
        is_named = rng.random() < NAMED
        events = [self._new(is_named) for _ in range(rng.choice((1, 1, MANY)))]
        numbers = tuple(each.event.number for each in events)

        def enqueue(app: App) -> Awaitable[object]:
            return app.worker_pool(pool).enqueue_many(events)

        answers, met = await self._asked(enqueue, again=is_named)
        if answers is None:
            return Asked(pool, "enqueue", numbers, is_named, asked_us, None, None, *met)
        if is_named:
            self._named += [(pool, number) for number in numbers]
        return Asked(pool, "enqueue", numbers, is_named, asked_us, now_us(), None, *met)

    def _new(self, is_named: bool) -> NewEvent[Parcel]:
        """An event. With a key it has no delay and no priority: then there is an order."""
        rng = self._rng
        self._number += 1
        sort: Any = rng.choice(SORTS)
        parcel = Parcel(number=self._number, sort=sort, work_ms=rng.choice(WORK_MS))
        id = f"n-{self._number}" if is_named else None
        if rng.random() < WITH_KEY:
            return NewEvent(event=parcel, id=id, partition_key=f"k-{rng.randrange(KEYS)}")
        delay = "300ms" if rng.random() < DELAYED else None
        return NewEvent(event=parcel, id=id, priority=rng.choice((0, 0, 1)), delay=delay)

    async def _cancel(self, pool: str, number: int) -> Asked:
        asked_us = now_us()
        answer, met = await self._asked(
            lambda app: app.worker_pool(pool).cancel_event(f"n-{number}"), again=False
        )
        if answer is None:
            return Asked(pool, "cancel", (number,), True, asked_us, None, None, *met)
        return Asked(pool, "cancel", (number,), True, asked_us, now_us(), answer.status, *met)

    async def _asked(
        self, call: Callable[[App], Awaitable[R]], *, again: bool
    ) -> tuple[R | None, Met]:
        """What was answered, what was met before that, and from when to when each time."""
        errors: list[str] = []
        tries: list[tuple[int, int]] = []
        while again or not errors:
            app, tried_us = await self._process.app(), now_us()
            try:
                return await call(app), (tuple(errors), tuple(tries))
            except CANNOT_NOW as error:
                errors.append(why(error))
                tries.append((tried_us, now_us()))
        return None, (tuple(errors), tuple(tries))


ROLES: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"worker": worker, "client": client}


def main(words: Sequence[str]) -> None:
    asyncio.run(ROLES[words[0]](*words[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
