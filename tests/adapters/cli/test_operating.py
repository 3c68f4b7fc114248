"""What operators do on the command line: to one instance, to a whole job, to all that match."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.cli.command_line import JOBS, CommandLine, process
from tests.adapters.cli.parcel_jobs import jobs
from wakelog.testing import Simulation

WEIGHED = '{"kind": "weighed", "grams": 500}'
HEAVY = '{"kind": "weighed", "grams": 5000}'


@pytest.fixture
def wakelog(sqlite_url: str) -> CommandLine:
    """A store with p-1, whose run has failed, and p-2, which waits for its run."""
    with Simulation(jobs, url=sqlite_url) as sim:
        sim.task("parcel").send("p-1", {"kind": "weighed", "grams": 5000})
        sim.advance("1h")
        sim.task("parcel").send("p-2", {"kind": "weighed", "grams": 500})
    return CommandLine(sqlite_url)


def last_event(wakelog: CommandLine, id: str) -> dict[str, Any]:
    event: dict[str, Any] = wakelog.answer("history", "parcel", id)["entries"][-1]
    return event


class TestOne:
    def test_is_paused_and_goes_on(self, wakelog: CommandLine) -> None:
        words = ("parcel", "p-2", "--actor", "ann")
        answer = wakelog.answer("pause", *words, "--reason", "stock-taking")
        assert answer == {
            "instance_id": "task:parcel:p-2",
            "version": 5,
            "paused": True,
            "reason": "stock-taking",
            "duplicate": False,
        }
        status = wakelog.answer("status", "parcel", "p-2")
        assert (status["status"], status["reason"]) == ("paused", "stock-taking")
        entry = last_event(wakelog, "p-2")
        assert (entry["description"], entry["actor"]) == ("paused by operator: stock-taking", "ann")
        assert wakelog("status", "parcel", "p-2").stdout.count("stock-taking") == 1
        listed = wakelog("ls", "--status", "paused").stdout
        assert "because" in listed
        assert "stock-taking" in listed
        answer = wakelog.answer("resume", "task:parcel:p-2", "--reason", "done")
        assert (answer["resumed"], answer["reason"]) == (True, "done")

    def test_says_what_it_did_in_words(self, wakelog: CommandLine) -> None:
        said = [
            wakelog(verb, "parcel", "p-2").stdout for verb in ("pause", "pause", "resume", "resume")
        ]
        assert said == [
            "task:parcel:p-2  paused (version 5)\n",
            "task:parcel:p-2  not paused: it was paused before (version 5)\n",
            "task:parcel:p-2  resumed (version 6)\n",
            "task:parcel:p-2  not resumed: it was not paused (version 6)\n",
        ]

    @pytest.mark.parametrize("verb", ["pause", "resume", "retry"])
    def test_that_is_not_there_exits_with_1(self, wakelog: CommandLine, verb: str) -> None:
        result = wakelog(verb, "parcel", "nobody")
        assert result.exit_code == 1
        assert "there is no such instance" in result.stdout

    def test_is_retried(self, wakelog: CommandLine) -> None:
        answer = wakelog.answer("retry", "parcel", "p-1", "--no-wait", "--key", "k")
        assert (answer["retried"], answer["failed"]) == (True, False)
        status = wakelog.answer("status", "parcel", "p-1")
        assert (status["status"], status["retry_at"]) == ("retrying", last_due(wakelog))
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


def last_due(wakelog: CommandLine) -> str:
    due: str = last_event(wakelog, "p-1")["data"]["due_at"]
    return due


class TestJob:
    def test_is_held_and_goes_on(self, wakelog: CommandLine) -> None:
        words = ("pause", "parcel", "--yes", "--reason", "stock-taking", "--actor", "ann")
        held = wakelog.answer(*words)
        assert (held["job"], held["reason"], held["actor"]) == (
            *("task:parcel", "stock-taking"),
            "ann",
        )
        assert wakelog.answer("pauses") == {"pauses": [held]}
        assert wakelog.answer("status", "parcel", "p-2")["status"] == "paused"
        assert wakelog.answer("send", "parcel", "p-3", WEIGHED)["deferred"]
        said = wakelog("pauses").stdout
        assert said.startswith("task:parcel  paused as a whole since ")
        assert said.endswith("; by ann: stock-taking\n")
        assert wakelog.answer("resume", "parcel") == {
            "job": "parcel",
            "resumed": True,
            "pause": held,
        }
        again = wakelog("resume", "parcel")
        assert (again.exit_code, "was not paused as a whole" in again.stdout) == (1, True)
        assert wakelog("pauses").stdout == "no job is paused as a whole\n"

    def test_is_not_held_without_an_answer(self, wakelog: CommandLine) -> None:
        said = wakelog.refusal(2, "pause", "parcel")
        assert "Pause the whole job parcel, with all instances to come?" in said
        assert "--yes" in said
        assert wakelog.answer("pauses") == {"pauses": []}

    @pytest.mark.parametrize("verb", ["retry", "clear"])
    def test_alone_is_no_instance(self, wakelog: CommandLine, verb: str) -> None:
        said = wakelog.refusal(2, verb, "parcel", "--yes")
        assert "'parcel' names no instance" in said
        assert "--all" in said

    def test_that_is_not_known(self, wakelog: CommandLine) -> None:
        for words in (("pause", "letter", "--yes"), ("retry", "letter", "--all", "--yes")):
            assert "no job is registered as 'letter'" in wakelog.refusal(2, *words)


class TestAllThatMatch:
    def test_are_shown_first(self, wakelog: CommandLine) -> None:
        answer = wakelog.answer("retry", "--status", "failed", "--dry-run")
        assert (answer["matched"], answer["done"]) == (1, 0)
        assert answer["instance_ids"] == ["task:parcel:p-1"]
        said = wakelog("clear", "parcel", "--all", "--dry-run").stdout
        assert said == "2 instances match\n  task:parcel:p-1\n  task:parcel:p-2\n"
        assert len(wakelog.answer("ls")["instances"]) == 2

    def test_are_done(self, wakelog: CommandLine) -> None:
        answer = wakelog.answer("retry", "parcel", "--error", "ValueError", "--yes")
        assert (answer["action"], answer["matched"], answer["done"]) == ("retry", 1, 1)
        assert last_event(wakelog, "p-1")["event"] == "RetryScheduled"
        answer = wakelog.answer("clear", "--prefix", "p-", "--limit", "1", "-y", "--reason", "old")
        assert (answer["matched"], answer["done"]) == (1, 1)
        assert last_event(wakelog, "p-1")["description"] == "cleared by operator: old"
        assert len(wakelog.answer("ls")["instances"]) == 1

    def test_that_were_left_out_are_named_and_exit_with_1(self, wakelog: CommandLine) -> None:
        wakelog.answer("pause", "parcel", "p-1")
        result = wakelog("pause", "--all", "--yes")
        assert result.exit_code == 1
        assert result.stdout == (
            "2 instances match, 1 paused\n  task:parcel:p-1  not changed: it is paused\n"
        )
        assert wakelog.answer("resume", "parcel", "--all", "--yes")["done"] == 2

    def test_need_an_answer(self, wakelog: CommandLine) -> None:
        said = wakelog.refusal(2, "clear", "--status", "failed")
        assert "Clear 1 instance? No terminal to ask on" in said
        assert len(wakelog.answer("ls")["instances"]) == 2

    @pytest.mark.parametrize(("typed", "left"), [(b"y\n", 1), (b"n\n", 2)])
    def test_are_confirmed_on_a_terminal(
        self, wakelog: CommandLine, tmp_path: Path, typed: bytes, left: int
    ) -> None:
        ours, theirs = pty.openpty()
        try:
            os.write(ours, typed)
            words = ("clear", "--status", "failed", "--json")
            with process(*words, cwd=tmp_path, env=wakelog.env, stdin=theirs) as asked:
                code, stdout, stderr = asked.end()
        finally:
            os.close(ours)
            os.close(theirs)
        assert "Clear 1 instance?" in stderr
        assert code == (0 if left == 1 else 1)
        assert (json.loads(stdout)["done"] if stdout else 0) == 2 - left
        assert len(wakelog.answer("ls")["instances"]) == left

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("retry",), "nothing is named"),
            (("pause", "parcel", "p-1", "--status", "failed"), "parcel p-1 is one instance"),
            (("resume", "task:parcel:p-1", "--all"), "task:parcel:p-1 is one instance"),
            (("retry", "--dry-run"), "need a filter, or --all"),
            (("retry", "parcel", "--limit", "3"), "need a filter, or --all"),
            (("retry", "--status", "tired", "--yes"), "--status 'tired' is none of"),
            (("retry", "--due-before", "soon", "--yes"), "--due-before 'soon' is not a time"),
            (("clear", "--all", "--after", "5m", "--yes"), "are for one instance"),
        ],
    )
    def test_mistakes(self, wakelog: CommandLine, words: tuple[str, ...], said: str) -> None:
        assert said in wakelog.refusal(2, *words)

    def test_a_store_that_is_not_there(self, tmp_path: Path) -> None:
        elsewhere = CommandLine(f"sqlite:///{tmp_path}/nowhere.db", JOBS)
        for words in (("pauses",), ("retry", "--all", "--yes"), ("pause", "parcel", "--yes")):
            assert "there is no file" in elsewhere.refusal(3, *words)
