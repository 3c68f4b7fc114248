"""Events that must wait are accepted at once and handled in order (T15)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.support import START, Ctx, Staging, elsewhere, staged
from wakelog import ExecutionError, QueueFullError, SendResult
from wakelog.core.events import DeadLettered, EventHandled, EventReceived

HOUR = timedelta(hours=1)


class Meanwhile:
    """An `execute` during which another process sends these events."""

    def __init__(self, *events: Any) -> None:
        self.events = events
        self.sends: list[SendResult] = []
        self.job: Any = None

    def __call__(self, ctx: Ctx) -> None:
        def send(task: Any) -> list[SendResult]:
            return [task.send("a", event) for event in self.events]

        self.sends += elsewhere(self.job, send)


def test_T15_a_send_that_meets_an_open_run_is_accepted_and_handled_after_it(stage: Staging) -> None:
    # given
    order: list[Any] = []
    sends: list[SendResult] = []

    def execute(ctx: Ctx) -> None:
        order.append("run begins")
        sends.append(elsewhere(job, lambda task: task.send("a", "during")))
        order.append("run ends")

    def on_event(ctx: Ctx, event: str) -> None:
        order.append(event)
        if event == "first":
            ctx.schedule("5m")

    job = stage(on_event, execute=execute)
    job.send("first")
    # when
    job.sim.advance("5m")
    # then
    assert order == ["first", "run begins", "run ends", "during"]
    assert [(s.deferred, s.created, s.event_count) for s in sends] == [(True, False, 2)]
    assert job.found(EventHandled) == [EventHandled(event_version=sends[0].version)]


def test_T15_deferred_events_are_handled_in_order_of_acceptance(stage: Staging) -> None:
    # given
    seen: list[Any] = []
    meanwhile = Meanwhile(1, 2, 3, 4, 5)
    job = meanwhile.job = stage(lambda ctx, event: seen.append(event), execute=meanwhile)
    job.send(0)
    # when
    job.trigger()
    job.send(6)  # meets those who wait
    job.sim.run_until_idle()
    # then
    assert seen == [0, 1, 2, 3, 4, 5, 6]
    assert all(sent.deferred for sent in meanwhile.sends)


def test_T15_each_is_a_unit_of_its_own_with_its_event_handled(stage: Staging) -> None:
    job = stage()
    job.send({"set_state": 1}, delay="1h")
    job.send({"set_state": 2}, delay="1h")
    job.sim.advance("1h")
    assert job.commits()[-2:] == [["EventHandled", "StateSet"], ["EventHandled", "StateSet"]]
    assert job.status().deferred_count == 0


def test_T15_while_some_wait_the_instance_has_a_wake_up_due_now(stage: Staging) -> None:
    # given a process that accepts events during a run and dies before it handles them
    meanwhile = Meanwhile({"set_state": "survived"})
    job = meanwhile.job = stage(execute=meanwhile)
    job.send()
    job.trigger()
    # then
    assert [alarm.due_at for alarm in job.sim.alarms()] == [START]
    assert (job.status().status, job.status().deferred_count) == ("active", 1)
    job.sim.close()
    # when another process comes
    with staged(job.task, job.url, start=START + HOUR).sim as other:
        other.advance(0)
        # then
        assert other.task("job").get_state("a") == "survived"


def test_T15_one_that_fails_is_dead_lettered_and_the_next_is_handled(stage: Staging) -> None:
    # given
    meanwhile = Meanwhile({"set_state": 9, "raise": "boom"}, {"set_state": 2})
    job = meanwhile.job = stage(execute=meanwhile)
    job.send({"set_state": 1})
    # when
    job.trigger()
    job.sim.run_until_idle()
    # then
    assert job.state() == 2
    [dead] = job.found(DeadLettered)
    assert (dead.event_version, dead.reason) == (meanwhile.sends[0].version, "handler_failed")
    assert (dead.error_type, dead.message) == ("ValueError", "boom")
    assert job.commits()[-2:] == [["ExecutionFailed", "DeadLettered"], ["EventHandled", "StateSet"]]
    status = job.status()
    assert (status.failure_count, status.event_count, status.deferred_count) == (1, 3, 0)


def test_T15_with_an_on_error_that_ends_well_it_is_handled(stage: Staging) -> None:
    job = stage(on_error=lambda ctx, error: ctx.set_state(str(error)))
    job.send()
    job.send({"raise": "boom"}, delay="1h", wait=True)
    assert job.state() == "boom"
    assert job.commits()[-1] == ["ExecutionFailed", "EventHandled", "StateSet"]


def test_T15_wait_waits_for_the_outcome_and_raises_the_handlers_error(stage: Staging) -> None:
    # given
    job = stage()
    job.send()
    # then
    assert job.send({"set_state": 1}, delay="1h", wait=True).deferred
    assert job.state() == 1
    with pytest.raises(ExecutionError) as raised:
        job.send({"raise": "boom"}, delay="1h", wait=True)
    error = raised.value
    assert (error.handler, error.error_type, error.message) == ("on_event", "ValueError", "boom")


def test_T15_wait_is_told_if_the_life_ends_first(stage: Staging) -> None:
    # given an event that waits behind a run that somebody clears from outside
    job = stage()
    job.send()
    job.clear(after="30m", reason="closed")
    # when
    with pytest.raises(ExecutionError, match="closed"):
        job.send({"set_state": 1}, delay="1h", wait=True)


def test_T15_a_first_event_may_be_deferred_too_and_its_failure_leaves_no_life(
    stage: Staging,
) -> None:
    job = stage()
    assert job.send({"raise": "boom"}, delay="1h").created
    job.sim.advance("1h")
    assert job.names() == ["Started", "EventReceived", "ExecutionFailed", "DeadLettered"]
    assert job.status().failure_count == 1


def test_T15_the_queue_is_bounded_and_says_so(stage: Staging) -> None:
    # given
    job = stage(max_waiting=2)
    job.send({}, delay="1h")
    job.send({}, delay="1h")
    # when
    with pytest.raises(QueueFullError) as raised:
        job.send({}, delay="1h")
    # then
    assert raised.value.limit == 2
    assert len(job.found(EventReceived)) == 2
    assert not job.send({}).deferred
    job.sim.advance("1h")
    assert job.send({}, delay="1h").deferred


def test_T15_a_time_in_the_past_does_not_overtake_those_who_wait(stage: Staging) -> None:
    # given
    seen: list[Any] = []
    job = stage(lambda ctx, event: seen.append(event))
    job.send("waits", delay=0)
    # when
    job.send("pushes", at=START - HOUR)
    job.send("comes last")
    job.sim.run_until_idle()
    # then
    assert seen == ["waits", "pushes", "comes last"]


def test_T15_a_send_during_a_deferred_handler_is_handled_after_it(stage: Staging) -> None:
    # given a deferred event whose handler takes a while, during which another process sends
    seen: list[Any] = []
    sends: list[SendResult] = []

    async def on_event(ctx: Ctx, event: str) -> None:
        if event == "deferred" and not sends:
            sends.append(elsewhere(job, lambda task: task.send("a", "later")))
        await asyncio.sleep(0)
        seen.append(event)

    job = stage(on_event)
    job.send("first")
    job.send("deferred", delay="1h")
    # when
    job.sim.run_until_idle()
    # then its outcome went on top: it holds a lease, so it was not called again
    assert seen == ["first", "deferred", "later"]
    assert sends[0].deferred
    assert job.names()[-3:] == ["EventReceived", "EventHandled", "EventHandled"]


def test_T15_a_deferred_event_keeps_its_key_its_sender_and_its_count(stage: Staging) -> None:
    # given
    seen: list[Any] = []
    job = stage(lambda ctx, event: seen.append((ctx.event_id, ctx.event_count)))
    job.send(1)
    # when
    job.send(2, event_id="k", delay="1h", actor="ann", correlation_id="c")
    job.sim.advance("1h")
    # then
    assert seen == [(None, 1), ("k", 2)]
    handled = job.recorded()[-1]
    assert (handled.actor, handled.correlation) == ("ann", "c")
    assert handled.cause == "task:job:a@3"
    assert job.send(2, event_id="k", delay="1h").duplicate


def test_T15_a_schedule_set_by_a_deferred_event_fires(stage: Staging) -> None:
    job = stage(execute=lambda ctx: ctx.set_state("ran"))
    job.send({"schedule": "1h"}, delay="1h")
    job.sim.advance("2h")
    assert job.state() == "ran"


def test_T15_a_clear_by_a_deferred_event_leaves_the_rest_to_the_next_life(stage: Staging) -> None:
    # given three events that wait, the first of which clears
    job = stage()
    job.send()
    for event in ({"clear": "done"}, {"set_state": 1}, {"schedule": "1h"}):
        job.send(event, delay="1h")
    # when
    job.sim.advance("1h")
    # then
    assert job.commits()[-3:] == [
        ["EventHandled", "Cleared"],
        ["Started", "EventHandled", "StateSet"],
        ["EventHandled", "Scheduled"],
    ]
    status = job.status()
    assert (status.status, status.event_count, status.deferred_count) == ("active", 2, 0)
