"""The command line pauses and resumes instances, and whole jobs."""

from __future__ import annotations

import pytest

from tests.adapters.cli.command_line import CommandLine
from tests.adapters.cli.parcel_jobs import WEIGHED


@pytest.fixture
def wakelog(two_parcels: CommandLine) -> CommandLine:
    return two_parcels


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
        entry = wakelog.last_event("parcel", "p-2")
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
        result = wakelog(verb, "parcel", "p-9")
        assert result.exit_code == 1
        assert "there is no such instance" in result.stdout


class TestJob:
    def test_is_paused_and_goes_on(self, wakelog: CommandLine) -> None:
        words = ("pause", "parcel", "--yes", "--reason", "stock-taking", "--actor", "ann")
        pause = wakelog.answer(*words)
        given = pause["job"], pause["reason"], pause["actor"]
        assert given == ("task:parcel", "stock-taking", "ann")
        assert wakelog.answer("pauses") == {"pauses": [pause]}
        assert wakelog.answer("status", "parcel", "p-2")["status"] == "paused"
        assert wakelog.answer("send", "parcel", "p-3", WEIGHED)["deferred"]
        said = wakelog("pauses").stdout
        assert said.startswith("task:parcel  paused as a whole since ")
        assert said.endswith("; by ann: stock-taking\n")
        assert wakelog.answer("resume", "parcel") == {
            "job": "parcel",
            "resumed": True,
            "pause": pause,
        }
        again = wakelog("resume", "parcel")
        assert (again.exit_code, "was not paused as a whole" in again.stdout) == (1, True)
        assert wakelog("pauses").stdout == "no job is paused as a whole\n"

    def test_is_not_paused_without_a_confirmation(self, wakelog: CommandLine) -> None:
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
