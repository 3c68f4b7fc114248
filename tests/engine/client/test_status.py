"""How an instance stands, and what outsiders see of it: T10, T11 and T13."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from tests.support import START, WAIT_S, Ctx, Staging, elsewhere, staged, task_of
from wakelog import ExecutionError, InvalidStateError, Jobs, LastError, TaskStatus
from wakelog.core.events import ExecutionFailed
from wakelog.settings import Settings
from wakelog.testing import SimulatedCrash

HOUR = timedelta(hours=1)


class Account(BaseModel):
    name: str
    password: str = "secret"


def fail(ctx: Ctx) -> None:
    raise LookupError("gone")


# -- T10 -------------------------------------------------------------------------------------------


def test_T10_what_never_was_is_not_found(stage: Staging) -> None:
    job = stage()
    assert job.status() == TaskStatus(instance_id="task:job:a", version=0, status="not_found")
    assert job.state() is None


def test_T10_status_tells_when_and_how_often(stage: Staging) -> None:
    # given
    job = stage(execute=lambda ctx: ctx.schedule("2h"))
    job.send({"schedule": "1h"})
    job.sim.advance("1h")
    job.send({}, delay="30m")
    with pytest.raises(ExecutionError):
        job.send({"raise": "boom"})
    # then
    status = job.status()
    assert status.last_error is not None
    assert status == TaskStatus(
        instance_id="task:job:a",
        version=8,
        status="active",
        executing=False,
        scheduled_at=START + 3 * HOUR,
        retry_at=None,
        clear_at=None,
        created_at=START,
        updated_at=START + HOUR,
        event_count=2,
        execute_count=1,
        failure_count=1,
        deferred_count=1,
        last_error=LastError(
            handler="on_event",
            type="ValueError",
            message="boom",
            traceback=status.last_error.traceback,
            where=status.last_error.where,
            at=START + HOUR,
        ),
    )
    assert "raise ValueError(argument)" in status.last_error.traceback
    assert re.fullmatch(r".*/tests/support\.py:\d+ in scripted", status.last_error.where)


def test_T10_the_list_says_the_same(stage: Staging) -> None:
    job = stage()
    job.send({"schedule": "1h"})
    job.send(id="b")
    [first, second] = job.sim.list()
    status = job.status()
    assert (first.instance_id, first.status, first.version) == ("task:job:a", "active", 3)
    assert (first.scheduled_at, first.updated_at) == (status.scheduled_at, status.updated_at)
    assert (second.status, second.event_count) == ("idle", 1)


@pytest.mark.parametrize(
    ("event", "options", "word"),
    [
        ({}, {}, "idle"),
        ({"schedule": "1h"}, {}, "active"),
        ({}, {"delay": "1h"}, "active"),
        ({"clear": None}, {}, "not_found"),
    ],
)
def test_T10_the_word_is_active_while_something_waits(
    stage: Staging, event: Any, options: dict[str, Any], word: str
) -> None:
    job = stage()
    job.send(event, **options)
    assert job.status().status == word


def test_T10_what_is_due_in_a_simulation_is_not_unhandled(stage: Staging) -> None:
    job = stage()
    job.send({"schedule": 0})
    assert job.status().status == "active"


def test_T10_an_open_run_is_shown_beside_the_status(stage: Staging) -> None:
    # given
    seen: list[TaskStatus] = []

    def execute(ctx: Ctx) -> None:
        seen.append(elsewhere(job, lambda task: task.status("a")))

    job = stage(execute=execute)
    job.send({"schedule": "1h"})
    # when
    job.sim.advance("1h")
    # then
    assert [(s.executing, s.scheduled_at, s.execute_count) for s in seen] == [(True, None, 1)]
    assert not job.status().executing


def test_T10_failed_goes_before_active(stage: Staging) -> None:
    # given a failing run that leaves another schedule behind
    job = stage(execute=fail)
    job.send({"schedule": "2h"})
    # when
    job.trigger()
    # then
    status = job.status()
    assert (status.status, status.scheduled_at) == ("failed", START + 2 * HOUR)


def test_T10_a_run_that_cost_too_many_workers_has_failed(stage: Staging) -> None:
    # given a run that kills each worker that takes it
    job = stage(sim={"settings": Settings(max_lost=3)})
    job.send({"schedule": "5m"})
    job.sim.advance("299s")
    for _ in range(3):
        job.sim.crash_next("after_write")
        with pytest.raises(SimulatedCrash):
            job.sim.advance("1h")
        job.sim.restart()
        assert job.status().executing
    # when the fourth comes
    job.sim.advance("1h")
    # then
    status = job.status()
    assert (status.status, status.executing, status.retry_at) == ("failed", False, None)
    assert job.names()[-2:] == ["ExecutionLost", "RetryExhausted"]
    assert status.last_error is not None
    assert status.last_error.type == "ExecutionLost"
    # and it is left by a trigger
    assert not job.trigger().failed
    assert job.status().status == "idle"


# -- T11 -------------------------------------------------------------------------------------------


def test_T11_get_state_is_the_state_or_none(stage: Staging) -> None:
    job = stage(state=Account)
    assert job.state() is None
    job.send()
    assert job.state() is None
    job.send({"set_state": {"name": "ann"}})
    assert job.state() == Account(name="ann")
    job.send({"clear_state": None})
    assert job.state() is None


@pytest.mark.parametrize("is_async", [False, True])
def test_T11_on_client_get_state_shapes_what_outsiders_see_and_handlers_never(
    stage: Staging, is_async: bool
) -> None:
    # given
    seen: list[Any] = []

    def redact(ctx: Ctx, state: Account) -> Account:
        return state.model_copy(update={"password": f"*** of {ctx.id}"})

    async def redact_async(ctx: Ctx, state: Account) -> Account:
        await asyncio.sleep(0)
        return redact(ctx, state)

    job = stage(
        state=Account,
        on_client_get_state=redact_async if is_async else redact,
        execute=lambda ctx: seen.append(ctx.state.password),
    )
    job.send({"set_state": {"name": "ann"}})
    # then
    assert job.state() == Account(name="ann", password="*** of a")
    job.trigger()
    assert seen == ["secret"]


def test_T11_it_is_not_asked_where_there_is_no_state(stage: Staging) -> None:
    seen: list[Any] = []
    job = stage(on_client_get_state=lambda ctx, state: seen.append(state))
    assert job.state() is None
    job.send()
    assert job.state() is None
    assert seen == []


@pytest.mark.parametrize(
    "command",
    [
        lambda ctx: ctx.set_state(1),
        lambda ctx: ctx.update_state(lambda state: state),
        lambda ctx: ctx.clear_state(),
        lambda ctx: ctx.schedule("1h"),
        lambda ctx: ctx.cancel_schedule(),
        lambda ctx: ctx.emit("t", 1),
        lambda ctx: ctx.clear(),
    ],
)
def test_T11_a_command_in_it_raises_and_changes_nothing(stage: Staging, command: Any) -> None:
    job = stage(on_client_get_state=lambda ctx, state: command(ctx))
    job.send({"set_state": 1})
    with pytest.raises(ExecutionError) as raised:
        job.state()
    assert isinstance(raised.value.__cause__, InvalidStateError)
    assert job.names() == ["Started", "EventReceived", "StateSet"]


@pytest.mark.parametrize(
    "error", [ValueError("no"), asyncio.CancelledError("no"), SystemExit("no"), GeneratorExit("no")]
)
def test_T11_its_failure_is_an_execution_error(stage: Staging, error: BaseException) -> None:
    # given
    def show(ctx: Ctx, state: Any) -> Any:
        raise error

    job = stage(on_client_get_state=show)
    job.send({"set_state": 1})
    # when
    with pytest.raises(ExecutionError) as raised:
        job.state()
    # then
    assert raised.value.handler == "on_client_get_state"
    assert "no" in raised.value.message
    assert job.status().failure_count == 0


def test_T11_a_state_that_does_not_fit_any_more_is_an_execution_error(stage: Staging) -> None:
    # given a state of yesterday's type
    job = stage(state=int)
    job.send({"set_state": 1})
    # when today's code reads it
    with staged(task_of(state=Account), job.url).sim as today:
        with pytest.raises(ExecutionError):
            today.task("job").get_state("a")
        # then all but the state can be seen
        assert today.task("job").status("a").status == "idle"
        assert today.state_at("task:job:a", version=3).state == 1


@pytest.mark.anyio
async def test_T11_it_is_not_asked_about_a_state_that_was_cleared_while_it_was_read(
    sqlite_url: str,
) -> None:
    # given a state, and another process that clears it between two reads of the store
    seen: list[Any] = []

    async def shown(ctx: Ctx, state: Any) -> Any:
        seen.append(state)
        return state

    jobs = Jobs(job=task_of(on_client_get_state=shown))
    loop = asyncio.get_running_loop()
    async with jobs.open(sqlite_url) as app, jobs.open(sqlite_url) as other:
        await other.task("job").send("a", {"set_state": 1})
        store: Any = app.application.store
        load = store.load

        def cleared_before(*args: Any) -> Any:
            clearing = asyncio.run_coroutine_threadsafe(other.task("job").clear("a"), loop)
            assert clearing.result(WAIT_S).cleared
            return load(*args)

        store.load = cleared_before
        # when
        assert await app.task("job").get_state("a") is None
    # then
    assert seen == []


def test_T11_a_caller_cannot_reach_into_the_state(stage: Staging) -> None:
    job = stage(on_client_get_state=lambda ctx, state: state)
    job.send({"set_state": [1]})
    job.state().append(2)
    assert job.state() == [1]


# -- T13 -------------------------------------------------------------------------------------------


def test_T13_a_failing_run_leaves_the_instance_failed_and_visible(stage: Staging) -> None:
    # given
    job = stage(execute=fail)
    job.send({"schedule": "1h"})
    # when
    job.sim.advance("1h")
    # then
    status = job.status()
    assert (status.status, status.failure_count, status.scheduled_at) == ("failed", 1, None)
    assert status.last_error is not None
    assert (status.last_error.handler, status.last_error.type) == ("execute", "LookupError")
    assert [row.instance_id for row in job.sim.list(status="failed")] == ["task:job:a"]
    assert [row.instance_id for row in job.sim.list(error="LookupError")] == ["task:job:a"]
    [failure] = job.found(ExecutionFailed)
    assert (failure.run, failure.attempt, failure.will_retry) == (1, 1, False)


def test_T13_it_is_left_by_the_next_handler_that_ends_well(stage: Staging) -> None:
    # given
    job = stage(execute=fail)
    job.send({"schedule": "1h"})
    job.sim.advance("1h")
    # when one fails, it is not
    with pytest.raises(ExecutionError):
        job.send({"raise": "boom"})
    assert job.status().status == "failed"
    # when one ends well, it is
    job.send()
    assert job.status().status == "idle"
    assert job.status().failure_count == 2


def test_T13_or_by_a_trigger_that_ends_well(stage: Staging) -> None:
    # given a run that fails twice
    fails = [True, True, False]

    def execute(ctx: Ctx) -> None:
        if fails.pop(0):
            raise LookupError("gone")

    job = stage(execute=execute)
    job.send()
    # then
    words = [(job.trigger().failed, job.status().status) for _ in range(3)]
    assert words == [(True, "failed"), (True, "failed"), (False, "idle")]


def test_T13_or_by_a_deferred_event_that_is_handled_well(stage: Staging) -> None:
    job = stage(execute=fail)
    job.send()
    job.trigger()
    job.send({"set_state": 1}, delay="1h")
    assert job.status().status == "failed"
    job.sim.advance("1h")
    assert job.status().status == "idle"


def test_T13_with_an_on_error_that_ends_well_nothing_has_failed(stage: Staging) -> None:
    # given
    def on_error(ctx: Ctx, error: BaseException) -> None:
        ctx.set_state(f"{ctx.error_source}: {error}")
        ctx.schedule("1h")

    job = stage(execute=fail, on_error=on_error)
    job.send({"schedule": "1h"})
    # when
    job.sim.advance("1h")
    # then
    assert job.state() == "execute: gone"
    status = job.status()
    assert (status.status, status.scheduled_at) == ("active", START + 2 * HOUR)
    assert job.commits()[-1] == ["ExecutionFailed", "StateSet", "Scheduled"]


def test_T13_nothing_is_dormant_while_it_says_active(stage: Staging) -> None:
    # given an instance that says so in each way there is
    job = stage()
    job.send({"schedule": "1h"}, id="schedule")
    job.send({}, id="event", delay="1h")
    job.send(id="trigger")
    job.trigger(id="trigger", wait=False)
    # then each has an alarm
    active = {row.instance_id for row in job.sim.list(status="active")}
    assert len(active) == 3
    assert active == {alarm.instance_id for alarm in job.sim.alarms()}
    # and when all have fired, none says so any more
    job.sim.run_until_idle()
    assert job.sim.list(status="active") == []
