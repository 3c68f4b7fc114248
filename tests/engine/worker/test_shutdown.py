"""Closing an app: what runs may end, what does not end is given back (K2)."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, task_of
from wakelog import InvalidStateError, Jobs

pytestmark = pytest.mark.anyio


class Run:
    """An `execute` that begins, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.attempts: list[tuple[int, int, str]] = []

    async def __call__(self, ctx: Ctx) -> None:
        self.attempts.append((ctx.run_count, ctx.attempt, ctx.trigger))
        self.begun.set()
        await self.go.wait()
        ctx.set_state("ran")


async def events_of(url: str, task: Any) -> list[tuple[str, dict[str, Any]]]:
    """What is recorded, seen by a process that only looks."""
    async with Jobs(job=task).open(url) as app:
        return [(entry.event, entry.data) for entry in await app.history("task:job:a")]


async def turns_of_the_loop() -> None:
    """Let everything happen that waits for nothing but its turn."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_K2_a_run_that_ends_within_the_grace_period_is_recorded(shared_url: str) -> None:
    # given
    run = Run()
    task = task_of(execute=run)
    async with Jobs(job=task).open(shared_url, worker=True) as app:
        await app.task("job").send("a", {"schedule": 0})
        await run.begun.wait()
        # when the app closes, and the run ends
        closing = asyncio.create_task(app.close(grace=WAIT_S))
        await turns_of_the_loop()
        assert not closing.done()
        run.go.set()
        await closing
    # then
    events = [event for event, _ in await events_of(shared_url, task)]
    assert events[-2:] == ["Executed", "StateSet"]


async def test_K2_one_that_does_not_is_given_back_and_taken_up_by_the_next_worker(
    shared_url: str,
) -> None:
    # given a run that does not end
    run = Run()
    task = task_of(execute=run)
    async with Jobs(job=task).open(shared_url, worker=True, lease="1h", grace=0) as app:
        await app.task("job").send("a", {"schedule": 0})
        await run.begun.wait()
        # when the context is left
    # then it was given back, at once
    event, data = (await events_of(shared_url, task))[-1]
    assert (event, data["reason"]) == ("ExecutionLost", "shutdown")
    # when the next worker comes (the first one's lease would have lasted an hour)
    run.go.set()
    run.begun.clear()
    async with Jobs(job=task).open(shared_url, worker=True) as app:
        await asyncio.wait_for(run.begun.wait(), WAIT_S)
        await app.task("job").send("a", {}, wait=True, timeout=WAIT_S)
        # then it is the same run, and nothing says that anything went wrong
        assert run.attempts == [(1, 1, "alarm"), (1, 2, "recovery")]
        status = await app.task("job").status("a")
        assert (status.status, status.execute_count, status.failure_count) == ("idle", 1, 0)
        assert status.last_error is None
        assert await app.task("job").get_state("a") == "ran"


async def test_K2_being_given_back_costs_no_loss_however_often(shared_url: str) -> None:
    # given a run that is given back more often than it may be lost
    run = Run()
    task = task_of(execute=run)
    for n in range(4):
        async with Jobs(job=task).open(shared_url, worker=True, grace=0, max_lost=2) as app:
            if n == 0:
                await app.task("job").send("a", {"schedule": 0})
            async with asyncio.timeout(WAIT_S):
                await run.begun.wait()
            run.begun.clear()
    # then it is still owed
    assert [attempt for _, attempt, _ in run.attempts] == [1, 2, 3, 4]
    async with Jobs(job=task).open(shared_url) as app:
        assert (await app.task("job").status("a")).status == "retrying"


async def test_K2_a_run_in_a_thread_is_given_back_only_when_it_has_ended(shared_url: str) -> None:
    # given a run in a thread, which nobody can stop
    loop, begun, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def execute(ctx: Ctx) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert go.wait(WAIT_S)
        ctx.set_state("ran")

    task = task_of(execute=execute)
    async with Jobs(job=task).open(shared_url, worker=True) as app:
        await app.task("job").send("a", {"schedule": 0})
        await begun.wait()
        # when
        closing = asyncio.create_task(app.close(grace=0))
        await turns_of_the_loop()
        go.set()
        await closing
    # then its outcome is recorded
    events = [event for event, _ in await events_of(shared_url, task)]
    assert events[-2:] == ["Executed", "StateSet"]


async def test_K2_the_outcome_of_a_run_is_kept_though_its_on_idle_is_cut_short(
    shared_url: str,
) -> None:
    # given a run that has ended, and its on_idle that does not
    idling = asyncio.Event()

    async def execute(ctx: Ctx) -> None:
        ctx.set_state("ran")

    async def on_idle(ctx: Ctx) -> None:
        idling.set()
        await asyncio.Event().wait()

    task = task_of(execute=execute, on_idle=on_idle)
    async with Jobs(job=task).open(shared_url, worker=True, grace=0) as app:
        await app.task("job").send("a", {"schedule": 0})
        await idling.wait()
    # then
    events = [event for event, _ in await events_of(shared_url, task)]
    assert events[-3:] == ["Executed", "StateSet", "ExecutionFailed"]


async def test_K2_a_run_whose_on_error_is_cut_short_is_given_back(shared_url: str) -> None:
    # given
    recovering = asyncio.Event()

    async def execute(ctx: Ctx) -> None:
        raise ValueError("boom")

    async def on_error(ctx: Ctx, error: BaseException) -> None:
        recovering.set()
        await asyncio.Event().wait()

    task = task_of(execute=execute, on_error=on_error)
    async with Jobs(job=task).open(shared_url, worker=True, grace=0) as app:
        await app.task("job").send("a", {"schedule": 0})
        await recovering.wait()
    # then
    event, data = (await events_of(shared_url, task))[-1]
    assert (event, data["reason"]) == ("ExecutionLost", "shutdown")


async def test_K2_a_deferred_event_that_is_being_handled_stays_accepted(shared_url: str) -> None:
    # given
    begun = asyncio.Event()
    seen: list[Any] = []

    async def on_event(ctx: Ctx, event: str) -> None:
        seen.append(event)
        if event == "waits" and len(seen) == 1:
            begun.set()
            await asyncio.Event().wait()
        ctx.set_state(event)

    async def execute(ctx: Ctx) -> None:
        """Async, so that a shutdown may stop what is being done."""

    task = task_of(on_event, execute=execute)
    async with Jobs(job=task).open(shared_url, worker=True, lease="1h", grace=0) as app:
        await app.task("job").send("a", "waits", delay=0)
        await begun.wait()
    # when
    async with Jobs(job=task).open(shared_url, worker=True) as app:
        await app.task("job").send("a", "next", wait=True, timeout=WAIT_S)
        # then
        assert seen == ["waits", "waits", "next"]


async def test_K2_nothing_new_is_taken_while_it_closes(shared_url: str) -> None:
    # given an app that waits for a run to end
    run = Run()
    others: list[str] = []

    async def execute(ctx: Ctx) -> None:
        if ctx.id == "a":
            await run(ctx)
        others.append(ctx.id)

    task = task_of(execute=execute)
    async with Jobs(job=task).open(shared_url, worker=True) as app:
        await app.task("job").send("a", {"schedule": 0})
        await run.begun.wait()
        closing = asyncio.create_task(app.close(grace=WAIT_S))
        await turns_of_the_loop()
        # when something falls due meanwhile
        async with Jobs(job=task).open(shared_url) as client:
            await client.task("job").send("b", {"schedule": 0})
        run.go.set()
        await closing
    # then it waits for the next worker
    assert others == ["a"]
    async with Jobs(job=task).open(shared_url) as app:
        assert (await app.task("job").status("b")).status == "unhandled"
        assert (await app.task("job").status("a")).status == "idle"


@pytest.mark.parametrize("worker", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
async def test_K2_a_request_that_has_begun_may_end_within_the_grace_and_no_other_begins(
    shared_url: str, is_async: bool, worker: bool
) -> None:
    # given a send in its handler
    loop, begun, go = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    let_go = threading.Event()

    async def waits(ctx: Ctx, event: Any) -> None:
        begun.set()
        await go.wait()
        ctx.set_state(event)

    def blocks(ctx: Ctx, event: Any) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert let_go.wait(WAIT_S)
        ctx.set_state(event)

    task = task_of(waits if is_async else blocks)
    async with Jobs(job=task).open(shared_url, worker=worker) as app:
        jobs = app.task("job")
        send = asyncio.create_task(jobs.send("a", 1))
        await begun.wait()
        # when the app closes meanwhile
        closing = asyncio.create_task(app.close(grace=WAIT_S))
        await turns_of_the_loop()
        # then it takes nothing new
        with pytest.raises(InvalidStateError, match="closed"):
            await jobs.send("b", 1)
        assert not closing.done()
        # when the handler ends
        go.set()
        let_go.set()
        # then so does the request, and the app
        assert (await send).created
        await closing
    async with Jobs(job=task).open(shared_url) as app:
        assert await app.task("job").get_state("a") == 1


async def test_K2_a_run_that_eats_its_cancellation_is_left_behind_without_an_error(
    shared_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # given a run that does not end when it is told to
    monkeypatch.setattr("wakelog.worker.worker.LAST_S", 0.05)
    begun, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def execute(ctx: Ctx) -> None:
        begun.set()
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        ended.set()

    task = task_of(execute=execute)
    caplog.set_level("INFO", "wakelog")
    async with Jobs(job=task).open(shared_url, worker=True, grace=0) as app:
        await app.task("job").send("a", {"schedule": 0})
        await begun.wait()
    # when it does, after the app has
    go.set()
    async with asyncio.timeout(WAIT_S):
        await ended.wait()
        await turns_of_the_loop()
    # then nobody is told of an error, or that it is tried again here
    said = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "wakelog.worker"]
    assert [level for level, _ in said] == ["WARNING", "INFO"]
    assert "is abandoned" in said[0][1]
    assert "ended too late" in said[1][1]


async def test_K2_a_request_that_is_cut_by_the_close_is_told_so(shared_url: str) -> None:
    # given a send in its handler, and one that waits for an outcome
    begun, go = asyncio.Event(), asyncio.Event()

    async def on_event(ctx: Ctx, event: Any) -> None:
        if event == "slow":
            begun.set()
            await go.wait()

    task = task_of(on_event)
    async with Jobs(job=task).open(shared_url, grace=0) as app:
        jobs = app.task("job")
        await jobs.send("b", "x", delay="1h", event_id="k")
        slow = asyncio.create_task(jobs.send("a", "slow"))
        waits = asyncio.create_task(jobs.send("b", "x", delay="1h", event_id="k", wait=True))
        await begun.wait()
    # when
    go.set()
    # then
    for request in (slow, waits):
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(InvalidStateError, match="closed"):
                await request
    # and what was accepted stays accepted
    async with Jobs(job=task).open(shared_url) as app:
        assert (await app.task("job").status("b")).deferred_count == 1


async def test_K2_what_was_acknowledged_before_the_close_is_there_after_it(shared_url: str) -> None:
    task = task_of()
    async with Jobs(job=task).open(shared_url, grace=0) as app:
        sends = [asyncio.create_task(app.task("job").send(f"i{n}", {})) for n in range(300)]
        await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED)
    answers = await asyncio.gather(*sends, return_exceptions=True)
    async with Jobs(job=task).open(shared_url) as app:
        there = {row.instance_id for row in await app.list(limit=1000)}
    acknowledged = {a.instance_id for a in answers if not isinstance(a, BaseException)}
    assert acknowledged
    assert acknowledged <= there
    assert all(isinstance(a, InvalidStateError) for a in answers if isinstance(a, BaseException))
