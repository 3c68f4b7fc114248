"""The command line starts, stops and shows recurring work."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.adapters.cli.command_line import CommandLine
from tests.adapters.cli.lamp_jobs import jobs
from wakelog.blocking import BlockingApp

INSTANCE = "continuous:lamp:l-1"
WHOLE = "{}"


@pytest.fixture
def wakelog(sqlite_url: str) -> CommandLine:
    return CommandLine(sqlite_url, "tests.adapters.cli.lamp_jobs:jobs")


@pytest.fixture
def worker(sqlite_url: str) -> Iterator[BlockingApp]:
    with jobs.open(sqlite_url, worker=True, grace="0s") as app:
        yield app


class TestStart:
    def test_waits_for_the_first_run(self, wakelog: CommandLine, worker: BlockingApp) -> None:
        answer = wakelog.answer("start", "lamp", "l-1", WHOLE)
        assert (answer["instance_id"], answer["created"]) == (INSTANCE, True)
        assert (answer["status"], answer["failed"]) == ("active", False)
        assert answer["next_run_at"] is not None
        again = wakelog("start", "lamp", "l-1", WHOLE)
        assert again.stdout.startswith(f"{INSTANCE}  was started before, and is active")

    def test_of_a_job_that_fails_ends_with_4(
        self, wakelog: CommandLine, worker: BlockingApp
    ) -> None:
        result = wakelog("start", "lamp", "l-1", '{"broken": true}', "--json")
        assert result.exit_code == 4
        answer = json.loads(result.stdout)
        assert answer["error"] == {"type": "ValueError", "message": "dark"}
        assert answer["status"] == "active"
        other = wakelog("start", "lamp", "l-2", '{"broken": true}')
        assert "its first run failed: ValueError: dark" in other.stdout
        assert "next run at" in other.stdout

    def test_need_not_wait_and_takes_a_whole_id(self, wakelog: CommandLine) -> None:
        result = wakelog("start", INSTANCE, WHOLE, "--no-wait")
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith(f"{INSTANCE}  started (version 2); next run at")

    def test_goes_on_with_what_was_stopped(self, wakelog: CommandLine) -> None:
        wakelog("start", "lamp", "l-1", '{"checks": 1}', "--no-wait")
        wakelog("stop", "lamp", "l-1")
        given = ("start", "lamp", "l-1", '{"checks": 5}', "--no-wait")
        assert "goes on again" in wakelog(*given).stdout
        assert wakelog.answer("state", "lamp", "l-1", "--raw")["state"]["checks"] == 1
        wakelog("stop", "lamp", "l-1")
        assert wakelog.answer(*given, "--replace")["resumed"] is True
        assert wakelog.answer("state", "lamp", "l-1", "--raw")["state"]["checks"] == 5

    def test_with_a_key_is_recorded_once(self, wakelog: CommandLine) -> None:
        given = ("start", "lamp", "l-1", WHOLE, "--no-wait", "--key", "k")
        first = wakelog.answer(*given)
        assert wakelog.answer(*given) == {**first, "duplicate": True}
        assert "the result then was: started" in wakelog(*given).stdout

    def test_says_what_does_not_fit(self, wakelog: CommandLine) -> None:
        wakelog("send", "switch", "s-1", "1")
        said = wakelog.refusal(1, "start", "lamp", "l-1", '{"checks": "many"}')
        assert wakelog.answer("status", "lamp", "l-1")["status"] == "not_found"
        assert "input of 'lamp'" in said
        assert "checks" in said

    def test_says_that_no_worker_is_running(self, wakelog: CommandLine) -> None:
        said = wakelog.refusal(1, "start", "lamp", "l-1", WHOLE, "--timeout", "0.01")
        assert "what was accepted stays accepted" in said


class TestStop:
    def test_echoes_the_reason_and_keeps_the_state(self, wakelog: CommandLine) -> None:
        wakelog("start", "lamp", "l-1", '{"checks": 3}', "--no-wait")
        answer = wakelog.answer("stop", "lamp", "l-1", "--reason", "holidays", "--actor", "ann")
        assert (answer["stopped"], answer["reason"]) == (True, "holidays")
        status = wakelog.answer("status", "lamp", "l-1")
        assert (status["status"], status["stop_reason"]) == ("stopped", "holidays")
        assert wakelog.answer("state", "lamp", "l-1")["state"]["checks"] == 30
        assert "stopped by operator" in wakelog("history", "lamp", "l-1").stdout

    def test_of_nothing_ends_with_1_and_says_why(self, wakelog: CommandLine) -> None:
        wakelog("send", "switch", "s-1", "1")
        result = wakelog("stop", "lamp", "l-1")
        assert result.exit_code == 1
        assert "there is no such instance" in result.stdout
        wakelog("start", "lamp", "l-1", WHOLE, "--no-wait")
        assert "its state is kept" in wakelog("stop", "lamp", "l-1").stdout
        again = wakelog("stop", "lamp", "l-1")
        assert (again.exit_code, "it was stopped before" in again.stdout) == (1, True)


class TestTerminate:
    def test_ends_the_life_and_keeps_the_history(self, wakelog: CommandLine) -> None:
        wakelog("start", "lamp", "l-1", WHOLE, "--no-wait")
        answer = wakelog.answer("terminate", "lamp", "l-1", "--reason", "sold")
        assert (answer["terminated"], answer["reason"]) == (True, "sold")
        assert wakelog.answer("status", "lamp", "l-1")["status"] == "not_found"
        entries = wakelog.answer("history", "lamp", "l-1")["entries"]
        assert [entry["event"] for entry in entries] == ["Started", "Scheduled", "Cleared"]

    def test_of_nothing_ends_with_1(self, wakelog: CommandLine) -> None:
        wakelog("send", "switch", "s-1", "1")
        result = wakelog("terminate", "lamp", "l-1", "--yes")
        assert (
            result.exit_code,
            "not terminated: there is no living instance" in result.stdout,
        ) == (1, True)


class TestLooking:
    def test_status_is_that_of_recurring_work(
        self, wakelog: CommandLine, worker: BlockingApp
    ) -> None:
        wakelog("start", "lamp", "l-1", WHOLE)
        status = wakelog.answer("status", INSTANCE)
        assert (status["status"], status["run_count"], status["running"]) == ("active", 1, False)
        assert status["last_executed_at"] is not None
        shown = wakelog("status", "lamp", "l-1").stdout
        assert "last run" in shown
        assert "events" not in shown

    def test_status_needs_no_jobs(self, wakelog: CommandLine, sqlite_url: str) -> None:
        wakelog("start", "lamp", "l-1", WHOLE, "--no-wait")
        alone = CommandLine(sqlite_url, jobs="")
        assert alone.answer("status", "lamp", "l-1")["instance_id"] == INSTANCE

    def test_state_is_as_the_job_shows_it(self, wakelog: CommandLine) -> None:
        wakelog("start", "lamp", "l-1", '{"checks": 3}', "--no-wait")
        assert wakelog.answer("state", "lamp", "l-1")["state"]["checks"] == 30
        assert wakelog.answer("state", "lamp", "l-1", "--raw")["state"]["checks"] == 3

    def test_trigger_runs_it_beside_its_schedule(
        self, wakelog: CommandLine, worker: BlockingApp
    ) -> None:
        next_run = wakelog.answer("start", "lamp", "l-1", WHOLE)["next_run_at"]
        assert wakelog.answer("trigger", "lamp", "l-1")["triggered"] is True
        status = wakelog.answer("status", "lamp", "l-1")
        assert (status["run_count"], status["next_run_at"]) == (2, next_run)

    def test_ls_lists_both_types(self, wakelog: CommandLine) -> None:
        wakelog("start", "lamp", "l-1", WHOLE, "--no-wait")
        wakelog("send", "switch", "s-1", "1")
        found = wakelog.answer("ls")["instances"]
        assert [each["instance_id"] for each in found] == [INSTANCE, "task:switch:s-1"]
        [only] = wakelog.answer("ls", "--type", "continuous")["instances"]
        assert only["instance_id"] == INSTANCE


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("send", "lamp", "l-1", "1"), "a continuous cannot send: of these commands it knows"),
        (
            ("clear", "lamp", "l-1", "--yes"),
            "start, trigger, retry, pause, resume, stop, terminate",
        ),
        (("start", "switch", "s-1", '"x"'), "a task cannot start: of these commands it knows"),
        (("stop", "switch", "s-1"), "send, trigger, retry, pause, resume, clear"),
        (("terminate", "switch", "s-1", "--yes"), "a task cannot terminate"),
    ],
)
def test_a_verb_that_the_type_of_job_lacks_is_a_mistake_of_the_command_line(
    wakelog: CommandLine, words: tuple[str, ...], said: str
) -> None:
    assert said in wakelog.refusal(2, *words)
