"""A clock that was ahead for a moment: once it is right again, what it touched goes on (U9)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.auditing import audit_all
from tests.support import WAIT_S, moment_at
from wakelog import Backoff, Continuous, Debounce, Jobs, Retry, Task
from wakelog.application import Application
from wakelog.clock import SystemClock
from wakelog.core.events import Executed, Missed, RunStarted
from wakelog.core.requests import Start
from wakelog.ids import InstanceId
from wakelog.jobs import open_store
from wakelog.settings import Settings
from wakelog.testing import Simulation
from wakelog.worker.schedule_keeper import ScheduleKeeper
from wakelog.worker.schedules import Schedules, rules_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
YEAR, DAY, HOUR, SECOND = (timedelta(days=365), timedelta(1), timedelta(hours=1), timedelta(0, 1))
Ctx = Any


class World:
    """Jobs of each type on one store, seen by processes whose clocks differ."""

    def __init__(self, url: str, **rule: Any) -> None:
        self.url = url
        self.ran: list[datetime] = []
        self.task: Task[int, str] = Task(state=int, event=str, retry=RETRY)
        self.debounce: Debounce[str, str] = Debounce(event=str, flush_after="1h")
        self.beat: Continuous[int] = Continuous(state=int, **(rule or {"every": "1h"}))
        self.fails = False

        @self.task.on_event
        def received(ctx: Ctx, event: str) -> None:
            ctx.set_state((ctx.state or 0) + 1)
            if event != "wait":
                ctx.schedule(event)

        def run(ctx: Ctx) -> None:
            if self.fails:
                raise LookupError("down")
            self.ran.append(ctx.now)

        self.task.execute(run)
        self.debounce.execute(run)
        self.beat.execute(run)

        self.jobs = Jobs(task=self.task, batch=self.debounce, beat=self.beat)

    @contextmanager
    def process(self, at: datetime, **options: Any) -> Generator[Simulation]:
        """A process, with a worker, whose clock shows `at` when it opens."""
        with Simulation(self.jobs, start=at, url=self.url, **options) as sim:
            yield sim
            audit_all(sim.application.store)

    def events(self, sim: Simulation, kind: type[Any], id: str = "continuous:beat:a") -> list[Any]:
        return [each.event for each in sim.events(id) if isinstance(each.event, kind)]


RETRY = Retry(max_attempts=9, delay=Backoff.constant("5m"), jitter=0)


@pytest.fixture
def world(store_url: str) -> World:
    return World(store_url)


# -- what is due now or in a while counts from the clock as it is


def test_U9_a_schedule_counts_from_the_clock_though_the_history_is_ahead(world: World) -> None:
    with world.process(NOON + YEAR) as ahead:
        ahead.task(world.task).send("a", "wait")
    with world.process(NOON) as sim:
        # when
        result = sim.task(world.task).send("a", "5m")
        sim.advance("5m")
        # then the run has come, and the recorded times have not gone back
        assert result.scheduled_at == NOON + timedelta(minutes=5)
        assert world.ran == [NOON + timedelta(minutes=5)]
        times = [each.at_us for each in sim.events("task:task:a")]
        assert times == sorted(times)
        assert moment_at(times[0]) == NOON + YEAR


ASKED: list[Callable[[World, Simulation], object]] = [
    lambda world, sim: sim.task(world.task).trigger("a", wait=False),
    lambda world, sim: (sim.task(world.task).clear("a"), sim.task(world.task).send("a", "0s")),
    lambda world, sim: (
        sim.continuous(world.beat).stop("a"),
        sim.continuous(world.beat).start("a", 1, wait=False),
    ),
    lambda world, sim: (
        sim.continuous(world.beat).terminate("a"),
        sim.continuous(world.beat).start("a", 1, wait=False),
    ),
    lambda world, sim: sim.debounce(world.debounce).flush("a", wait=False),
    lambda world, sim: sim.continuous(world.beat).trigger("a", wait=False),
]


@pytest.mark.parametrize("ask", ASKED, ids=["trigger", "anew", "start", "again", "flush", "beat"])
def test_U9_what_is_asked_for_now_is_due_now(
    world: World, ask: Callable[[World, Simulation], object]
) -> None:
    with world.process(NOON + YEAR) as ahead:
        ahead.task(world.task).send("a", "wait")
        ahead.continuous(world.beat).start("a", 0)
        ahead.debounce(world.debounce).add("a", "x")
    world.ran.clear()
    with world.process(NOON) as sim:
        ask(world, sim)
        sim.advance(0)
        assert world.ran == [NOON]


# -- what a policy set while the clock was ahead is set anew


@pytest.mark.parametrize(
    "rule",
    [
        {"every": "1h"},
        {"every": "1h", "mode": "fixed_rate"},
        {"cron": "30 * * * *", "timezone": "Europe/Berlin"},
        {"every": "1h", "mode": "fixed_rate", "jitter": "10m", "catch_up": "all"},
    ],
    ids=["delay", "rate", "cron", "jitter"],
)
@pytest.mark.parametrize("by", [6 * HOUR, YEAR], ids=["hours", "year"])
def test_U9_recurring_work_goes_on_when_the_clock_is_right_again(
    store_url: str, rule: dict[str, Any], by: timedelta
) -> None:
    world = World(store_url, **rule)
    with world.process(NOON) as sim:
        sim.continuous(world.beat).start("a", 0)
        sim.advance("2h")
    with world.process(NOON + 2 * HOUR + by) as ahead:
        ahead.advance("1s")
    world.ran.clear()
    with world.process(NOON + 2 * HOUR + 2 * SECOND) as sim:
        # when
        sim.advance("24h")
        # then
        assert len(world.ran) in {23, 24}
        due = [each.due_us for each in world.events(sim, RunStarted)]
        assert len(due) == len(set(due)) or rule.get("mode") == "fixed_rate"


def test_U9_an_occurrence_that_ran_while_the_clock_was_ahead_does_not_run_again(
    store_url: str,
) -> None:
    world = World(store_url, cron="0 2 * * *", start_immediately=False)
    with world.process(NOON) as sim:
        sim.continuous(world.beat).start("a", 0)
    with world.process(NOON + DAY) as ahead:  # it runs for tomorrow, 2:00
        ahead.advance("1s")
    with world.process(NOON + 2 * SECOND) as sim:
        sim.advance("3d")
        due = [moment_at(each.due_us) for each in world.events(sim, RunStarted)]
        assert due == [NOON - 10 * HOUR + n * DAY for n in (1, 2, 3)]


def test_U9_occurrences_that_ran_before_the_clock_went_back_are_not_caught_up(
    store_url: str,
) -> None:
    world = World(store_url, every="1m", mode="fixed_rate", catch_up="all")
    with world.process(NOON) as sim:
        sim.continuous(world.beat).start("a", 0)
        sim.advance("20m")
    with world.process(NOON - DAY) as behind:
        behind.advance("2m")
    world.ran.clear()
    with world.process(NOON + timedelta(minutes=22, seconds=1)) as sim:
        sim.advance("1s")
        # then only what nobody has run: 12:21 and 12:22
        assert len(world.ran) == 2
        assert [each.count for each in world.events(sim, Missed)] == []


def test_U9_a_window_and_a_retry_wait_no_longer_than_their_rules_say(world: World) -> None:
    world.fails = True
    with world.process(NOON + YEAR) as ahead:
        ahead.debounce(world.debounce).add("a", "x")
        ahead.task(world.task).send("a", "0s")
        ahead.advance(0)
    world.fails = False
    with world.process(NOON) as sim:
        assert sim.debounce(world.debounce).status("a").will_flush_at == NOON + HOUR
        assert sim.task(world.task).status("a").retry_at == NOON + timedelta(minutes=5)
    with world.process(NOON + timedelta(minutes=4)) as sim:  # it is not put off again
        assert sim.debounce(world.debounce).status("a").will_flush_at == NOON + HOUR
        sim.debounce(world.debounce).add("a", "y")
        sim.advance("1h")
        assert world.ran == [NOON + timedelta(minutes=5), NOON + HOUR]


def test_U9_a_delay_that_was_over_is_not_waited_for_again(store_url: str) -> None:
    tried: list[datetime] = []
    job: Task[int, str] = Task(state=int, event=str, retry=RETRY)

    @job.on_event
    def received(ctx: Ctx, event: str) -> None:
        tried.append(ctx.now)
        if event == "fail" and len(tried) == 1:
            raise LookupError("down")

    job.execute(lambda ctx: None)
    jobs = Jobs(job=job)
    # given a delayed event that was tried while the clock was ahead, and failed
    with Simulation(jobs, start=NOON + YEAR, url=store_url) as ahead:
        ahead.task(job).send("a", "fail", delay="1s")
        ahead.advance("2s")
    # when the clock is right again, its next attempt comes after the delay of a retry
    with Simulation(jobs, start=NOON, url=store_url) as sim:
        assert sim.task(job).send("a", "next").deferred
        sim.advance("5m")
        assert tried == [NOON + YEAR + SECOND] + 2 * [NOON + timedelta(minutes=5)]
        audit_all(sim.application.store)


@pytest.mark.parametrize("ahead_s", [7, 45])
def test_U9_a_fixed_rate_does_not_wait_for_runs_that_a_clock_ahead_has_had(
    store_url: str, ahead_s: int
) -> None:
    world = World(store_url, every="1s", mode="fixed_rate", catch_up="all")
    with world.process(NOON) as sim:
        sim.continuous(world.beat).start("a", 0)
    with world.process(NOON + timedelta(seconds=ahead_s)) as ahead:
        ahead.advance(0)
    world.ran.clear()
    with world.process(NOON + SECOND) as sim:
        sim.advance("10s")
        assert len(world.ran) >= 9


def test_U9_a_run_that_a_clock_a_little_ahead_has_had_does_not_come_again(store_url: str) -> None:
    world = World(store_url, every="10m", mode="fixed_rate", start_immediately=False)
    with world.process(NOON) as sim:
        sim.continuous(world.beat).start("a", 0)
    with world.process(NOON + timedelta(minutes=10)) as ahead:
        ahead.advance(0)
    with world.process(NOON + timedelta(minutes=5)) as sim:
        sim.advance("25m")
        due = [moment_at(each.due_us) for each in world.events(sim, RunStarted)]
        assert due == [NOON + n * timedelta(minutes=10) for n in (1, 2, 3)]


def test_U9_events_deferred_while_the_clock_was_ahead_keep_their_order(world: World) -> None:
    with world.process(NOON + YEAR, handlers=False) as ahead:
        ahead.task(world.task).send("a", "3h")
    with world.process(NOON) as sim:
        assert sim.task(world.task).send("a", "2h").deferred
        sim.advance("2h")
        assert world.ran == [NOON + 2 * HOUR]
        assert sim.task(world.task).get_state("a") == 2


def test_U9_a_time_that_a_caller_or_a_handler_asked_for_stays(world: World) -> None:
    with world.process(NOON + YEAR) as ahead:
        ahead.task(world.task).send("a", "1h")
        ahead.task(world.task).send("b", "0s", delay="1h")
    with world.process(NOON) as sim:
        assert {each.due_at for each in sim.alarms()} == {NOON + YEAR + HOUR}


# -- a worker that looks on


class SetClock(SystemClock):
    """The system clock, and what a test has set it ahead by."""

    ahead_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead_us

    def wait(self, event: threading.Event, us: int) -> None:
        raise AssertionError("nobody waits here")


class Opening(Schedules):
    """Says when the schedules have been looked at once."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.opened = asyncio.Event()

    async def open(self) -> int:
        count = await super().open()
        self.opened.set()
        return count


