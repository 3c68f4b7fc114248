"""The command line says what the engine knows, to people and to programs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.adapters.cli.command_line import CommandLine
from tests.adapters.cli.parcel_jobs import jobs
from wakelog.blocking import BlockingApp
from wakelog.core.events import EVENTS
from wakelog_adapters.cli.json_output import MOMENTS

WEIGHED = '{"kind": "weighed", "grams": 500}'
HEAVY = '{"kind": "weighed", "grams": 5000}'
INSTANCE = "task:parcel:p-1"
COMMANDS = (
    *("demo", "worker", "send", "trigger", "clear", "start", "stop", "terminate"),
    *("pause", "resume", "retry", "pauses", "add", "flush"),
    *("status", "state", "history", "ls", "count", "workers"),
)


@pytest.fixture
def wakelog(sqlite_url: str) -> CommandLine:
    return CommandLine(sqlite_url)


@pytest.fixture
def worker(sqlite_url: str) -> Iterator[BlockingApp]:
    with jobs.open(sqlite_url, worker=True, grace="0s") as app:
        yield app


def test_help_names_commands_exit_codes_and_environment(wakelog: CommandLine) -> None:
    said = wakelog("--help").stdout
    for word in COMMANDS:
        assert re.search(rf"^  {word} ", said, re.M)
    codes = re.findall(r"^ +(\d+)  ", said, re.M)
    assert codes == ["0", "1", "2", "3", "4", "130"]
    assert "WAKELOG_URL" in said
    assert "WAKELOG_JOBS" in said


@pytest.mark.parametrize("word", COMMANDS)
def test_each_command_explains_itself_and_knows_json(wakelog: CommandLine, word: str) -> None:
    result = wakelog(word, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout


class TestSend:
    def test_begins_a_life(self, wakelog: CommandLine) -> None:
        answer = wakelog.answer("send", "parcel", "p-1", WEIGHED)
        assert answer["instance_id"] == INSTANCE
        assert (answer["version"], answer["created"], answer["deferred"]) == (4, True, False)

    def test_prints_a_sentence_for_people(self, wakelog: CommandLine) -> None:
        result = wakelog("send", "parcel", "p-1", WEIGHED)
        assert result.exit_code == 0
        assert result.stdout.startswith(
            f"{INSTANCE}  event handled; a new life, version 4, 1 event"
        )

    def test_what_the_job_prints_is_no_part_of_the_answer(self, wakelog: CommandLine) -> None:
        result = wakelog("send", "parcel", "p-1", WEIGHED, "--json")
        assert "a print of the job's own" in result.stderr
        assert json.loads(result.stdout)["version"] == 4

    def test_takes_a_whole_id(self, wakelog: CommandLine) -> None:
        assert wakelog.answer("send", INSTANCE, WEIGHED)["instance_id"] == INSTANCE

    def test_takes_ids_that_hold_colons(self, wakelog: CommandLine) -> None:
        whole = wakelog.answer("send", "task:parcel:a:b", WEIGHED)
        short = wakelog.answer("send", "parcel", "a:b", WEIGHED)
        assert whole["instance_id"] == short["instance_id"] == "task:parcel:a:b"
        assert short["event_count"] == 2

    def test_reads_the_payload_from_a_file(self, wakelog: CommandLine, tmp_path: Path) -> None:
        file = tmp_path / "event.json"
        file.write_text('{"kind": "weighed", "grams": 7, "at": "2026-01-31T09:00:00Z"}')
        wakelog.answer("send", "parcel", "p-1", f"@{file}")
        assert wakelog.answer("state", "parcel", "p-1")["state"]["grams"] == 7

    def test_reads_the_payload_from_stdin(self, wakelog: CommandLine) -> None:
        wakelog.answer("send", "parcel", "p-1", "-", input='{"kind": "weighed", "grams": 8}')
        assert wakelog.answer("state", "parcel", "p-1")["state"]["grams"] == 8

    def test_with_a_key_is_recorded_once(self, wakelog: CommandLine) -> None:
        first = wakelog.answer("send", "parcel", "p-1", WEIGHED, "--key", "k")
        again = wakelog.answer("send", "parcel", "p-1", WEIGHED, "--key", "k")
        assert again == {**first, "duplicate": True}
        assert "used before" in wakelog("send", "parcel", "p-1", WEIGHED, "--key", "k").stdout

    def test_with_a_used_key_for_another_event_is_refused(self, wakelog: CommandLine) -> None:
        wakelog.answer("send", "parcel", "p-1", WEIGHED, "--key", "k")
        said = wakelog.refusal(1, "send", "parcel", "p-1", HEAVY, "--key", "k")
        assert "already used" in said

    @pytest.mark.parametrize(
        "options", [("--delay", "5m"), ("--delay", "300"), ("--at", "2999-01-31T09:00:00Z")]
    )
    def test_later_is_accepted_now(self, wakelog: CommandLine, options: tuple[str, str]) -> None:
        assert wakelog.answer("send", "parcel", "p-1", WEIGHED, *options)["deferred"]
        assert wakelog.answer("status", "parcel", "p-1")["deferred_count"] == 1

    def test_records_who_and_to_what_it_belongs(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED, "--actor", "ann", "--correlation-id", "tour-4")
        entry = wakelog.answer("history", "parcel", "p-1")["entries"][1]
        assert (entry["actor"], entry["correlation_id"]) == ("ann", "tour-4")
        assert "(by ann)" in wakelog("history", "parcel", "p-1").stdout

    def test_waits_for_a_worker(self, wakelog: CommandLine, worker: BlockingApp) -> None:
        answer = wakelog.answer("send", "parcel", "p-1", WEIGHED, "--defer", "--wait")
        assert answer["deferred"]
        status = wakelog.answer("status", "parcel", "p-1")
        assert (status["deferred_count"], status["status"]) == (0, "active")

    def test_says_that_nobody_works(self, wakelog: CommandLine) -> None:
        wait = ("--defer", "--wait", "--timeout", "0.01")
        said = wakelog.refusal(1, "send", "parcel", "p-1", WEIGHED, *wait)
        assert "the request stays recorded" in said


class TestTrigger:
    def test_waits_for_the_run(self, wakelog: CommandLine, worker: BlockingApp) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED)
        answer = wakelog.answer("trigger", "parcel", "p-1")
        assert (answer["triggered"], answer["failed"]) == (True, False)
        assert wakelog.answer("status", "parcel", "p-1")["execute_count"] == 1

    def test_of_a_run_that_fails_ends_with_4(
        self, wakelog: CommandLine, worker: BlockingApp
    ) -> None:
        wakelog("send", "parcel", "p-1", HEAVY)
        result = wakelog("trigger", "parcel", "p-1", "--json")
        assert result.exit_code == 4
        error = {"type": "ValueError", "message": "too heavy"}
        assert json.loads(result.stdout)["error"] == error
        assert wakelog.answer("status", "parcel", "p-1")["last_error"]["message"] == "too heavy"
        assert "ValueError: too heavy" in wakelog("status", "parcel", "p-1").stdout

    def test_of_nothing_ends_with_1_and_says_why(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-2", WEIGHED)
        result = wakelog("trigger", "parcel", "p-1")
        assert result.exit_code == 1
        assert "there is no such instance" in result.stdout

    def test_need_not_wait(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED)
        assert wakelog.answer("trigger", "parcel", "p-1", "--no-wait")["triggered"]
        assert wakelog.answer("status", "parcel", "p-1")["status"] == "unhandled"


class TestClear:
    def test_ends_the_life_and_keeps_the_history(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED)
        assert wakelog.answer("clear", "parcel", "p-1", "--reason", "sold")["cleared"]
        assert wakelog.answer("status", "parcel", "p-1")["status"] == "not_found"
        last = wakelog.answer("history", "parcel", "p-1")["entries"][-1]
        assert (last["event"], last["data"]["reason"]) == ("Cleared", "sold")

    def test_later_can_be_taken_back(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED)
        later = wakelog.answer("clear", "parcel", "p-1", "--after", "1d")
        assert datetime.fromisoformat(later["clear_at"]) > datetime.now(UTC)
        assert wakelog.answer("clear", "parcel", "p-1", "--cancel")["clear_at"] is None
        assert wakelog.answer("status", "parcel", "p-1")["clear_at"] is None

    def test_of_nothing_is_answered_with_no(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-2", WEIGHED)
        result = wakelog("clear", "parcel", "p-1")
        assert (result.exit_code, result.stderr) == (1, "")
        assert "not cleared: there is no living instance with this id" in result.stdout


class TestQuestionsWithoutJobs:
    @pytest.fixture
    def alone(self, wakelog: CommandLine, sqlite_url: str) -> CommandLine:
        wakelog("send", "parcel", "p-1", WEIGHED)
        return CommandLine(sqlite_url, jobs="")

    def test_status(self, alone: CommandLine) -> None:
        short, whole = alone.answer("status", "parcel", "p-1"), alone.answer("status", INSTANCE)
        assert short == whole
        assert (short["status"], short["version"]) == ("active", 4)

    def test_status_of_what_never_was(self, alone: CommandLine) -> None:
        answer = alone.answer("status", "parcel", "p-2")
        assert (answer["instance_id"], answer["status"]) == ("task:parcel:p-2", "not_found")

    def test_state_is_the_recorded_one(self, alone: CommandLine) -> None:
        assert alone.answer("state", INSTANCE)["state"] == {"grams": 500, "code": "1234"}

    def test_history(self, alone: CommandLine) -> None:
        said = alone("history", "parcel", "p-1").stdout
        assert 'received event {"kind":"weighed","grams":500,"at":null}' in said

    def test_ls(self, alone: CommandLine) -> None:
        assert [row["instance_id"] for row in alone.answer("ls")["instances"]] == [INSTANCE]


class TestState:
    def test_with_jobs_is_what_callers_may_see(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED)
        assert wakelog.answer("state", "parcel", "p-1")["state"]["code"] == "****"
        assert wakelog.answer("state", "parcel", "p-1", "--raw")["state"]["code"] == "1234"
        assert json.loads(wakelog("state", "parcel", "p-1").stdout)["code"] == "****"

    def test_of_nothing_says_so(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-2", WEIGHED)
        assert "is not found" in wakelog("state", "parcel", "p-1").stdout
        assert wakelog.answer("state", "parcel", "p-1")["state"] is None


class TestHistory:
    @pytest.fixture
    def two_lives(self, wakelog: CommandLine) -> CommandLine:
        wakelog("send", "parcel", "p-1", WEIGHED)
        wakelog("clear", "parcel", "p-1")
        wakelog("send", "parcel", "p-1", HEAVY)
        return wakelog

    def test_goes_over_all_lives(self, two_lives: CommandLine) -> None:
        answer = two_lives.answer("history", "parcel", "p-1")
        assert answer["lives"] == 2
        assert [entry["version"] for entry in answer["entries"]] == list(range(1, 10))
        lines = two_lives("history", "parcel", "p-1").stdout.splitlines()
        assert lines[0] == f"{INSTANCE}  9 entries, 2 lives"
        assert [line.split()[0] for line in lines[2:] if line.strip()] == [*"123456789"]

    def test_of_one_life(self, two_lives: CommandLine) -> None:
        answer = two_lives.answer("history", "parcel", "p-1", "--life", "1")
        assert [entry["version"] for entry in answer["entries"]] == [1, 2, 3, 4, 5]
        said = two_lives.refusal(2, "history", "parcel", "p-1", "--life", "3")
        assert "the newest life of task:parcel:p-1 is 2" in said

    def test_newest_entries_only(self, two_lives: CommandLine) -> None:
        answer = two_lives.answer("history", "parcel", "p-1", "--limit", "2")
        assert [entry["version"] for entry in answer["entries"]] == [8, 9]
        assert answer["left_out"] == 7
        said = two_lives("history", "parcel", "p-1", "--limit", "2").stdout
        assert "7 older entries not shown" in said

    def test_shows_the_state_at_a_version(self, two_lives: CommandLine) -> None:
        past = two_lives.answer("history", "parcel", "p-1", "--version", "3")
        assert (past["version"], past["state"]["grams"]) == (3, 500)
        assert '"grams": 500' in two_lives("history", INSTANCE, "--version", "3").stdout
        assert "newest version is 9" in two_lives.refusal(1, "history", INSTANCE, "--version", "10")

    def test_shows_the_state_at_a_moment(self, two_lives: CommandLine) -> None:
        cleared_at = two_lives.answer("history", INSTANCE)["entries"][4]["at"]
        assert two_lives.answer("history", INSTANCE, "--at", cleared_at)["status"] == "not_found"
        now = two_lives.answer("history", INSTANCE, "--at", "2999-01-01T00:00:00Z")
        assert (now["version"], now["state"]["grams"]) == (9, 5000)

    def test_times_are_utc_and_iso(self, two_lives: CommandLine) -> None:
        entry = two_lives.answer("history", INSTANCE)["entries"][3]
        form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
        assert re.fullmatch(form, entry["at"])
        assert re.fullmatch(form, entry["data"]["due_at"])
        assert "due_us" not in entry["data"]

    def test_every_moment_of_every_event_has_a_name_in_documents(self) -> None:
        times = {
            field
            for event in EVENTS.values()
            for field in event.model_fields
            if field.endswith("_us")
        }
        lengths = {"late_us", "duration_us"}
        assert times - lengths == set(MOMENTS)

    def test_of_nothing_is_refused(self, two_lives: CommandLine) -> None:
        assert "has no history" in two_lives.refusal(1, "history", "parcel", "p-2")

    def test_control_characters_do_not_reach_the_terminal(self, two_lives: CommandLine) -> None:
        two_lives("clear", "parcel", "p-1", "--reason", "\x1b[2J")
        said = two_lives("history", "parcel", "p-1").stdout
        assert "\x1b" not in said
        assert "\\x1b[2J" in said


class TestLs:
    @pytest.fixture
    def five(self, wakelog: CommandLine) -> CommandLine:
        for number in range(5):
            wakelog("send", "parcel", f"p-{number}", WEIGHED)
        wakelog("trigger", "parcel", "p-2", "--no-wait")
        return wakelog

    def ids(self, wakelog: CommandLine, *options: str) -> list[str]:
        rows = wakelog.answer("ls", *options)["instances"]
        return [row["instance_id"].removeprefix("task:parcel:") for row in rows]

    def test_pages(self, five: CommandLine) -> None:
        page = five.answer("ls", "--limit", "2")
        assert page["next"] == "task:parcel:p-1"
        assert self.ids(five, "--limit", "2", "--after", page["next"]) == ["p-2", "p-3"]
        assert five.answer("ls", "--limit", "5")["next"] is None
        said = five("ls", "--limit", "2")
        assert "there are more: --after task:parcel:p-1" in said.stderr

    def test_by_a_status_that_only_readers_can_tell(self, five: CommandLine) -> None:
        assert self.ids(five, "--status", "unhandled") == ["p-2"]
        assert self.ids(five, "--status", "active", "--limit", "3") == ["p-0", "p-1", "p-3"]
        assert self.ids(five, "--status", "failed") == []

    def test_by_last_error(self, five: CommandLine, worker: BlockingApp) -> None:
        five("send", "parcel", "p-3", HEAVY)
        five("trigger", "parcel", "p-3")
        assert self.ids(five, "--error", "ValueError") == ["p-3"]
        assert self.ids(five, "--status", "failed", "--name", "parcel") == ["p-3"]
        assert "ValueError" in five("ls").stdout

    def test_by_when_something_was_recorded_last(self, five: CommandLine) -> None:
        before = five.answer("ls")["instances"][3]["updated_at"]
        five("send", "parcel", "p-1", WEIGHED)
        assert self.ids(five, "--updated-after", before) == ["p-1", "p-2", "p-4"]

    def test_count_is_an_overview(self, five: CommandLine, worker: BlockingApp) -> None:
        five("send", "parcel", "p-3", HEAVY)
        five("trigger", "parcel", "p-3")
        five("trigger", "parcel", "p-2")
        answer = five.answer("count")
        [parcels] = answer["jobs"]
        assert (answer["total"], answer["running"], parcels["name"]) == (5, 0, "parcel")
        assert parcels["statuses"]["failed"] == 1
        assert sum(parcels["statuses"].values()) == 5
        assert five.answer("count", "--status", "failed", "--prefix", "p-3")["total"] == 1
        assert five.answer("count", "--error", "KeyError") == {"total": 0, "running": 0, "jobs": []}
        head, row = five("count").stdout.splitlines()
        assert head.split()[:3] == ["job", "total", "running"]
        assert row.split()[:2] == ["task:parcel", "5"]
        assert "no living instance" in five("count", "--name", "parcel", "--prefix", "x").stdout

    def test_by_due_time(self, five: CommandLine) -> None:
        assert self.ids(five, "--due-before", "1s") == ["p-2"]
        assert len(self.ids(five, "--due-before", "2h")) == 5
        assert self.ids(five, "--due-before", "2020-01-01T00:00:00Z") == []

    def test_by_name_and_prefix(self, five: CommandLine) -> None:
        assert self.ids(five, "--name", "letter") == []
        assert self.ids(five, "--prefix", "p-4", "--type", "task") == ["p-4"]

    def test_shows_a_table(self, five: CommandLine) -> None:
        lines = five("ls").stdout.splitlines()
        assert lines[0].split()[:2] == ["instance", "status"]
        assert [line.split()[0] for line in lines[1:]] == [f"task:parcel:p-{n}" for n in range(5)]


class TestWorkers:
    def test_nobody_lives(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED)
        assert wakelog.answer("workers")["workers"] == []
        assert "no worker is running" in wakelog("workers").stdout

    def test_who_lives(self, wakelog: CommandLine, worker: BlockingApp) -> None:
        [one] = wakelog.answer("workers")["workers"]
        assert (one["alive"], one["pid"], one["work"]) == (True, os.getpid(), [])
        assert "task:parcel" in one["jobs"]
        said = wakelog("workers").stdout
        assert re.search(rf"^{re.escape(one['name'])} +yes +.* ago +.* 0 of 100 +task:", said, re.M)
