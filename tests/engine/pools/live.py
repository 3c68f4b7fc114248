"""A pool with real workers: opened, worked on, and checked from its log when it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

from tests.auditing_pools import PoolAudit, audit_pool
from tests.support import WAIT_S
from wakelog import Backoff, Jobs, Retry, WorkerPool
from wakelog.client.pool.results import PoolEvent
from wakelog.client.worker_pool import WorkerPoolClient
from wakelog.jobs import open_store
from wakelog.testing import Simulation

__all__ = [
    "AGAIN", "JOB", "audited", "ended", "opened", "pool_of", "simulated", "until", "warm",
]  # fmt: skip

JOB = "workerPool:pool"
AGAIN = Retry(max_attempts=2, delay=Backoff.constant("10ms"), jitter=0)
"""A second attempt, at once."""


def pool_of(
    execute: Callable[..., Any],
    *,
    on_dead_letter: Callable[..., Any] | None = None,
    on_empty: Callable[..., Any] | None = None,
    event: Any = Any,
    **options: Any,
) -> WorkerPool[Any]:
    """A pool of these handlers."""
    pool: WorkerPool[Any] = WorkerPool(event=event, **options)
    pool.execute(execute)
    if on_dead_letter is not None:
        pool.on_dead_letter(on_dead_letter)
    if on_empty is not None:
        pool.on_empty(on_empty)
    return pool


@asynccontextmanager
async def opened(
    url: str, pool: WorkerPool[Any], *, worker: bool = True, check: bool = True, **options: Any
) -> AsyncGenerator[WorkerPoolClient[Any]]:
    """The pool's client in an app on this store; once it is closed all must add up."""
    async with Jobs(pool=pool).open(url, worker=worker, **options) as app:
        yield app.worker_pool(pool)
    if check:
        audited(url)


@contextmanager
def simulated(url: str, pool: WorkerPool[Any], **options: Any) -> Generator[Simulation]:
    """The pool in virtual time; at the end all must add up."""
    with Simulation(Jobs(pool=pool), url=url, **options) as sim:
        yield sim
        audit_pool(sim.application.store, JOB)


def audited(url: str) -> PoolAudit:
    """What became of everything, after all of it was found to add up."""
    with closing(open_store(url)) as factory:
        return audit_pool(factory.application_recorder(), JOB)


async def ended(
    client: WorkerPoolClient[Any], ids: Sequence[str], within_s: float = WAIT_S
) -> list[PoolEvent]:
    """Wait until all of these are over."""
    async with asyncio.timeout(within_s):
        return [await client.wait(id) for id in ids]


async def until(is_so: Callable[[], Awaitable[bool]], within_s: float = WAIT_S) -> None:
    """Look, and let others run meanwhile, until something is so."""
    async with asyncio.timeout(within_s):
        while not await is_so():  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.005)


async def warm(client: WorkerPoolClient[Any], event: Any) -> None:
    """Let the worker find out that its items are quick, so that its takes become large."""
    accepted = await client.enqueue_many([event] * 40)
    await ended(client, [each.event_id for each in accepted])
