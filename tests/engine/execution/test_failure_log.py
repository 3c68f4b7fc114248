"""What fails is logged once it is recorded, with instance, run and attempt; a storm is cut."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, Staging, elsewhere, task_of
from tests.support_steps import Way, both_ways, executing
from wakelog import (
    Continuous,
    Debounce,
    ExecutionError,
    GiveUp,
    Jobs,
    Retry,
    RetryAfter,
    WorkerPool,
)
from wakelog.clock import SystemClock
from wakelog.core.pool.events import RunsLost
from wakelog.execution.failure_log import FailureLog
from wakelog.settings import Settings
from wakelog.testing import SimulatedCrash, Simulation

TWICE = Retry(max_attempts=2, delay="1m", jitter=0)
THRICE = Retry(max_attempts=3, delay="1s", jitter=0)
AT_ONCE = Retry(max_attempts=2, delay=0, jitter=0)
LAST_OF_MANY = 6
"""An event that is taken together with the one before it."""
OTHER_LINES = 300
"""More than are logged of one kind at once."""


class Lines:
    """What was logged about failures."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def records(self) -> list[logging.LogRecord]:
        return [each for each in self._caplog.records if each.name == "wakelog.failures"]

    @property
    def about(self) -> list[tuple[str, str, Any, Any]]:
        """Level, instance, run and attempt of each."""
        said = [(each.levelname, vars(each)) for each in self.records]
        return [(level, each["instance"], each["run"], each["attempt"]) for level, each in said]

    @property
    def texts(self) -> list[str]:
        return [each.getMessage() for each in self.records]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    return Lines(caplog)


def fails(ctx: Ctx, *_: Any) -> None:
    raise LookupError("no address")


def schedules(ctx: Ctx, event: Any) -> None:
    ctx.schedule(0)


def test_R2_each_attempt_of_a_run_is_logged(stage: Staging, lines: Lines) -> None:
    job = stage(schedules, execute=fails, retry=TWICE)
    job.send()
    job.sim.advance("2m")
    assert lines.about == [
        ("WARNING", "task:job:a", 1, 1),
        ("ERROR", "task:job:a", 1, 2),
    ]
    first, last = lines.records
    assert f"{__file__}:" in first.getMessage()
    assert first.getMessage().endswith("; attempt 2 is due at 2026-01-01 00:01:00.000+00:00")
    assert last.getMessage().endswith("in fails); no attempt is left (max_attempts)")
    # and the last one has its traceback, from the handler on
    assert first.exc_info is None
    assert last.exc_info is not None
    assert isinstance(last.exc_info[1], LookupError)
    assert last.exc_text is not None
    assert last.exc_text.startswith(f'Traceback (most recent call last):\n  File "{__file__}"')
    assert last.exc_text.endswith("LookupError: no address")


def test_R8_the_place_is_the_users_even_if_a_library_raises(stage: Staging, lines: Lines) -> None:
    def parses(ctx: Ctx) -> None:
        json.loads("{")

    job = stage(schedules, execute=parses)
    job.send()
    job.sim.advance(0)
    error = job.status().last_error
    assert error is not None
    assert error.where.startswith(f"{__file__}:")
    assert error.where.endswith(" in parses")
    assert f" ({error.where})" in job.sim.history("task:job:a")[-1].description
    assert f" ({error.where})" in lines.texts[0]


def test_R8_what_no_code_of_the_users_raised_has_no_place(stage: Staging, lines: Lines) -> None:
    job = stage(schedules, execute=None)
    job.send()
    job.sim.advance(0)
    error = job.status().last_error
    assert error is not None
    assert (error.type, error.where) == ("UnknownActionError", "")
    assert lines.texts[0].endswith(" then trigger the instance")


def test_R5_a_recovered_failure_is_a_warning(stage: Staging, lines: Lines) -> None:
    job = stage(schedules, execute=fails, on_error=lambda ctx, error: None)
    job.send()
    job.sim.advance(0)
    assert lines.about == [("WARNING", "task:job:a", 1, 1)]
    assert lines.texts[0].endswith("; it was recovered")


def test_T12_a_failing_recovery_is_logged_beside_what_it_was_for(
    stage: Staging, lines: Lines
) -> None:
    job = stage(schedules, execute=fails, on_error=fails)
    job.send()
    job.sim.advance(0)
    assert lines.about == [("ERROR", "task:job:a", 1, 1)] * 2
    assert [each.split()[0] for each in lines.texts] == ["execute", "on_error"]
    assert all(each.exc_info for each in lines.records)


