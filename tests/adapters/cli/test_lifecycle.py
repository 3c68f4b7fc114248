"""The command line runs instances, runs them again, and ends their lives."""

from __future__ import annotations

import json
import os
import pty
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.adapters.cli.command_line import CommandLine, process
from tests.adapters.cli.parcel_jobs import HEAVY, WEIGHED, jobs
from wakelog.blocking import BlockingApp


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


class TestRetry:
    @pytest.fixture
    def wakelog(self, two_parcels: CommandLine) -> CommandLine:
        return two_parcels

    def test_is_retried(self, wakelog: CommandLine) -> None:
        answer = wakelog.answer("retry", "parcel", "p-1", "--no-wait", "--key", "k")
        assert (answer["retried"], answer["failed"]) == (True, False)
        status = wakelog.answer("status", "parcel", "p-1")
        assert (status["status"], status["retry_at"]) == (
            "retrying",
            wakelog.last_event("parcel", "p-1")["data"]["due_at"],
        )
        assert wakelog.answer("retry", "parcel", "p-1", "--no-wait", "--key", "k")["duplicate"]
        said = wakelog("status", "parcel", "p-1").stdout
        assert "retrying" in said
        assert "retry " in said

    def test_whose_run_fails_again_exits_with_4(
        self, wakelog: CommandLine, sqlite_url: str
    ) -> None:
        with jobs.open(sqlite_url, worker=True, grace="0s"):
            result = wakelog("retry", "parcel", "p-1", "--timeout", "20s")
        assert result.exit_code == 4
        assert "the run failed: ValueError: too heavy" in result.stdout

    def test_that_has_not_failed_is_left_alone(self, wakelog: CommandLine) -> None:
        result = wakelog("retry", "parcel", "p-2")
        assert result.exit_code == 1
        assert "no run of it has failed" in result.stdout


class TestClear:
    def test_ends_the_life_and_keeps_the_history(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED)
        assert wakelog.answer("clear", "parcel", "p-1", "--reason", "sold")["cleared"]
        assert wakelog.answer("status", "parcel", "p-1")["status"] == "not_found"
        last = wakelog.answer("history", "parcel", "p-1")["entries"][-1]
        assert (last["event"], last["data"]["reason"]) == ("Cleared", "sold")

    def test_later_can_be_cancelled(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED)
        later = wakelog.answer("clear", "parcel", "p-1", "--after", "1d")
        assert datetime.fromisoformat(later["clear_at"]) > datetime.now(UTC)
        assert wakelog.answer("clear", "parcel", "p-1", "--cancel")["clear_at"] is None
        assert wakelog.answer("status", "parcel", "p-1")["clear_at"] is None
        assert wakelog("clear", "parcel", "p-1", "--cancel").stdout == (
            "task:parcel:p-1  no scheduled clear (version 6): nothing to cancel\n"
        )

    def test_cancels_with_a_reason_that_is_not_recorded(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED)
        wakelog("clear", "parcel", "p-1", "--after", "1d")
        words = ("--cancel", "--reason", "not sold", "--actor", "ann")
        assert wakelog.answer("clear", "parcel", "p-1", *words)["cancelled"]
        assert wakelog.last_event("parcel", "p-1")["actor"] == "ann"

    def test_of_nothing_is_answered_with_no(self, wakelog: CommandLine) -> None:
        wakelog("send", "parcel", "p-2", WEIGHED)
        result = wakelog("clear", "parcel", "p-1")
        assert (result.exit_code, result.stderr) == (1, "")
        assert "not cleared: there is no living instance with this id" in result.stdout


class TestClearOnATerminal:
    @pytest.mark.parametrize(
        ("answer", "code", "status"), [("y", 0, "not_found"), ("n", 1, "active")]
    )
    def test_clear_asks(
        self, wakelog: CommandLine, tmp_path: Path, answer: str, code: int, status: str
    ) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED)
        ours, theirs = pty.openpty()
        os.write(ours, f"{answer}\n".encode())
        words = ("clear", "parcel", "p-1", "--json")
        with process(*words, cwd=tmp_path, env=wakelog.env, stdin=theirs) as clear:
            ended, stdout, stderr = clear.end()
        os.close(ours)
        os.close(theirs)
        assert (ended, "End the life of task:parcel:p-1? [y/N]" in stderr) == (code, True)
        assert (stdout == "") == (code == 1)
        assert wakelog.answer("status", "parcel", "p-1")["status"] == status

    def test_clear_does_not_ask_with_yes(self, wakelog: CommandLine, tmp_path: Path) -> None:
        wakelog("send", "parcel", "p-1", WEIGHED)
        ours, theirs = pty.openpty()
        words = ("clear", "parcel", "p-1", "--yes")
        with process(*words, cwd=tmp_path, env=wakelog.env, stdin=theirs) as clear:
            ended, stdout, _ = clear.end()
        os.close(ours)
        os.close(theirs)
        assert (ended, stdout) == (0, "task:parcel:p-1  cleared (version 5); its history is kept\n")
