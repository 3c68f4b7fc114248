"""What a worker's code cannot read waits, untouched, for code that can (K4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from tests.auditing import audit_all
from tests.support import START, WAIT_S
from wakelog import App, Continuous, Debounce, ExecutionError, Jobs, Retry, Task, TaskStatus
from wakelog.core.events import DeadLettered, Discarded, ExecutionFailed, Returned
from wakelog.testing import Simulation

HOUR = timedelta(hours=1)
COMPETED_FOR = 10
"""Instances that two workers are as fast to claim."""
Kind = Literal["task", "continuous", "debounce"]


class Old(BaseModel):
    """What the code of yesterday recorded."""

    name: str


class New(BaseModel):
    """What the code of a moment between needs."""

    name: str
    email: str


class Both(BaseModel):
    """Code that reads either."""

    name: str
    email: str = "none"


def job_of(kind: Kind, type_: Any, seen: list[Any], **options: Any) -> Any:
    """A job of this kind whose state and events have this type; its handlers tell what they saw."""

    def told(ctx: Any, event: Any) -> Any:
        seen.append(event.name)
        if kind == "debounce":
            return event
        ctx.set_state(event)
        ctx.schedule("1h")
        return None

    def ran(ctx: Any) -> None:
        seen.append((ctx.attempt, ctx.state.name))

    made: dict[Kind, Callable[[], Any]] = {
        "task": lambda: Task(state=type_, event=type_, **options),
        "continuous": lambda: Continuous(state=type_, every="1h", **options),
        "debounce": lambda: Debounce(state=type_, event=type_, flush_after="1h", **options),
    }
    job = made[kind]()
    if kind != "continuous":
        job.on_event(told)
    job.execute(ran)
    return job


class Deploys:
    """The same store, worked on by one version of the code after the other."""

    def __init__(self, url: str, kind: Kind) -> None:
        self.url, self.at = url, START
        self.kind: Kind = kind
        self.seen: list[Any] = []

    def deploy(self, type_: Any, **options: Any) -> Simulation:
        """A worker with code for this type. It opens when the one before was closed."""
        jobs = Jobs(job=job_of(self.kind, type_, self.seen, **options))
        return Simulation(jobs, url=self.url, start=self.at)

    def end(self, sim: Simulation) -> None:
        """The worker ends; all that it leaves must add up."""
        audit_all(sim.application.store)
        self.at = sim.now
        sim.close()


def status_of(sim: Simulation) -> TaskStatus:
    status = sim.task("job").status("a")
    assert isinstance(status, TaskStatus)
    return status


def accepted(deploys: Deploys, *names: str) -> None:
    """Events that the old code accepts, to be handled in an hour."""
    sim = deploys.deploy(Old)
    for name in names:
        sim.task("job").send("a", Old(name=name), delay="1h")
    deploys.end(sim)


@pytest.mark.parametrize("retry", [None, Retry(max_attempts=3)])
def test_K4_an_accepted_event_waits_for_code_that_can_read_it(
    store_url: str, retry: Retry | None
) -> None:
    # given
    deploys = Deploys(store_url, "task")
    accepted(deploys, "ann", "bob")
    # when it is due where no code can read it
    sim = deploys.deploy(New, retry=retry)
    sim.advance("2h")
    # then
    waiting = status_of(sim)
    assert (waiting.status, waiting.deferred_count) == ("waiting_for_code", 2)
    assert (waiting.failure_count, waiting.last_error, waiting.dead_letter_count) == (0, None, 0)
    assert waiting.waits_for_code is not None
    assert (waiting.waits_for_code.event_version, waiting.waits_for_code.message) == (
        2,
        "email: Field required",
    )
    assert [each.instance_id for each in sim.list(status="waiting_for_code")] == ["task:job:a"]
    assert sim.counts()[0].statuses == {"waiting_for_code": 1}
    assert deploys.seen == []
    deploys.end(sim)
    # when there is code that can, it goes on by itself, in order
    sim = deploys.deploy(Both)
    sim.advance(0)
    assert deploys.seen == ["ann", "bob"]
    assert (status_of(sim).status, status_of(sim).waits_for_code) == ("active", None)
    deploys.end(sim)


def test_K4_what_waits_is_recorded_once_and_without_values(store_url: str) -> None:
    deploys = Deploys(store_url, "task")
    accepted(deploys, "secret")
    back: list[Returned] = []
    for _ in range(3):
        sim = deploys.deploy(New)
        sim.advance("2d")
        back = [r.event for r in sim.events("task:job:a") if isinstance(r.event, Returned)]
        deploys.end(sim)
    assert [each.event_version for each in back] == [2]
    assert "secret" not in back[0].message


def test_K4_later_events_wait_behind_it_and_other_instances_go_on(store_url: str) -> None:
    deploys = Deploys(store_url, "task")
    accepted(deploys, "ann")
    sim = deploys.deploy(New)
    sim.advance("2h")
    assert sim.task("job").send("a", New(name="eve", email="e")).deferred is True
    assert sim.task("job").send("b", New(name="bea", email="b")).deferred is False
    sim.advance("1h")
    assert deploys.seen == ["bea", (1, "bea")]
    deploys.end(sim)
    sim = deploys.deploy(Both)
    sim.advance(0)
    assert deploys.seen[2:] == ["ann", "eve"]
    deploys.end(sim)


@pytest.mark.parametrize("kind", ["task", "continuous", "debounce"])
def test_K4_a_run_whose_state_or_batch_cannot_be_read_keeps_its_attempt(
    store_url: str, kind: Kind
) -> None:
    # given a run that is due
    deploys = Deploys(store_url, kind)
    sim = deploys.deploy(Old)
    client: Any = getattr(sim, kind)("job")
    match kind:
        case "task":
            client.send("a", Old(name="ann"))
        case "continuous":
            client.start("a", Old(name="ann"))
        case _:
            client.add("a", Old(name="ann"))
    deploys.end(sim)
    before = list(deploys.seen)
    # when
    sim = deploys.deploy(New, retry=Retry(max_attempts=1))
    sim.advance("3h")
    # then
    status = getattr(sim, kind)("job").status("a")
    assert (status.status, status.retry_at) == ("waiting_for_code", None)
    assert (status.failure_count, status.dead_letter_count) == (0, 0)
    assert deploys.seen == before
    [back] = [r.event for r in sim.events(f"{kind}:job:a") if isinstance(r.event, Returned)]
    runs = status.run_count if kind == "continuous" else status.execute_count
    assert (back.run, back.attempt) == (runs, 1)
    trigger = getattr(sim, kind)("job").trigger("a")
    assert (trigger.triggered, trigger.reason) == (False, "waiting_for_code")
    deploys.end(sim)
    # when
    sim = deploys.deploy(Both)
    sim.advance(0)
    assert deploys.seen[len(before) :] == [(1, "ann")]
    failed = [r for r in sim.events(f"{kind}:job:a") if isinstance(r.event, ExecutionFailed)]
    assert failed == []
    deploys.end(sim)


def test_K4_a_send_that_meets_a_state_of_newer_code_is_accepted_and_waits(store_url: str) -> None:
    class Strict(BaseModel, extra="forbid"):
        name: str

    deploys = Deploys(store_url, "task")
    sim = deploys.deploy(New)
    sim.task("job").send("a", New(name="ann", email="x"))
    deploys.end(sim)
    sim = deploys.deploy(Strict)
    assert sim.task("job").send("a", Strict(name="bob")).deferred is True
    sim.advance("3h")
    assert status_of(sim).status == "waiting_for_code"
    deploys.end(sim)
    sim = deploys.deploy(Both)
    sim.advance(0)
    assert "bob" in deploys.seen
    assert status_of(sim).deferred_count == 0
    deploys.end(sim)


@pytest.mark.parametrize("kind", ["task", "continuous", "debounce"])
def test_U9_what_came_while_the_clock_was_ahead_waits_for_code_and_no_longer(
    store_url: str, kind: Kind
) -> None:
    # given what no code could read, accepted and tried while the clock was a year ahead
    deploys = Deploys(store_url, kind)
    deploys.at = START + timedelta(days=365)
    sim = deploys.deploy(Old)
    client: Any = getattr(sim, kind)("job")
    match kind:
        case "task":
            client.send("a", Old(name="eve"))
            client.pause("a")
            client.send("a", Old(name="ann"))
        case "continuous":
            client.start("a", Old(name="ann"))
            client.pause("a")
        case _:
            client.add("a", Old(name="ann"))
            client.pause("a")
            sim.advance("1h")
    deploys.end(sim)
    sim = deploys.deploy(New)
    getattr(sim, kind)("job").resume("a")
    sim.advance(0 if kind == "task" else "1h")
    assert getattr(sim, kind)("job").status("a").status == "waiting_for_code"
    deploys.end(sim)
    before = list(deploys.seen)
    # when the clock is right again, and the code is not
    deploys.at = START
    sim = deploys.deploy(New)
    sim.advance("1d")
    # then
    assert getattr(sim, kind)("job").status("a").status == "waiting_for_code"
    assert deploys.seen == before
    deploys.end(sim)
    # when the code is
    sim = deploys.deploy(Both)
    sim.advance(0)
    # then
    assert deploys.seen[len(before) :] == (["ann"] if kind == "task" else [(1, "ann")])
    deploys.end(sim)


def test_K4_an_operator_makes_a_dead_letter_of_it_and_what_is_behind_goes_on(
    store_url: str,
) -> None:
    deploys = Deploys(store_url, "task")
    accepted(deploys, "ann")
    sim = deploys.deploy(New)
    sim.advance("1h")
    client = sim.task("job")
    client.send("a", New(name="eve", email="e"))
    assert client.dead_letter("a", 9).reason == "not_found"
    assert client.dead_letter("a", actor="op").events == (2,)
    sim.advance(0)
    assert deploys.seen == ["eve"]
    [dead] = client.dead_letters("a")
    assert (dead.event, dead.reason, dead.attempts) == (2, "waiting_for_code", 0)
    assert (dead.error_type, dead.payload) == ("ValidationError", {"name": "ann"})
    deploys.end(sim)


@pytest.mark.parametrize("kind", ["task", "debounce"])
def test_K4_an_operator_discards_what_waits(store_url: str, kind: Kind) -> None:
    deploys = Deploys(store_url, kind)
    sim = deploys.deploy(Old)
    client: Any = getattr(sim, kind)("job")
    if kind == "task":
        client.send("a", Old(name="ann"), delay="1h")
    else:
        client.add("a", Old(name="ann"))
        client.add("a", Old(name="bob"))
    deploys.end(sim)
    sim = deploys.deploy(New)
    sim.advance("2h")
    client = getattr(sim, kind)("job")
    waiting = client.status("a").waits_for_code
    assert waiting.event_version == 2
    assert client.discard("a").reason == "not_found"  # all dead letters: there are none
    assert client.discard("a", 2, reason="too old").events == (2,)
    [gone] = [r.event for r in sim.events(f"{kind}:job:a") if isinstance(r.event, Discarded)]
    assert (gone.reason, len(gone.events)) == ("too old", 0 if kind == "task" else 2)
    status = client.status("a")
    assert (status.status, status.deferred_count, status.waits_for_code) == ("idle", 0, None)
    deploys.end(sim)


def test_K4_a_retry_of_what_waits_tries_it_again_at_once(store_url: str) -> None:
    deploys = Deploys(store_url, "task")
    accepted(deploys, "ann")
    sim = deploys.deploy(New)
    sim.advance("1h")
    tried = sim.task("job").retry("a")
    assert (tried.retried, tried.reason) == (True, "waiting_for_code")
    sim.advance(0)
    assert status_of(sim).status == "waiting_for_code"
    deploys.end(sim)


@pytest.mark.anyio
async def test_K4_one_who_waits_for_it_is_told_that_it_was_discarded(store_url: str) -> None:
    old = Jobs(job=job_of("task", Old, []))
    new = Jobs(job=job_of("task", New, []))
    async with (
        asyncio.timeout(WAIT_S),
        old.open(store_url, handlers=False) as client,
        new.open(store_url, worker=True) as app,
    ):
        sent = asyncio.create_task(client.task("job").send("a", Old(name="ann"), wait=True))
        status: Any = None
        while status is None or status.status != "waiting_for_code":
            status = await app.task("job").status("a")
        await app.task("job").discard("a", 2, reason="too old")
        with pytest.raises(ExecutionError, match="too old"):
            await sent


@pytest.mark.anyio
async def test_K4_a_running_worker_that_can_read_it_finds_it_in_its_sweep(store_url: str) -> None:
    seen: list[Any] = []
    old = Jobs(job=job_of("task", New, []))
    new = Jobs(job=job_of("task", Both, seen))
    async with (
        asyncio.timeout(WAIT_S),
        new.open(store_url, worker=True) as able,
        Jobs(job=job_of("task", Old, [])).open(store_url, handlers=False) as client,
    ):
        await able.pause("job")
        await client.task("job").send("a", Old(name="ann"))
        await able.resume("job")
        async with old.open(store_url, worker=True):
            assert able.worker is not None
            while not seen:  # whichever of the two is first to take it
                await asyncio.to_thread(able.worker.sweep)
                await asyncio.sleep(0)
    assert seen == ["ann"]


async def until_waiting(app: App, number: int) -> None:
    """Until so many instances wait for code."""
    waiting = -1
    while waiting != number:
        waiting = await app.count(status="waiting_for_code")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["task", "debounce"])
async def test_K4_workers_that_cannot_read_it_leave_it_to_the_one_that_can(
    store_url: str, kind: Kind
) -> None:
    seen: list[Any] = []
    new = Jobs(job=job_of(kind, Both, seen))
    async with (
        asyncio.timeout(WAIT_S),
        Jobs(job=job_of(kind, New, [])).open(store_url, worker=True) as unable,
        Jobs(job=job_of(kind, Old, [])).open(store_url, handlers=False) as client,
    ):
        for number in range(COMPETED_FOR):
            if kind == "task":
                await client.task("job").send(f"a-{number}", Old(name="ann"))
            else:
                await client.debounce("job").add(f"a-{number}", Old(name="ann"))
                await client.debounce("job").flush(f"a-{number}", wait=False)
        await until_waiting(unable, COMPETED_FOR)
        async with new.open(store_url, worker=True) as able:
            assert able.worker is not None
            while await able.count(status="waiting_for_code"):  # once, unless the machine is slow
                await asyncio.to_thread(able.worker.sweep)


def test_K4_dead_letters_come_only_from_handlers(store_url: str) -> None:
    deploys = Deploys(store_url, "debounce")
    sim = deploys.deploy(Old)
    sim.debounce("job").add("a", Old(name="ann"))
    deploys.end(sim)
    sim = deploys.deploy(New)
    sim.advance("1d")
    assert sim.debounce("job").add("a", New(name="bob", email="b")).created is True
    sim.advance("1d")
    assert [r for r in sim.events("debounce:job:a") if isinstance(r.event, DeadLettered)] == []
    deploys.end(sim)
    sim = deploys.deploy(Both)
    sim.advance(0)
    assert [each for each in deploys.seen if isinstance(each, tuple)] == [(1, "ann"), (1, "bob")]
    deploys.end(sim)