@pytest.mark.anyio
async def test_U9_a_worker_that_sees_its_clock_go_back_sets_schedules_anew(
    store_url: str,
) -> None:
    # given a run that was scheduled while the clock was ahead by a year
    world, clock = World(store_url), SetClock()
    clock.ahead_us = 365 * 86_400_000_000
    with closing(open_store(store_url)) as factory:
        app = Application(factory, world.jobs.registry, clock, Settings())
        instance = InstanceId("continuous", "beat", "a")
        await app.request(app.registry.of(instance), instance, Start("0"))
        jumped, alarms = asyncio.Event(), asyncio.Queue[int]()
        app.on_wake = alarms.put_nowait
        jobs = world.jobs.registry.jobs()
        schedules = Opening(app, jobs, "w", clock.now_us(), rules_of(app, jobs))
        keeper = ScheduleKeeper(clock, schedules, sweep_us=3_600_000_000, on_jump=jumped.set)
        keeper.start()
        await asyncio.wait_for(schedules.opened.wait(), WAIT_S)
        # when
        clock.ahead_us = 0
        due_us = await asyncio.wait_for(alarms.get(), WAIT_S)
        # then
        assert jumped.is_set()
        assert due_us <= clock.now_us()
        await keeper.stop()
        await app.commits.drained()
        app.close()


def test_U9_how_long_a_run_took_is_measured_though_its_history_is_ahead(world: World) -> None:
    with world.process(NOON + YEAR) as ahead:
        ahead.task(world.task).send("a", "wait")
    with world.process(NOON) as sim:
        sim.task(world.task).send("a", "0s")
        sim.advance(0)
        [executed] = world.events(sim, Executed, "task:task:a")
        assert moment_at(executed.started_us) == NOON
