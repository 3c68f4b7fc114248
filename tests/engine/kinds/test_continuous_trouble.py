"""Continuous where things meet: retries, stops, pauses, outages, changed rules, races."""

from __future__ import annotations

import asyncio
import contextvars
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.clockwork import Clockwork, Ctx, Winding, at, count, fail, outage
from tests.support import WAIT_S
from wakelog import Backoff, Continuous, GiveUp, Jobs, Retry, RetryAfter, Task, ValidationError
from wakelog.core import events as e
from wakelog.testing import SimulatedCrash

INSTANCE = "continuous:job:a"


def every_minute(attempts: int, **options: Any) -> Retry:
    return Retry(max_attempts=attempts, delay=Backoff.constant("1m"), jitter=0, **options)


def fail_until(moment: datetime) -> Any:
    def run(ctx: Ctx) -> None:
        if ctx.now < moment:
            raise LookupError
        count(ctx)

    return run


# -- retries over the next occurrences -------------------------------------------------------------


@pytest.mark.parametrize(
    ("catch_up", "later_runs", "missed"),
    [
        ("once", ["01 03:30", "01 04:00"], [(3, "once")]),
        ("all", ["01 03:30", "01 03:30", "01 03:30", "01 04:00"], []),
        ("skip", ["01 04:00"], [(3, "skip")]),
    ],
)
def test_C4_what_passes_during_the_retries_of_a_run_is_missed_and_not_lost(
    wind: Winding, catch_up: str, later_runs: list[str], missed: list[tuple[int, str]]
) -> None:
    """The run of 00:00 succeeds at 03:30: those of 01:00, 02:00 and 03:00 are late by then."""
    retry = Retry(max_attempts=9, delay=Backoff.constant("30m"), jitter=0)
    job = wind(
        fail_until(at("01 03:30")), every="1h", mode="fixed_rate", retry=retry, catch_up=catch_up
    )
    job.client.start("a", 0)
    job.sim.advance_to(at("01 04:00"))
    assert job.runs[8:] == [at(each) for each in later_runs]
    assert [(each.count, each.policy) for each in job.found(e.Missed)] == missed
    assert job.status().next_run_at == at("01 05:00")


def test_C4_what_passes_while_a_run_is_lost_is_missed_and_not_lost(wind: Winding) -> None:
    job = wind(cron="0 * * * *", start_immediately=False, retry=every_minute(1))
    job.client.start("a", 0)
    job.sim.crash_next("after_write")
    with pytest.raises(SimulatedCrash):
        job.sim.advance("1h")
    job.sim.restart()
    outage(job, "01 03:30")
    assert [each.reason for each in job.found(e.RetryExhausted)] == ["max_attempts"]
    assert [each.count for each in job.found(e.Missed)] == [2]
    assert job.status().next_run_at == at("01 04:00")


def test_R7_a_trigger_during_a_pending_retry_starts_that_run_anew(wind: Winding) -> None:
    job = wind(fail_until(at("01 00:10")), every="1h", retry=Retry(delay="30m", jitter=0))
    job.client.start("a", 0)
    job.sim.advance("10m")
    assert (job.client.trigger("a").failed, job.status().run_count) == (False, 1)
    assert [(run.run, run.attempt) for run in job.found(e.RunStarted)] == [(1, 1), (1, 1)]
    assert (job.status().retry_at, job.status().next_run_at) == (None, at("01 01:10"))


def test_R7_a_start_leaves_a_pending_retry_alone(wind: Winding) -> None:
    job = wind(fail, every="1h", retry=Retry(delay="30m", jitter=0))
    begun = job.client.start("a", 0)
    job.sim.advance("10m")
    again = job.client.start("a", 9, replace=True)
    assert (again.created, again.resumed, again.version) == (False, False, begun.version)
    assert (again.status, job.status().retry_at) == ("retrying", at("01 00:30"))
    assert (len(job.runs), job.client.get_state("a")) == (1, 0)


@pytest.mark.parametrize(
    ("on_exhausted", "status", "next_run"),
    [("continue", "active", "01 01:01"), ("fail", "failed", None), ("clear", "not_found", None)],
)
def test_R5_what_becomes_of_it_when_no_attempt_is_left(
    wind: Winding, on_exhausted: Any, status: str, next_run: str | None
) -> None:
    job = wind(fail, every="1h", retry=every_minute(2, on_exhausted=on_exhausted))
    job.client.start("a", 0)
    job.sim.advance("1m")
    assert job.status().status == status
    assert job.status().next_run_at == (next_run and at(next_run))


