"""The public types of worker pools. Type-checked by pyright and mypy; never run."""

from __future__ import annotations

from typing import Any, assert_type

from pydantic import BaseModel

from wakelog import (
    BlockingWorkerPoolClient,
    CancelResult,
    EnqueueResult,
    Fair,
    HistoryEntry,
    ItemsResult,
    Jobs,
    NewEvent,
    PoolControl,
    PoolDeadLetter,
    PoolEvent,
    PoolStatus,
    RebuildResult,
    Retry,
    Task,
    Why,
    WorkerPool,
    WorkerPoolClient,
    WorkerPoolContext,
)


class Mail(BaseModel):
    to: str


emails = WorkerPool(event=Mail, concurrency=16, retry=Retry.simple(), rate_limit=(100, "1m"))
assert_type(emails, WorkerPool[Mail])
counts = WorkerPool(event=dict[str, int], fair=Fair("tenant", weights={"a": 2.0}))
task = Task(state=str, event=str)


@emails.execute(timeout="10s")
async def send(ctx: WorkerPoolContext, mail: Mail) -> str:
    assert_type(ctx.event_id, str)
    assert_type(ctx.partition, int)
    assert_type(ctx.partition_key, str | None)
    assert_type(ctx.attempts, int)
    assert_type(ctx.processed_count, int)
    return await ctx.step("post", str.upper, mail.to)


@emails.on_dead_letter
def give_up(ctx: WorkerPoolContext, mail: Mail, error: BaseException) -> None: ...


@emails.on_empty
async def all_sent(ctx: WorkerPoolContext) -> None: ...


@counts.execute
def count(ctx: WorkerPoolContext, event: dict[str, int]) -> None: ...


jobs = Jobs(emails=emails, counts=counts, task=task)


async def asynchronous() -> None:
    async with jobs.open("memory://") as app:
        pool = app.worker_pool(emails)
        assert_type(pool, WorkerPoolClient[Mail])
        assert_type(app.worker_pool("emails"), WorkerPoolClient[Any])
        assert_type(await pool.enqueue(Mail(to="a"), id="1", priority=2), EnqueueResult)
        await pool.enqueue("a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
        await pool.enqueue_many([Mail(to="a"), NewEvent(event=Mail(to="b"), delay="5m")])
        assert_type(await pool.enqueue_many([Mail(to="a")]), list[EnqueueResult])
        assert_type(await pool.status(), PoolStatus)
        assert_type(await pool.get("#1.1"), PoolEvent)
        assert_type(await pool.wait("#1.1", timeout="5s"), PoolEvent)
        assert_type(await pool.why("#1.1"), Why)
        assert_type(await pool.history("#1.1"), list[HistoryEntry])
        assert_type(await pool.pause(0, reason="looking"), PoolControl)
        assert_type(await pool.cancel_event("#1.1"), CancelResult)
        assert_type(await pool.dead_letters(error="ValueError"), list[PoolDeadLetter])
        assert_type(await pool.requeue(["#1.1"], dry_run=True), ItemsResult)
        assert_type(await pool.rebuild(dry_run=True), RebuildResult)
        assert_type(await pool.set_priority(2, partition_key="a"), ItemsResult)
        app.worker_pool(task)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType,reportCallIssue]


def blocking() -> None:
    with jobs.open("memory://") as app:
        pool = app.worker_pool(emails)
        assert_type(pool, BlockingWorkerPoolClient[Mail])
        assert_type(pool.enqueue(Mail(to="a")), EnqueueResult)
        assert_type(pool.status(), PoolStatus)