def test_T6_a_failing_on_idle_is_logged(stage: Staging, lines: Lines) -> None:
    stage(lambda ctx, event: None, on_idle=fails).send()
    assert lines.about == [("ERROR", "task:job:a", None, None)]
    assert lines.texts[0].startswith("on_idle of task:job:a failed: LookupError: no address (")


def test_T15_a_dead_letter_is_logged(stage: Staging, lines: Lines) -> None:
    job = stage(fails, retry=TWICE)
    job.sim.pause("job")
    job.send()
    job.sim.resume("job")
    job.sim.advance("2m")
    assert lines.about == [
        ("WARNING", "task:job:a", None, 1),
        ("ERROR", "task:job:a", None, 2),
        ("ERROR", "task:job:a", None, 2),
    ]
    assert lines.texts[-1].startswith("the event of task:job:a was dead-lettered after attempt 2 (")


def test_T12_what_is_raised_to_a_sender_is_not_logged(stage: Staging, lines: Lines) -> None:
    job = stage(fails, on_error=fails)
    with pytest.raises(ExecutionError):
        job.send()
    assert lines.records == []


@pytest.mark.parametrize(
    ("losses", "level", "end"),
    [(1, "WARNING", "(lease expired)"), (2, "ERROR", "; no attempt is left (lost)")],
)
def test_R6_a_lost_run_is_logged(
    stage: Staging, lines: Lines, losses: int, level: str, end: str
) -> None:
    job = stage(schedules, sim={"settings": Settings(max_lost=2)})
    job.send()
    for _ in range(losses):
        job.sim.crash_next("after_write")
        with pytest.raises(SimulatedCrash):
            job.sim.advance("1h")
        job.sim.restart()
    job.sim.advance("1h")
    assert lines.about == [(level, "task:job:a", 1, losses)]
    assert lines.texts[0].endswith(end)


def test_U3_an_outcome_that_is_settled_again_is_logged_once(stage: Staging, lines: Lines) -> None:
    # given a run during which another process appends to the instance
    def execute(ctx: Ctx) -> None:
        if ctx.run_count == 1:
            elsewhere(job, lambda jobs: jobs.send("a", {}))
            fails(ctx)

    job = stage(schedules, execute=execute)
    job.send()
    job.sim.advance(0)
    assert lines.about == [("ERROR", "task:job:a", 1, 1)]
    assert job.status().execute_count == 2


def test_C6_and_D7_failing_runs_and_flushes(store_url: str, lines: Lines) -> None:
    every = Continuous(state=int, every="1h", start_immediately=False)
    every.execute(fails)
    edits = Debounce(event=int, flush_after="1m")
    edits.execute(fails)
    with Simulation(Jobs(every=every, edits=edits), url=store_url) as sim:
        sim.debounce(edits).add("d", 1)
        sim.continuous(every).start("c", 0)
        sim.advance("90m")
    assert lines.about == [
        ("ERROR", "debounce:edits:d", 1, 1),
        ("ERROR", "debounce:edits:d", None, 1),
        ("ERROR", "continuous:every:c", 1, 1),
    ]
    assert "the batch of 1 events of debounce:edits:d was dead-lettered" in lines.texts[1]


def test_P5_events_of_pools(store_url: str, lines: Lines) -> None:
    pool = WorkerPool(event=int, concurrency=1, retry=TWICE)
    pool.execute(fails)
    pool.on_dead_letter(fails)
    pool.on_empty(fails)
    with Simulation(Jobs(mail=pool), url=store_url) as sim:
        sim.worker_pool(pool).enqueue(1)
        sim.advance("1h")
    item, partition = "workerPool:mail:#1.1", "workerPool:mail:0"
    assert lines.about == [
        ("WARNING", item, 1, 1),
        ("ERROR", item, 1, 2),
        ("ERROR", item, None, 2),
        ("ERROR", item, None, 2),
        ("ERROR", partition, None, None),
    ]
    assert [each.split()[0] for each in lines.texts][3:] == ["on_dead_letter", "on_empty"]


