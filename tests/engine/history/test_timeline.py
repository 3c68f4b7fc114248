"""Every event of every life, and any state there was: H1."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support import START, Ctx, Placed, Staging, order_task, task_of
from wakelog import (
    ExecutionError,
    InstanceNotFoundError,
    InvalidIdError,
    Jobs,
    PastState,
    UnknownJobTypeError,
    ValidationError,
)
from wakelog.testing import Simulation

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001


def test_H1_history_is_every_event_of_every_life_in_order_in_plain_words(stage: Staging) -> None:
    # given
    def execute(ctx: Ctx) -> None:
        if ctx.run_count == 2:
            raise ValueError("smtp is down")
        ctx.emit("reminded", {"id": ctx.id})
        ctx.schedule("1h")

    job = stage(execute=execute)
    job.send({"set_state": {"n": 1}, "schedule": "5m"}, event_id="k-1", actor="ann")
    job.sim.advance("2h")
    with pytest.raises(ExecutionError):
        job.send({"raise": "no"})
    job.send({"clear_state": None}, delay="1h")
    job.trigger(wait=False, actor="bob")
    job.clear(reason="closed", actor="bob")
    job.send({})
    # when
    history = job.sim.history("task:job:a")
    # then
    assert [re.sub(r"\(/.*py:\d+ in", "(in", str(entry)) for entry in history] == [
        "   1  2026-01-01 00:00:00  life began (by ann)",
        "   2  2026-01-01 00:00:00  received event"
        ' {"set_state":{"n":1},"schedule":"5m"} with key \'k-1\' (by ann)',
        '   3  2026-01-01 00:00:00  state set to {"n":1} (by ann)',
        "   4  2026-01-01 00:00:00  scheduled a run at 2026-01-01 00:05:00 UTC (by ann)",
        "   5  2026-01-01 00:05:00  run 1 started (alarm) on simulation",
        "   6  2026-01-01 00:05:00  run 1 ended well after 0 ms",
        '   7  2026-01-01 00:05:00  sent {"id":"a"} to reminded',
        "   8  2026-01-01 00:05:00  scheduled a run at 2026-01-01 01:05:00 UTC",
        "   9  2026-01-01 01:05:00  run 2 started (alarm) on simulation",
        "  10  2026-01-01 01:05:00  execute failed: ValueError: smtp is down (in execute)",
        "  11  2026-01-01 02:00:00  on_event failed: ValueError: no (in scripted);"
        ' event {"raise":"no"} was refused',
        '  12  2026-01-01 02:00:00  accepted event {"clear_state":null},'
        " to be handled at 2026-01-01 03:00:00 UTC",
        "  13  2026-01-01 02:00:00  asked for run 2 again at 2026-01-01 02:00:00 UTC,"
        " by operator (by bob)",
        "  14  2026-01-01 02:00:00  cleared by operator: closed, 1 event discarded (by bob)",
        "  15  2026-01-01 02:00:00  life began",
        "  16  2026-01-01 02:00:00  received event {}",
    ]
    assert [entry.life for entry in history] == [1] * 14 + [2] * 2


def test_H1_an_entry_carries_the_event_as_data_and_all_that_surrounds_it(stage: Staging) -> None:
    # given
    job = stage()
    job.send({"set_state": [1]}, event_id="k", actor="ann", correlation_id="c-1")
    # when
    _, received, state = job.sim.history("task:job:a")
    # then
    assert received.data == {"event_id": "k", "payload": {"set_state": [1]}}
    assert state.data == {"state": [1]}
    assert (received.actor, received.correlation_id, received.cause) == ("ann", "c-1", None)
    assert received.commit == state.commit
    assert (received.at, received.version, received.event) == (START, 2, "EventReceived")
    assert len(received.hash) == 64


def test_H1_state_at_tells_how_it_stood_at_each_version(stage: Staging) -> None:
    # given
    job = stage(task=order_task())
    job.send(Placed())
    job.sim.advance("5m")
    # when
    past = [job.sim.state_at("task:job:a", version=version) for version in range(9)]
    # then
    reminders = [p.state and p.state["reminders"] for p in past]
    assert reminders == [None, None, None, 0, 0, 0, 0, 1, 1]
    due = [p.scheduled_at and (p.scheduled_at - START).total_seconds() / 60 for p in past]
    assert due == [None, None, None, None, 5, None, None, None, 65]
    assert [p.executing for p in past] == [False] * 5 + [True] + [False] * 3
    assert [p.status for p in past][:4] == ["not_found", "idle", "idle", "idle"]
    assert past[8] == PastState(
        instance_id="task:job:a",
        version=8,
        at=START + timedelta(minutes=5),
        status="active",
        state={"status": "pending", "reminders": 1},
        scheduled_at=START + timedelta(minutes=65),
        event_count=1,
        execute_count=1,
        failure_count=0,
        deferred_count=0,
        executing=False,
    )


def test_H1_or_at_a_moment(stage: Staging) -> None:
    # given
    job = stage()
    for n in range(3):
        job.send({"set_state": n})
        job.sim.advance("1h")
    # then
    moments = [-1, 0, 30, 60, 119, 120, 10_000]
    past = [
        job.sim.state_at("task:job:a", at=START + timedelta(minutes=minutes)) for minutes in moments
    ]
    assert [p.state for p in past] == [None, 0, 0, 1, 1, 2, 2]
    assert (past[0].version, past[0].at, past[0].status) == (0, None, "not_found")


def test_H1_also_over_a_clear(stage: Staging) -> None:
    job = stage()
    job.send({"set_state": 1})
    job.clear()
    job.send({"set_state": 2})
    past = [job.sim.state_at("task:job:a", version=version) for version in (3, 4, 7)]
    assert [(p.status, p.state, p.event_count) for p in past] == [
        ("idle", 1, 1),
        ("not_found", None, 0),
        ("idle", 2, 1),
    ]


def test_H1_long_histories_are_told_whole_with_and_without_snapshots(stage: Staging) -> None:
    # given more events than a page, and than lie between two snapshots
    job = stage(lambda ctx, event: ctx.set_state(event))
    for n in range(520):
        job.send(n)
    # then
    assert len(job.sim.history("task:job:a")) == 1041
    for version in (1, 99, 100, 101, 500, 1000, 1041):
        past = job.sim.state_at("task:job:a", version=version)
        assert (past.version, past.state) == (version, None if version < 3 else (version - 3) // 2)
    job.sim.restart()
    assert job.state() == 519


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda sim: sim.history("task:job:missing"), InstanceNotFoundError),
        (lambda sim: sim.history("a"), InvalidIdError),
        (lambda sim: sim.history(None), InvalidIdError),
        (lambda sim: sim.history("cron:job:a"), UnknownJobTypeError),
        (lambda sim: sim.state_at("task:job:missing", version=1), InstanceNotFoundError),
        (lambda sim: sim.state_at("task:job:missing", at=START), InstanceNotFoundError),
        (lambda sim: sim.state_at("task:job:a"), ValidationError),
        (lambda sim: sim.state_at("task:job:a", version=1, at=START), ValidationError),
        (lambda sim: sim.state_at("task:job:a", version=-1), ValidationError),
        (lambda sim: sim.state_at("task:job:a", version=3), ValidationError),
        (lambda sim: sim.state_at("task:job:a", at=NAIVE), ValidationError),
        (lambda sim: sim.state_at("task:job:a", at="yesterday"), ValidationError),
    ],
)
def test_H1_what_is_not_there_or_makes_no_sense_is_a_typed_error(
    stage: Staging, ask: Any, error: type[Exception]
) -> None:
    job = stage()
    job.send()
    with pytest.raises(error):
        ask(job.sim)


def test_H1_the_history_of_a_job_that_is_registered_no_more_can_be_read(stage: Staging) -> None:
    job = stage()
    job.send({"set_state": 1})
    with Simulation(Jobs(other=task_of()), url=job.url) as sim:
        assert len(sim.history("task:job:a")) == 3
        assert sim.state_at("task:job:a", version=3).state == 1
        assert [row.instance_id for row in sim.list()] == ["task:job:a"]


def test_H1_a_line_of_it_does_nothing_to_a_terminal(stage: Staging) -> None:
    job = stage()
    job.send(actor="\x1b[2Jann\u202e")
    [*_, entry] = job.sim.history("task:job:a")
    assert entry.actor == "\x1b[2Jann\u202e"
    assert str(entry).endswith(r"(by \x1b[2Jann\u202e)")
