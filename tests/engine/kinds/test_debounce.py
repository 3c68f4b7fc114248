"""Debounce: windows, batches and answers, in virtual time (D1 to D8)."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel

from tests.engine.kinds.debouncing import Stage, Staging, after, elsewhere, stages
from wakelog import (
    Debounce,
    DebounceContext,
    ExecutionError,
    IdempotencyConflictError,
    InvalidStateError,
    Jobs,
    QueueFullError,
    Retry,
    UnknownJobError,
    ValidationError,
)
from wakelog.core.events import (
    DeadLettered,
    EventReceived,
    ExecutionFailed,
    Flushed,
    RunStarted,
    Scheduled,
)

__all__ = ["stages"]


class Hook(BaseModel):
    """An event with a type of its own."""

    kind: Literal["hook"] = "hook"
    n: int = 0


def summed(ctx: Any, event: int) -> int:
    """A reducer whose state is no event."""
    return (ctx.state or 0) + event


# -- D1: add ---------------------------------------------------------------------------------------


def test_d1_the_first_add_of_a_window_schedules_its_flush(stages: Staging) -> None:
    job = stages(flush_after="5s")
    # when
    first = job.add("x")
    job.sim.advance("2s")
    second = job.add("y")
    # then
    assert (first.created, first.event_count, first.will_flush_at) == (True, 1, after(5))
    assert (second.created, second.event_count, second.will_flush_at) == (False, 2, after(5))
    assert not any((first.flush_started, first.deferred, first.duplicate, second.deferred))
    assert first.instance_id == "debounce:job:a"
    assert job.sim.alarms()[0].due_at == after(5)
    assert [s.reason for s in job.found(Scheduled)] == ["flush_after"]


def test_d1_an_event_that_does_not_fit_leaves_nothing(stages: Staging) -> None:
    job = stages(event=int)
    with pytest.raises(ValidationError):
        job.add("no number")
    assert job.recorded() == []
    assert job.status().status == "not_found"


def test_d1_the_add_that_fills_the_window_says_so(stages: Staging) -> None:
    job = stages(max_events=2)
    assert [job.add("x").flush_started, job.add("y").flush_started] == [False, True]
    assert job.add("z").created


def test_d1_an_add_with_a_key_is_accepted_once(stages: Staging) -> None:
    job = stages(event=int)
    first = job.add(1, event_id="k")
    # when
    again = job.add(1, event_id="k")
    # then
    assert again.duplicate
    assert (again.version, again.created, again.event_count) == (first.version, True, 1)
    with pytest.raises(IdempotencyConflictError):
        job.add(2, event_id="k")
    job.sim.advance("5s")
    assert job.seen.events == [[1]]
    assert job.add(1, event_id="k").duplicate, "also after the flush"


# -- D2: windows -----------------------------------------------------------------------------------


def test_d2_a_fixed_window_is_timed_from_its_first_event(stages: Staging) -> None:
    job = stages(flush_after="5s")
    for n in range(4):
        job.add(n)
        job.sim.advance("2s")
    assert [(b.events, b.at) for b in job.seen.batches] == [([0, 1, 2], after(5))]
    job.sim.run_until_idle()
    assert job.seen.batches[1].at == after(11)


def test_d2_a_sliding_window_is_moved_by_each_event(stages: Staging) -> None:
    job = stages(flush_after="5s", mode="sliding")
    for n in range(4):
        assert job.add(n).will_flush_at == after(4 * n + 5)
        job.sim.advance("4s")
    job.sim.run_until_idle()
    assert [(b.events, b.at, b.reason) for b in job.seen.batches] == [
        ([0, 1, 2, 3], after(17), "flush_after")
    ]


@pytest.mark.parametrize("mode", ["fixed", "sliding"])
def test_d2_max_wait_is_the_upper_bound(stages: Staging, mode: str) -> None:
    job = stages(flush_after="6s", mode=mode, max_wait="5s")
    for n in range(3):
        job.add(n)
        job.sim.advance("2s")
    assert [(b.events, b.at, b.reason) for b in job.seen.batches] == [
        ([0, 1, 2], after(5), "max_wait")
    ]


def test_d2_the_last_event_that_a_window_takes_closes_it(stages: Staging) -> None:
    job = stages(max_events=3)
    job.add(*range(7))
    job.sim.advance(0)
    assert [(b.events, b.reason) for b in job.seen.batches] == [
        ([0, 1, 2], "max_events"),
        ([3, 4, 5], "max_events"),
    ]
    assert job.status().event_count == 1
    assert [run.trigger for run in job.found(RunStarted)] == ["max_events", "max_events"]


def test_d2_a_window_closes_when_it_is_due_though_no_worker_is_there(stages: Staging) -> None:
    job = stages()
    job.add("x")
    job.sim.clock.move_to(job.sim.clock.now_us() + 7_000_000)
    # when
    late = job.add("y")
    # then the late event is in the next window, timed from its own arrival
    assert (late.created, late.deferred, late.will_flush_at) == (True, True, after(12))
    job.sim.run_until_idle()
    assert [(b.events, b.at) for b in job.seen.batches] == [(["x"], after(7)), (["y"], after(12))]


@pytest.mark.parametrize(
    "wrong",
    [
        {"flush_after": 0},
        {"flush_after": "soon"},
        {"flush_after": -1},
        {"mode": "rolling"},
        {"max_wait": 0},
        {"max_events": 0},
        {"max_events": 10_001},
        {"max_events": True},
        {"max_waiting": 0},
        {"retry": 3},
    ],
)
def test_d2_nonsense_is_refused_where_it_is_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Debounce(event=int, **{"flush_after": "5s", **wrong})


# -- D3: the reducer -------------------------------------------------------------------------------


def test_d3_the_reducer_sees_none_first_and_returns_the_state(stages: Staging) -> None:
    seen: list[tuple[Any, bool, int]] = []

    def reduce(ctx: Any, event: int) -> int:
        seen.append((ctx.state, ctx.is_first_event, ctx.event_count))
        return (ctx.state or 0) + event

    job = stages(state=int, event=int, on_event=reduce)
    job.add(1, 2, 3)
    assert seen == [(None, True, 1), (1, False, 2), (3, False, 3)]
    assert job.client.get_state("a") == 6
    job.sim.advance("5s")
    assert [(b.state, b.events) for b in job.seen.batches] == [(6, [1, 2, 3])]


def test_d3_an_async_reducer_with_a_clock_of_its_own(stages: Staging) -> None:
    async def reduce(ctx: Any, event: int) -> list[int]:
        return [*(ctx.state or []), event]

    job = stages(state=list[int], event=int, on_event=reduce)
    job.add(3, 1)
    assert job.client.get_state("a") == [3, 1]


def test_d3_without_a_reducer_the_newest_event_is_kept(stages: Staging) -> None:
    job = stages(event=Hook)
    job.add(Hook(n=1), Hook(n=2))
    assert job.client.get_state("a") == Hook(n=2)
    job.sim.advance("5s")
    assert [b.events for b in job.seen.batches] == [[Hook(n=1), Hook(n=2)]]


def test_d3_a_reducer_that_raises_refuses_the_event_and_a_first_one_leaves_nothing(
    stages: Staging,
) -> None:
    def reduce(ctx: Any, event: int) -> int:
        if event < 0:
            raise ValueError("negative")
        return (ctx.state or 0) + event

    job = stages(state=int, event=int, on_event=reduce)
    # when the very first event is refused
    with pytest.raises(ExecutionError) as refused:
        job.add(-1)
    # then there is no instance at all
    assert isinstance(refused.value.__cause__, ValueError)
    assert (job.recorded(), job.status().status) == ([], "not_found")
    # and a later one leaves its window as it was
    job.add(1, 2)
    with pytest.raises(ExecutionError):
        job.add(-3)
    status = job.status()
    assert (status.event_count, status.failure_count, status.will_flush_at) == (2, 1, after(5))
    job.sim.advance("5s")
    assert [(b.state, b.events) for b in job.seen.batches] == [(3, [1, 2])]


@pytest.mark.parametrize("returned", [None, "text"])
def test_d3_a_reducer_must_return_a_state_that_fits(stages: Staging, returned: Any) -> None:
    job = stages(state=int, event=int, on_event=lambda ctx, event: returned)
    with pytest.raises(ExecutionError) as refused:
        job.add(1)
    assert isinstance(refused.value.__cause__, ValidationError)


def test_d3_with_on_error_a_refused_event_is_accepted_and_the_state_stays(stages: Staging) -> None:
    told: list[str] = []

    def reduce(ctx: Any, event: int) -> int:
        if event < 0:
            raise ValueError(event)
        return (ctx.state or 0) + event

    def recover(ctx: Any, error: BaseException) -> None:
        told.append(f"{ctx.error_source}: {error}")

    job = stages(state=int, event=int, on_event=reduce, on_error=recover)
    job.add(1, -5, 2)
    job.sim.advance("5s")
    assert told == ["on_event: -5"]
    assert [(b.state, b.events) for b in job.seen.batches] == [(3, [1, -5, 2])]


def test_d3_a_state_of_its_own_needs_a_reducer_and_every_debounce_needs_execute() -> None:
    with pytest.raises(ValidationError, match="execute"):
        Jobs(job=Debounce(event=int, flush_after=1))
    own = Debounce(event=int, state=str, flush_after=1)
    own.execute(lambda ctx: None)
    with pytest.raises(ValidationError, match="on_event"):
        Jobs(job=own)


# -- D4: batches -----------------------------------------------------------------------------------


def test_d4_a_run_names_its_events_and_each_attempt_sees_the_same(stages: Staging) -> None:
    job = stages(event=int, retry=Retry.simple(3))
    job.seen.raises = [OSError("down"), OSError("down")]
    job.add(1, 2)
    job.sim.advance("5s")
    job.add(3)
    job.sim.run_until_idle()
    # then
    assert [(b.events, b.reason, b.attempt) for b in job.seen.batches] == [
        ([1, 2], "flush_after", 1),
        ([1, 2], "flush_after", 2),
        ([1, 2], "flush_after", 3),
        ([3], "flush_after", 1),
    ]
    first, second, third, other = [run.events for run in job.found(RunStarted)]
    assert first == second == third
    assert [f.events for f in job.found(Flushed)] == [first, other]


def test_d4_adds_during_a_flush_are_counted_and_timed_at_once_and_reduced_after_it(
    stages: Staging,
) -> None:
    stage: list[Stage] = []
    answers: list[Any] = []
    states: list[Any] = []

    def execute(ctx: Any) -> None:
        states.append((ctx.events, ctx.state))
        if len(states) == 1:
            answers.extend(elsewhere(stage[0], lambda c: [c.add("a", 10), c.add("a", 20)]))
            answers.append(elsewhere(stage[0], lambda c: c.status("a")))

    job = stages(execute=execute, state=int, event=int, on_event=summed)
    stage.append(job)
    job.add(1, 2)
    job.sim.advance("5s")
    # then
    first, second, status = answers
    assert (first.created, first.deferred, first.event_count) == (True, True, 1)
    assert (second.created, second.event_count, second.will_flush_at) == (False, 2, after(10))
    assert (status.status, status.event_count, status.deferred_count) == ("flushing", 4, 2)
    job.sim.advance("5s")
    assert states == [([1, 2], 3), ([10, 20], 30)]


def test_d4_closed_windows_are_flushed_in_order_one_at_a_time(stages: Staging) -> None:
    job = stages(state=int, event=int, on_event=summed, max_events=2, retry=Retry.simple(5))
    job.seen.raises = [OSError()]
    job.add(*range(6))
    assert job.status().window_count == 3
    job.sim.run_until_idle()
    assert [(b.events, b.state) for b in job.seen.batches] == [
        ([0, 1], 1),
        ([0, 1], 1),
        ([2, 3], 5),
        ([4, 5], 9),
    ]


def test_d4_a_deferred_event_that_cannot_be_reduced_leaves_its_batch_alone(
    stages: Staging,
) -> None:
    def reduce(ctx: Any, event: int) -> int:
        if event < 0:
            raise ValueError("negative")
        return (ctx.state or 0) + event

    job = stages(state=int, event=int, on_event=reduce, sim={"handlers": False})
    job.add(1, -2, 3)
    assert job.status().deferred_count == 3
    job.sim.advance("5s")
    assert [(b.events, b.state) for b in job.seen.batches] == [([1, 3], 4)]
    [dead] = job.found(DeadLettered)
    received = [r.version for r in job.recorded() if isinstance(r.event, EventReceived)]
    assert (dead.event_version, dead.events, dead.error_type) == (received[1], (), "ValueError")


def test_d4_a_window_whose_events_all_fail_to_be_reduced_is_never_flushed(stages: Staging) -> None:
    def reduce(ctx: Any, event: int) -> int:
        raise ValueError("no")

    job = stages(state=int, event=int, on_event=reduce, sim={"handlers": False})
    job.add(1, 2)
    flush = job.client.flush("a")
    assert (flush.flushed, flush.event_count, flush.reason) == (False, 0, "empty")
    job.sim.run_until_idle()
    assert job.seen.batches == []
    assert (job.status().event_count, job.status().will_flush_at) == (0, None)


def test_d4_a_window_is_reduced_whole_before_it_is_flushed(stages: Staging) -> None:
    failures = [OSError("a moment"), OSError("another")]

    def reduce(ctx: Any, event: int) -> int:
        if event == 2 and failures:
            raise failures.pop()
        return (ctx.state or 0) + event

    job = stages(
        state=int, event=int, on_event=reduce, retry=Retry.simple(3), sim={"handlers": False}
    )
    job.sim.clock.move_to(job.sim.clock.now_us())
    job.add(1, 2, 4)
    job.client.flush("a")
    # then the retries of the deferred event held the flush up
    assert [(b.events, b.state, b.at) for b in job.seen.batches] == [([1, 2, 4], 7, after(2))]


# -- D5: a flush is its own unit -------------------------------------------------------------------


def test_d5_an_add_never_fails_because_of_a_flush(stages: Staging) -> None:
    job = stages(max_events=1)
    job.seen.raises = [RuntimeError("down")] * 2
    # when each add closes a window whose flush fails
    answers = [job.add("x"), job.add("y")]
    job.sim.run_until_idle()
    # then
    assert all(answer.flush_started for answer in answers)
    assert [d.message for d in job.found(DeadLettered)] == ["down", "down"]
    assert job.add("z").event_count == 1


def test_d5_too_many_unreduced_events_are_refused(stages: Staging) -> None:
    job = stages(max_waiting=2, sim={"handlers": False})
    job.add(1, 2)
    with pytest.raises(QueueFullError):
        job.add(3)
    assert job.status().event_count == 2


# -- D6: flush -------------------------------------------------------------------------------------


def test_d6_a_flush_hands_over_what_was_added(stages: Staging) -> None:
    job = stages()
    job.add("x", "y")
    flush = job.client.flush("a", actor="ann")
    assert (flush.flushed, flush.event_count, flush.reason) == (True, 2, "manual")
    assert (flush.failed, flush.error, flush.retry_at, flush.duplicate) == (
        False,
        None,
        None,
        False,
    )
    assert [(b.events, b.reason, b.at) for b in job.seen.batches] == [
        (["x", "y"], "manual", after(0))
    ]
    assert flush.version == job.status().version


@pytest.mark.parametrize("before", [False, True])
def test_d6_a_missing_or_empty_one_is_not_flushed(stages: Staging, before: bool) -> None:
    job = stages()
    if before:
        job.add("x")
        job.sim.advance("5s")
    recorded = len(job.recorded())
    flush = job.client.flush("a")
    assert (flush.flushed, flush.event_count, flush.reason) == (False, 0, "empty")
    assert len(job.recorded()) == recorded
    assert job.client.trigger("a").triggered is False


def test_d6_a_failed_flush_says_so_and_when_it_is_tried_again(stages: Staging) -> None:
    job = stages(retry=Retry.simple(3))
    job.seen.raises = [OSError("down")]
    job.add("x")
    # when
    flush = job.client.flush("a")
    # then
    assert (flush.flushed, flush.failed, flush.retry_at) == (False, True, after(1))
    assert flush.error is not None
    assert flush.error.message == "down"
    assert job.status().status == "retrying"
    # and the next attempt keeps its reason and its events
    job.sim.run_until_idle()
    assert [(b.events, b.reason) for b in job.seen.batches] == [(["x"], "manual")] * 2
    assert [f.reason for f in job.found(Flushed)] == ["manual"]


def test_d6_a_flush_that_fails_for_good_says_so(stages: Staging) -> None:
    job = stages()
    job.seen.raises = [OSError("down")]
    job.add("x", "y")
    flush = job.client.flush("a")
    assert (flush.flushed, flush.failed, flush.event_count) == (False, True, 2)
    assert (flush.retry_at, flush.error and flush.error.type) == (None, "OSError")


def test_d6_a_flush_starts_a_retrying_one_again_at_attempt_1(stages: Staging) -> None:
    job = stages(retry=Retry.patient(3))
    job.seen.raises = [OSError("down")]
    job.add("x")
    job.sim.advance("5s")
    job.add("y")
    # when
    flush = job.client.flush("a")
    # then both windows are flushed, the first as it was
    assert flush.flushed
    assert [(b.events, b.reason, b.attempt) for b in job.seen.batches] == [
        (["x"], "flush_after", 1),
        (["x"], "flush_after", 1),
        (["y"], "manual", 1),
    ]


def test_d6_a_window_that_is_closed_already_is_joined(stages: Staging) -> None:
    job = stages(max_events=2)
    job.add("x", "y")
    flush = job.client.flush("a")
    assert (flush.flushed, flush.event_count, flush.reason) == (True, 2, "max_events")


def test_d6_without_waiting_a_flush_is_only_asked_for(stages: Staging) -> None:
    job = stages()
    job.add("x")
    flush = job.client.flush("a", wait=False)
    assert (flush.flushed, flush.reason, flush.event_count) == (False, "manual", 1)
    assert job.add("y").created, "its window is closed"
    job.sim.advance(0)
    assert job.seen.events == [["x"]]


def test_d6_a_flush_with_a_key_is_asked_for_once(stages: Staging) -> None:
    job = stages()
    job.add("x")
    first = job.client.flush("a", idempotency_key="k")
    job.add("y")
    # when
    again = job.client.flush("a", idempotency_key="k")
    # then it is answered as the first, and the new event stays
    assert again.duplicate
    assert (again.flushed, again.event_count) == (first.flushed, 1)
    assert job.status().event_count == 1


def test_d6_a_paused_one_is_flushed_after_its_resume(stages: Staging) -> None:
    job = stages(state=int, event=int, on_event=summed)
    job.add(1)
    job.client.pause("a")
    late = job.add(2)
    flush = job.client.flush("a")
    assert (late.deferred, late.created) == (True, False)
    assert (flush.flushed, flush.reason, job.status().status) == (False, "paused", "paused")
    job.sim.advance("1m")
    assert job.seen.batches == []
    job.client.resume("a")
    job.sim.advance(0)
    assert [(b.events, b.state) for b in job.seen.batches] == [([1, 2], 3)]


# -- D7: afterwards --------------------------------------------------------------------------------


def test_d7_after_a_flush_there_is_nothing_left(stages: Staging) -> None:
    job = stages()
    job.add("x")
    job.sim.advance("5s")
    status = job.status()
    assert (status.status, status.event_count, status.will_flush_at) == ("idle", 0, None)
    assert (job.client.get_state("a"), status.execute_count) == (None, 1)
    assert job.sim.alarms() == []
    assert job.add("y").created


def test_d7_an_exhausted_batch_is_kept_as_a_dead_letter_and_new_events_are_welcome(
    stages: Staging,
) -> None:
    job = stages(event=int, retry=Retry.simple(2))
    job.seen.raises = [OSError("one"), OSError("two")]
    job.add(1, 2)
    job.sim.run_until_idle()
    # then
    [dead] = job.found(DeadLettered)
    assert dead.events == job.found(RunStarted)[0].events
    assert (dead.error_type, dead.message, dead.attempts) == ("OSError", "two", 2)
    status = job.status()
    assert (status.status, status.event_count, status.failure_count) == ("idle", 0, 2)
    assert (job.client.get_state("a"), status.last_error and status.last_error.message) == (
        None,
        "two",
    )
    # and
    job.add(3)
    job.sim.run_until_idle()
    assert job.seen.events[-1] == [3]


@pytest.mark.parametrize("then", ["continue", "fail", "clear"])
def test_d7_the_policy_may_want_something_else_of_a_failed_batch(
    stages: Staging, then: Any
) -> None:
    retry = Retry(max_attempts=1, on_exhausted=then)
    job = stages(event=int, retry=retry)
    job.seen.raises = [OSError("down")]
    job.add(1)
    job.sim.advance("5s")
    assert job.found(DeadLettered) == []
    match then:
        case "continue":
            assert [f.reason for f in job.found(Flushed)] == ["flush_after"]
            assert job.status().status == "idle"
        case "clear":
            assert job.status().status == "not_found"
        case _:
            assert job.status().status == "failed"
            assert job.add(2).deferred, "it is of the next window"
            assert job.client.retry("a").retried
            job.sim.run_until_idle()
            assert job.seen.events == [[1], [1], [2]]
            assert job.status().status == "idle"


def test_d7_a_recovered_flush_counts_as_handed_over(stages: Staging) -> None:
    told: list[Any] = []

    def exhausted(ctx: Any, error: BaseException) -> None:
        told.append((ctx.events, ctx.flush_reason, str(error)))

    job = stages(retry=Retry.simple(1), on_retry_exhausted=exhausted)
    job.seen.raises = [OSError("down")]
    job.add("x")
    flush = job.client.flush("a")
    assert told == [(["x"], "manual", "down")]
    assert (flush.flushed, flush.failed) == (True, False)
    assert [f.recovered for f in job.found(ExecutionFailed)] == [True]


def test_d7_on_idle_comes_when_no_event_is_left(stages: Staging) -> None:
    idle: list[tuple[str, int]] = []
    job = stages(max_events=2, on_idle=lambda ctx: idle.append((ctx.idle_reason, ctx.event_count)))
    job.add(1, 2, 3)
    job.sim.advance(0)
    assert idle == []
    job.sim.run_until_idle()
    assert idle == [("execute", 0)]


# -- D8: clear and status --------------------------------------------------------------------------


def test_d8_a_clear_takes_all_that_is_not_flushed_yet(stages: Staging) -> None:
    job = stages(max_events=2)
    job.add(1, 2, 3)
    clear = job.client.clear("a", reason="enough")
    assert (clear.cleared, clear.discarded) == (True, 3)
    assert (job.status().status, job.sim.alarms()) == ("not_found", [])
    assert job.client.clear("a").cleared is False
    assert job.add(4).created
    job.sim.run_until_idle()
    assert job.seen.events == [[4]]


def test_d8_the_status_says_where_it_stands(stages: Staging) -> None:
    job = stages(retry=Retry.simple(2))
    assert job.status().status == "not_found"
    job.add("x")
    job.sim.advance("1s")
    status = job.status()
    assert (status.status, status.event_count, status.window_count) == ("debouncing", 1, 1)
    assert (status.started_at, status.will_flush_at) == (after(0), after(5))
    job.seen.raises = [OSError()]
    job.sim.advance("4s")
    status = job.status()
    assert (status.status, status.retry_at, status.will_flush_at) == ("retrying", after(6), None)
    job.sim.advance("1s")
    assert job.status().status == "idle"
    [row] = job.sim.list(status="idle", type="debounce")
    assert (row.instance_id, row.event_count) == ("debounce:job:a", 0)
    assert job.client.status("a", stale_ok=True) == job.status()


def test_d8_handlers_get_what_the_table_of_members_says(stages: Staging) -> None:
    seen: dict[str, Any] = {}

    def reduce(ctx: Any, event: str) -> str:
        for name in ("events", "flush_reason"):
            with pytest.raises(InvalidStateError):
                getattr(ctx, name)
        seen["key"], seen["opened"] = ctx.event_id, ctx.started_at
        assert not hasattr(ctx, "set_state")
        assert not hasattr(ctx, "schedule")
        return event

    def execute(ctx: DebounceContext[str, str]) -> None:
        ctx.events.append("not kept")
        seen["run"] = (ctx.events, ctx.event_count, ctx.started_at, ctx.run_count)
        seen["kept"] = ctx

    job = stages(execute=execute, event=str, on_event=reduce)
    job.add("x", event_id="k")
    job.sim.advance("5s")
    assert (seen["key"], seen["opened"]) == ("k", after(0))
    assert seen["run"] == (["x"], 1, after(0), 1)
    with pytest.raises(InvalidStateError):
        _ = seen["kept"].events


def test_d8_an_unknown_job_is_told_from_others(stages: Staging) -> None:
    job = stages()
    for ask in (job.sim.debounce, job.sim.task):
        with pytest.raises(UnknownJobError):
            ask("nobody")
    with pytest.raises(UnknownJobError):
        job.sim.task("job")
