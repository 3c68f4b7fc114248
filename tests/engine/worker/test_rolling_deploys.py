"""Rolling deploys: workers with two rules of one job at a time (C10)."""

from __future__ import annotations

import asyncio
import shutil
import zoneinfo
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.auditing import audit_all
from tests.clockwork import START, Clockwork, Winding, at, fail
from tests.support import WAIT_S
from wakelog import Continuous, Debounce, Jobs, Retry
from wakelog.core import cron
from wakelog.core.events import Missed, RunStarted, Scheduled
from wakelog.settings import WorkerSettings
from wakelog.testing import Simulation
from wakelog.worker.startup import PAGE
from wakelog_adapters.alarm_scheduler import open_alarm_clock

HOUR = timedelta(hours=1)
RULES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"cron": "0 0 1 * *"}, {"cron": "0 * * * *"}),
    ({"every": "30d"}, {"every": "1h"}),
    ({"cron": "0 3 * * *"}, {"cron": "0 3 * * *", "timezone": "Asia/Kolkata"}),
]


def started(wind: Winding, **rule: Any) -> Clockwork:
    job = wind(**rule, start_immediately=False)
    job.client.start("a", 0)
    return job


@pytest.mark.parametrize(("old", "new"), RULES, ids=["cron", "every", "zone"])
def test_C10_what_an_old_worker_schedules_last_follows_the_new_rule(
    wind: Winding, old: dict[str, Any], new: dict[str, Any]
) -> None:
    # given a new worker that has opened, and an old one that is faster once more
    before = started(wind, **old)
    after = wind(**new, start_immediately=False, start=START + HOUR)
    before.sim.fire("continuous:job:a")
    assert len(before.runs) == 1
    assert before.found(Scheduled)[-1].reason == before.job.recurrence.text
    # when only the new one goes on
    before.sim.close()
    after.sim.advance("3d")
    # then
    assert len(after.runs) >= 2
    assert after.found(Scheduled)[-1].reason == after.job.recurrence.text


def test_C10_while_both_live_the_worker_that_opened_last_decides(wind: Winding) -> None:
    before = started(wind, every="1h")
    after = wind(every="2h", start=START + timedelta(minutes=1))
    before.sim.advance("10m")  # it sweeps, and leaves the schedule to the other one
    assert after.status().next_run_at == START + 2 * HOUR
    after.sim.close()  # a rollback: the new one is stopped
    before.sim.advance("10m")
    assert before.status().next_run_at == START + HOUR


def test_C10_an_old_worker_that_restarts_decides_only_as_long_as_it_lives(wind: Winding) -> None:
    started(wind, cron="0 0 1 * *").sim.close()
    new = wind(cron="0 * * * *", start=START + HOUR)
    old = wind(cron="0 0 1 * *", start=START + HOUR + timedelta(minutes=5))
    assert old.status().next_run_at == datetime(2026, 4, 1, tzinfo=START.tzinfo)
    old.sim.close()
    new.sim.advance("1d")
    assert len(new.runs) == 24


@pytest.mark.anyio
async def test_C10_a_worker_sets_right_in_its_sweeps_what_an_old_one_has_left(
    store_url: str,
) -> None:
    ran: asyncio.Queue[str] = asyncio.Queue()

    def version(name: str, every: str) -> Jobs:
        job = Continuous(state=int, every=every, start_immediately=False)
        job.execute(lambda ctx: ran.put_nowait(name))
        return Jobs(job=job)

    async with asyncio.timeout(WAIT_S), version("new", "100ms").open(store_url) as new:
        async with version("old", "30d").open(store_url, worker=True) as old:
            await old.continuous("job").start("a", 0)
            await new.start_worker(WorkerSettings(sweep_us=100_000), open_alarm_clock)
            # when the old worker ends a run, the next is due in 30 days
            await old.continuous("job").trigger("a")
            while await ran.get() != "old":
                await old.continuous("job").trigger("a")
        # then
        assert "new" in [await ran.get() for _ in range(5)]


def test_C10_a_window_follows_the_worker_that_decides(store_url: str) -> None:
    def opened(flush_after: str, start: datetime) -> tuple[Simulation, Any]:
        job: Debounce[str, str] = Debounce(event=str, flush_after=flush_after)
        job.execute(lambda ctx: None)
        return Simulation(Jobs(batch=job), url=store_url, start=start), job

    with ExitStack() as closing:
        old, slow = opened("30d", START)
        closing.enter_context(old)
        new, fast = opened("1h", START + timedelta(seconds=1))
        closing.enter_context(new)
        old.debounce(slow).add("a", "x")
        new.advance("2m")
        assert new.debounce(fast).status("a").will_flush_at == START + HOUR
        audit_all(new.application.store)


