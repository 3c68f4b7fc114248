"""Jobs for events that are sent in a transaction of the caller's own, and processes of them.

    worker URL COMMIT       works; with a COMMIT other than 0 it ends itself with `kill -9` right
                            before (-N) or after (N) its Nth append that makes events of rows
    sender URL HOW          sends an event in a transaction and is told when to commit; HOW is
                            `before` or `after` the commit that it ends itself with `kill -9`

Each prints `ready PID` first.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from wakelog import (
    Continuous,
    ContinuousContext,
    Debounce,
    DebounceContext,
    Jobs,
    Task,
    TaskContext,
    WorkerPool,
    WorkerPoolContext,
)
from wakelog.ports.pools import Plan, PoolLook
from wakelog.ports.units import Appended, Unit
from wakelog_adapters.postgres import PostgresStore
from wakelog_adapters.postgres.url import parse
from wakelog_adapters.sqlite import SQLiteStore

__all__ = ["PATIENCE_S", "batch", "connected", "jobs", "mails", "numbers", "pulse", "until"]

PATIENCE_S = 20.0

numbers = Task(state=list[int], event=int, max_waiting=50)
batch = Debounce(event=int, flush_after="50ms", max_wait="1s")
pulse = Continuous(state=int, every="1h")
mails = WorkerPool(event=int, concurrency=2)


@numbers.on_event
def note(ctx: TaskContext[list[int]], event: int) -> None:
    ctx.set_state([*(ctx.state or []), event])


@batch.execute
def flush(ctx: DebounceContext[int, int]) -> None: ...


@pulse.execute
def beat(ctx: ContinuousContext[int]) -> None:
    ctx.set_state((ctx.state or 0) + 1)


@mails.execute
def mail(ctx: WorkerPoolContext, event: int) -> None: ...


jobs = Jobs(numbers=numbers, batch=batch, pulse=pulse, mails=mails)


@contextmanager
def connected(url: str) -> Generator[Any]:
    """A caller's connection to the database of a store: psycopg's or sqlite3's. What was not
    committed is rolled back."""
    if url.startswith("sqlite:"):
        connection: Any = sqlite3.connect(url.removeprefix("sqlite:///"))
    else:
        connection = psycopg.connect(parse(url).conninfo)
    try:
        yield connection
    finally:
        connection.close()


def until(is_so: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Wait until something is so."""
    waiting = threading.Event()
    for _ in range(int(within_s / 0.01)):
        if is_so():
            return
        waiting.wait(0.01)
    raise AssertionError(f"not within {within_s} s")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(kind: Any, commit: int) -> None:
    """End this process at an append of such a store, or a call of a pool, that is made of rows."""
    append, pool_call, count = kind.append, kind.pool_call, 0

    def dying(makes: bool, write: Callable[[], Any]) -> Any:
        nonlocal count
        count += makes
        mine = count
        if makes and -commit == mine:
            die()
        written = write()
        if makes and commit == mine:
            die()
        return written

    def appended(store: Any, units: Sequence[Unit]) -> Appended:
        result: Appended = dying(any(unit.inbox for unit in units), lambda: append(store, units))
        return result

    def called(store: Any, look: PoolLook, plan: Plan) -> Any:
        return dying(bool(look.inbox), lambda: pool_call(store, look, plan))

    kind.append, kind.pool_call = appended, called
    kind.start_append = lambda store, units: None


def worker(url: str, commit: str) -> None:
    if int(commit):
        die_at(SQLiteStore if url.startswith("sqlite:") else PostgresStore, int(commit))
    with jobs.open(url, worker=True, lease="1s"):
        print("ready", os.getpid(), flush=True)
        sys.stdin.read()


def sender(url: str, how: str) -> None:
    with jobs.open(url) as app, connected(url) as connection:
        app.task(numbers).send("a", 1, connection=connection)
        app.worker_pool(mails).enqueue(1, connection=connection)
        print("ready", os.getpid(), flush=True)
        sys.stdin.readline()
        if how == "before":
            die()
        connection.commit()
        die()


if __name__ == "__main__":
    {"worker": worker, "sender": sender}[sys.argv[1]](*sys.argv[2:])
