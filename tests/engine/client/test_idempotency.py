"""The same request, asked twice: I1."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from pydantic import BaseModel, RootModel

from tests.support import Ctx, Placed, Staging, elsewhere, order_task, task_of
from wakelog import ExecutionError, IdempotencyConflictError, Jobs, SendResult
from wakelog.testing import SimulatedCrash


def test_I1_the_second_call_with_a_key_appends_nothing_and_answers_as_the_first(
    stage: Staging,
) -> None:
    # given
    job = stage()
    first = job.send({"set_state": 1, "schedule": "1h"}, event_id="k")
    job.send({"set_state": 2, "cancel_schedule": None})
    before = job.names()
    # when
    again = job.send({"set_state": 1, "schedule": "1h"}, event_id="k")
    # then
    assert again.duplicate
    assert {**as_dict(again), "duplicate": False} == as_dict(first)
    assert (job.names(), job.state()) == (before, 2)


def test_I1_also_from_another_process_and_after_a_crash(stage: Staging) -> None:
    job = stage()
    job.sim.crash_next("after_write")
    with pytest.raises(SimulatedCrash):
        job.send({"set_state": 1}, event_id="k")
    job.sim.restart()
    assert job.send({"set_state": 1}, event_id="k").duplicate
    assert elsewhere(job, lambda task: task.send("a", {"set_state": 1}, event_id="k")).duplicate
    assert job.status().event_count == 1


def test_I1_a_crash_before_the_write_leaves_the_key_free(stage: Staging) -> None:
    job = stage()
    job.sim.crash_next("before_write")
    with pytest.raises(SimulatedCrash):
        job.send({"set_state": 1}, event_id="k")
    job.sim.restart()
    assert not job.send({"set_state": 1}, event_id="k").duplicate


def test_I1_every_command_takes_a_key(stage: Staging) -> None:
    # given
    ran: list[int] = []
    job = stage(execute=lambda ctx: ran.append(ctx.run_count))
    job.send()
    # when
    twice: list[list[Any]] = [
        [job.trigger(idempotency_key="t") for _ in range(2)],
        [job.clear(after="1h", idempotency_key="c1") for _ in range(2)],
        [job.cancel_clear(idempotency_key="c2") for _ in range(2)],
        [job.clear(idempotency_key="c3") for _ in range(2)],
    ]
    # then
    for first, second in twice:
        assert (first.duplicate, second.duplicate) == (False, True)
        assert {**as_dict(second), "duplicate": False} == as_dict(first)
    assert ran == [1]
    assert job.names().count("Cleared") == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda job: job.send({"set_state": 2}, event_id="k"),
        lambda job: job.send({"set_state": 1}, event_id="k", delay="1h"),
        lambda job: job.trigger(idempotency_key="k"),
        lambda job: job.clear(idempotency_key="k"),
    ],
)
def test_I1_the_same_key_with_another_payload_or_action_is_a_conflict(
    stage: Staging, other: Any
) -> None:
    # given
    job = stage()
    job.send({"set_state": 1}, event_id="k")
    before = job.names()
    # when
    with pytest.raises(IdempotencyConflictError) as raised:
        other(job)
    # then
    assert (raised.value.instance_id, raised.value.key) == ("task:job:a", "k")
    assert raised.value.recorded_action == "send"
    assert job.names() == before


def test_I1_the_same_data_in_another_dress_is_the_same_payload(stage: Staging) -> None:
    # given
    job = stage(task=order_task())
    job.send(Placed(), event_id="k")
    # then
    assert job.send({"kind": "placed"}, event_id="k", actor="somebody else").duplicate


class Crate(BaseModel):
    sets: dict[str, list[frozenset[int]]]
    named: set[tuple[int, str]] = set()


@pytest.mark.parametrize(
    ("type_", "first", "again"),
    [
        (set[int], {0, 8}, {8, 0}),
        (RootModel[set[int]], RootModel[set[int]]({0, 8}), RootModel[set[int]]({8, 0})),
        (
            Crate,
            Crate(sets={"a": [frozenset((0, 8))]}, named={(0, "a"), (8, "b")}),
            Crate(sets={"a": [frozenset((8, 0))]}, named={(8, "b"), (0, "a")}),
        ),
    ],
)
def test_I1_the_order_of_a_set_makes_no_other_payload(
    stage: Staging, type_: Any, first: Any, again: Any
) -> None:
    # given equal sets that are walked in another order, as in a process with another hash seed
    assert first == again
    assert str(first) != str(again)
    job = stage(lambda ctx, event: ctx.set_state(event), event=type_, state=type_)
    # when
    job.send(first, event_id="k")
    # then
    assert job.send(again, event_id="k").duplicate
    assert job.state() == first


def test_I1_but_the_order_of_a_list_beside_it_does(stage: Staging) -> None:
    job = stage(lambda ctx, event: None, event=tuple[list[int], set[int]])
    job.send(([1, 2], {1}), event_id="k")
    with pytest.raises(IdempotencyConflictError):
        job.send(([2, 1], {1}), event_id="k")


def test_I1_a_key_belongs_to_one_instance(stage: Staging) -> None:
    job = stage()
    assert not job.send({"set_state": 1}, id="a", event_id="k").duplicate
    assert not job.send({"set_state": 2}, id="b", event_id="k").duplicate


def test_I1_it_is_kept_over_a_clear(stage: Staging) -> None:
    # given
    job = stage()
    job.send({"set_state": 1}, event_id="k")
    job.clear()
    # when
    again = job.send({"set_state": 1}, event_id="k")
    # then
    assert again.duplicate
    assert job.status().status == "not_found"
    with pytest.raises(IdempotencyConflictError):
        job.send({"set_state": 2}, event_id="k")


def test_I1_for_seven_days_and_no_longer(stage: Staging) -> None:
    job = stage()
    job.send({"set_state": 1}, event_id="k")
    job.sim.advance("167h59m")
    assert job.send({"set_state": 1}, event_id="k").duplicate
    job.sim.advance("1m")
    again = job.send({"set_state": 2}, event_id="k")
    assert (again.duplicate, again.event_count) == (False, 2)


def test_I1_forget_key_frees_it_before_its_time(stage: Staging) -> None:
    job = stage()
    job.send({"set_state": 1}, event_id="k")
    task = job.sim.task("job")
    assert task.forget_key("a", "k") is True
    assert task.forget_key("a", "k") is False
    assert task.forget_key("missing", "k") is False
    assert not job.send({"set_state": 2}, event_id="k").duplicate


def test_I1_a_refused_request_leaves_its_key_free(stage: Staging) -> None:
    # given
    job = stage()
    job.send()
    # when
    with pytest.raises(ExecutionError):
        job.send({"raise": "boom"}, event_id="k")
    # then
    assert not job.send({"set_state": 1}, event_id="k").duplicate


def test_I1_a_deferred_request_holds_its_key_whatever_becomes_of_it(stage: Staging) -> None:
    job = stage()
    first = job.send({"raise": "boom"}, event_id="k", delay="1h")
    job.sim.advance("1h")
    again = job.send({"raise": "boom"}, event_id="k", delay="1h")
    assert again.duplicate
    assert again.version == first.version
    assert job.names().count("DeadLettered") == 1


def test_I1_a_duplicate_that_waits_waits_for_the_first_ones_outcome(stage: Staging) -> None:
    # given a delayed event that will fail
    job = stage()
    job.send({"raise": "boom"}, event_id="k", delay="1h")
    # when
    with pytest.raises(ExecutionError, match="boom"):
        job.send({"raise": "boom"}, event_id="k", delay="1h", wait=True)
    # then also after the fact
    with pytest.raises(ExecutionError, match="boom"):
        job.send({"raise": "boom"}, event_id="k", delay="1h", wait=True)
    assert len(job.names()) == 4


def test_I1_a_request_that_changed_nothing_is_answered_as_before_too(stage: Staging) -> None:
    """A retry of a lost answer must not end a life that began since."""
    job = stage()
    assert not job.clear(idempotency_key="k").cleared
    job.send()
    answer = job.clear(idempotency_key="k")
    assert (answer.cleared, answer.duplicate) == (False, True)
    assert job.status().status != "not_found"


@pytest.mark.anyio
async def test_I1_the_same_request_many_times_at_once_is_recorded_once(shared_url: str) -> None:
    # given
    calls: list[Any] = []

    async def on_event(ctx: Ctx, event: int) -> None:
        calls.append(event)
        await asyncio.sleep(0)
        ctx.set_state((ctx.state or 0) + event)

    task = task_of(on_event)
    async with (
        Jobs(job=task).open(shared_url) as one,
        Jobs(job=task).open(shared_url) as two,
    ):
        # when 40 callers in two apps on one file send the same
        sends = [app.task("job").send("a", 1, event_id="k") for app in [one, two] * 20]
        answers = await asyncio.gather(*sends)
        # then
        assert [a.duplicate for a in answers].count(False) == 1
        assert {(a.version, a.event_count) for a in answers} == {(3, 1)}
        assert await one.task("job").get_state("a") == 1
        assert len(await two.history("task:job:a")) == 3


@pytest.mark.anyio
async def test_I1_different_requests_with_one_key_at_once_one_wins_the_others_are_told(
    shared_url: str,
) -> None:
    # given
    async with Jobs(job=task_of()).open(shared_url) as app:
        # when
        sends = [app.task("job").send("a", {"set_state": n}, event_id="k") for n in range(10)]
        answers = await asyncio.gather(*sends, return_exceptions=True)
        # then
        assert [type(a) for a in answers].count(SendResult) == 1
        assert [type(a) for a in answers].count(IdempotencyConflictError) == 9
        assert (await app.task("job").status("a")).event_count == 1


@pytest.mark.anyio
async def test_I1_a_duplicate_of_a_request_that_is_refused_is_tried_for_itself(
    shared_url: str,
) -> None:
    # given a handler that fails the first time, while others with the same key wait
    fails = [True]

    async def on_event(ctx: Ctx, event: Any) -> None:
        await asyncio.sleep(0)
        if fails:
            fails.clear()
            raise ValueError("boom")

    async with Jobs(job=task_of(on_event)).open(shared_url) as app:
        # when
        sends = [app.task("job").send("a", 1, event_id="k") for _ in range(5)]
        answers = await asyncio.gather(*sends, return_exceptions=True)
        # then one was told of the failure, one was recorded, the rest heard its answer
        assert [type(a) for a in answers].count(ExecutionError) == 1
        sent = [a for a in answers if isinstance(a, SendResult)]
        assert sorted(a.duplicate for a in sent) == [False, True, True, True]


def as_dict(answer: Any) -> dict[str, Any]:
    return dataclasses.asdict(answer)
