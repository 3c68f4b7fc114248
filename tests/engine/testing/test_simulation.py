"""Jobs in virtual time: no server, no sleep, repeatable (H6)."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support import START, Ctx, Paid, Placed, Stage, Staging, order_task, staged, task_of
from wakelog import InvalidStateError, Jobs, ValidationError
from wakelog.testing import Alarm, SimulatedCrash, Simulation

HOUR = timedelta(hours=1)


def test_H6_time_begins_where_it_is_told_and_moves_only_when_it_is_told() -> None:
    start = datetime(1999, 12, 31, 23, 59, tzinfo=UTC)
    with staged(task_of(), "memory://", start=start).sim as sim:
        assert sim.now == start
        sim.task("job").send("a", {})
        assert sim.now == start
        sim.advance("2m")
        assert sim.now == datetime(2000, 1, 1, 0, 1, tzinfo=UTC)
        sim.advance_to(datetime(2000, 1, 2, tzinfo=UTC))
        assert sim.now == datetime(2000, 1, 2, tzinfo=UTC)
        assert sim.advance_to(start) == 0
        assert sim.now == datetime(2000, 1, 2, tzinfo=UTC)


def test_H6_each_alarm_fires_at_its_instant_the_earliest_first(stage: Staging) -> None:
    # given
    ran: list[tuple[str, datetime]] = []
    job = stage(execute=lambda ctx: ran.append((ctx.id, ctx.now)))
    for id, delay in (("c", "3h"), ("a", "1h"), ("b", "2h")):
        job.send({"schedule": delay}, id=id)
    assert job.sim.alarms() == [
        Alarm("task:job:a", START + HOUR),
        Alarm("task:job:b", START + 2 * HOUR),
        Alarm("task:job:c", START + 3 * HOUR),
    ]
    # when
    assert job.sim.advance("150m") == 2
    # then
    assert ran == [("a", START + HOUR), ("b", START + 2 * HOUR)]
    assert job.sim.fired == 2
    assert [alarm.instance_id for alarm in job.sim.alarms()] == ["task:job:c"]


def test_H6_a_year_of_alarms_takes_no_time() -> None:
    # given an order that is reminded of every hour
    began = time.perf_counter()
    with Simulation(Jobs(order=order_task())) as sim:
        sim.task("order").send("a", Placed())
        # when
        fired = sim.advance("365d")
        # then
        assert fired == 365 * 24
        assert sim.state_at("task:order:a", at=sim.now).state["reminders"] == fired
    assert time.perf_counter() - began < 60


def test_H6_run_until_idle_fires_all_however_far_away(stage: Staging) -> None:
    job = stage()
    job.send({"schedule": "3650d"})
    assert job.sim.run_until_idle() == 1
    assert job.sim.now == START + timedelta(days=3650)


def test_H6_a_job_that_never_ends_is_told_so(stage: Staging) -> None:
    job = stage(execute=lambda ctx: ctx.schedule("1h"))
    job.send({"schedule": "1h"})
    with pytest.raises(InvalidStateError, match="not done"):
        job.sim.run_until_idle(limit=50)


def test_H6_one_instance_can_be_fired_alone(stage: Staging) -> None:
    job = stage()
    job.send({"schedule": "2h"}, id="a")
    job.send({"schedule": "3h"}, id="b")
    assert job.sim.fire("task:job:a")
    assert job.sim.now == START + 2 * HOUR
    assert not job.sim.fire("task:job:a")
    assert not job.sim.fire("task:job:missing")
    assert job.status("b").status == "active"


def test_H6_events_that_wait_for_the_next_life_are_among_the_alarms(stage: Staging) -> None:
    # given an event that comes later, and a handler that ends the life before it
    job = stage()
    job.send({"set_state": "later"}, delay="1h")
    job.send({"clear": "done"})
    assert job.status().status == "not_found"
    # then
    alarms = [(alarm.instance_id, alarm.due_at) for alarm in job.sim.alarms()]
    assert alarms == [("task:job:a", START + timedelta(hours=1))]
    assert job.sim.list() == []
    # when
    assert job.sim.fire("task:job:a")
    # then
    assert job.state() == "later"
    assert job.sim.alarms() == []


def test_H6_a_sleep_in_a_handler_costs_nothing_and_moves_the_clock(stage: Staging) -> None:
    # given
    async def execute(ctx: Ctx) -> None:
        await asyncio.sleep(3600)

    job = stage(execute=execute)
    job.send({"schedule": "1h"})
    # when
    job.sim.run_until_idle()
    # then
    assert job.sim.now == START + 2 * HOUR
    executed = job.sim.history("task:job:a")[-1]
    assert (executed.at, executed.data["duration_us"]) == (START + 2 * HOUR, 3_600_000_000)


def test_H6_in_asyncios_debug_mode_the_time_that_passes_is_not_taken_for_slowness(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    with Simulation(Jobs(order=order_task())) as sim:
        sim.task("order").send("o-1", {"kind": "placed"})
        sim.advance("1d")
    assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []


def test_H6_the_same_seed_gives_the_same_log_byte_for_byte() -> None:
    # given handlers that use chance
    def told(seed: int) -> list[Any]:
        def execute(ctx: Ctx) -> None:
            ctx.set_state([str(ctx.uuid()), ctx.random.random()])
            if ctx.run_count < 20:
                ctx.schedule(ctx.random.randint(1, 1000))

        job = staged(task_of(execute=execute), "memory://", seed=seed)
        with job.sim:
            for id in ("a", "b"):
                job.send({"schedule": "1h"}, id=id)
            job.sim.crash_next("after_write")
            with pytest.raises(SimulatedCrash):
                job.sim.advance("1h")
            job.sim.restart()
            job.sim.run_until_idle()
            store = job.sim.application.store
            return [store.events(f"task:job:{id}") for id in ("a", "b")]

    # when the machine's own dice fall otherwise
    random.seed(1)
    first = told(seed=7)
    random.seed(2)
    # then
    assert told(seed=7) == first
    assert told(seed=8) != first


def test_H6_the_same_happens_on_memory_and_on_a_file(sqlite_url: str) -> None:
    # given
    def story(url: str) -> tuple[Any, ...]:
        job = staged(order_task(), url)
        with job.sim:
            for id in ("a", "b", "c"):
                job.send(Placed(), id=id)
            job.sim.advance("3h")
            job.send(Paid(), id="b", delay="10m", event_id="k")
            job.sim.advance("1h")
            job.clear(id="c")
            return tuple(job.sim.events(f"task:job:{id}") for id in ("a", "b", "c"))

    # then
    assert story("memory://") == story(sqlite_url)


def test_H6_events_and_rows_can_be_asserted_on(stage: Staging) -> None:
    job = stage()
    job.send({"set_state": 1})
    assert [type(r.event).__name__ for r in job.sim.events("task:job:a")] == job.names()
    assert job.sim.events("task:job:missing") == []
    assert [row.instance_id for row in job.sim.list(status="idle")] == ["task:job:a"]


def test_H6_many_jobs_and_instances_live_in_one() -> None:
    # given
    jobs = Jobs(one=task_of(), two=task_of())
    with Simulation(jobs) as sim:
        for n in range(50):
            sim.task("one" if n % 2 else "two").send(f"i{n}", {"schedule": f"{n + 1}m"})
        # when
        sim.advance("25m")
        # then
        assert sim.fired == 25
        assert {alarm.instance_id.split(":")[1] for alarm in sim.alarms()} == {"one", "two"}


def test_H6_restart_forgets_all_but_the_store(stage: Staging) -> None:
    job = stage()
    job.send({"set_state": 1, "schedule": "1h"})
    job.sim.restart()
    assert job.state() == 1
    job.sim.advance("1h")
    assert job.status().execute_count == 1


def test_H6_without_handlers_everything_is_deferred() -> None:
    job = staged(task_of(), "memory://", handlers=False)
    with job.sim:
        assert job.send({"set_state": 1}).deferred
        assert job.state() is None
        job.sim.advance(0)
        assert job.state() == 1


@pytest.mark.anyio
async def test_H6_in_an_async_def_it_says_what_to_do_instead() -> None:
    with pytest.raises(InvalidStateError, match=r"async def.* in a notebook, .*to_thread"):
        Simulation(Jobs(job=task_of()))
    sim = await asyncio.to_thread(Simulation, Jobs(job=task_of()))
    with pytest.raises(InvalidStateError, match="async def"):
        sim.advance("1h")
    await asyncio.to_thread(sim.close)


def test_H6_wrong_times_are_refused(stage: Staging) -> None:
    job = stage()
    with pytest.raises(ValidationError):
        job.sim.advance("later")
    with pytest.raises(ValidationError):
        job.sim.advance_to(datetime(2027, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValidationError):
        Simulation(Jobs(job=task_of()), start=datetime(2027, 1, 1))  # noqa: DTZ001
    assert job.sim.now == START


def test_H6_closing_twice_is_no_mistake() -> None:
    job: Stage = staged(task_of(), "memory://")
    job.sim.close()
    job.sim.close()


def test_H6_a_crash_point_must_be_one(stage: Staging) -> None:
    job = stage()
    with pytest.raises(ValidationError, match="before_write, after_write"):
        job.sim.crash_next("nonsense")  # type: ignore[arg-type]
    assert job.send().created
