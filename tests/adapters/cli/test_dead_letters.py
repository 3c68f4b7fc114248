"""Dead letters on the command line, and what waits for code (A9, K4)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from tests.adapters.cli.command_line import CommandLine
from tests.adapters.cli.parcel_jobs import LOST, WEIGHED, jobs
from wakelog import Jobs, Task, TaskContext
from wakelog.testing import Simulation


def worked(url: str, jobs: Jobs = jobs, **options: float) -> None:
    """Let a worker do what is due."""
    now = datetime.now(UTC) + timedelta(**(options or {"seconds": 1}))
    with Simulation(jobs, url=url, start=now) as sim:
        sim.advance(0)


@pytest.fixture
def wakelog(shared_url: str) -> CommandLine:
    """On a store with dead letters: two events of p-1, and a batch of t-1."""
    wakelog = CommandLine(shared_url)
    for _ in range(2):
        wakelog.answer("send", "parcel", "p-1", LOST, "--defer")
    wakelog.answer("add", "truck", "t-1", WEIGHED)
    wakelog.answer("add", "truck", "t-1", LOST)
    worked(shared_url, hours=2)
    return wakelog


def test_A9_are_listed_with_their_errors(wakelog: CommandLine) -> None:
    found = wakelog.answer("dead-letters")["dead_letters"]
    assert [(each["instance_id"], each["event"]) for each in found] == [
        ("debounce:truck:t-1", 2),
        ("task:parcel:p-1", 2),
        ("task:parcel:p-1", 3),
    ]
    assert [len(each["events"]) for each in found] == [2, 1, 1]
    assert (found[1]["error_type"], found[1]["error_message"]) == ("LookupError", "fell off")
    assert found[1]["payload"]["why"] == "fell off"
    said = wakelog("dead-letters", "--name", "parcel").stdout
    assert said.count("LookupError: fell off") == 2
    assert "no dead letters" in wakelog("dead-letters", "--type", "continuous").stdout


def test_A9_are_counted_in_status_and_count(wakelog: CommandLine) -> None:
    assert wakelog.answer("status", "parcel", "p-1")["dead_letter_count"] == 2
    assert "dead letters  2" in " ".join(wakelog("status", "parcel", "p-1").stdout.split(" "))
    counts = {job["name"]: job["dead_letters"] for job in wakelog.answer("count")["jobs"]}
    assert counts == {"parcel": 2, "truck": 1}
    assert "dead letters" in wakelog("count").stdout


def test_A9_one_is_requeued_or_discarded(wakelog: CommandLine) -> None:
    done = wakelog.answer("requeue", "parcel", "p-1", "--event", "3", "--actor", "op")
    assert done["events"] == [3]
    assert wakelog.answer("status", "parcel", "p-1")["deferred_count"] == 1
    gone = wakelog("discard", "parcel", "p-1", "--event", "2", "--reason", "lost for good")
    assert (gone.exit_code, "1 dead letter dropped" in gone.stdout) == (0, True)
    assert wakelog.last_event("parcel", "p-1")["description"] == (
        "discarded the event accepted as 2: lost for good"
    )
    assert wakelog("requeue", "parcel", "p-1").exit_code == 1
    assert wakelog("requeue", "truck", "t-1").stdout.startswith(
        "debounce:truck:t-1  1 dead letter to be handled again"
    )


def test_A9_those_of_all_that_match_are_changed(wakelog: CommandLine) -> None:
    preview = wakelog.answer("requeue", "--all", "--dry-run")
    assert (preview["matched"], preview["done"]) == (2, 0)
    assert wakelog.answer("discard", "truck", "--all", "--yes")["done"] == 1
    assert wakelog("requeue", "--all", "--yes").stdout == (
        "1 instance matches, 1 with dead letters to be handled again\n"
    )
    assert wakelog.answer("dead-letters")["dead_letters"] == []
    assert "--event is for one" in wakelog.refusal(2, "requeue", "--all", "--event", "2")


def test_K4_what_waits_for_code_is_shown_and_can_be_given_up(shared_url: str) -> None:
    class Other(BaseModel):
        colour: str

    later = Task(state=Other, event=Other)

    @later.on_event
    def told(ctx: TaskContext[Other], event: Other) -> None:
        ctx.set_state(event)

    wakelog = CommandLine(shared_url)
    wakelog.answer("send", "parcel", "p-1", WEIGHED, "--defer")
    worked(shared_url, Jobs(parcel=later))
    status = wakelog.answer("status", "parcel", "p-1")
    assert (status["status"], status["waits_for_code"]["event_version"]) == ("waiting_for_code", 2)
    assert (
        "event 2: ValidationError: colour: Field required"
        in wakelog("status", "parcel", "p-1").stdout
    )
    assert len(wakelog.answer("ls", "--status", "waiting_for_code")["instances"]) == 1
    assert wakelog.answer("dead-letter", "parcel", "p-1")["events"] == [2]
    assert wakelog("dead-letter", "parcel", "p-1").exit_code == 1
    [dead] = wakelog.answer("dead-letters")["dead_letters"]
    assert dead["reason"] == "waiting_for_code"
