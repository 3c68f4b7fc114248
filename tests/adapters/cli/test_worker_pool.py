"""The command line and worker pools: enqueue, `wakelog pool`, and the commands of every job (P1 to
P12, A9)."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.adapters.cli.command_line import CommandLine
from tests.adapters.cli.pool_jobs import jobs
from tests.support_stores import direct_access
from wakelog.blocking import BlockingApp
from wakelog.testing import Simulation
from wakelog_adapters.sqlite.url import parse

ANN, NOBODY = '{"to": "ann"}', '{"to": "nobody"}'
SUBCOMMANDS = (
    *("status", "get", "why", "wait", "history", "dead", "requeue", "discard", "cancel"),
    *("priority", "pause", "resume", "drain", "rebuild"),
)


@pytest.fixture
def wakelog(shared_url: str) -> CommandLine:
    return CommandLine(shared_url, "tests.adapters.cli.pool_jobs:jobs")


@pytest.fixture
def with_dead(wakelog: CommandLine, shared_url: str) -> CommandLine:
    """On a store in which l-1 was delivered, and l-2 and l-3 could not be."""
    for id, letter in (("l-1", ANN), ("l-2", NOBODY), ("l-3", NOBODY)):
        wakelog.answer("enqueue", "letters", letter, "--id", id)
    worked(shared_url)
    return wakelog


def worked(url: str, **length: float) -> None:
    """Let a worker do what is due within ten minutes from now, or within another time."""
    now = datetime.now(UTC) + timedelta(seconds=1)
    with Simulation(jobs, url=url, start=now) as sim:
        sim.advance(timedelta(**(length or {"minutes": 10})))


def pool(wakelog: CommandLine, verb: str, *words: str) -> dict[str, Any]:
    """The JSON document of a command of the pool."""
    return wakelog.answer("pool", verb, "letters", *words)


def test_P2_an_event_is_accepted_and_named(wakelog: CommandLine) -> None:
    first = wakelog.answer("enqueue", "letters", ANN, "--id", "l-1", "--actor", "ann")
    assert (first["event_id"], first["partition"], first["position"]) == ("l-1", None, 0)
    keyed = wakelog.answer("enqueue", "workerPool:letters", ANN, "--partition-key", "k")
    assert keyed["event_id"].startswith("#")
    assert (keyed["partition"] in (0, 1), keyed["position"]) == (True, 1)
    assert wakelog.answer("enqueue", "letters", ANN, "--id", "l-1")["duplicate"] is True
    said = wakelog("enqueue", "letters", "-", "--priority", "3", input=ANN).stdout
    assert said.endswith("accepted; 2 events pending before it\n")


def test_P2_a_delayed_event_waits(wakelog: CommandLine, shared_url: str) -> None:
    wakelog.answer("enqueue", "letters", ANN, "--id", "soon", "--delay", "1h")
    wakelog.answer("enqueue", "letters", ANN, "--id", "late", "--at", "2200-01-01T00:00:00Z")
    assert (pool(wakelog, "status")["delayed"], pool(wakelog, "status")["pending"]) == (2, 0)
    assert pool(wakelog, "get", "late")["due_at"] == "2200-01-01T00:00:00.000000Z"
    worked(shared_url, hours=2)
    assert pool(wakelog, "get", "soon")["status"] == "completed"


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (1, ["enqueue", "letters", "{}"], "to: Field required"),
        (2, ["enqueue", "letters", "{"], "is not JSON"),
        (2, ["enqueue", "parcels", "{}"], "no workerPool is registered as 'parcels'"),
        (1, ["enqueue", "letters", ANN, "--id", "#3.17"], "are given by the pool"),
        (1, ["enqueue", "letters", ANN, "--delay", "1h", "--at", "2200-01-01T00:00:00Z"], "both"),
        (1, ["pool", "get", "letters", "l-9"], "no history in this store"),
        (1, ["pool", "pause", "letters", "--partition", "2"], "must be 0 to 1"),
        (2, ["pool", "requeue", "letters"], "--error TYPE, or --all"),
        (2, ["pool", "discard", "letters", "l-1", "--all"], "not both"),
        (2, ["pause", "workerPool:letters:1"], "wakelog pool --help"),
        (2, ["state", "letters", "0"], "it has no instances"),
    ],
)
def test_what_does_not_fit_is_refused(
    wakelog: CommandLine, code: int, words: list[str], said: str
) -> None:
    wakelog.answer("enqueue", "letters", ANN)
    assert said in wakelog.refusal(code, *words)


def test_P7_a_pool_is_shown_in_numbers(with_dead: CommandLine) -> None:
    status = pool(with_dead, "status")
    assert (status["processed"], status["dead"], status["pending"]) == (1, 2, 0)
    assert [each["partition"] for each in status["partitions"]] == [0, 1]
    assert re.search(r"dead +2", with_dead("pool", "status", "letters").stdout)
    [row] = with_dead.answer("pool", "status")["pools"]
    assert (row["name"], row["dead"]) == ("letters", 2)
    assert with_dead("pool", "status").stdout.startswith("pool     status")


def test_P7_status_needs_no_jobs(with_dead: CommandLine, shared_url: str) -> None:
    alone = CommandLine(shared_url, "")
    assert alone.answer("pool", "status", "letters")["dead"] == 2
    assert alone.answer("status", "workerPool:letters")["dead"] == 2
    assert alone.answer("status", "letters", "0")["dead"] == 2
    assert "no pool 'parcels'" in alone.refusal(2, "pool", "status", "parcels")


def test_H1_an_event_has_its_history_without_jobs(with_dead: CommandLine, shared_url: str) -> None:
    alone = CommandLine(shared_url, "")
    assert alone.answer("history", "workerPool:letters:l-1")["entries"]
    for words in (["get", "l-1"], ["why", "l-1"], ["history", "l-1"], ["dead"]):
        said = alone.refusal(2, "pool", words[0], "letters", *words[1:])
        assert "give --jobs orders:jobs" in said
        assert "'wakelog history workerPool:letters:EVENT' need none" in said


def test_P7_is_paused_resumed_and_drained(wakelog: CommandLine, shared_url: str) -> None:
    wakelog.answer("enqueue", "letters", ANN, "--id", "l-1")
    assert pool(wakelog, "pause", "--reason", "lunch", "--actor", "ann")["done"] is True
    assert wakelog("pool", "pause", "letters").exit_code == 1
    worked(shared_url)
    status = pool(wakelog, "status")
    assert (status["paused"], status["reason"], status["pending"]) == (True, "lunch", 1)
    assert "paused: lunch" in pool(wakelog, "why", "l-1")["text"]
    assert "letters  resumed" in wakelog("pool", "resume", "letters").stdout
    assert pool(wakelog, "drain")["done"] is True
    assert wakelog("enqueue", "letters", ANN).exit_code == 1
    worked(shared_url)
    assert pool(wakelog, "status")["processed"] == 1
    assert pool(wakelog, "resume")["done"] is True
    assert wakelog("pool", "resume", "letters").exit_code == 1


def test_P7_one_partition_is_paused(wakelog: CommandLine) -> None:
    wakelog.answer("enqueue", "letters", ANN)
    said = wakelog("pool", "pause", "letters", "--partition", "1", "--reason", "hot").stdout
    assert said == "letters, partition 1  paused; hot\n"
    assert [each["status"] for each in pool(wakelog, "status")["partitions"]][1] == "paused"
    assert pool(wakelog, "resume", "--partition", "1")["done"] is True


def test_A5_pause_reaches_the_whole_job(wakelog: CommandLine, shared_url: str) -> None:
    wakelog.answer("enqueue", "letters", ANN)
    assert wakelog.answer("pause", "letters", "--yes")["job"] == "workerPool:letters"
    assert pool(wakelog, "status")["paused"] is True
    assert "see wakelog pauses" in wakelog("pool", "resume", "letters").stdout
    worked(shared_url)
    assert pool(wakelog, "status")["pending"] == 1
    wakelog.answer("resume", "letters")
    worked(shared_url)
    assert pool(wakelog, "status")["processed"] == 1


def test_P8_an_event_is_shown_waited_for_and_has_a_history(with_dead: CommandLine) -> None:
    assert pool(with_dead, "get", "l-1")["result"] == "with ann"
    assert pool(with_dead, "wait", "l-1")["status"] == "completed"
    dead = with_dead("pool", "wait", "letters", "l-2")
    assert (dead.exit_code, "LookupError: no such address" in dead.stdout) == (4, True)
    told = [each["description"] for each in pool(with_dead, "history", "l-1")["entries"]]
    assert told[0].startswith('accepted event {"to":"ann"} as #')
    assert told[-1].startswith("ended well after")
    assert told == [each["description"] for each in _history(with_dead, "l-1")]


def test_P8_waiting_ends_with_its_timeout(wakelog: CommandLine) -> None:
    wakelog.answer("enqueue", "letters", ANN, "--id", "l-1")
    said = wakelog.refusal(1, "pool", "wait", "letters", "l-1", "--timeout", "1ms")
    assert "workerPool:letters:l-1 was not done within" in said


def _history(wakelog: CommandLine, id: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = wakelog.answer("history", "letters", id)["entries"]
    return entries


def test_the_streams_of_a_pool_have_histories(with_dead: CommandLine) -> None:
    accepted = _history(with_dead, "shared")
    assert [each["event"] for each in accepted] == ["EventsReceived"] * 3
    taken = with_dead("history", "workerPool:letters:0").stdout
    assert "took 1 event" in taken
    assert with_dead("history", "workerPool:letters").stdout.count("accepted 1 event: #") == 3


def test_A9_dead_events_are_listed_with_their_errors(with_dead: CommandLine) -> None:
    found = pool(with_dead, "dead", "--error", "LookupError")
    assert [each["event_id"] for each in found["dead_letters"]] == ["l-2", "l-3"]
    page = pool(with_dead, "dead", "--limit", "1")
    assert [each["event_id"] for each in page["dead_letters"]] == ["l-2"]
    [after] = pool(with_dead, "dead", "--after", page["next"])["dead_letters"]
    assert (after["event_id"], after["attempts"]) == ("l-3", 2)
    shown = with_dead("pool", "dead", "letters").stdout
    assert shown.count("LookupError: no such address") == 2
    assert "no such dead letters" in with_dead("pool", "dead", "letters", "--error", "E").stdout


def test_A9_dead_events_are_counted(with_dead: CommandLine) -> None:
    assert with_dead.answer("dead-letters")["pools"] == {"letters": 2}
    assert "2 dead events, see wakelog pool dead letters" in with_dead("dead-letters").stdout
    assert with_dead.answer("count")["pools"][0]["dead"] == 2
    assert "letters" in with_dead("count").stdout
    assert with_dead.answer("count", "--type", "task")["pools"] == []
    listed = with_dead("ls")
    assert (listed.stdout, "see wakelog pool status" in listed.stderr) == (
        "no living instance matches\n",
        True,
    )
    told = json.loads(with_dead("doctor", "--json").stdout)
    findings = {each["text"]: each for each in told["findings"]}
    dead = findings["2 dead events of workerPool:letters"]
    assert (dead["check"], dead["level"]) == ("pools", "warning")
    assert "wakelog pool dead letters" in dead["advice"]


def test_P8_dead_events_are_requeued(with_dead: CommandLine) -> None:
    preview = pool(with_dead, "requeue", "--all", "--dry-run")
    assert (preview["events"], preview["dry_run"]) == (["l-2", "l-3"], True)
    assert "give --yes" in with_dead.refusal(2, "pool", "requeue", "letters", "--all")
    assert pool(with_dead, "requeue", "l-2")["events"] == ["l-2"]
    again = with_dead("pool", "requeue", "letters", "l-2", "l-9")
    assert again.exit_code == 1
    assert "l-2 skipped: there is nothing to change" in again.stdout
    assert "l-9 skipped: there is no such event here" in again.stdout
    assert pool(with_dead, "requeue", "--error", "LookupError", "--yes")["events"] == ["l-3"]
    assert pool(with_dead, "status")["pending"] == 2


def test_P8_dead_events_are_discarded(with_dead: CommandLine) -> None:
    gone = with_dead("pool", "discard", "letters", "l-2", "--reason", "moved away")
    assert (gone.exit_code, gone.stdout) == (0, "letters  1 event dropped for good\n")
    told = [each["description"] for each in _history(with_dead, "l-2")]
    assert "discarded: moved away" in told
    assert pool(with_dead, "discard", "--all", "--yes")["events"] == ["l-3"]
    # with nothing to do there is no question, and that is no failure
    for verb in (["discard"], ["requeue"], ["priority", "--to", "5"]):
        for sure in ([], ["--yes"], ["--dry-run"]):
            none = with_dead("pool", verb[0], "letters", *verb[1:], "--all", *sure)
            assert (none.exit_code, none.stdout) == (0, "letters  no event matches\n")


def test_K4_what_waits_for_code_is_given_up(wakelog: CommandLine) -> None:
    wakelog.answer("enqueue", "letters", ANN, "--id", "l-1")
    skipped = wakelog("pool", "dead-letter", "letters", "l-1")
    assert (skipped.exit_code, "l-1 skipped" in skipped.stdout) == (1, True)
    assert wakelog("pool", "dead-letter", "letters", "--all", "--dry-run").exit_code == 0
    assert "nothing is named" in wakelog.refusal(2, "pool", "dead-letter", "letters")


def test_P6_a_waiting_event_is_cancelled(with_dead: CommandLine) -> None:
    with_dead.answer("enqueue", "letters", ANN, "--id", "l-4")
    assert pool(with_dead, "cancel", "l-4", "--reason", "wrong")["status"] == "cancelled"
    assert pool(with_dead, "get", "l-4")["status"] == "cancelled"
    for id, word in (("l-1", "it is over"), ("l-9", "no such event")):
        refused = with_dead("pool", "cancel", "letters", id)
        assert (refused.exit_code, word in refused.stdout) == (1, True)


def test_P4_priorities_are_changed(wakelog: CommandLine) -> None:
    for id in ("l-1", "l-2"):
        wakelog.answer("enqueue", "letters", ANN, "--id", id)
    preview = wakelog("pool", "priority", "letters", "l-2", "--to", "5", "--dry-run").stdout
    assert preview == "letters  1 event would be moved to priority 5\n  l-2\n"
    assert pool(wakelog, "priority", "l-2", "--to", "-5", "--actor", "ann")["events"] == ["l-2"]
    assert _history(wakelog, "l-2")[-1]["description"] == "moved to priority -5"
    assert wakelog("pool", "priority", "letters", "l-2", "--to", "-5").exit_code == 1


def test_P4_priorities_of_all_that_match_are_changed(wakelog: CommandLine) -> None:
    for id, key in (("l-1", "a"), ("l-2", "b"), ("l-3", "a")):
        wakelog.answer("enqueue", "letters", ANN, "--id", id, "--partition-key", key)
    preview = pool(wakelog, "priority", "--to", "5", "--partition-key", "a", "--dry-run")
    assert (preview["events"], preview["dry_run"]) == (["l-1", "l-3"], True)
    words = ("pool", "priority", "letters", "--to", "5")
    assert "Move 3 waiting events to priority 5?" in wakelog.refusal(2, *words, "--all")
    assert "give events, or" in wakelog.refusal(2, *words, "l-1", "--from", "0")
    assert "nothing is named" in wakelog.refusal(2, *words)
    assert pool(wakelog, "priority", "--to", "5", "--partition-key", "a", "--yes")["events"] == [
        "l-1", "l-3",
    ]  # fmt: skip
    assert pool(wakelog, "priority", "--to", "7", "--from", "0", "--yes")["events"] == ["l-2"]
    assert len(pool(wakelog, "priority", "--to", "0", "--all", "--yes")["events"]) == 3
    assert wakelog(*words, "--from", "9", "--yes").exit_code == 0


def test_P12_why_says_what_it_waits_for(wakelog: CommandLine) -> None:
    wakelog.answer("enqueue", "letters", ANN, "--id", "l-1")
    assert pool(wakelog, "why", "l-1")["cause"] == "no_worker"
    said = wakelog("pool", "why", "letters", "l-1").stdout
    assert said == "letters l-1  pending: no living worker has this pool\n"


def test_a_pool_without_a_worker_is_a_problem_for_doctor(wakelog: CommandLine) -> None:
    wakelog.answer("enqueue", "letters", ANN)
    told = wakelog("doctor")
    assert told.exit_code == 1
    assert "1 event of workerPool:letters pending: no running worker knows it" in told.stdout


@pytest.mark.parametrize("word", SUBCOMMANDS)
def test_each_command_explains_itself_and_knows_json(wakelog: CommandLine, word: str) -> None:
    result = wakelog("pool", word, "--help")
    assert (result.exit_code, "--json" in result.stdout) == (0, True)
    assert f"  {word} " in wakelog("pool", "--help").stdout


# -- with a worker that lives ----------------------------------------------------------------------


@pytest.fixture
def worker(wakelog: CommandLine, shared_url: str) -> Iterator[BlockingApp]:
    """Works on the store of `wakelog`."""
    with jobs.open(shared_url, worker=True, grace="0s") as app:
        yield app


def test_P2_P8_a_worker_takes_what_another_process_accepts(
    wakelog: CommandLine, worker: BlockingApp
) -> None:
    wakelog.answer("enqueue", "letters", ANN, "--id", "l-1")
    over = pool(wakelog, "wait", "l-1", "--timeout", "20s")
    assert (over["status"], over["result"], over["attempts"]) == ("completed", "with ann", 1)
    status = pool(wakelog, "status")
    assert {each["status"] for each in status["partitions"]} <= {"idle", "processing"}
    [row] = wakelog.answer("workers")["workers"]
    assert [each["is_partition"] for each in row["work"]] == [True, True]
    shown = wakelog("workers").stdout
    assert ("0 of 100" in shown, "a partition" in shown) == (True, True)
    assert wakelog("pool", "why", "letters", "l-1").stdout == "letters l-1  it is completed\n"
    assert "no running worker knows" not in wakelog("doctor").stdout


def test_P7_P12_what_is_paused_waits_for_the_operator_though_a_worker_lives(
    wakelog: CommandLine, worker: BlockingApp
) -> None:
    wakelog.answer("enqueue", "letters", ANN, "--id", "l-1")
    pool(wakelog, "wait", "l-1", "--timeout", "20s")
    pool(wakelog, "pause", "--reason", "lunch")
    wakelog.answer("enqueue", "letters", ANN, "--id", "l-2")
    assert pool(wakelog, "why", "l-2")["cause"] == "paused"
    pool(wakelog, "resume")
    assert pool(wakelog, "wait", "l-2", "--timeout", "20s")["status"] == "completed"


# -- what something else has changed ---------------------------------------------------------------


@pytest.fixture
def damaged(sqlite_url: str) -> CommandLine:
    """On a store with a delivered letter, the newest event of whose pool was taken away."""
    wakelog = CommandLine(sqlite_url, "tests.adapters.cli.pool_jobs:jobs")
    wakelog.answer("enqueue", "letters", ANN)
    wakelog.answer("enqueue", "letters", ANN)
    with closing(sqlite3.connect(parse(sqlite_url).path)) as file:
        file.execute(
            "DELETE FROM wakelog_stored_events"
            " WHERE originator_id = 'workerPool:letters:shared' AND originator_version = 2"
        )
        file.commit()
    return wakelog


def test_a_stream_whose_end_is_gone_is_a_problem_for_doctor_and_for_its_history(
    damaged: CommandLine,
) -> None:
    told = damaged("doctor")
    assert told.exit_code == 1
    assert "1 stream of workerPool:letters whose end is not where its pool says" in told.stdout
    said = damaged.refusal(1, "history", "workerPool:letters")
    assert "the log ends here, its pool says at 2" in said


DAMAGED = ("{", '{"lanes": [["x"]]}', '{"concurrency": "x"}')
"""Documents that are none: some not even for the database."""


@pytest.fixture(params=DAMAGED)
def one_damaged(request: pytest.FixtureRequest, shared_url: str) -> CommandLine:
    """On a store with two pools, the document of one of which is damaged."""
    wakelog = CommandLine(shared_url, "tests.adapters.cli.pool_jobs:jobs")
    wakelog.answer("enqueue", "letters", ANN)
    wakelog.answer("enqueue", "cards", "1")
    with direct_access(shared_url) as do:
        text = request.param.replace("{", "{{").replace("}", "}}")
        cast = (
            "CAST('%s' AS BLOB)" if shared_url.startswith("sqlite") else "convert_to('%s', 'UTF8')"
        )
        do(f"UPDATE {{at}}pool_states SET state = {cast % text} WHERE pool = 'workerPool:letters'")
    return wakelog


def test_K1_damage_of_one_pool_is_shown_and_hides_no_other(one_damaged: CommandLine) -> None:
    wakelog = one_damaged
    # every list shows it, and the others
    for command in (("count",), ("pool", "status")):
        cards, letters = wakelog.answer(*command)["pools"]
        assert "the document of a pool" in letters["damaged"]
        assert (cards["name"], cards["pending"]) == ("cards", 1)
        assert cards["damaged"] is None
        shown = wakelog(*command).stdout
        assert re.search(r"letters +damaged +\?", shown)
        assert "letters: the document of a pool" in shown
    assert wakelog.answer("ls")["pools"] == 2
    assert wakelog.answer("dead-letters")["pools"] == {}
    # what is about it alone is refused
    assert "the document of a pool" in wakelog.refusal(3, "pool", "status", "letters")
    assert "the document of a pool" in wakelog.refusal(3, "status", "workerPool:letters")
    assert "the document of a pool" in wakelog.refusal(3, "enqueue", "letters", ANN)
    wakelog.answer("enqueue", "cards", "2")
    # and doctor names it, with what to do
    told = wakelog("doctor")
    assert told.exit_code == 1
    assert "the document of workerPool:letters cannot be read" in told.stdout
    assert "wakelog pool rebuild letters" in told.stdout


def test_H5_a_damaged_pool_is_made_anew_from_the_log(one_damaged: CommandLine) -> None:
    wakelog = one_damaged
    # given what is found without a change
    found = wakelog("pool", "rebuild", "letters", "--dry-run", "--json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["dry_run"] is True
    assert "the document of a pool" in wakelog.refusal(3, "pool", "status", "letters")
    # when
    shown = wakelog("pool", "rebuild", "letters")
    # then
    assert shown.exit_code == 0
    assert "letters  made anew from the log (1 event); 1 difference" in shown.stdout
    assert pool(wakelog, "status")["pending"] == 1
    assert "letters  as the log has it (1 event)" in wakelog("pool", "rebuild", "letters").stdout
    assert pool(wakelog, "rebuild", "--dry-run")["differences"] == []


def test_H5_doctor_names_a_pool_without_a_document(shared_url: str) -> None:
    wakelog = CommandLine(shared_url, "tests.adapters.cli.pool_jobs:jobs")
    wakelog.answer("enqueue", "letters", ANN)
    with direct_access(shared_url) as do:
        do("DELETE FROM {at}pool_states")
    told = wakelog("doctor")
    assert told.exit_code == 1
    assert "the document of workerPool:letters is gone" in told.stdout
    assert wakelog("pool", "rebuild", "letters").exit_code == 0
    assert pool(wakelog, "status")["pending"] == 1
