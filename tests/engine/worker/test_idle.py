"""When nothing is left to wait for: on_idle (T6)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support import START, Ctx, Staging
from wakelog import ExecutionError
from wakelog.core.events import Cleared, ExecutionFailed


def reasons(seen: list[str]) -> Any:
    """An `on_idle` that says after which handler it was called."""
    return lambda ctx: seen.append(ctx.idle_reason)


def test_T6_on_idle_runs_after_a_handler_that_ended_well_and_left_nothing(stage: Staging) -> None:
    # given
    seen: list[str] = []
    job = stage(on_idle=reasons(seen))
    # when
    job.send()
    job.trigger()
    job.send({}, delay="1h")
    job.sim.advance("1h")
    # then
    assert seen == ["on_event", "execute", "on_event"]


def test_T6_on_idle_runs_after_a_handler_that_was_recovered(stage: Staging) -> None:
    # given
    seen: list[str] = []

    def fail(ctx: Ctx) -> None:
        raise ValueError("boom")

    job = stage(on_idle=reasons(seen), on_error=lambda ctx, error: None, execute=fail)
    # when
    job.send({"raise": "boom"})
    job.trigger()
    # then
    assert seen == ["on_event", "execute"]


def test_T6_not_after_one_that_failed_or_ended_the_life(stage: Staging) -> None:
    # given
    seen: list[str] = []

    def fail(ctx: Ctx) -> None:
        raise ValueError("boom")

    job = stage(on_idle=reasons(seen), execute=fail)
    job.send({"schedule": "1h"})
    # when
    with pytest.raises(ExecutionError):
        job.send({"raise": "boom"})
    job.sim.advance("1h")
    job.send({"clear": None})
    # then
    assert seen == []


@pytest.mark.parametrize("waits", ["schedule", "delayed event", "trigger", "deferred event"])
def test_T6_not_while_an_alarm_or_an_event_waits(stage: Staging, waits: str) -> None:
    # given
    seen: list[str] = []
    job = stage(on_idle=reasons(seen))
    job.send()
    # when
    match waits:
        case "schedule":
            job.send({"schedule": "1h"})
        case "delayed event":
            job.send({"set_state": 1}, delay="1h")
            job.send({})
        case "trigger":
            job.trigger(wait=False)
            job.send({})
        case _:
            for _ in range(3):
                job.send({}, delay=0)
            job.sim.fire("task:job:a")
    # then
    assert seen == (["on_event", "on_event"] if waits == "deferred event" else ["on_event"])


def test_T6_on_idle_may_set_state_schedule_and_clear(stage: Staging) -> None:
    # given
    def on_idle(ctx: Ctx) -> None:
        if ctx.state == "clear me":
            ctx.clear("idle")
        ctx.set_state("seen")
        ctx.schedule("1h")

    job = stage(on_idle=on_idle)
    # when
    sent = job.send()
    # then all of it is one unit
    assert sent.scheduled_at == START + timedelta(hours=1)
    assert job.state() == "seen"
    assert len(job.commits()) == 1
    # when
    job.send({"set_state": "clear me", "cancel_schedule": None})
    # then
    assert job.status().status == "not_found"
    [cleared] = job.found(Cleared)
    assert (cleared.reason, cleared.by) == ("idle", "handler")


def test_T6_at_most_once_per_unit(stage: Staging) -> None:
    # given an on_idle that leaves nothing to wait for
    seen: list[str] = []

    def on_idle(ctx: Ctx) -> None:
        seen.append(ctx.idle_reason)
        ctx.set_state(len(seen))

    job = stage(on_idle=on_idle)
    # when
    job.send()
    job.send()
    # then
    assert seen == ["on_event"] * 2


@pytest.mark.parametrize("way", ["send", "run"])
def test_T6_if_it_fails_the_rest_is_kept_the_call_goes_well_and_nobody_recovers(
    stage: Staging, way: str
) -> None:
    # given
    recovered: list[Any] = []

    def on_idle(ctx: Ctx) -> None:
        ctx.set_state("from on_idle")
        ctx.schedule("1h")
        raise ValueError("idle boom")

    job = stage(
        on_idle=on_idle,
        on_error=lambda ctx, error: recovered.append(error),
        execute=lambda ctx: ctx.set_state("from execute"),
    )
    # when
    if way == "send":
        job.send({"set_state": "from on_event"})
    else:
        job.send({"schedule": "5m"})
        job.sim.advance("5m")
    # then
    assert job.state() == ("from on_event" if way == "send" else "from execute")
    assert recovered == []
    [failure] = job.found(ExecutionFailed)
    assert (failure.handler, failure.message) == ("on_idle", "idle boom")
    status = job.status()
    assert (status.status, status.failure_count) == ("idle", 1)
    assert status.last_error is not None
    assert status.last_error.handler == "on_idle"


def test_T6_an_on_idle_that_clears_after_a_run_ends_the_life(stage: Staging) -> None:
    job = stage(on_idle=lambda ctx: ctx.clear())
    job.send({"schedule": "5m"})
    result = job.trigger(consume_alarm=True)
    assert (result.triggered, result.cleared) == (True, True)
    assert job.status().status == "not_found"
