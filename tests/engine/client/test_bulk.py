"""Pause, resume, retry and clear of all instances that match (A6)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support import Ctx, Stage, Staging, elsewhere, task_of
from wakelog import Jobs, NotDone, UnknownJobTypeError, ValidationError
from wakelog.testing import Simulation


class Cross(Exception):
    """Whatever user code raises."""


def fails(ctx: Ctx) -> None:
    if ctx.state != "mended":
        raise Cross


def failed_ones(stage: Staging, ids: Any) -> Stage:
    """A job with instances whose run has failed, and one whose run has not: `fine`."""
    job = stage(execute=fails)
    for id in ids:
        job.send({"schedule": 0}, id)
    job.send({"set_state": "mended", "schedule": 0}, "fine")
    job.sim.run_until_idle()
    return job


def test_A6_retry_of_all_that_failed(stage: Staging) -> None:
    job = failed_ones(stage, "abc")
    # when
    result = job.sim.bulk("retry", name="job", status="failed", error="Cross", actor="ann")
    # then each is a unit of its own, asked for by who asked
    assert (result.action, result.matched, result.done, result.not_done) == ("retry", 3, 3, ())
    assert result.instance_ids == ("task:job:a", "task:job:b", "task:job:c")
    assert [job.recorded(id)[-1].actor for id in "abc"] == ["ann"] * 3
    assert len({job.recorded(id)[-1].commit for id in "abc"}) == 3
    assert [job.status(id).status for id in ("a", "fine")] == ["retrying", "idle"]
    # and a second time there is nothing left that matches
    assert job.sim.bulk("retry", status="failed").matched == 0
    job.sim.run_until_idle()
    assert job.sim.bulk("retry", status="failed", dry_run=True).matched == 3


def test_A6_pause_resume_and_clear(stage: Staging) -> None:
    job = stage()
    for id in "abc":
        job.send({"schedule": "1h"}, id)
    assert job.sim.bulk("pause", id_prefix="a", reason="stock-taking").done == 1
    paused = job.sim.bulk("pause", reason="lunch")
    assert (paused.matched, paused.done) == (3, 2)
    assert paused.not_done == (NotDone(instance_id="task:job:a", reason="paused"),)
    assert [job.status(id).reason for id in "abc"] == ["stock-taking", "lunch", "lunch"]
    assert job.sim.bulk("resume", status="paused").done == 3
    assert {each.reason for each in job.sim.bulk("resume").not_done} == {"not_paused"}
    assert job.sim.bulk("clear", due_before=job.sim.now).matched == 0
    cleared = job.sim.bulk("clear", due_before=job.sim.now + timedelta(hours=2), reason="over")
    assert (cleared.matched, cleared.done, job.sim.list()) == (3, 3, [])


def test_A6_those_that_could_not_be_done_are_named_with_their_reason(stage: Staging) -> None:
    # given one that failed, one that is fine, one that is paused, and one whose run is open
    answers: list[Any] = []

    def execute(ctx: Ctx) -> None:
        if ctx.id == "open":
            answers.append(bulk_elsewhere(job, "retry"))
        else:
            fails(ctx)

    job = stage(execute=execute)
    job.send({}, "fine")
    for id in ("failed", "paused"):
        job.send({"schedule": 0}, id)
    job.sim.run_until_idle()
    job.pause("paused")
    job.send({"schedule": 0}, "open")
    job.sim.run_until_idle()
    # then
    [result] = answers
    assert (result.matched, result.done) == (4, 1)
    reasons = {each.instance_id.split(":")[2]: each.reason for each in result.not_done}
    assert reasons == {"fine": "not_failed", "open": "running", "paused": "paused"}


def bulk_elsewhere(job: Stage, action: Any) -> Any:
    def ask(_: Any) -> Any:
        with Simulation(Jobs(job=job.task), url=job.url, start=job.sim.now) as other:
            return other.bulk(action)

    return elsewhere(job, ask)


def test_A6_a_dry_run_does_nothing_and_says_which(stage: Staging) -> None:
    job = failed_ones(stage, "abc")
    before = [job.names(id) for id in "abc"]
    result = job.sim.bulk("clear", status="failed", dry_run=True)
    assert (result.dry_run, result.matched, result.done) == (True, 3, 0)
    assert len(result.instance_ids) == 3
    assert [job.names(id) for id in "abc"] == before


@pytest.mark.parametrize(("limit", "done"), [(1, 1), (2, 2), (9, 3), (None, 3)])
def test_A6_no_more_than_the_limit(stage: Staging, limit: int | None, done: int) -> None:
    job = failed_ones(stage, "abc")
    assert job.sim.bulk("retry", status="failed", limit=limit).done == done


@pytest.mark.parametrize("count", [99, 100, 101, 250])
def test_A6_page_by_page_to_the_last_one(count: int) -> None:
    with Simulation(Jobs(job=task_of())) as sim:
        for n in range(count):
            sim.task("job").send(f"i-{n}", {})
        assert sim.bulk("pause", status="idle").done == count
        assert sim.bulk("clear", status="paused", limit=count - 1).done == count - 1
        assert len(sim.list()) == 1


def test_A6_instances_of_jobs_that_are_not_known_here_are_left_alone(store_url: str) -> None:
    with Simulation(Jobs(old=task_of(), job=task_of()), url=store_url) as sim:
        for name in ("old", "job"):
            sim.task(name).send("a", {})
    with Simulation(Jobs(job=task_of()), url=store_url) as sim:
        result = sim.bulk("pause")
        assert (result.matched, result.done) == (2, 1)
        [left] = result.not_done
        assert left.instance_id == "task:old:a"
        assert "'old'" in left.reason


def test_A6_what_makes_no_sense_is_refused_before_anything_is_done(stage: Staging) -> None:
    job = stage()
    job.send()
    wrong: list[dict[str, Any]] = [
        {"action": "explode"},
        {"action": "pause", "limit": 0},
        {"action": "pause", "dry_run": ""},
        {"action": "pause", "status": "tired"},
        {"action": "pause", "reason": "\ud800"},
        {"action": "pause", "actor": "\ud800"},
    ]
    for options in wrong:
        with pytest.raises(ValidationError):
            job.sim.bulk(**options)
    with pytest.raises(UnknownJobTypeError):
        job.sim.bulk("pause", type="robot")
    assert job.status().status == "idle"


def test_A5_a_retry_in_bulk_of_a_held_job_begins_when_it_goes_on(stage: Staging) -> None:
    job = failed_ones(stage, "a")
    job.sim.pause("job")
    assert job.sim.bulk("retry", status="failed").done == 1
    assert job.sim.advance("1h") == 0
    assert job.status().status == "paused"
    job.sim.resume("job")
    assert job.sim.advance(0) == 1
