"""The command line shows states, histories, lists and workers, to people and to programs."""

from __future__ import annotations

import json
import os
import re

import pytest

from tests.adapters.cli.command_line import CommandLine
from tests.adapters.cli.parcel_jobs import HEAVY, INSTANCE, WEIGHED
from wakelog.blocking import BlockingApp
from wakelog.core.events import EVENTS
from wakelog_adapters.cli.render.json_output import MOMENTS


class TestWithoutJobs:
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
            for field in event.__struct_fields__
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
        assert five.answer("count", "--error", "KeyError") == {
            "total": 0,
            "running": 0,
            "jobs": [],
            "pools": [],
        }
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
    def test_none_is_running(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED)
        assert wakelog.answer("workers")["workers"] == []
        assert "no worker is running" in wakelog("workers").stdout

    def test_each_is_shown(self, wakelog: CommandLine, worker: BlockingApp) -> None:
        [one] = wakelog.answer("workers")["workers"]
        assert (one["alive"], one["pid"], one["work"]) == (True, os.getpid(), [])
        assert "task:parcel" in one["jobs"]
        said = wakelog("workers").stdout
        assert re.search(rf"^{re.escape(one['name'])} +yes +.* ago +.* 0 of 100 +task:", said, re.M)
