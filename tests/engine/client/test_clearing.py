"""The end of a life: clear, from inside and outside (T8, T9)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from tests.support import START, Ctx, Staging, elsewhere
from wakelog import ClearResult, LeaseLostError
from wakelog.core.events import Cleared, MessageSent

HOUR = timedelta(hours=1)


# -- T8: from inside -------------------------------------------------------------------------------


def test_T8_ctx_clear_ends_the_handler_at_once(stage: Staging) -> None:
    # given
    seen: list[str] = []

    def on_event(ctx: Ctx, event: Any) -> None:
        seen.append("before")
        ctx.clear("done")
        seen.append("after")

    job = stage(on_event)
    # when
    sent = job.send()
    # then
    assert seen == ["before"]
    assert (sent.created, sent.event_count, sent.scheduled_at) == (True, 1, None)
    assert job.names() == ["Started", "EventReceived", "Cleared"]
    assert job.found(Cleared) == [Cleared(reason="done", by="handler")]


@pytest.mark.parametrize("handler", ["on_event", "execute", "on_error", "on_idle"])
def test_T8_it_drops_state_and_schedule_and_keeps_the_messages_before_it(
    stage: Staging, handler: str
) -> None:
    # given
    def end(ctx: Ctx, *given: Any) -> None:
        ctx.emit("before", 1)
        ctx.set_state("dropped")
        ctx.schedule("1h")
        ctx.clear("done")

    def fail(ctx: Ctx, event: Any) -> None:
        raise ValueError("boom")

    on_event = {"on_event": end, "on_error": fail}.get(handler)
    handlers = {} if handler == "on_event" else {handler: end}
    job = stage(*([on_event] if on_event else []), **handlers)
    # when
    job.send({"schedule": "5m"} if handler == "execute" else {})
    job.sim.advance("5m")
    # then
    assert job.status().status == "not_found"
    assert job.found(MessageSent) == [MessageSent(topic="before", payload="1")]
    assert job.names()[-2:] == ["MessageSent", "Cleared"]
    assert job.sim.alarms() == []


@pytest.mark.parametrize("cunning", ["Exception", "BaseException", "finally", "wrapped"])
def test_U6_a_clear_counts_even_if_user_code_caught_or_wrapped_it(
    stage: Staging, cunning: str
) -> None:
    # given
    def on_event(ctx: Ctx, event: Any) -> None:
        match cunning:
            case "Exception":
                with suppress(Exception):
                    ctx.clear()
            case "BaseException":
                with suppress(BaseException):
                    ctx.clear()
            case "finally":
                try:
                    ctx.clear()
                finally:
                    raise ValueError("in the way")
            case _:
                try:
                    ctx.clear()
                except BaseException as signal:
                    raise RuntimeError("wrapped") from signal

    job = stage(on_event)
    # when
    job.send()
    # then
    assert job.names() == ["Started", "EventReceived", "Cleared"]


@pytest.mark.parametrize("way", ["TaskGroup", "gather", "task"])
def test_U6_also_from_a_child_task(stage: Staging, way: str) -> None:
    # given
    async def on_event(ctx: Ctx, event: Any) -> None:
        async def child() -> None:
            ctx.clear("from a child")

        async def sibling() -> None:
            await asyncio.sleep(3600)

        match way:
            case "TaskGroup":
                async with asyncio.TaskGroup() as group:
                    group.create_task(sibling())
                    group.create_task(child())
            case "gather":
                await asyncio.gather(child(), return_exceptions=True)
            case _:
                await asyncio.wait([asyncio.ensure_future(child())])

    job = stage(on_event)
    # when
    job.send()
    # then
    assert job.names() == ["Started", "EventReceived", "Cleared"]
    assert job.found(Cleared)[0].reason == "from a child"


# -- T8: from outside ------------------------------------------------------------------------------


def test_T8_a_clear_of_nothing_answers_so(stage: Staging) -> None:
    job = stage()
    assert job.clear() == ClearResult(instance_id="task:job:a", version=0, cleared=False)
    assert job.cancel_clear() == ClearResult(instance_id="task:job:a", version=0, cleared=False)
    assert job.clear(after="1h") == ClearResult(instance_id="task:job:a", version=0, cleared=False)
    assert job.names() == []
    assert job.sim.alarms() == []


def test_T8_a_delayed_clear_of_nothing_does_not_wait_for_the_next_life(stage: Staging) -> None:
    # given an id that was cleared, and an event that waits to open its next life
    job = stage()
    job.send({"set_state": "later"}, delay="1h")
    job.send({"clear": None})
    before = job.names()
    # when
    result = job.clear(after="2h")
    # then
    assert (result.cleared, result.clear_at, result.discarded) == (False, None, 0)
    assert job.names() == before
    job.sim.advance("1d")
    assert job.state() == "later"


def test_T8_after_a_clear_the_id_starts_fresh_and_history_shows_every_life(stage: Staging) -> None:
    # given a life of events, runs and failures
    job = stage()
    job.send({"set_state": 1, "schedule": "1h"})
    job.sim.advance("1h")
    job.send({"schedule": "1h"})
    # when
    assert job.clear(reason="over", actor="ann").cleared
    # then
    status = job.status()
    assert (status.status, status.scheduled_at, status.created_at) == ("not_found", None, None)
    counters = (status.event_count, status.execute_count, status.failure_count)
    assert (*counters, status.deferred_count) == (0, 0, 0, 0)
    assert job.state() is None
    assert job.sim.alarms() == []
    assert job.sim.list() == []
    # when it begins again
    job.sim.advance("1h")
    again = job.send()
    # then
    assert (again.created, again.event_count, again.version) == (True, 1, 11)
    assert job.status().created_at == START + 2 * HOUR
    history = job.sim.history("task:job:a")
    assert [entry.version for entry in history] == [*range(1, 12)]
    assert {entry.life for entry in history} == {1, 2}
    ended = next(entry for entry in history if entry.event == "Cleared")
    assert (ended.life, ended.actor, ended.data["reason"]) == (1, "ann", "over")
    assert "over" in ended.description


def test_T8_a_clear_says_how_many_accepted_events_went_with_it(stage: Staging) -> None:
    # given
    seen: list[Any] = []
    job = stage(lambda ctx, event: seen.append(event))
    job.send("handled")
    for n in range(3):
        job.send(n, delay=f"{n}h")
    # when
    result = job.clear()
    job.sim.run_until_idle()
    # then
    assert (result.cleared, result.discarded) == (True, 3)
    assert seen == ["handled"]


def test_T8_a_clear_can_come_later(stage: Staging) -> None:
    # given
    job = stage()
    job.send({"schedule": "3h"})
    # when
    answer = job.clear(after="1h", reason="expired")
    # then
    assert (answer.cleared, answer.clear_at) == (False, START + HOUR)
    assert job.status().clear_at == START + HOUR
    assert job.status().scheduled_at == START + 3 * HOUR
    job.sim.advance("59m")
    assert job.status().status == "active"
    job.sim.advance("1m")
    assert job.status().status == "not_found"
    assert job.found(Cleared)[0].reason == "expired"
    assert job.sim.run_until_idle() == 0


def test_T8_and_be_taken_back(stage: Staging) -> None:
    job = stage()
    job.send({"schedule": "3h"})
    job.clear(after="1h")
    answer = job.cancel_clear()
    assert (answer.cleared, answer.clear_at) == (False, None)
    job.sim.advance("2h")
    assert job.status().scheduled_at == START + 3 * HOUR
    assert job.cancel_clear().version == answer.version


def test_T8_taking_back_says_whether_there_was_one(stage: Staging) -> None:
    job = stage()
    job.send()
    cancel = job.sim.task("job").cancel_clear
    assert not cancel("a").cancelled
    job.clear(after="1h")
    assert cancel("a").cancelled
    assert not cancel("a").cancelled


def test_T8_the_last_delay_counts_and_a_clear_now_leaves_none(stage: Staging) -> None:
    job = stage()
    job.send()
    job.clear(after="1h")
    assert job.clear(after="2h").clear_at == START + 2 * HOUR
    assert job.clear().cleared
    job.send({"set_state": "new life"})
    job.sim.advance("3h")
    assert job.state() == "new life"


def test_T8_a_delayed_clear_does_not_move_when_events_come(stage: Staging) -> None:
    job = stage()
    job.send()
    job.clear(after="1h")
    job.send({"schedule": "30m"})
    job.send({"set_state": 1})
    job.sim.advance("1h")
    assert job.status().status == "not_found"
    assert job.names().count("Executed") == 1


# -- T9 --------------------------------------------------------------------------------------------


def test_T9_a_run_that_was_cleared_cannot_bring_its_instance_back(stage: Staging) -> None:
    # given a run during which its life is ended, and a new one begins
    def execute(ctx: Ctx) -> None:
        elsewhere(job, lambda task: task.clear("a"))
        elsewhere(job, lambda task: task.send("a", {"set_state": "new life"}))
        ctx.set_state("old life")
        ctx.schedule("1h")

    job = stage(execute=execute)
    job.send({"schedule": "5m"})
    # when
    with pytest.raises(LeaseLostError):
        job.sim.advance("5m")
    # then
    assert job.state() == "new life"
    assert job.status().scheduled_at is None
    assert job.names()[-4:] == ["Cleared", "Started", "EventReceived", "StateSet"]


def test_T9_events_that_wait_at_a_ctx_clear_open_the_next_life(stage: Staging) -> None:
    # given a run that clears, during which events come
    def on_event(ctx: Ctx, event: str) -> None:
        ctx.set_state([*(ctx.state or []), (event, ctx.is_first_event, ctx.event_count)])
        if event == "go":
            ctx.schedule("5m")

    def execute(ctx: Ctx) -> None:
        sends = [elsewhere(job, lambda task: task.send("a", "one"))]
        sends.append(elsewhere(job, lambda task: task.send("a", "two")))
        assert all(sent.deferred for sent in sends)
        ctx.clear("done")

    job = stage(on_event, execute=execute)
    job.send("go")
    # when
    job.sim.run_until_idle()
    # then
    assert job.state() == [["one", True, 2], ["two", False, 2]]
    status = job.status()
    assert (status.status, status.event_count, status.execute_count) == ("idle", 2, 0)
    assert [entry.life for entry in job.sim.history("task:job:a")][-1] == 2


def test_T9_one_that_waits_and_fails_opens_none(stage: Staging) -> None:
    # given
    def on_event(ctx: Ctx, event: str) -> None:
        if event == "bad":
            raise ValueError("boom")
        ctx.schedule("5m")

    def execute(ctx: Ctx) -> None:
        elsewhere(job, lambda task: task.send("a", "bad"))
        ctx.clear()

    job = stage(on_event, execute=execute)
    job.send("go")
    # when
    job.sim.run_until_idle()
    # then
    assert job.names()[-3:] == ["Cleared", "ExecutionFailed", "DeadLettered"]
    assert job.status().status == "not_found"
    # and the next life begins with clean counters
    sent = job.send("go")
    assert (sent.created, sent.event_count) == (True, 1)
    assert job.status().failure_count == 0


def test_T9_a_clear_from_outside_takes_waiting_events_along(stage: Staging) -> None:
    # given a run during which an event comes, and then a clear
    answers: list[ClearResult] = []

    def execute(ctx: Ctx) -> None:
        elsewhere(job, lambda task: task.send("a", {"set_state": "late"}))
        answers.append(elsewhere(job, lambda task: task.clear("a")))

    job = stage(execute=execute)
    job.send({"schedule": "5m"})
    # when
    with pytest.raises(LeaseLostError):
        job.sim.advance("5m")
    job.sim.run_until_idle()
    # then
    assert [(a.cleared, a.discarded) for a in answers] == [(True, 1)]
    assert job.status().status == "not_found"


def test_T9_a_due_delayed_clear_waits_for_the_end_of_an_open_run(stage: Staging) -> None:
    # given a run that takes two hours, and a clear that is due in one
    async def execute(ctx: Ctx) -> None:
        await asyncio.sleep(2 * 3600)
        ctx.set_state("ran")

    job = stage(execute=execute)
    job.send({"schedule": "5m"})
    job.clear(after="1h")
    # when
    job.sim.run_until_idle()
    # then
    assert job.names()[-3:] == ["Executed", "StateSet", "Cleared"]


def test_T8_a_clear_and_the_next_first_event_do_not_mix(stage: Staging) -> None:
    # given a schedule, a trigger and a delayed clear of the old life
    job = stage()
    asks: list[Callable[[], Any]] = [
        lambda: job.send({"schedule": "1h"}),
        lambda: job.trigger(wait=False),
        lambda: job.clear(after="2h"),
        job.clear,
        job.send,
    ]
    # when
    for ask in asks:
        ask()
    job.sim.run_until_idle()
    # then none of them reaches into the new one
    assert (job.status().status, job.status().execute_count) == ("idle", 0)
