"""Pause and resume of a whole job: its instances that are there, and those to come (A5)."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.support import START, WAIT_S, Ctx, Staging, elsewhere, task_of
from wakelog import JobPause, Jobs, Task, UnknownJobError, ValidationError
from wakelog.core.events import EventHandled, RunStarted
from wakelog.testing import SimulatedCrash, Simulation

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


def test_A5_alarms_of_a_held_job_wait_and_fire_at_once_when_it_goes_on(stage: Staging) -> None:
    job = stage(execute=lambda ctx: ctx.set_state("ran"))
    for id in "ab":
        job.send({"schedule": "1h"}, id)
    job.sim.pause("job")
    assert job.sim.advance("2h") == 0
    assert (job.status().status, job.status().scheduled_at) == ("paused", START + HOUR)
    job.sim.resume("job")
    assert job.sim.advance(0) == 2
    assert [job.state(id) for id in "ab"] == ["ran", "ran"]
    assert job.status().status == "idle"


def test_A5_sends_to_a_held_job_are_deferred_for_instances_to_come_too(stage: Staging) -> None:
    job = stage()
    job.send({"set_state": 1})
    job.sim.pause("job")
    sent = [job.send({"set_state": 2}), job.send({"set_state": 2}, "new")]
    assert [(s.deferred, s.created) for s in sent] == [(True, False), (True, True)]
    assert job.sim.advance("1h") == 0
    assert (job.state(), job.state("new")) == (1, None)
    assert [job.status(id).status for id in ("a", "new")] == ["paused", "paused"]
    job.sim.resume("job")
    job.sim.run_until_idle()
    assert (job.state(), job.state("new")) == (2, 2)
    assert not job.send().deferred


def test_A5_other_processes_defer_their_sends_within_a_second(stage: Staging) -> None:
    # given another process that has just asked which jobs are held
    job = stage()
    with Simulation(Jobs(job=job.task), url=job.url) as other:
        client = other.task(job.task)
        assert not client.send("a", {}).deferred
        # when this one holds the job
        job.sim.pause("job")
        # then the other one knows it a second later
        other.advance("1s")
        assert client.send("a", {}).deferred
        job.sim.resume("job")
        other.advance("1s")
        other.run_until_idle()
        assert not client.send("a", {}).deferred


def test_A5_no_process_begins_anything_of_a_held_job(stage: Staging) -> None:
    job = stage()
    job.send({"schedule": "1m"})
    job.sim.pause("job")
    with Simulation(Jobs(job=job.task), url=job.url) as other:
        assert other.advance("1h") == 0


def test_A5_an_open_run_of_a_held_job_ends_and_what_is_left_of_it_waits(stage: Staging) -> None:
    def execute(ctx: Ctx) -> None:
        elsewhere(job, lambda task: task.send("a", {"set_state": "handled"}))
        hold_elsewhere(job)
        ctx.set_state("ended")
        ctx.schedule(0)

    job = stage(execute=execute)
    job.send({"schedule": 0})
    assert job.sim.advance("1h") == 1
    assert (job.state(), job.status().deferred_count) == ("ended", 1)
    job.sim.resume("job")
    job.sim.advance(0)
    assert len(job.found(EventHandled)) == 1


def hold_elsewhere(job: Any) -> JobPause:
    """Another process holds the job, while this one is in a handler."""

    def hold() -> JobPause:
        with Simulation(Jobs(job=job.task), url=job.url, start=job.sim.now) as other:
            return other.pause("job")

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(hold).result(WAIT_S)


def test_A5_waiting_events_stop_being_handled_when_the_job_is_held(stage: Staging) -> None:
    seen: list[int] = []

    def on_event(ctx: Ctx, event: int) -> None:
        seen.append(event)
        if event == 0:
            hold_elsewhere(job)
        ctx.set_state(event)

    job = stage(on_event)
    job.sim.advance("1h")
    for n in range(3):
        job.send(n, delay="1m")
    job.sim.advance("2h")
    assert (seen, job.state()) == ([0], 0)  # what was in hand when it was held
    job.sim.resume("job")
    job.sim.run_until_idle()
    assert seen == [0, 1, 2]


def test_A5_a_lost_run_of_a_held_job_is_taken_up_when_it_goes_on(stage: Staging) -> None:
    job = stage()
    job.send({"schedule": 0})
    job.sim.crash_next("after_write")
    with pytest.raises(SimulatedCrash):
        job.sim.advance(0)
    job.sim.restart()
    job.sim.pause("job")
    assert job.sim.advance("1h") == 0
    assert job.status().executing
    job.sim.resume("job")
    assert job.sim.advance(0) == 1
    assert [r.attempt for r in job.found(RunStarted)] == [1, 2]


def test_A5_holds_say_who_when_and_why(stage: Staging) -> None:
    job = stage()
    job.sim.advance("1h")
    held = job.sim.pause(job.task, reason="stock-taking", actor="ann")
    assert held == JobPause(job="task:job", reason="stock-taking", actor="ann", since=START + HOUR)
    job.sim.advance("1h")
    # a second one changes nothing
    assert job.sim.pause("job", reason="lunch", actor="bob") == held
    assert job.sim.job_pauses() == [held]
    # and it survives a restart
    job.sim.restart()
    assert job.sim.job_pauses() == [held]
    assert job.sim.resume("job") == held
    assert job.sim.resume("job") is None
    assert job.sim.job_pauses() == []


def test_A5_status_and_list_show_the_instances_of_a_held_job_as_paused(stage: Staging) -> None:
    def fail(ctx: Ctx) -> None:
        raise ValueError

    job = stage(execute=fail)
    job.send({}, "idle")
    job.send({"schedule": "1h"}, "active")
    job.send({}, "failed")
    job.trigger("failed")
    job.send({}, "alone")
    job.pause("alone", reason="its own")
    job.sim.pause("job", reason="stock-taking")
    shown = {row.instance_id.split(":")[2]: (row.status, row.reason) for row in job.sim.list()}
    assert shown == {
        "active": ("paused", "stock-taking"),
        "alone": ("paused", "its own"),
        "failed": ("failed", None),
        "idle": ("paused", "stock-taking"),
    }
    assert len(job.sim.list(status="paused")) == 3
    assert len(job.sim.list(status="paused", limit=2)) == 2
    assert job.sim.list(status="idle") == []
    assert job.status("idle").reason == "stock-taking"
    assert job.status("never was").status == "not_found"
    # one that was paused on its own stays so
    job.sim.resume("job")
    assert [job.status(id).status for id in ("idle", "alone")] == ["idle", "paused"]
    assert [row.instance_id for row in job.sim.list(status="paused")] == ["task:job:alone"]


@pytest.mark.parametrize("verb", ["trigger", "retry"])
def test_A5_a_run_of_a_held_job_is_not_asked_for(stage: Staging, verb: str) -> None:
    job = stage()
    job.send()
    job.sim.pause("job")
    before = job.names()
    answer = getattr(job, verb)()
    assert (answer.reason, answer.version, job.names()) == ("paused", len(before), before)
    assert getattr(job, verb)("never was").reason == "not_found"


def test_A5_other_jobs_go_on(store_url: str) -> None:
    held, free = task_of(), task_of()
    with Simulation(Jobs(held=held, free=free), url=store_url) as sim:
        sim.pause("held")
        for name in ("held", "free"):
            sim.task(name).send("a", {"schedule": "1m"})
        sim.advance("1h")
        counts = [sim.task(name).status("a").execute_count for name in ("held", "free")]
        assert counts == [0, 1]


def test_A5_what_cannot_be_held_is_refused(stage: Staging) -> None:
    job = stage()
    for verb in (job.sim.pause, job.sim.resume):
        with pytest.raises(UnknownJobError):
            verb("another")
        with pytest.raises(UnknownJobError):
            verb(Task(state=int, event=int))
    for wrong in ({"reason": "\x00"}, {"actor": "\ud800"}):
        with pytest.raises(ValidationError):
            job.sim.pause("job", **wrong)
    assert job.sim.job_pauses() == []


async def test_A5_a_worker_takes_up_at_once_what_has_become_due_meanwhile(sqlite_url: str) -> None:
    ran = asyncio.Event()

    async def execute(ctx: Ctx) -> None:
        ran.set()

    async with Jobs(job=task_of(execute=execute)).open(sqlite_url, worker=True) as app:
        await app.pause("job")
        assert (await app.task("job").send("a", {"schedule": 0})).deferred
        assert (await app.task("job").status("a")).status == "paused"
        assert not ran.is_set()
        await app.resume("job")
        async with asyncio.timeout(WAIT_S):
            await ran.wait()


def test_A5_the_blocking_app_has_it_too(sqlite_url: str) -> None:
    with Jobs(job=task_of()).open(sqlite_url) as app:
        held = app.pause("job", reason="stock-taking")
        assert app.job_pauses() == [held]
        assert app.resume("job") == held
        assert app.bulk("pause").matched == 0