@both_ways
def test_I4_each_failed_try_of_a_step_that_is_tried_again_is_logged(
    stage: Staging, lines: Lines, way: Way
) -> None:
    # given a step that may be tried three times, and fails in two attempts, each time as often
    def charge() -> None:
        raise LookupError("no answer")

    def body(ctx: Ctx) -> Any:
        yield lambda step: step("charge", charge, retry=THRICE)

    job = stage(schedules, execute=executing(way, body), retry=TWICE)
    job.send()
    # when
    job.sim.advance("5m")
    # then each try is a line, and the last one of an attempt is that of the attempt
    tries = [("WARNING", "task:job:a", 1, 1), ("WARNING", "task:job:a", 1, 2)]
    ends = [("WARNING", "task:job:a", 1, 1), ("ERROR", "task:job:a", 1, 2)]
    assert lines.about == [tries[0], tries[0], ends[0], tries[1], tries[1], ends[1]]
    said = [vars(each) for each in lines.records]
    assert [(each.get("step"), each.get("step_try")) for each in said] == [
        *(("charge", 1), ("charge", 2), (None, None)),
        *(("charge", 1), ("charge", 2), (None, None)),
    ]
    assert lines.texts[0].startswith(
        "step 'charge' of task:job:a failed in run 1, attempt 1, try 1: LookupError: no answer "
        f"({__file__}:"
    )
    assert lines.texts[0].endswith(" in charge); try 2 is due at 2026-01-01 00:00:01.000+00:00")


@both_ways
def test_I4_tries_of_a_step_that_end_well_or_are_given_up(
    stage: Staging, lines: Lines, way: Way
) -> None:
    # given a step that asks for another try once, and one that is not worth another one
    wishes = iter([RetryAfter("10s", TimeoutError("busy"))])

    def asks() -> None:
        for wish in wishes:
            raise wish

    def gives_up() -> None:
        raise GiveUp(LookupError("gone"))

    def body(ctx: Ctx) -> Any:
        yield lambda step: step("asks", asks, retry=THRICE)
        with contextlib.suppress(GiveUp):
            yield lambda step: step("gives up", gives_up, retry=THRICE)

    job = stage(schedules, execute=executing(way, body))
    job.send()
    # when
    job.sim.advance("1m")
    # then the cause is named, and what the handler has dealt with is its own affair
    assert lines.about == [("WARNING", "task:job:a", 1, 1)]
    assert ", try 1: TimeoutError: busy" in lines.texts[0]
    assert lines.texts[0].endswith("; try 2 is due at 2026-01-01 00:00:10.000+00:00")
    assert job.status().status == "idle"


@both_ways
def test_I4_tries_of_steps_of_events_of_pools(store_url: str, lines: Lines, way: Way) -> None:
    def body(ctx: Ctx) -> Any:
        yield lambda step: step("charge", fails, None, retry=TWICE)

    handler = executing(way, body)
    pool = WorkerPool(event=int, concurrency=1)
    if way == "async":

        @pool.execute
        async def on_loop(ctx: Ctx, event: int) -> None:
            await handler(ctx)
    else:
        pool.execute(lambda ctx, event: handler(ctx))
    with Simulation(Jobs(mail=pool), url=store_url) as sim:
        sim.worker_pool(pool).enqueue(1, id="m-1")
        sim.advance("5m")
    item = "workerPool:mail:#1.1"
    assert lines.about[:2] == [("WARNING", item, 1, 1), ("ERROR", item, 1, 1)]
    assert vars(lines.records[0])["step"] == "charge"


@pytest.mark.anyio
async def test_I4_tries_of_steps_in_threads(sqlite_url: str, lines: Lines) -> None:
    def execute(ctx: Ctx) -> None:
        with ThreadPoolExecutor(8) as threads:
            for number in range(8):
                threads.submit(ctx.step_blocking, f"step {number}", fails, None, retry=AT_ONCE)

    task = task_of(schedules, execute=execute)
    async with Jobs(job=task).open(sqlite_url, worker=True) as app:
        await app.task(task).send("a", {})
        await app.task(task).trigger("a", timeout=WAIT_S)
    said = {vars(each)["step"] for each in lines.records}
    assert said == {f"step {number}" for number in range(8)}