def test_R5_a_batch_is_needed_for_a_dead_letter() -> None:
    retry = Retry(on_exhausted="dead_letter")
    job = Continuous(state=int, every="1h", retry=retry)
    job.execute(count)
    task = Task(state=int, event=int, retry=retry)
    task.on_event(lambda ctx, event: None)
    for each in (job, task):
        with pytest.raises(ValidationError, match="no batch to dead-letter"):
            Jobs(job=each)


def test_R5_who_recovers_an_exhausted_run_may_set_the_next(wind: Winding) -> None:
    def recover(ctx: Ctx, error: BaseException) -> None:
        assert isinstance(error, LookupError)
        ctx.schedule("5m")

    handlers = {"on_retry_exhausted": recover}
    job = wind(fail, every="1h", retry=every_minute(2), handlers=handlers)
    job.client.start("a", 0)
    job.sim.advance("1m")
    assert (job.status().status, job.status().next_run_at) == ("active", at("01 00:06"))


def test_R3_what_a_run_says_of_its_retry_overrules_the_policy(wind: Winding) -> None:
    def run(ctx: Ctx) -> None:
        raise RetryAfter("20m") if ctx.attempt == 1 else GiveUp(LookupError())

    job = wind(run, every="1h", mode="fixed_rate")
    started = job.client.start("a", 0)
    assert started.retry_at == at("01 00:20")
    job.sim.advance("20m")
    assert (job.status().status, job.status().next_run_at) == ("active", at("01 01:00"))


def test_an_override_is_kept_by_the_attempt_that_ends_well_and_by_no_other(wind: Winding) -> None:
    def run(ctx: Ctx) -> None:
        ctx.schedule("10m" if ctx.attempt == 2 else "5m")
        if ctx.attempt == 1:
            raise LookupError

    job = wind(run, every="1h", mode="fixed_rate", retry=every_minute(2))
    job.client.start("a", 0)
    assert job.status().next_run_at is None
    job.sim.advance("1m")
    assert job.status().next_run_at == at("01 00:11")


# -- stops, starts, pauses -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fixed_delay", "fixed_rate"])
def test_C1_a_start_after_a_stop_during_a_pending_retry_comes_to_an_end(
    wind: Winding, mode: str
) -> None:
    job = wind(
        fail_until(at("01 00:30")), every="1h", mode=mode, retry=Retry(delay="30m", jitter=0)
    )
    job.client.start("a", 0)
    job.client.stop("a")
    assert (job.status().status, job.sim.alarms()) == ("stopped", [])
    assert job.client.start("a", 0).resumed is True
    assert [run.trigger for run in job.found(e.RunStarted)] == ["start", "retry"]
    job.sim.advance("10m")
    assert [run.trigger for run in job.found(e.RunStarted)] == ["start", "retry", "start"]
    assert (job.status().status, job.client.get_state("a")) == ("active", 2)


@pytest.mark.parametrize("mode", ["fixed_delay", "fixed_rate"])
def test_C1_a_start_during_the_run_that_a_stop_let_end_has_a_run_of_its_own(
    wind: Winding, mode: str
) -> None:
    said: list[Any] = []

    async def run(ctx: Ctx) -> None:
        count(ctx)
        if ctx.run_count == 1:
            said.append(await others.stop("a"))
            said.append(await others.start("a", 7, wait=False))

    job = wind(run, every="1h", mode=mode)
    others = Beside(job)
    job.client.start("a", 0)
    job.sim.advance(0)
    assert (said[0].stopped, said[1].resumed) == (True, True)
    assert [run.trigger for run in job.found(e.RunStarted)] == ["start", "start"]
    assert job.status().next_run_at == at("01 01:00")


EMPTY = contextvars.Context()


class Beside:
    """Requests that come while a handler runs, put past the door that would refuse them there."""

    def __init__(self, job: Clockwork) -> None:
        self._job = job

    def __getattr__(self, verb: str) -> Any:
        async def ask(*given: Any, **options: Any) -> Any:
            client = self._job.sim.app.continuous(self._job.job)
            return await asyncio.get_running_loop().create_task(
                getattr(client, verb)(*given, **options), context=EMPTY
            )

        return ask


def test_C7_a_stop_ends_a_pause_and_a_start_goes_on(wind: Winding) -> None:
    job = wind(every="1h")
    job.client.start("a", 0)
    job.client.pause("a")
    job.client.stop("a", reason="enough")
    assert (job.status().status, job.status().stop_reason) == ("stopped", "enough")
    assert job.client.resume("a").reason == "not_paused"
    paused = job.client.pause("a")
    assert (paused.paused, paused.reason) == (False, "stopped")
    assert job.client.start("a", 0).status == "active"
    assert job.status().run_count == 2


def test_C7_a_stop_takes_back_a_trigger_that_no_worker_has_seen(wind: Winding) -> None:
    job = wind(every="1h")
    job.client.start("a", 0)
    job.client.trigger("a", wait=False)
    job.client.stop("a")
    job.client.start("a", 0)
    job.sim.advance(0)
    assert job.status().run_count == 2


