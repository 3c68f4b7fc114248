"""The command line sends events to Tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.adapters.cli.command_line import CommandLine
from tests.adapters.cli.parcel_jobs import HEAVY, INSTANCE, WEIGHED
from wakelog.blocking import BlockingApp


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

    def test_says_that_no_worker_is_running(self, wakelog: CommandLine) -> None:
        wait = ("--defer", "--wait", "--timeout", "0.01")
        said = wakelog.refusal(1, "send", "parcel", "p-1", WEIGHED, *wait)
        assert "what was accepted stays accepted" in said