@pytest.mark.parametrize("losses", [1, 2, 3])
def test_R6_events_of_pools_that_are_lost_with_their_worker(
    store_url: str, lines: Lines, losses: int
) -> None:
    # given an event that kills its worker: first with another one that was taken, then alone
    left = iter(range(losses))

    def execute(ctx: Ctx, event: int) -> None:
        if event == LAST_OF_MANY - 1 and next(left, None) is not None:
            sim.crash_next("before_write")

    pool = WorkerPool(event=int, concurrency=1)
    pool.execute(execute)
    with Simulation(Jobs(mail=pool), url=store_url, settings=Settings(max_lost=2)) as sim:
        sim.worker_pool(pool).enqueue_many(range(1, LAST_OF_MANY + 1))
        for _ in range(losses):
            with pytest.raises(SimulatedCrash):
                sim.advance("1h")
            sim.restart()
        sim.advance("1h")
        assert sim.worker_pool(pool).status().dead == (losses == 3)
    # then both are told of, and each loss of one alone is that of its run
    killer = f"workerPool:mail:#1.{LAST_OF_MANY - 1}"
    assert (
        lines.about
        == [
            ("WARNING", "workerPool:mail:0", None, None),
            ("WARNING", killer, 1, 1),
            ("ERROR", killer, 1, 2),
            ("ERROR", killer, None, 2),
        ][: losses + (losses == 3)]
    )
    assert lines.texts[0] == (
        "the worker of workerPool:mail:0 was lost with 2 events that it had taken; "
        "they are taken again"
    )
    lost = f"run 1 of {killer}, attempt {{}}, was lost with its worker (no lease)"
    assert lines.texts[1:3] == [lost.format(1), lost.format(2)][: losses - 1]
    assert all(" was dead-lettered after attempt 2 (lost)" in each for each in lines.texts[3:])


def test_R6_the_worker_that_had_taken_events_of_a_pool_is_named(lines: Lines) -> None:
    failures = FailureLog(SystemClock())
    for items in [((1, 5),), ((1, 5), (1, 6))]:
        lost = RunsLost(run=7, items=items, worker="vm:2801")
        failures.log("workerPool:mail:0", [lost], attempts=[2] * len(items))
    assert lines.texts == [
        "run 1 of workerPool:mail:#1.5, attempt 2, was lost with worker vm:2801 (lease expired)",
        "the worker of workerPool:mail:0 (vm:2801) was lost with 2 events that it had taken; "
        "they are taken again",
    ]


def test_a_storm_of_failures_is_cut_short(lines: Lines) -> None:
    # given two jobs that fail
    storm, other = task_of(schedules, execute=fails), task_of(schedules, execute=fails)
    with Simulation(Jobs(storm=storm, other=other)) as sim:
        # when one fails much more often than is logged at once
        for number in range(3 * OTHER_LINES):
            sim.task(storm).send(f"i{number}", {})
        sim.advance(0)
        # then that is bounded
        logged = len(lines.records)
        assert logged < OTHER_LINES
        # and the other is heard of nonetheless
        sim.task(other).send("a", {})
        sim.advance(0)
        assert lines.about[-1][1] == "task:other:a"
        # and after a moment the first one again, with the number of those left out
        sim.advance("2s")
        sim.task(storm).send("last", {})
        sim.advance(0)
    assert lines.texts[-1].endswith(f"; {3 * OTHER_LINES - logged} others like it were not logged")


class Broken(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("a filter of the user's")


@pytest.fixture
def broken_filter() -> Iterator[None]:
    log, broken = logging.getLogger("wakelog.failures"), Broken()
    log.addFilter(broken)
    yield
    log.removeFilter(broken)


def test_a_broken_filter_of_the_users_changes_nothing(stage: Staging, broken_filter: None) -> None:
    job = stage(schedules, execute=fails)
    job.send()
    job.sim.advance(0)
    assert job.status().status == "failed"


@pytest.mark.anyio
async def test_a_worker_logs_too_and_the_scheduler_is_quiet(
    sqlite_url: str, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    task = task_of(schedules, execute=fails)
    async with Jobs(job=task).open(sqlite_url, worker=True) as app:
        await app.task(task).send("a", {})
        await app.task(task).trigger("a", timeout=WAIT_S)
    assert lines.about[0] == ("ERROR", "task:job:a", 1, 1)
    names = {each.name for each in caplog.records if each.levelno < logging.WARNING}
    assert not {name for name in names if name.startswith(("apscheduler", "wakelog.alarms"))}
