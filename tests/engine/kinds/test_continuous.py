"""Continuous: recurring work for each key (C1 to C10)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.clockwork import START, Ctx, Winding, at, fail, outage
from tests.support import WAIT_S
from wakelog import Backoff, Continuous, GiveUp, InvalidStateError, Jobs, Retry, ValidationError
from wakelog.core import events as e
from wakelog.testing import SimulatedCrash, Simulation

# -- C1, C2: start


def test_C1_a_start_runs_at_once_and_says_when_the_next_comes(wind: Winding) -> None:
    job = wind(every="30m")
    started = job.client.start("a", 5)
    assert (started.created, started.status, started.failed) == (True, "active", False)
    assert started.next_run_at == at("01 00:30")
    assert job.client.get_state("a") == 6
    [life] = job.found(e.Started)
    assert life.input == "5"
    assert [run.trigger for run in job.found(e.RunStarted)] == ["start"]


def test_C1_a_start_of_what_goes_on_changes_nothing(wind: Winding) -> None:
    job = wind(every="30m")
    version = job.client.start("a", 5).version
    again = job.client.start("a", 77)
    assert (again.created, again.version, again.next_run_at) == (False, version, at("01 00:30"))
    assert job.client.get_state("a") == 6


def test_C1_a_failed_first_run_answers_and_does_not_raise_nor_leave_it_dormant(
    wind: Winding,
) -> None:
    job = wind(fail, every="30m")
    started = job.client.start("a", 5)
    assert (started.created, started.failed) == (True, True)
    assert started.error is not None
    assert started.error.type == "LookupError"
    assert (started.status, started.next_run_at) == ("active", at("01 00:30"))
    job.sim.advance("1h")
    assert len(job.runs) == 3


def test_C1_a_stopped_one_is_resumed_with_its_state_or_with_the_input(wind: Winding) -> None:
    job = wind(every="30m")
    job.client.start("a", 5)
    job.client.stop("a")
    resumed = job.client.start("a", 77)
    assert (resumed.created, resumed.resumed) == (False, True)
    assert job.client.get_state("a") == 7
    job.client.stop("a")
    job.client.start("a", 77, replace=True)
    assert job.client.get_state("a") == 78


def test_U4_an_input_that_does_not_fit_leaves_no_zombie(wind: Winding) -> None:
    job = wind(every="30m")
    with pytest.raises(ValidationError, match="state of 'job'"):
        job.client.start("a", "five")  # type: ignore[call-overload]
    assert job.status().status == "not_found"
    assert job.client.start("a", 1).created is True


@pytest.mark.parametrize(
    "rule", [{"every": "2h", "mode": "fixed_rate"}, {"cron": "0 2 * * *", "catch_up": "all"}]
)
def test_C2_so_it_is_on_a_grid(wind: Winding, rule: dict[str, Any]) -> None:
    job = wind(**rule, start_immediately=False)
    assert job.client.start("a", 5).next_run_at == at("01 02:00")
    assert (job.status().run_count, job.status().last_executed_at) == (0, None)
    job.sim.advance("2h")
    assert (job.runs, job.client.get_state("a")) == ([at("01 02:00")], 6)


def test_C2_it_may_begin_after_one_interval(wind: Winding) -> None:
    job = wind(every="30m", start_immediately=False)
    started = job.client.start("a", 5)
    assert (started.next_run_at, job.status().run_count, job.runs) == (at("01 00:30"), 0, [])
    job.sim.advance("30m")
    assert job.runs == [at("01 00:30")]


def test_I1_a_start_with_a_used_key_is_answered_as_before(wind: Winding) -> None:
    job = wind(every="30m")
    first = job.client.start("a", 5, wait=False, idempotency_key="k")
    job.client.terminate("a")
    again = job.client.start("a", 5, wait=False, idempotency_key="k")
    assert (again.duplicate, again.version) == (True, first.version)
    assert job.status().status == "not_found"


def test_I1_a_start_with_a_used_key_tells_how_its_first_run_ended(wind: Winding) -> None:
    job = wind(every="30m")
    first = job.client.start("a", 5, idempotency_key="k")
    job.sim.advance("2h")
    job.client.stop("a")
    for _ in range(2):
        again = job.client.start("a", 5, idempotency_key="k")
        assert again == dataclasses.replace(first, duplicate=True)
        job.client.terminate("a")


def test_C1_a_start_of_a_job_that_is_held_says_that_it_is_paused(wind: Winding) -> None:
    job = wind(every="30m")
    job.sim.pause("job")
    for created in (True, False):
        started = job.client.start("a", 5)
        assert (started.created, started.status) == (created, "paused")
    assert (job.status().status, job.runs) == ("paused", [])


# -- C3: intervals and cron (the arithmetic: test_cadence.py)


def test_C3_a_fixed_delay_counts_from_the_end_of_a_run(wind: Winding) -> None:
    job = wind(lambda ctx: asyncio.sleep(600), every="30m")
    job.client.start("a", 0)
    job.sim.advance("2h")
    assert job.runs == [at("01 00:00"), at("01 00:40"), at("01 01:20"), at("01 02:00")]


def test_C3_a_fixed_rate_stays_on_the_grid_of_its_start(wind: Winding) -> None:
    job = wind(lambda ctx: asyncio.sleep(600), every="30m", mode="fixed_rate")
    job.client.start("a", 0)
    job.sim.advance("90m")
    assert job.runs == [at("01 00:00"), at("01 00:30"), at("01 01:00"), at("01 01:30")]


def test_C3_cron_in_a_time_zone_over_both_changes_of_the_clock(wind: Winding) -> None:
    job = wind(cron="30 2 * * *", timezone="Europe/Berlin", start_immediately=False)
    job.client.start("a", 0)
    job.sim.advance("365d")
    assert len(job.runs) == 365
    assert datetime(2026, 3, 29, 1, 0, tzinfo=UTC) in job.runs  # right after the skipped hour
    autumn = [run for run in job.runs if (run.month, run.day) == (10, 25)]
    assert autumn == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]  # the first of the two


def test_C3_jitter_spreads_and_is_the_same_again(wind: Winding) -> None:
    job = wind(every="1h", mode="fixed_rate", jitter="10m", start_immediately=False)
    for id in "abcdefgh":
        job.client.start(id, 0)
    due = [job.status(id).next_run_at for id in "abcdefgh"]
    assert len(set(due)) == 8
    assert all(at("01 01:00") <= each <= at("01 01:10") for each in due if each)


# -- C4: what was missed


@pytest.mark.parametrize(
    ("catch_up", "runs", "missed"),
    [
        ("once", ["01 05:10"], [(5, "once")]),
        ("skip", [], [(5, "skip")]),
        ("all", ["01 05:10"] * 5, []),
    ],
)
def test_C4_what_an_outage_missed_is_caught_up_by_the_policy(
    wind: Winding, catch_up: str, runs: list[str], missed: list[tuple[int, str]]
) -> None:
    job = wind(every="1h", mode="fixed_rate", catch_up=catch_up, start_immediately=False)
    job.client.start("a", 0)
    outage(job, "01 05:10")
    assert job.runs == [at(each) for each in runs]
    assert [(each.count, each.policy) for each in job.found(e.Missed)] == missed
    assert job.status().next_run_at == at("01 06:00")


def test_C4_all_is_bounded_and_says_what_it_dropped(wind: Winding) -> None:
    job = wind(
        every="1m", mode="fixed_rate", catch_up="all", max_catch_up=10, start_immediately=False
    )
    job.client.start("a", 0)
    outage(job, "01 01:00")
    assert len(job.runs) == 10
    assert [each.count for each in job.found(e.Missed)] == [50]
    scheduled_for = [each.due_us for each in job.found(e.RunStarted)]
    assert scheduled_for == sorted(set(scheduled_for))


def test_C4_what_is_late_within_the_grace_was_not_missed(wind: Winding) -> None:
    job = wind(every="1h", grace="20m", catch_up="skip", start_immediately=False)
    job.client.start("a", 0)
    outage(job, "01 01:15")
    assert job.runs == [at("01 01:15")]
    assert job.found(e.Missed) == []


# -- C5, C6: counting, failing


def test_C5_runs_are_counted_once_however_many_attempts(wind: Winding) -> None:
    seen: list[tuple[int, int]] = []

    def run(ctx: Ctx) -> None:
        seen.append((ctx.run_count, ctx.attempt))
        if ctx.attempt < 3:
            raise LookupError

    retry = Retry(max_attempts=3, delay=Backoff.constant("1s"), jitter=0)
    job = wind(run, every="1h", retry=retry)
    job.client.start("a", 0)
    job.sim.advance("1h5s")
    assert seen == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert job.status().run_count == 2


def test_C6_a_failing_job_runs_on_as_if_it_had_succeeded(wind: Winding) -> None:
    told: list[str] = []

    def on_error(ctx: Ctx, error: BaseException) -> None:
        told.append(str(error))
        raise error

    job = wind(fail, every="1h", handlers={"on_error": on_error})
    job.client.start("a", 0)
    job.sim.advance("2h")
    assert told == ["run 1", "run 2", "run 3"]
    status = job.status()
    assert (status.status, status.run_count, status.failure_count) == ("active", 3, 6)
    assert status.last_error is not None


def test_C6_an_exhausted_retry_goes_on_unless_the_policy_says_otherwise(wind: Winding) -> None:
    retry = Retry(max_attempts=2, delay=Backoff.constant("1s"))
    job = wind(fail, every="1h", retry=retry)
    job.client.start("a", 0)
    job.sim.advance("1h5s")
    assert [each.then for each in job.found(e.RetryExhausted)] == ["continue"] * 2
    assert (job.status().status, job.status().run_count) == ("active", 2)


def test_C6_a_policy_may_let_a_failure_stop_it_and_a_retry_goes_on(wind: Winding) -> None:
    broken = True

    def run(ctx: Ctx) -> None:
        if broken:
            raise GiveUp(LookupError("for good"))

    job = wind(run, every="1h", retry=Retry(on_exhausted="fail"))
    started = job.client.start("a", 0)
    assert (started.failed, started.status, started.next_run_at) == (True, "failed", None)
    broken = False
    assert job.client.retry("a").retried is True
    assert job.status().status == "active"
    assert job.status().next_run_at == at("01 01:00")


# -- C7: trigger, stop, pause, terminate


@pytest.mark.parametrize(
    ("mode", "next_run"), [("fixed_delay", "01 01:20"), ("fixed_rate", "01 01:00")]
)
def test_C7_a_trigger_is_counted_and_moves_only_a_fixed_delay(
    wind: Winding, mode: str, next_run: str
) -> None:
    job = wind(every="1h", mode=mode)
    job.client.start("a", 0)
    job.sim.advance("20m")
    assert job.client.trigger("a").triggered is True
    assert (job.status().run_count, job.status().next_run_at) == (2, at(next_run))


@pytest.mark.parametrize(
    ("mode", "next_run"), [("fixed_delay", "01 01:02"), ("fixed_rate", "01 00:05")]
)
def test_C7_so_does_it_where_a_handler_has_set_the_next_run(
    wind: Winding, mode: str, next_run: str
) -> None:
    job = wind(
        lambda ctx: ctx.schedule("5m") if ctx.run_count == 1 else None, every="1h", mode=mode
    )
    job.client.start("a", 0)
    job.sim.advance("2m")
    job.client.trigger("a")
    assert job.status().next_run_at == at(next_run)


def test_C7_a_trigger_that_consumes_the_alarm_does_not_leave_it_dormant(wind: Winding) -> None:
    job = wind(every="1h", mode="fixed_rate")
    job.client.start("a", 0)
    job.sim.advance("20m")
    job.client.trigger("a", consume_alarm=True)
    assert job.status().next_run_at == at("01 01:00")


def test_C7_stop_keeps_the_state_and_echoes_the_reason(wind: Winding) -> None:
    job = wind(every="1h")
    job.client.start("a", 0)
    stopped = job.client.stop("a", reason="holidays", actor="ann")
    assert (stopped.stopped, stopped.reason) == (True, "holidays")
    job.sim.advance("1d")
    status = job.status()
    assert (status.status, status.next_run_at, status.stop_reason) == ("stopped", None, "holidays")
    assert (job.client.get_state("a"), len(job.runs)) == (1, 1)
    assert job.client.trigger("a").reason == "stopped"
    assert (job.client.stop("a").stopped, job.client.stop("a").reason) == (False, "stopped")


def test_C7_a_handler_may_stop_its_own_job(wind: Winding) -> None:
    job = wind(lambda ctx: ctx.stop("done") if ctx.run_count == 2 else None, every="1h")
    job.client.start("a", 0)
    job.sim.advance("1d")
    assert (job.status().status, job.status().run_count) == ("stopped", 2)
    assert job.sim.alarms() == []


def test_C7_pause_and_resume(wind: Winding) -> None:
    job = wind(every="1h", mode="fixed_rate")
    job.client.start("a", 0)
    job.client.pause("a")
    job.sim.advance("5h30m")
    assert (job.status().status, len(job.runs)) == ("paused", 1)
    job.client.resume("a")
    job.sim.advance(0)
    assert len(job.runs) == 2
    assert [each.count for each in job.found(e.Missed)] == [5]


def test_C7_terminate_and_missing_ids(wind: Winding) -> None:
    job = wind(every="1h")
    job.client.start("a", 0)
    ended = job.client.terminate("a", reason="moved")
    assert (ended.terminated, ended.reason, job.status().status) == (True, "moved", "not_found")
    assert (job.client.terminate("a").terminated, job.client.terminate("a").reason) == (
        False,
        "not_found",
    )
    assert job.client.stop("x").reason == "not_found"
    assert job.client.trigger("x").reason == "not_found"
    assert job.client.pause("x").reason == "not_found"
    assert job.client.start("a", 3).created is True


def test_a_handler_may_move_its_next_run_once_and_never_cancel_it(wind: Winding) -> None:
    said: list[str] = []

    def run(ctx: Ctx) -> None:
        if ctx.run_count == 1:
            ctx.schedule("5m")
            with pytest.raises(InvalidStateError, match=r"ctx\.stop"):
                ctx.cancel_schedule()
            said.append("refused")

    job = wind(run, every="1h", mode="fixed_rate")
    job.client.start("a", 0)
    job.sim.advance("2h")
    assert said == ["refused"]
    assert job.runs == [at("01 00:00"), at("01 00:05"), at("01 01:00"), at("01 02:00")]


# -- C8, C9, C10


def test_C8_status_tells_next_run_and_retry_apart(wind: Winding) -> None:
    retry = Retry(max_attempts=5, delay=Backoff.constant("10m"), jitter=0)
    job = wind(fail, every="1h", retry=retry)
    started = job.client.start("a", 0)
    assert started.retry_at == at("01 00:10")
    status = job.status()
    assert (status.status, status.next_run_at, status.retry_at) == (
        "retrying",
        None,
        at("01 00:10"),
    )
    assert (status.running, status.last_executed_at) == (False, at("01 00:00"))


def test_C8_status_says_what_runs_and_when_it_last_did(wind: Winding) -> None:
    seen: list[tuple[bool, str, int]] = []

    def run(ctx: Ctx) -> None:
        with Simulation(Jobs(job=job.job), url=job.url, start=ctx.now) as other:
            status = other.continuous("job").status("a")
            seen.append((status.running, status.status, status.run_count))

    job = wind(run_in_a_thread(run), every="1h")
    job.client.start("a", 0)
    job.sim.advance("90m")
    status = job.status()
    assert seen == [(True, "active", 1), (True, "active", 2)]
    assert (status.running, status.run_count, status.failure_count) == (False, 2, 0)
    assert (status.last_executed_at, status.created_at) == (at("01 01:00"), at("01 00:00"))


def run_in_a_thread(run: Callable[[Ctx], None]) -> Callable[[Ctx], None]:
    """A handler that asks as another process would: with a thread and a loop of its own."""

    def handler(ctx: Ctx) -> None:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(run, ctx).result(WAIT_S)

    return handler


@pytest.mark.anyio
async def test_C9_a_terminate_during_a_run_is_accepted_at_once(store_url: str) -> None:
    job = Continuous(state=int, every="1h")
    begun, cancelled = asyncio.Event(), asyncio.Event()

    @job.execute
    async def execute(ctx: Ctx) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with Jobs(job=job).open(store_url, worker=True) as app:
        await app.continuous(job).start("a", 0, wait=False)
        async with asyncio.timeout(WAIT_S):
            await begun.wait()
            assert (await app.continuous(job).terminate("a")).terminated is True
            await cancelled.wait()
        assert (await app.continuous(job).status("a")).status == "not_found"
    async with Jobs(job=job).open(store_url) as later:
        history = [entry.event for entry in await later.history("continuous:job:a")]
        assert history[-1] == "Cleared"


def test_C10_a_changed_rule_moves_what_is_scheduled(wind: Winding) -> None:
    job = wind(every="1h")
    job.client.start("a", 0)
    job.sim.close()
    changed = wind(every="10m", start=START + timedelta(minutes=1))
    assert changed.status().next_run_at == at("01 00:10")
    assert [each.reason for each in changed.found(e.Scheduled)][-2:] == [
        "every 1h fixed_delay",
        "every 10m fixed_delay",
    ]
    version = changed.status().version
    changed.sim.close()  # opened again under the same rule: nothing more is recorded
    assert wind(every="10m", start=START + timedelta(minutes=2)).status().version == version


@pytest.mark.parametrize(
    ("rule", "next_run"),
    [
        ({"cron": "0 3 * * *"}, "01 03:00"),
        ({"cron": "0 3 * * *", "timezone": "Europe/Berlin"}, "01 02:00"),
        ({"every": "1h", "mode": "fixed_rate"}, "01 01:00"),
    ],
)
def test_C10_a_changed_cron_zone_or_mode_moves_it_too(
    wind: Winding, rule: dict[str, Any], next_run: str
) -> None:
    job = wind(cron="0 5 * * *")
    job.client.start("a", 0)
    job.sim.close()
    assert wind(**rule, start=START + timedelta(minutes=1)).status().next_run_at == at(next_run)


def test_C10_autostart_starts_what_is_missing(wind: Winding) -> None:
    job = wind(every="1h", autostart={"a": 5, "b": 7})
    job.sim.advance(0)
    assert (job.client.get_state("a"), job.client.get_state("b")) == (6, 8)
    job.sim.restart()
    job.sim.advance(0)
    assert job.status().run_count == 1


# -- crashes, and what was wrong in the seeds' own system


@pytest.mark.parametrize("point", ["before_write", "after_write"])
@pytest.mark.parametrize("skip", range(4))
def test_K1_no_crash_leaves_it_dormant(wind: Winding, point: Any, skip: int) -> None:
    """Before or after each write of a start and of its first runs."""
    job = wind(every="1h")
    client = job.client
    try:
        for step in range(4):
            if step == skip:
                job.sim.crash_next(point)
            client.start("a", 0, wait=False)
            job.sim.advance("30m")
    except SimulatedCrash:
        job.sim.restart()
    client = job.client
    client.start("a", 0, wait=False)
    before = job.status().run_count
    job.sim.advance("3h")
    assert job.status().run_count >= before + 2
    assert job.status().next_run_at is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either every= or cron="),
        ({"every": "1h", "cron": "* * * * *"}, "either every= or cron="),
        ({"every": 0}, "at least 10 ms"),
        ({"every": "1h", "mode": "often"}, "fixed_delay"),
        ({"cron": "0 2 * * *", "mode": "often"}, "fixed_delay"),
        ({"every": "1h", "timezone": "Mars/Base"}, "Europe/Berlin"),
        ({"cron": "0 2 * *"}, "minute, hour"),
        ({"cron": "99 2 * * *"}, "Bad minute"),
        ({"cron": "0 0 31 2 *"}, "day-of-month|never comes"),
        ({"cron": "0 2 * * *", "timezone": "Mars/Base"}, "Europe/Berlin"),
        ({"every": "1h", "catch_up": "maybe"}, "'once', 'all' or 'skip'"),
        ({"every": "1h", "max_catch_up": 0}, "max_catch_up"),
        ({"every": "1h", "grace": -1}, "negative"),
        ({"every": "1h", "autostart": {"": 1}}, "id"),
        ({"every": "1h", "autostart": ["a"]}, "ids to inputs"),
    ],
)
def test_C3_what_is_no_cadence_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Continuous(state=int, **options)
