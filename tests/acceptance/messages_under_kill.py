"""A chain of messages whose processes kill themselves: `python -m …messages_under_kill`.

    lives URL LEASE            one life after the other, each in a process of its own
    worker URL LEASE           works until it is killed; prints `ready PID` first
    sender URL NUMBER COUNT    sends so many events, which send on

An order (`a`) charges (`b`), which has a parcel sent (`c`) and a mail (the pool `post`). Each life
has jobs of its own (`a7`, `b7` …). Life `2 * n` ends just before its write number `n` is committed,
life `2 * n + 1` just after it. The first life that has nothing left to write is the last one: it
prints `whole`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from wakelog import Jobs, Task, TaskContext, WorkerPool, WorkerPoolContext
from wakelog.ports.pools import Plan, PoolLook, PoolSeen, PoolWrites
from wakelog_adapters.postgres.store import PostgresStore
from wakelog_adapters.sqlite import SQLiteStore

__all__ = ["EVERY", "MAX_LIVES"]

MAX_LIVES = 60

a: Task[list[str], str] = Task(state=list[str], event=str)
b: Task[list[str], str] = Task(state=list[str], event=str)
c: Task[list[str], str] = Task(state=list[str], event=str)
post: WorkerPool[str] = WorkerPool(event=str, concurrency=2)

arrived = asyncio.Event()
"""The end of a chain is about to be recorded in this process."""


def life_of(name: str) -> str:
    """What stands behind the name of a job."""
    return name.lstrip("abcpost")


@a.on_event
async def ordered(ctx: TaskContext[list[str]], event: str) -> None:
    ctx.set_state([*(ctx.state or []), event])
    ctx.send(f"b{life_of(ctx.job_name)}", ctx.id, event)


@b.on_event
async def charged(ctx: TaskContext[list[str]], event: str) -> None:
    ctx.set_state([*(ctx.state or []), event])
    ctx.schedule(0)


@b.execute
async def charge(ctx: TaskContext[list[str]]) -> None:
    for event in ctx.state or []:
        ctx.send(f"c{life_of(ctx.job_name)}", ctx.id, event)
    ctx.enqueue(f"post{life_of(ctx.job_name)}", ctx.id)


@c.on_event
async def sent(ctx: TaskContext[list[str]], event: str) -> None:
    ctx.set_state([*(ctx.state or []), event])
    if event == "mailed":
        arrived.set()


@post.execute
async def mailed(ctx: WorkerPoolContext, event: str) -> None:
    ctx.send(f"c{life_of(ctx.job_name)}", event, "mailed")


def jobs_of(*lives: object) -> Jobs:
    """The jobs of these lives."""
    chain: dict[str, Any] = {"a": a, "b": b, "c": c, "post": post}
    return Jobs(**{f"{name}{life}": job for life in lives for name, job in chain.items()})


EVERY = jobs_of("", *range(MAX_LIVES))


def mortal(store_type: Any, life: int) -> None:
    """Let this process die at a write: an append, a call of a pool, or a row of the outbox that is
    deleted by itself."""
    append, pool_call = store_type.append, store_type.pool_call
    forget: Any = store_type.forget_messages
    write, is_after = divmod(life, 2)
    written = 0

    def die(*, if_after: bool) -> None:
        if written == write and bool(is_after) == if_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrote() -> None:
        nonlocal written
        die(if_after=True)
        written += 1

    def dying(original: Any) -> Any:
        def call(store: Any, rows: Sequence[Any]) -> Any:
            die(if_after=False)
            answer = original(store, rows)
            wrote()
            return answer

        return call

    store_type.append, store_type.forget_messages = dying(append), dying(forget)
    store_type.start_append = lambda store, units: None  # so that all of them are `append`
    store_type.pool_call = _dying_call(pool_call, die, wrote)


def _dying_call(
    pool_call: Callable[..., Any], die: Callable[..., None], wrote: Callable[[], None]
) -> Callable[..., Any]:
    def dying(store: Any, look: PoolLook, plan: Plan) -> Sequence[Any]:
        writes: list[PoolWrites] = []

        def planned(seen: PoolSeen) -> PoolWrites:
            writes[:] = [plan(seen)]
            if not writes[0].is_empty:
                die(if_after=False)
            return writes[0]

        slices: Sequence[Any] = pool_call(store, look, planned)
        if not writes[0].is_empty:
            wrote()
        return slices

    return dying


async def live(url: str, lease: str, life: int) -> None:
    """Send one event, and work until all that follows from it is over, or to death."""
    mortal(SQLiteStore if url.startswith("sqlite:") else PostgresStore, life)
    async with jobs_of(life).open(url, worker=True, lease=lease) as app:
        await app.task(f"a{life}").send("x", "go", event_id="go")
        await arrived.wait()


async def work(url: str, lease: str) -> None:
    async with EVERY.open(url, worker=True, lease=lease):
        print("ready", os.getpid(), flush=True)
        await asyncio.Event().wait()


async def send(url: str, number: int, count: int) -> None:
    """Events of many instances, in the order of each."""
    async with jobs_of("").open(url) as app:
        print("ready", os.getpid(), flush=True)
        clients = [app.task("a").send for _ in range(count)]
        for first in range(0, count, 50):
            numbers = range(first, min(first + 50, count))
            await asyncio.gather(*(clients[n](f"s{number}-{n % 50}", str(n)) for n in numbers))
        print("sent", count, flush=True)


def lives(url: str, lease: str) -> None:
    """Each life is a process of its own, since it is killed."""
    for life in range(MAX_LIVES):
        child = os.fork()
        if child == 0:
            asyncio.run(live(url, lease, life))
            sys.exit()
        _, status = os.waitpid(child, 0)
        if status == 0:
            print("whole", life, flush=True)
            return
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        print("killed", life, flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case "lives", url, lease:
            lives(url, lease)
        case "worker", url, lease:
            asyncio.run(work(url, lease))
        case "sender", url, number, count:
            asyncio.run(send(url, int(number), int(count)))