def test_C10_an_occurrence_that_a_new_rule_passes_over_in_its_jitter_is_missed(
    wind: Winding,
) -> None:
    job = started(wind, cron="0 2 * * *", jitter="1h")
    job.sim.close()
    changed = wind(cron="0 5 * * *", start=at("01 02:00") + timedelta(seconds=1))
    assert changed.status().next_run_at == at("01 05:00")
    assert [(each.due_us, each.policy) for each in changed.found(Missed)] == [
        (int(at("01 02:00").timestamp() * 1_000_000), "skip")
    ]


@pytest.mark.parametrize(
    ("rule", "next_run", "missed"),
    [
        ({"cron": "0 5 * * *"}, "01 05:00", ["01 02:00"]),
        ({"cron": "3,33 * * * *"}, "01 02:03", ["01 02:00"]),
        ({"cron": "0 2,14 * * *"}, "01 02:00", []),
        ({"every": "9h"}, "01 09:00", ["01 02:00"]),
        ({"every": "1h"}, "01 02:00", []),
    ],
)
def test_C10_an_occurrence_in_its_jitter_runs_by_the_new_rule_or_is_missed(
    wind: Winding, rule: dict[str, Any], next_run: str, missed: list[str]
) -> None:
    started(wind, cron="0 2 * * *", jitter="50m").sim.close()
    now = at("01 02:00") + timedelta(seconds=1)
    changed = wind(**rule, start=now)
    assert changed.status().next_run_at == max(now, at(next_run))
    assert [(each.due_us, each.policy) for each in changed.found(Missed)] == [
        (int(at(each).timestamp() * 1_000_000), "skip") for each in missed
    ]
    changed.sim.advance("10h")
    assert changed.runs[0] == max(now, at(next_run))


def test_C10_what_an_old_worker_leaves_is_seen_in_the_first_sweep_of_the_new_one(
    wind: Winding,
) -> None:
    # given more instances than one look at all jobs takes, and an old worker that stops soon
    before = wind(every="30d", start_immediately=False)
    ids = [f"{number:03}" for number in range(PAGE + 2)]
    for each in ids:
        before.client.start(each, 0)
    after = wind(every="1h", start_immediately=False)
    before.client.trigger(ids[-1])
    before.sim.advance("1s")
    assert before.found(Scheduled, ids[-1])[-1].reason == before.job.recurrence.text
    before.sim.close()
    # when
    after.sim.advance("31s")
    # then
    assert after.found(Scheduled, ids[-1])[-1].reason == after.job.recurrence.text


@pytest.fixture
def zones(tmp_path: Path) -> Iterator[Any]:
    """Installs time zone data in which `Test/Land` has the rules of another zone."""
    path = zoneinfo.TZPATH

    def install(rules: str) -> None:
        [source] = [f for f in (Path(each) / rules for each in path) if f.exists()][:1]
        (tmp_path / "Test").mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / "Test" / "Land")
        zoneinfo.reset_tzpath([tmp_path, *path])
        zoneinfo.ZoneInfo.clear_cache()
        cron.forget_zones()

    yield install
    zoneinfo.reset_tzpath(path)
    zoneinfo.ZoneInfo.clear_cache()
    cron.forget_zones()


