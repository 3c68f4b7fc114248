"""Small pools whose workers kill themselves: `python -m tests.acceptance.pool_under_kill`.

    lives URL LEASE FOLDER     one life after the other, each in a process of its own
    killer URL LEASE FOLDER    works on the pool `killer` until it is killed, by its own handler

Life 0 works on pool `p0`, life 1 on `p1` …: all events of a pool are accepted before. Life `2 * n`
ends just before its write number `n` is committed, life `2 * n + 1` just after it. The first life
that has nothing left to write before its end is the last one: it prints `whole`. What is done in
the world is a line in a file: the run of an event, or one of its steps.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wakelog import Backoff, Jobs, Retry, WorkerPool, WorkerPoolContext
from wakelog.ports.pools import Plan, PoolLook, PoolSeen, PoolWrites
from wakelog_adapters.postgres.store import PostgresStore
from wakelog_adapters.sqlite import SQLiteStore

__all__ = ["EVENTS", "MAX_LIVES", "jobs", "killers", "lines_of"]

EVENTS = ("steps", "flaky", "bad")
"""One with two steps, one that fails at first, one that always fails."""
MAX_LIVES = 60
AGAIN = Retry(max_attempts=3, delay=Backoff.constant("1ms"), jitter=0)


def jobs(folder: Path) -> Jobs:
    """A pool for each life; their world is in `folder`."""
    return Jobs(resources=folder, **{f"p{life}": pool(f"p{life}") for life in range(MAX_LIVES)})


def killers(folder: Path) -> Jobs:
    """A pool with an event that kills its process."""
    killer: WorkerPool[str] = WorkerPool(event=str, concurrency=1)

    @killer.execute
    async def run(ctx: WorkerPoolContext, event: str) -> None:
        tell(ctx.resources, "killer", event)
        if event == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    return Jobs(killer=killer, resources=folder)


def pool(name: str) -> WorkerPool[str]:
    """The pool of a life."""
    made: WorkerPool[str] = WorkerPool(event=str, concurrency=1, retry=AGAIN, keep_results=True)

    @made.execute
    async def run(ctx: WorkerPoolContext, event: str) -> str:
        tell(ctx.resources, name, f"{event} {ctx.attempts}")
        if event == "steps":
            for step in ("one", "two"):
                await ctx.step(step, tell, ctx.resources, name, f"step {step}")
        if event == "bad" or (event == "flaky" and ctx.attempts == 1):
            raise ValueError(event)
        return f"{event} done"

    @made.on_dead_letter
    def dead(ctx: WorkerPoolContext, event: str, error: BaseException) -> None:
        tell(ctx.resources, name, f"dead {event}")

    return made


def tell(folder: Path, name: str, what: str) -> str:
    """What the world sees."""
    with (folder / f"{name}.done").open("a") as world:
        world.write(f"{what}\n")
    return what


def lines_of(folder: Path, name: str) -> list[str]:
    """What the world has seen of a pool."""
    file = folder / f"{name}.done"
    return file.read_text().splitlines() if file.exists() else []


def mortal(store_type: Any, life: int) -> None:
    """Let this process die at a write."""
    pool_call: Callable[[Any, PoolLook, Plan], Sequence[Any]] = store_type.pool_call
    write, is_after = divmod(life, 2)
    written = 0

    def dying(store: Any, look: PoolLook, plan: Plan) -> Sequence[Any]:
        nonlocal written
        writes: list[PoolWrites] = []

        def planned(seen: PoolSeen) -> PoolWrites:
            writes[:] = [plan(seen)]
            if written == write and not is_after and not writes[0].is_empty:
                os.kill(os.getpid(), signal.SIGKILL)
            return writes[0]

        slices = pool_call(store, look, planned)
        if writes[0].is_empty:
            return slices
        if written == write and is_after:
            os.kill(os.getpid(), signal.SIGKILL)
        written += 1
        return slices

    store_type.pool_call = dying


async def live(url: str, lease: str, folder: Path, life: int) -> None:
    """Work on one pool until all of it is over, or to death."""
    mortal(SQLiteStore if url.startswith("sqlite:") else PostgresStore, life)
    opening = jobs(folder).open(url, worker=True, lease=lease, only=(f"p{life}",))
    async with opening as app:
        for event in EVENTS:
            await app.worker_pool(f"p{life}").wait(event)


def lives(url: str, lease: str, folder: Path) -> None:
    """One life after the other, until one is whole."""
    for life in range(MAX_LIVES):
        child = os.fork()
        if child == 0:
            asyncio.run(live(url, lease, folder, life))
            sys.exit()
        _, status = os.waitpid(child, 0)
        if status == 0:
            print("whole", life, flush=True)
            return
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        print("killed", life, flush=True)


async def kill_itself(url: str, lease: str, folder: Path) -> None:
    """Work until the handler kills this process."""
    async with killers(folder).open(url, worker=True, lease=lease, max_lost=2):
        await asyncio.Event().wait()


if __name__ == "__main__":
    role, url_, lease_, folder_ = sys.argv[1:]
    if role == "lives":
        lives(url_, lease_, Path(folder_))
    else:
        asyncio.run(kill_itself(url_, lease_, Path(folder_)))
