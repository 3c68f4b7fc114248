"""The command line and debounces: add, flush, and the verbs of every job."""

from __future__ import annotations

from tests.adapters.cli.command_line import CommandLine
from tests.adapters.cli.parcel_jobs import LOST, WEIGHED
from wakelog.blocking import BlockingApp


def test_an_add_opens_a_window_and_says_when_it_is_flushed(wakelog: CommandLine) -> None:
    answer = wakelog.answer("add", "truck", "t-1", WEIGHED, "--key", "k", "--actor", "ann")
    assert answer["instance_id"] == "debounce:truck:t-1"
    assert (answer["created"], answer["event_count"], answer["deferred"]) == (True, 1, False)
    assert answer["will_flush_at"].endswith("Z")
    assert wakelog.answer("add", "truck", "t-1", WEIGHED, "--key", "k")["duplicate"]
    deferred = wakelog.answer("add", "debounce:truck:t-1", WEIGHED, "--defer")
    assert (deferred["deferred"], deferred["event_count"]) == (True, 2)
    assert "the window is full" in wakelog("add", "truck", "t-1", WEIGHED).stdout


def test_what_does_not_fit_is_refused_with_each_issue(wakelog: CommandLine) -> None:
    said = wakelog.refusal(1, "add", "truck", "t-1", '{"kind": "weighed"}')
    assert "grams" in said


def test_a_flush_is_done_by_a_worker(wakelog: CommandLine, worker: BlockingApp) -> None:
    wakelog.answer("add", "truck", "t-1", WEIGHED)
    answer = wakelog.answer("flush", "truck", "t-1", "--timeout", "20s")
    assert (answer["flushed"], answer["event_count"], answer["reason"]) == (True, 1, "manual")
    assert "flushed 1 event (manual)" in wakelog("history", "truck", "t-1").stdout


def test_a_flush_that_fails_ends_with_4_and_an_empty_one_with_1(
    wakelog: CommandLine, worker: BlockingApp
) -> None:
    wakelog.answer("add", "truck", "t-1", LOST)
    failed = wakelog("flush", "truck", "t-1", "--timeout", "20s")
    assert failed.exit_code == 4
    assert "the flush failed: LookupError: fell off" in failed.stdout
    empty = wakelog("flush", "truck", "t-1")
    assert (empty.exit_code, "nothing was added" in empty.stdout) == (1, True)


def test_without_waiting_it_is_asked_for(wakelog: CommandLine) -> None:
    wakelog.answer("add", "truck", "t-1", WEIGHED)
    assert "asked for a flush of 1 event" in wakelog("flush", "truck", "t-1", "--no-wait").stdout


def test_the_verbs_of_every_job_know_debounces(wakelog: CommandLine) -> None:
    wakelog.answer("add", "truck", "t-1", WEIGHED)
    assert wakelog.answer("status", "truck", "t-1")["status"] == "debouncing"
    assert wakelog.answer("state", "truck", "t-1")["state"]["grams"] == 500
    [row] = wakelog.answer("ls", "--status", "debouncing")["instances"]
    assert (row["instance_id"], row["event_count"]) == ("debounce:truck:t-1", 1)
    assert wakelog.answer("clear", "truck", "t-1")["discarded"] == 1