def test_C7_a_handler_that_stops_moves_and_pauses_nothing(wind: Winding) -> None:
    def run(ctx: Ctx) -> None:
        ctx.stop("done")
        ctx.schedule("5m")
        ctx.pause("or so")

    job = wind(run, every="1h")
    job.client.start("a", 0)
    status = job.status()
    assert (status.status, status.next_run_at, status.stop_reason) == ("stopped", None, "done")


def test_C7_a_stop_during_a_run_outlasts_what_its_handler_asks_for(wind: Winding) -> None:
    async def run(ctx: Ctx) -> None:
        count(ctx)
        ctx.schedule("5m")
        ctx.pause()
        await others.stop("a", reason="now")

    job = wind(run, every="1h")
    others = Beside(job)
    job.client.start("a", 4)
    status = job.status()
    assert (status.status, status.next_run_at, status.stop_reason) == ("stopped", None, "now")
    assert job.client.get_state("a") == 5


def test_C7_a_resume_catches_up_by_the_policy(wind: Winding) -> None:
    job = wind(every="1h", mode="fixed_rate", catch_up="all")
    job.client.start("a", 0)
    job.client.pause("a")
    job.sim.advance("5h30m")
    job.client.resume("a")
    job.sim.advance(0)
    assert job.runs[1:] == [at("01 05:30")] * 5
    assert [run.due_us for run in job.found(e.RunStarted)][1:] == [
        int(at(f"01 0{hour}:00").timestamp()) * 1_000_000 for hour in range(1, 6)
    ]


# -- long outages and short intervals --------------------------------------------------------------


def test_C4_a_minutely_cron_after_a_year_runs_the_newest_and_counts_the_rest(
    wind: Winding,
) -> None:
    job = wind(cron="* * * * *", timezone="Europe/Berlin", catch_up="all", max_catch_up=5)
    job.client.start("a", 0)
    job.sim.clock.move_to(int((at("01 00:00") + timedelta(days=365)).timestamp()) * 1_000_000)
    job.sim.advance(0)
    assert job.runs[1:] == [at("01 00:00") + timedelta(days=365)] * 5
    [missed] = job.found(e.Missed)
    assert missed.count == 365 * 1440 - 5
    due = [run.due_us for run in job.found(e.RunStarted)][1:]
    assert [each - due[0] for each in due] == [60_000_000 * n for n in range(5)]


def test_C3_a_slow_run_at_a_high_rate_falls_behind_and_never_piles_up(wind: Winding) -> None:
    job = wind(lambda ctx: asyncio.sleep(30), every="10ms", mode="fixed_rate", grace="1s")
    job.client.start("a", 0)
    job.sim.advance("2m")
    assert len(job.runs) == 6
    assert [each.count for each in job.found(e.Missed)] == [3_000] * 5


def test_C3_jitter_counts_what_passed_on_the_grid(wind: Winding) -> None:
    job = wind(every="1h", mode="fixed_rate", jitter="50m", start_immediately=False)
    job.client.start("a", 0)
    outage(job, "01 05:00")
    assert [each.count for each in job.found(e.Missed)] == [5]


# -- changed rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fixed_delay", "fixed_rate"])
def test_C10_a_changed_rule_does_not_lose_the_run_that_is_due_already(
    wind: Winding, mode: str
) -> None:
    job = wind(every="1h", mode=mode)
    job.client.start("a", 0)
    job.sim.close()
    changed = wind(every="2h", mode=mode, start=at("01 01:30"))
    changed.sim.advance(0)
    assert changed.runs == [at("01 01:30")]
    assert [run.due_us for run in changed.found(e.RunStarted)][1:] == [
        int(at("01 01:00").timestamp()) * 1_000_000
    ]


def test_C10_a_changed_rule_leaves_what_a_handler_has_set(wind: Winding) -> None:
    job = wind(lambda ctx: ctx.schedule("3h"), every="1h")
    job.client.start("a", 0)
    job.sim.close()
    assert wind(every="10m", start=at("01 00:30")).status().next_run_at == at("01 03:00")


def test_C10_a_changed_rule_waits_for_what_is_open_stopped_or_retrying(wind: Winding) -> None:
    job = wind(fail, every="1h", retry=Retry(delay="40m", jitter=0))
    for id in ("a", "b"):
        job.client.start(id, 0)
    job.client.stop("b")
    job.sim.close()
    changed = wind(every="10m", start=at("01 00:30"))
    assert (changed.status().status, changed.status("b").status) == ("retrying", "stopped")
    changed.sim.advance("10m")
    assert changed.status().next_run_at == at("01 00:50")