@pytest.mark.parametrize("jitter", [None, "10m"])
def test_C10_new_rules_of_a_zone_move_what_is_scheduled_and_no_day_has_two_runs(
    wind: Winding, zones: Any, jitter: str | None
) -> None:
    # given summer time, 9:00 is 7:00 UTC
    rule = {"cron": "0 9 * * *", "timezone": "Test/Land", "jitter": jitter}
    zones("Europe/Berlin")
    july = datetime(2026, 7, 1, tzinfo=START.tzinfo)
    job = wind(**rule, start=july, start_immediately=False)
    job.client.start("a", 0)
    job.sim.advance("7h30m")
    assert len(job.runs) == 1
    job.sim.close()
    # when the land gives it up: 9:00 is 8:00 UTC
    zones("Africa/Algiers")
    later = wind(**rule, start=july + timedelta(hours=7, minutes=40))
    later.sim.advance("2d1h")
    # then
    due = [each.due_us for each in later.found(RunStarted)]
    assert len(due) == 3
    hours = [(each - july) // HOUR for each in later.runs]
    assert hours == [24 + 8, 48 + 8]


def test_C10_a_moment_that_had_its_run_by_the_old_rules_of_the_zone_has_no_other(
    wind: Winding, zones: Any
) -> None:
    # given a run at 10:00, which is 8:00 UTC
    rule = {"cron": "0 * * * *", "timezone": "Test/Land", "grace": "2h"}
    zones("Europe/Berlin")
    july = datetime(2026, 7, 1, tzinfo=START.tzinfo)
    job = wind(**rule, start=july + timedelta(hours=7, minutes=30), start_immediately=False)
    job.client.start("a", 0)
    job.sim.advance("40m")
    assert job.runs == [july + timedelta(hours=8)]
    job.sim.close()
    # when 8:00 UTC is 11:00
    zones("Europe/Moscow")
    later = wind(**rule, start=july + timedelta(hours=8, minutes=10))
    later.sim.advance("2h")
    # then
    assert later.runs == [july + timedelta(hours=9), july + timedelta(hours=10)]


def test_C10_an_occurrence_put_off_by_a_gap_comes_at_its_own_time_once_the_gap_has_gone(
    wind: Winding, zones: Any
) -> None:
    # given 2:30 does not exist on that day, and 3:00 is 1:00 UTC
    rule = {"cron": "30 2 * * *", "timezone": "Test/Land"}
    zones("Europe/Berlin")
    march = datetime(2026, 3, 28, 12, tzinfo=START.tzinfo)
    job = wind(**rule, start=march, start_immediately=False)
    job.client.start("a", 0)
    assert job.status().next_run_at == march + timedelta(hours=13)
    job.sim.close()
    # when 2:30 is 1:30 UTC
    zones("Africa/Algiers")
    later = wind(**rule, start=march + HOUR)
    later.sim.advance("1d")
    # then
    assert later.runs == [march + timedelta(hours=13, minutes=30)]


def test_C10_a_late_occurrence_that_its_zone_has_moved_counts_once(
    wind: Winding, zones: Any
) -> None:
    rule = {"cron": "0 9 * * *", "timezone": "Test/Land"}
    zones("Europe/Berlin")
    july = datetime(2026, 7, 1, tzinfo=START.tzinfo)
    job = wind(**rule, start=july, start_immediately=False)
    job.client.start("a", 0)
    job.sim.close()
    zones("Africa/Algiers")
    later = wind(**rule, start=july + timedelta(hours=12))
    later.sim.advance("1h")
    assert [each.count for each in later.found(Missed)] == [1]
    assert later.runs == [july + timedelta(hours=12)]


def test_C10_a_late_occurrence_waits_if_by_the_new_rules_of_its_zone_it_has_not_come(
    wind: Winding, zones: Any
) -> None:
    # given no worker lived at 7:00 UTC, when 9:00 was by the old rules
    rule = {"cron": "0 9 * * *", "timezone": "Test/Land"}
    zones("Europe/Berlin")
    july = datetime(2026, 7, 1, tzinfo=START.tzinfo)
    job = wind(**rule, start=july, start_immediately=False)
    job.client.start("a", 0)
    job.sim.close()
    # when
    zones("Africa/Algiers")
    later = wind(**rule, start=july + timedelta(hours=7, minutes=30))
    later.sim.advance("20h")
    # then
    assert later.runs == [july + timedelta(hours=8)]


def test_C10_a_run_that_lasts_over_new_rules_of_its_zone_does_not_come_again_that_day(
    wind: Winding, zones: Any
) -> None:
    rule = {"cron": "0 9 * * *", "timezone": "Test/Land", "retry": Retry(delay="40m", jitter=0)}
    zones("Europe/Berlin")
    july = datetime(2026, 7, 1, tzinfo=START.tzinfo)
    job = wind(fail, **rule, start=july, start_immediately=False)
    job.client.start("a", 0)
    job.sim.advance("7h10m")
    job.sim.close()
    zones("Africa/Algiers")
    later = wind(**rule, start=july + timedelta(hours=7, minutes=30))
    later.sim.advance("12h")
    assert later.runs == [july + timedelta(hours=7, minutes=40)]


def test_C10_the_fingerprint_of_a_rule_tells_the_rules_of_its_zone(zones: Any) -> None:
    zones("Europe/Berlin")
    before = cron.cron_of("0 9 * * *", "Test/Land").rules
    zones("Africa/Algiers")
    assert cron.cron_of("0 9 * * *", "Test/Land").rules != before
