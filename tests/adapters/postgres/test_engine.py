"""The engine on PostgreSQL: the simulation, and real apps with and without a worker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support import WAIT_S, Order, Paid, Placed, counter_task, order_task
from wakelog import Jobs, Task, TaskContext
from wakelog.core.events import ExecutionLost
from wakelog.testing import Simulation
from wakelog.testing.crash import SimulatedCrash

pytestmark = pytest.mark.anyio


def lived(url: str) -> list[Any]:
    """Three days of an order, with a worker that dies during a run; all that is visible of it."""
    with Simulation(Jobs(order=order_task()), url=url) as sim:
        order = sim.task("order")
        order.send("o-1", Placed(), event_id="e-1")
        order.send("o-2", Placed())
        sim.advance("1d")
        sim.crash_next("after_write")
        with pytest.raises(SimulatedCrash):
            sim.advance("2h")
        sim.restart()
        sim.advance("2h")
        again = order.send("o-1", Placed(), event_id="e-1")
        order.send("o-2", Paid())
        sim.advance("1d")
        order.clear("o-2")
        events = [sim.events(f"task:order:o-{i}") for i in (1, 2)]
        return [order.get_state("o-1"), order.status("o-1"), again, sim.fired, sim.alarms(), events]


def test_the_simulation_comes_out_as_in_memory(postgres_url: str) -> None:
    """Leases end by its virtual time, which the server's clock does not show."""
    here, there = lived(postgres_url), lived("memory://")
    assert here == there
    lost = [e for log in here[-1] for e in log if isinstance(e.event, ExecutionLost)]
    assert len(lost) == 1


async def test_a_worker_runs_what_a_client_elsewhere_has_sent(postgres_url: str) -> None:
    reminded = asyncio.Queue[str]()
    task = Task(state=Order, event=Placed)

    @task.on_event
    def placed(ctx: TaskContext[Order], event: Placed) -> None:
        ctx.set_state(Order(status="pending"))
        ctx.schedule(0)

    @task.execute
    async def remind(ctx: TaskContext[Order]) -> None:
        ctx.set_state(Order(status="paid", reminders=1))
        reminded.put_nowait(ctx.id)

    jobs = Jobs(order=task)
    ids = [f"o-{i}" for i in range(20)]
    async with jobs.open(postgres_url, worker=True, lease="10s") as worker:
        async with jobs.open(postgres_url) as client:
            orders = client.task(task)
            await asyncio.gather(*[orders.send(id, Placed()) for id in ids])
            async with asyncio.timeout(WAIT_S):
                assert sorted([await reminded.get() for _ in ids]) == sorted(ids)
        await worker.close()
    async with jobs.open(postgres_url) as later:
        for id in ids:
            assert await later.task(task).get_state(id) == Order(status="paid", reminders=1)
            names = [entry.event for entry in await later.history(f"task:order:{id}")]
            assert names.count("RunStarted") == names.count("Executed") == 1


async def test_increments_of_two_apps_are_all_counted(postgres_url: str) -> None:
    jobs = Jobs(counter=counter_task(0))
    async with jobs.open(postgres_url, worker=True) as one, jobs.open(postgres_url) as two:
        counters = [app.task("counter") for app in (one, two) for _ in range(50)]
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*[counter.send("c", 1, wait=True) for counter in counters])
            for app in (two, one, two):  # at the last one, the cache of `two` is outdated
                await app.task("counter").send("c", 1, wait=True)
        assert await two.task("counter").get_state("c") == 103
        counted = [app.metrics() for app in (one, two)]
        assert sum(each["conflicts"] for each in counted) > 0
        assert all(0 < each["appends"] <= each["units"] for each in counted)
        assert all(each["store_waits"] == each["store_lost_answers"] == 0 for each in counted)


def test_the_blocking_app(postgres_url: str) -> None:
    jobs = Jobs(order=order_task())
    with jobs.open(postgres_url) as app:
        assert app.task("order").send("o-1", Placed()).created is True
        assert app.task("order").send("o-1", Paid()).created is False
    with jobs.open(postgres_url) as app:
        assert app.task("order").get_state("o-1") == Order(status="paid")
        assert [row.instance_id for row in app.list(name="order")] == ["task:order:o-1"]