def test_C10_an_input_that_does_not_fit_is_refused_with_the_definition() -> None:
    wrong: Any = "five"
    job = Continuous(state=int, every="1h", autostart={"a": wrong})
    job.execute(count)
    with pytest.raises(ValidationError, match="state of 'job'"):
        Jobs(job=job)


def test_C10_autostart_leaves_alone_what_was_stopped_and_begins_what_was_ended(
    wind: Winding,
) -> None:
    job = wind(every="1h", autostart={"a": 1, "b": 1})
    job.sim.advance(0)
    job.client.stop("a")
    job.client.terminate("b")
    job.sim.restart()
    assert (job.status("a").status, job.status("b").status) == ("stopped", "active")


# -- what callers see ------------------------------------------------------------------------------


def test_T11_the_state_is_shown_as_the_job_shows_it(wind: Winding) -> None:
    handlers = {"on_client_get_state": lambda ctx, state: state * 100}
    job = wind(every="1h", handlers=handlers)
    assert job.client.get_state("a") is None
    job.client.start("a", 4)
    assert job.client.get_state("a") == 500


# -- several processes -----------------------------------------------------------------------------


@pytest.mark.anyio
async def test_C10_workers_that_open_together_start_it_once(shared_url: str) -> None:
    job = Continuous(state=int, every="1h", autostart={"a": 1, "b": 2})
    ran: asyncio.Queue[str] = asyncio.Queue()

    @job.execute
    async def execute(ctx: Ctx) -> None:
        ran.put_nowait(ctx.id)

    async with asyncio.timeout(WAIT_S):
        opened = [Jobs(job=job).open(shared_url, worker=True) for _ in range(3)]
        apps = await asyncio.gather(*(each.__aenter__() for each in opened))
        assert {await ran.get(), await ran.get()} == {"a", "b"}
        for each in opened:
            await each.__aexit__(None, None, None)
    async with Jobs(job=job).open(shared_url) as later:
        for id in "ab":
            events = [each.event for each in await later.history(f"continuous:job:{id}")]
            assert (events.count("Started"), events.count("RunStarted")) == (1, 1)
    assert len(apps) == 3


@pytest.mark.anyio
async def test_C9_a_run_that_ends_after_its_life_was_ended_elsewhere_changes_nothing(
    shared_url: str,
) -> None:
    """Terminated by another process, and begun again there, while the run goes on here, where there
    is no room for another."""
    job = Continuous(state=int, every="1h")
    begun: asyncio.Queue[int] = asyncio.Queue()
    let_end = asyncio.Event()

    @job.execute
    async def execute(ctx: Ctx) -> None:
        begun.put_nowait(ctx.state or 0)
        await let_end.wait()
        ctx.set_state(-1)

    async with (
        Jobs(job=job).open(shared_url, worker=True, concurrency=1) as here,
        Jobs(job=job).open(shared_url) as elsewhere,
        asyncio.timeout(WAIT_S),
    ):
        await here.continuous(job).start("a", 1, wait=False)
        assert await begun.get() == 1
        there = elsewhere.continuous(job)
        assert (await there.terminate("a", reason="moved")).terminated is True
        assert (await there.start("a", 2, wait=False)).created is True
        assert (await there.stop("a")).stopped is True
        let_end.set()
    async with Jobs(job=job).open(shared_url) as later:
        client = later.continuous(job)
        assert await client.get_state("a") == 2
        status = await client.status("a")
        assert (status.status, status.run_count) == ("stopped", 0)
        history = [each.event for each in await later.history(INSTANCE)]
        assert "Executed" not in history


@pytest.mark.anyio
async def test_C7_starts_and_stops_from_two_processes_leave_one_truth(shared_url: str) -> None:
    job = Continuous(state=int, every="1h")
    job.execute(count)
    async with (
        Jobs(job=job).open(shared_url) as one,
        Jobs(job=job).open(shared_url) as two,
        asyncio.timeout(WAIT_S),
    ):
        clients = [one.continuous(job), two.continuous(job)]
        asked = [
            ask
            for _ in range(20)
            for client in clients
            for ask in (client.start("a", 1, wait=False), client.stop("a"))
        ]
        answers = await asyncio.gather(*asked)
        begun = [each for each in answers if getattr(each, "created", False)]
        resumed = [each for each in answers if getattr(each, "resumed", False)]
        stopped = [each for each in answers if getattr(each, "stopped", False)]
        assert len(begun) == 1
        assert len(stopped) - len(resumed) in (0, 1)
        status = await two.continuous(job).status("a")
        is_stopped = len(stopped) > len(resumed)
        assert (status.status == "stopped", status.next_run_at is None) == (is_stopped, is_stopped)
