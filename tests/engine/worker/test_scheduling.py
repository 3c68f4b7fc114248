"""The schedule and its alarms: T4, T5, A1, A2 and A3."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.support import START, Ctx, Staging, moment_at, staged
from wakelog import ExecutionError
from wakelog.core.events import RunStarted, Scheduled

HOUR = timedelta(hours=1)


# -- T4 --------------------------------------------------------------------------------------------


def test_T4_a_send_that_does_not_schedule_leaves_the_schedule_alone(stage: Staging) -> None:
    job = stage()
    job.send({"schedule": "1h"})
    job.sim.advance("10m")
    job.send({"set_state": 1})
    assert job.status().scheduled_at == START + HOUR


@pytest.mark.parametrize(
    ("commands", "scheduled_at"),
    [
        ({"schedule": "1h"}, START + HOUR),
        ({"cancel_schedule": None, "schedule": "1h"}, START + HOUR),
        ({"schedule": "1h", "cancel_schedule": None}, None),
        ({"cancel_schedule": None}, None),
        ({"set_state": 1}, START + 9 * HOUR),
    ],
)
def test_T4_the_last_word_counts(
    stage: Staging, commands: dict[str, Any], scheduled_at: datetime | None
) -> None:
    job = stage()
    job.send({"schedule": "9h"})
    assert job.send(commands).scheduled_at == scheduled_at
    assert job.status().scheduled_at == scheduled_at
    alarms = [alarm.due_at for alarm in job.sim.alarms()]
    assert alarms == ([] if scheduled_at is None else [scheduled_at])


def test_T4_schedule_twice_the_last_wins_and_only_it_is_recorded(stage: Staging) -> None:
    # given
    def on_event(ctx: Ctx, event: Any) -> None:
        ctx.schedule("2h")
        ctx.schedule("1h")

    job = stage(on_event)
    # when
    job.send()
    # then
    assert [moment_at(e.due_us) for e in job.found(Scheduled)] == [START + HOUR]


def test_T4_scheduled_at_shows_calls_that_are_not_committed_yet(stage: Staging) -> None:
    # given
    seen: list[datetime | None] = []

    def on_event(ctx: Ctx, event: Any) -> None:
        seen.append(ctx.scheduled_at)
        ctx.schedule("1h")
        seen.append(ctx.scheduled_at)
        ctx.schedule("2h")
        seen.append(ctx.scheduled_at)
        ctx.cancel_schedule()
        seen.append(ctx.scheduled_at)
        ctx.schedule("3h")

    job = stage(on_event)
    # when
    job.send()
    job.send()
    # then
    inside = [START + HOUR, START + 2 * HOUR, None]
    assert seen == [None, *inside, START + 3 * HOUR, *inside]


def test_T4_a_time_in_the_past_is_due_at_once_and_both_times_are_recorded(stage: Staging) -> None:
    # given
    asked = START - timedelta(days=1)
    ran: list[datetime] = []
    job = stage(
        lambda ctx, event: ctx.schedule(asked), execute=lambda ctx: ran.append(ctx.scheduled_for)
    )
    # when
    sent = job.send()
    # then
    assert sent.scheduled_at == START
    [scheduled] = job.found(Scheduled)
    assert scheduled.asked_us is not None
    assert (moment_at(scheduled.due_us), moment_at(scheduled.asked_us)) == (START, asked)
    assert "asked for 2025-12-31 00:00:00 UTC" in job.sim.history("task:job:a")[-1].description
    job.sim.advance(0)
    assert ran == [START]


def test_T4_so_is_the_earliest_moment_there_is(stage: Staging) -> None:
    # given the far ends of what a datetime can say
    early = datetime.min.replace(tzinfo=UTC)
    late = datetime.max.replace(tzinfo=UTC)
    job = stage(lambda ctx, event: ctx.schedule(early if event == "early" else late))
    # then
    assert job.send("early").scheduled_at == START
    assert job.send("late").scheduled_at == late
    assert len(job.sim.history("task:job:a")) == 5


def test_T4_a_moment_in_another_zone_is_the_same_moment(stage: Staging) -> None:
    there = (START + HOUR).astimezone(timezone(timedelta(hours=-7)))
    job = stage(lambda ctx, event: ctx.schedule(there))
    sent = job.send()
    assert sent.scheduled_at == START + HOUR
    assert sent.scheduled_at is not None
    assert sent.scheduled_at.utcoffset() == timedelta(0)


def test_U9_a_wrong_time_is_refused_where_it_is_asked_for(stage: Staging) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    for wrong in (naive, -1, float("inf"), float("nan"), True, "1 fortnight", None, "99999999d"):
        job = stage(lambda ctx, event, wrong=wrong: ctx.schedule(wrong))
        with pytest.raises(ExecutionError, match="schedule"):
            job.send()
        assert job.names() == []


# -- T5 --------------------------------------------------------------------------------------------


def test_T5_inside_execute_nothing_is_scheduled_any_more(stage: Staging) -> None:
    # given
    seen: list[Any] = []

    def execute(ctx: Ctx) -> None:
        status = job.recorded()[-1]
        seen.append((ctx.scheduled_at, type(status.event).__name__))

    job = stage(execute=execute)
    job.send({"schedule": "5m"})
    # when
    job.sim.advance("5m")
    # then
    assert seen == [(None, "RunStarted")]


def test_T5_if_execute_does_not_schedule_the_instance_is_idle(stage: Staging) -> None:
    job = stage()
    job.send({"schedule": "5m"})
    job.sim.advance("5m")
    status = job.status()
    assert (status.status, status.scheduled_at, status.execute_count) == ("idle", None, 1)
    assert job.sim.alarms() == []
    assert job.sim.run_until_idle() == 0


def test_T5_a_run_says_when_it_was_due_how_late_it_is_and_who_does_it(stage: Staging) -> None:
    # given a schedule that no worker was there for
    job = stage()
    job.send({"schedule": "5m"})
    with staged(job.task, job.url, start=START + HOUR).sim as late:
        # when one comes, an hour later
        late.advance(0)
    # then
    [started] = job.found(RunStarted)
    assert moment_at(started.due_us) == START + timedelta(minutes=5)
    assert started.late_us == 55 * 60 * 1_000_000
    assert (started.run, started.attempt, started.trigger) == (1, 1, "alarm")
    assert started.worker


def test_T5_the_recovery_of_a_lost_run_is_the_same_run(stage: Staging) -> None:
    # given a worker that dies while it runs
    seen: list[Any] = []
    job = stage(execute=lambda ctx: seen.append((ctx.run_count, ctx.attempt, ctx.is_retry)))
    job.send({"schedule": "5m"})
    job.sim.advance("299s")

    def die(point: Any) -> None:
        job.sim.crash_next(point)
        with pytest.raises(BaseException, match=point):
            job.sim.advance("1h")
        job.sim.restart()

    # when
    die("after_write")
    job.sim.advance("1h")
    # then
    assert seen == [(1, 2, True)]
    assert [(e.run, e.attempt, e.trigger) for e in job.found(RunStarted)] == [
        (1, 1, "alarm"),
        (1, 2, "recovery"),
    ]
    assert job.status().execute_count == 1


# -- A1, A2, A3 ------------------------------------------------------------------------------------


def test_A1_an_alarm_is_never_early_and_fires_once(stage: Staging) -> None:
    # given
    ran: list[datetime] = []
    job = stage(execute=lambda ctx: ran.append(ctx.now))
    job.send({"schedule": timedelta(hours=1).total_seconds()})
    # when
    job.sim.advance(timedelta(hours=1) - timedelta(microseconds=1))
    assert ran == []
    job.sim.advance(timedelta(microseconds=1))
    job.sim.advance("1d")
    # then
    assert ran == [START + HOUR]


def test_A1_it_fires_again_only_if_its_run_was_lost(stage: Staging) -> None:
    # given
    ran: list[int] = []
    job = stage(execute=lambda ctx: ran.append(ctx.attempt))
    job.send({"schedule": "1h"})
    # when the process dies right after the outcome is recorded
    job.sim.advance("59m")
    job.sim.fire("task:job:a")
    job.sim.restart()
    job.sim.advance("1d")
    # then
    assert ran == [1]


def test_A2_the_due_list_is_what_the_log_says(stage: Staging) -> None:
    # given many instances, scheduled, re-scheduled, cancelled, run and cleared
    job = stage()
    for n in range(10):
        job.send({"schedule": f"{n + 1}h"}, id=f"i{n}")
    job.send({"cancel_schedule": None}, id="i1")
    job.send({"schedule": "90m"}, id="i2")
    job.clear(id="i3")
    job.sim.advance("1h")
    job.clear(id="i4", after="1h")
    job.send({}, id="i5", delay="30m")
    # then the alarms are those of a fresh fold of the log
    due = {alarm.instance_id[9:]: alarm.due_at for alarm in job.sim.alarms()}
    assert due == {
        "i2": START + timedelta(minutes=90),
        "i4": START + 2 * HOUR,
        "i5": START + timedelta(minutes=90),
        **{f"i{n}": START + (n + 1) * HOUR for n in (6, 7, 8, 9)},
    }
    job.audit()


def test_A3_after_an_outage_all_due_alarms_fire_oldest_first(stage: Staging) -> None:
    # given alarms, and no worker for ten days
    ran: list[str] = []
    job = stage(execute=lambda ctx: ran.append(ctx.id))
    for id, delay in (("c", "3d"), ("a", "1d"), ("later", "11d"), ("b", "2d")):
        job.send({"schedule": delay}, id=id)
    job.sim.close()
    # when one opens the store
    with staged(job.task, job.url, start=START + timedelta(days=10)).sim as sim:
        assert sim.advance(0) == 3
        # then
        assert ran == ["a", "b", "c"]
        assert [alarm.instance_id for alarm in sim.alarms()] == ["task:job:later"]


def test_A3_deferred_events_and_delayed_clears_wait_out_an_outage_too(stage: Staging) -> None:
    # given
    job = stage()
    job.send({"set_state": 1}, id="event", delay="1d")
    job.send({"set_state": 1}, id="clear")
    job.clear(id="clear", after="2d")
    job.sim.close()
    # when
    with staged(job.task, job.url, start=START + timedelta(days=10)).sim as sim:
        sim.advance(0)
        # then
        assert sim.task("job").get_state("event") == 1
        assert sim.task("job").status("clear").status == "not_found"
