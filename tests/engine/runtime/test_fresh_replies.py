"""Answers that lead to no append, and alarms beside waiting events: neither may be out of date."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support import Ctx, Staging, task_of
from wakelog import ExecutionError, Jobs, QueueFullError

# -- what leads to no append is checked against the store ------------------------------------------


@pytest.mark.anyio
async def test_U12_a_trigger_is_not_answered_from_what_another_process_has_overtaken(
    sqlite_url: str,
) -> None:
    # given a client that has seen a trigger wait, and a run that it has not seen
    ran = asyncio.Event()

    async def execute(ctx: Ctx) -> None:
        ran.set()

    jobs = Jobs(job=task_of(execute=execute))
    async with jobs.open(sqlite_url) as client:
        await client.task("job").send("a", {})
        first = await client.task("job").trigger("a", wait=False)
        async with jobs.open(sqlite_url, worker=True), asyncio.timeout(30):
            await ran.wait()
        # when
        second = await client.task("job").trigger("a", wait=False)
        # then it is asked for anew
        assert (first.triggered, second.triggered) == (True, True)
        assert second.version > first.version + 2
        history = [entry.event for entry in await client.history("task:job:a")]
        assert history.count("Scheduled") == 2


@pytest.mark.anyio
async def test_U12_a_clear_reaches_a_life_that_another_process_has_begun(sqlite_url: str) -> None:
    jobs = Jobs(job=task_of())
    async with jobs.open(sqlite_url) as one, jobs.open(sqlite_url) as two:
        await one.task("job").send("a", {})
        await one.task("job").clear("a")
        await two.task("job").send("a", {})
        assert (await one.task("job").clear("a")).cleared is True
        assert (await two.task("job").status("a")).status == "not_found"


@pytest.mark.anyio
async def test_T15_a_queue_that_another_process_has_drained_is_not_full(sqlite_url: str) -> None:
    # given a queue that was full
    jobs = Jobs(job=task_of(max_waiting=2))
    async with jobs.open(sqlite_url, handlers=False) as client:
        sends = client.task("job")
        await sends.send("a", {})
        last = await sends.send("a", {})
        with pytest.raises(QueueFullError):
            await sends.send("a", {})
        # when a worker has handled it
        async with jobs.open(sqlite_url, worker=True) as worker:
            await worker.task("job").trigger("a")
        # then
        assert (await sends.send("a", {})).version > last.version


@pytest.mark.anyio
async def test_T3_no_first_event_is_refused_because_of_a_state_that_is_gone(
    sqlite_url: str,
) -> None:
    # given one app that takes an instance for cleared, which the other has begun again
    def on_event(ctx: Ctx, event: dict[str, Any]) -> None:
        if ctx.state is None and event["kind"] != "first":
            raise LookupError("nothing has begun")
        ctx.set_state(event["kind"])

    jobs = Jobs(job=task_of(on_event))
    async with jobs.open(sqlite_url) as one, jobs.open(sqlite_url) as two:
        await one.task("job").send("a", {"kind": "first"})
        await one.task("job").clear("a")
        await two.task("job").send("a", {"kind": "first"})
        # when
        accepted = await one.task("job").send("a", {"kind": "second"})
        # then
        assert accepted.event_count == 2
        with pytest.raises(ExecutionError):
            await one.task("job").send("b", {"kind": "second"})


# -- alarms and waiting events, in the order in which they are due ---------------------------------


def test_A1_an_alarm_is_not_held_up_by_events_that_came_after_it(stage: Staging) -> None:
    """Or those who keep sending would hold it up for ever."""
    order: list[str] = []

    async def on_event(ctx: Ctx, event: dict[str, Any]) -> None:
        order.append(event["kind"])
        if event["kind"] == "first":
            ctx.schedule("2s")
        if event["kind"] == "outage":
            await asyncio.sleep(5)  # in virtual time: meanwhile the others fall due

    def execute(ctx: Ctx) -> None:
        order.append("alarm")

    # given
    job = stage(on_event, execute=execute)
    job.send({"kind": "first"})
    job.send({"kind": "early"}, delay="1s")
    job.send({"kind": "late"}, delay="3s")
    job.send({"kind": "outage"}, id="b", delay="500ms")
    # when
    job.sim.advance("10s")
    # then
    assert order == ["first", "outage", "early", "alarm", "late"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "ask",
    [
        lambda app: app.history("task:job:a"),
        lambda app: app.state_at("task:job:a", version=1),
        lambda app: app.list(),
        lambda app: app.counts(),
        lambda app: app.workers(),
        lambda app: app.job_pauses(),
        lambda app: app.task("job").status("a"),
    ],
)
async def test_U12_who_asks_again_and_again_lets_others_have_their_turn(
    store_url: str, ask: Any
) -> None:
    async with Jobs(job=task_of()).open(store_url) as app:
        await app.task("job").send("a", {})
        had_a_turn: list[bool] = []
        for _ in range(3):
            asyncio.get_running_loop().call_soon(had_a_turn.append, True)
            await ask(app)
        assert had_a_turn
