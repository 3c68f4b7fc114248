"""The command line changes all instances that match, after a preview and a confirmation."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path

import pytest

from tests.adapters.cli.command_line import JOBS, CommandLine, process


@pytest.fixture
def wakelog(two_parcels: CommandLine) -> CommandLine:
    return two_parcels


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
        assert wakelog.last_event("parcel", "p-1")["event"] == "RetryScheduled"
        answer = wakelog.answer("clear", "--prefix", "p-", "--limit", "1", "-y", "--reason", "old")
        assert (answer["matched"], answer["done"]) == (1, 1)
        assert wakelog.last_event("parcel", "p-1")["description"] == "cleared by operator: old"
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

    def test_need_no_answer_if_there_are_none(self, wakelog: CommandLine) -> None:
        answer = wakelog.answer("clear", "--error", "KeyError")
        assert (answer["matched"], answer["done"], answer["dry_run"]) == (0, 0, False)

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
