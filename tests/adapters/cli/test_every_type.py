"""Pause, resume and retry on the command line, for jobs of every type: one instance, all that
match, and the whole job (A5, A6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.adapters.cli.command_line import CommandLine
from tests.adapters.cli.every_type_jobs import BEGINS, TYPES, jobs
from wakelog.testing import Simulation

every_type = pytest.mark.parametrize("job", sorted(BEGINS))


@pytest.fixture
def wakelog(shared_url: str) -> CommandLine:
    return CommandLine(shared_url, "tests.adapters.cli.every_type_jobs:jobs")


def begun(wakelog: CommandLine, job: str, *ids: str) -> list[str]:
    """Have a run of each be due; the whole ids."""
    more = ("--no-wait",) if job == "round" else ()
    return [wakelog.answer(BEGINS[job], job, id, "1", *more)["instance_id"] for id in ids]


def worked(url: str) -> int:
    """Let a worker do what is due; how much that was."""
    now = datetime.now(UTC) + timedelta(seconds=1)
    with Simulation(jobs, url=url, start=now) as sim:
        return sim.advance(0)


@every_type
def test_A5_one_is_paused_resumed_and_tried_again(
    wakelog: CommandLine, shared_url: str, job: str
) -> None:
    [instance] = begun(wakelog, job, "a")
    paused = wakelog.answer("pause", job, "a", "--reason", "lunch", "--key", "k")
    assert (paused["instance_id"], paused["paused"], paused["reason"]) == (instance, True, "lunch")
    assert wakelog.answer("pause", job, "a", "--reason", "lunch", "--key", "k")["duplicate"]
    assert worked(shared_url) == 0
    assert wakelog.answer("status", job, "a")["status"] == "paused"
    assert wakelog.answer("resume", instance)["resumed"] is True
    assert worked(shared_url) == 1
    assert wakelog.answer("status", job, "a")["status"] == "failed"
    assert wakelog.answer("retry", job, "a", "--no-wait")["retried"] is True
    assert worked(shared_url) == 1
    assert wakelog.answer("status", job, "a")["last_error"]["type"] == "LookupError"


@every_type
def test_A5_A6_all_that_match_are_changed(wakelog: CommandLine, shared_url: str, job: str) -> None:
    instances = begun(wakelog, job, "a-1", "a-2", "b-1")
    assert wakelog.answer("pause", job, "--prefix", "a-", "--yes")["instance_ids"] == instances[:2]
    assert worked(shared_url) == 1
    assert wakelog.answer("retry", job, "--status", "failed", "--yes")["done"] == 1
    assert wakelog.answer("resume", job, "--status", "paused", "--yes")["done"] == 2
    assert worked(shared_url) == 3
    again = wakelog.answer("retry", "--error", "LookupError", "--yes")
    assert (again["matched"], again["done"]) == (3, 3)


@every_type
def test_A5_a_whole_job_is_held(wakelog: CommandLine, shared_url: str, job: str) -> None:
    begun(wakelog, job, "a")
    assert wakelog.answer("pause", job, "--reason", "stock-taking", "--yes")
    [hold] = wakelog.answer("pauses")["pauses"]
    assert (hold["job"], hold["reason"]) == (f"{TYPES[job]}:{job}", "stock-taking")
    begun(wakelog, job, "b")
    assert worked(shared_url) == 0
    assert "paused" in wakelog("trigger", job, "a", "--no-wait").stdout
    wakelog.answer("resume", job, "--yes")
    worked(shared_url)
    assert wakelog.answer("ls", "--status", "failed")["instances"][1]["execute_count"] == 1
