"""Appends to SQLite: which values it refuses, what a refusal costs, and how the rows are stored."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from msgspec.structs import astuple

from wakelog.core.events import ExecutionFailed, Paused, Resumed, Scheduled, StateSet
from wakelog.errors import IntegrityError, StoreUnavailableError
from wakelog.ports.rows import Listing, StatusRow
from wakelog.ports.units import KeptReply, Lease, VersionConflict
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder, kept_reply, kinds
from wakelog_adapters.sql.listing import listing_condition
from wakelog_adapters.sqlite import SQLiteStore, open_store
from wakelog_adapters.sqlite.parameters import executed
from wakelog_adapters.sqlite.queries import DIALECT, Queries

COLUMNS = ", ".join(StatusRow.__struct_fields__)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = open_store(f"sqlite:///{tmp_path}/jobs.db").application_recorder()
    yield store
    store.close()


@pytest.fixture
def bare(store: SQLiteStore, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the file beside the store."""
    connection = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    yield connection
    connection.close()


# -- a unit that SQLite does not take is refused alone


def refused(error: Exception | None) -> bool:
    return isinstance(error, StoreUnavailableError) and error.reason == "refused"


def test_a_lone_surrogate_is_refused_alone(store: SQLiteStore) -> None:
    good, bad = UnitBuilder("o-1"), UnitBuilder("o-2")
    group = [good.begin(), bad.begin(), good.receive()]
    group.append(bad.unit(StateSet(state='"\ud800"')))
    group.append(bad.receive())
    errors = store.append(group).errors
    assert [error is None for error in errors] == [True, True, True, False, False]
    assert refused(errors[3])
    assert isinstance(errors[4], VersionConflict)
    assert [row.version for row in store.list(Listing())] == [3, 2]


@pytest.mark.parametrize("key", ["a\0b", "\ud800"])
def test_a_key_that_sqlite_would_truncate_or_lose_is_refused_alone(
    store: SQLiteStore, key: str
) -> None:
    good, bad = UnitBuilder("o-1"), UnitBuilder("o-2")
    errors = store.append([good.begin(NOW + 1), bad.begin(NOW, kept_reply=kept_reply(key))]).errors
    assert errors[0] is None
    assert refused(errors[1])
    assert store.status([bad.stream]) == [None]
    assert store.next_due_us([ORDERS], NOW) == NOW + 1


def test_a_value_too_big_is_refused_alone(store: SQLiteStore) -> None:
    limit = 1_000_000
    with store.writing() as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    good, bad, most = UnitBuilder("o-1"), UnitBuilder("o-2"), UnitBuilder("o-3")
    big = bad.unit(StateSet(state=f'"{"x" * limit}"'))
    half = [
        builder.begin(kept_reply=kept_reply("k", None, "x" * (limit // 2)))
        for builder in (good, most)
    ]
    errors = store.append([half[0], big, half[1]]).errors
    assert [error is None for error in errors] == [True, False, True]
    assert refused(errors[1])


def test_events_that_the_views_do_not_show_are_damage(
    store: SQLiteStore, bare: sqlite3.Connection
) -> None:
    builder, other = UnitBuilder(), UnitBuilder("o-2")
    bare.execute("INSERT INTO wakelog_stored_events VALUES (?, 2, 't', x'00')", (builder.stream,))
    assert kinds(store.append([other.begin(), builder.begin()])) == [None, IntegrityError]
    assert store.status([builder.stream]) == [None]


def traced(store: SQLiteStore) -> list[str]:
    """The first words of the statements from now on; an append's comes once for each table."""
    words: list[str] = []
    with store.writing() as connection:
        connection.set_trace_callback(lambda sql: words.append(sql.split()[0]))
    return words


def test_a_refused_group_costs_a_few_statements_whatever_its_size(store: SQLiteStore) -> None:
    builders = [UnitBuilder(f"o-{i}") for i in range(100)]
    store.append([builder.begin() for builder in builders])
    late = builders[50].fork()
    store.append([builders[50].receive()])
    statements = traced(store)
    group = [(late if i == 50 else builder).receive() for i, builder in enumerate(builders)]
    errors = store.append(group).errors
    assert [i for i, error in enumerate(errors) if error is not None] == [50]
    words = [word for word, _ in groupby(statements)]
    assert words == ["INSERT", "BEGIN", "SELECT", "INSERT", "COMMIT"]


def test_a_good_group_is_one_statement(store: SQLiteStore) -> None:
    statements = traced(store)
    store.append([UnitBuilder(f"o-{i}").begin(NOW, kept_reply=kept_reply("k")) for i in range(300)])
    assert [word for word, _ in groupby(statements)] == ["INSERT"]


# -- the rows of the views


def test_a_missing_alarm_row_is_found(store: SQLiteStore, bare: sqlite3.Connection) -> None:
    builders = [UnitBuilder(f"o-{i}") for i in range(3)]
    store.append([builder.begin(NOW + 5) for builder in builders])
    store.append([builders[2].unit(take=Lease("w1", NOW + 9, 3, False))])
    assert store.stranded(NOW + 1, 9) == []
    bare.execute("DELETE FROM wakelog_alarms WHERE stream <> ?", (builders[0].stream,))
    assert store.stranded(NOW + 1, 9) == [builders[1].stream]
    assert store.stranded(NOW, 9) == []
    store.append([builders[1].unit()])
    assert store.stranded(NOW + 1, 9) == []
    assert store.next_due_us([ORDERS], NOW) == NOW + 5


def test_view_rows_are_written_as_plain_columns(
    store: SQLiteStore, bare: sqlite3.Connection
) -> None:
    builder = UnitBuilder()
    store.append(
        [builder.begin(NOW), builder.run("w1", NOW + 5), builder.unit(Scheduled(due_us=NOW + 9))]
    )
    assert bare.execute(f"SELECT {COLUMNS} FROM wakelog_status").fetchall() == [
        astuple(builder.row)
    ]
    lease = (builder.stream, ORDERS, "w1", NOW + 5, 4, 1)
    assert bare.execute("SELECT * FROM wakelog_leases").fetchall() == [lease]


@pytest.mark.parametrize("reason", ["", "later", None])
def test_a_value_that_most_rows_do_not_have_is_written_as_it_is(
    store: SQLiteStore, bare: sqlite3.Connection, reason: str | None
) -> None:
    plain, paused, failed = UnitBuilder("o-1"), UnitBuilder("o-2"), UnitBuilder("o-3")
    failure = ExecutionFailed(handler="execute", error_type="E", message="☃", run=1, attempt=1)
    store.append([plain.begin(), paused.begin(), failed.begin(), failed.run("w1", NOW + 5)])
    store.append([paused.unit(Paused(reason=reason)), failed.unit(failure), plain.receive()])
    builders = plain, paused, failed
    stored = bare.execute(f"SELECT {COLUMNS} FROM wakelog_status ORDER BY stream").fetchall()
    assert stored == [astuple(builder.row) for builder in builders]
    store.append([paused.unit(Resumed())])
    assert [*store.list(Listing())] == [builder.row for builder in builders]


# -- queries use the indexes


def plan(bare: sqlite3.Connection, sql: str, *params: object) -> str:
    rows = executed(bare, f"EXPLAIN QUERY PLAN {sql}", *params).fetchall()
    return "\n".join(row[3] for row in rows)


DUE = ("[]", 1, 1, True, "", None, 0)


def test_frequent_queries_scan_no_table(bare: sqlite3.Connection) -> None:
    queries = Queries.of("wakelog_")
    often = {
        "next_due": (queries.next_due, ("[]", 1)),
        "due": (queries.due, DUE),
        "take": (queries.take, ("[]", "w", 1, -1, 1)),
        "taken": (queries.taken, ("[]", -1)),
        "load": (queries.load, ("s",)),
        "events": (queries.events, ("s", 0, 9, 9)),
        "status": (queries.status, ("[]",)),
        "kept_replies": (queries.kept_replies, ("[]",)),
    }
    own = ("status", "alarms", "leases", "kept_replies", "snapshots", "stored_events")
    tables = (*(f"wakelog_{name}" for name in own), "a", "l", "r", "s")
    for name, (sql, params) in often.items():
        steps = plan(bare, sql, *params).splitlines()
        scanned = [step for step in steps for table in tables if step == f"SCAN {table}"]
        assert not scanned, f"{name}: {scanned}"
        sorted_by_hand = [step for step in steps if "TEMP B-TREE" in step]
        assert not sorted_by_hand or name == "due", f"{name}: {sorted_by_hand}"
    for index in ("alarms_of_runs", "alarms_of_others"):
        assert f"{index} (job=?" in plan(bare, queries.next_due, "[]", 1)
        assert f"{index} (job=? AND due_us<?)" in plan(bare, queries.due, *DUE)
    assert "leases_until (job=?" in plan(bare, queries.next_due, "[]", 1)


def test_sweeps_pages_and_purges_use_their_indexes(bare: sqlite3.Connection) -> None:
    assert "status_executing (updated_us<?)" in plan(
        bare, Queries.of("wakelog_").stranded_runs, 1, 1
    )
    where, params = listing_condition(
        Listing(kind="task", name="order", after="task:order:o-1"), DIALECT
    )
    page = plan(bare, Queries.of("wakelog_").list_where.replace("{where}", where), *params, 10)
    assert "sqlite_autoindex_wakelog_status_1 (stream>? AND stream<?)" in page
    assert "TEMP B-TREE" not in page
    purge = (
        "SELECT rowid FROM wakelog_kept_replies WHERE expires_us <= ? ORDER BY expires_us LIMIT ?"
    )
    assert "kept_replies_expire (expires_us<?)" in plan(bare, purge, 1, 1)


# -- threads and processes


def test_writers_readers_and_heartbeats_share_a_store(store: SQLiteStore) -> None:
    builders = [UnitBuilder(f"o-{i}") for i in range(4)]
    store.append([builder.begin() for builder in builders])
    store.append([builders[0].run("w1", NOW + 5)])
    ended = threading.Event()
    seen: list[int] = []

    def beat() -> None:
        while not ended.is_set():
            seen.append(len(store.renew("w1", NOW + 5, NOW)))

    def read() -> None:
        while not ended.is_set():
            versions = [event.version for event in store.events(builders[1].stream)]
            assert versions == list(range(1, len(versions) + 1))

    def write(builder: UnitBuilder) -> None:
        for _ in range(50):
            assert store.append([builder.receive()]).errors == [None]

    others = [threading.Thread(target=beat), *[threading.Thread(target=read) for _ in range(3)]]
    writers = [threading.Thread(target=write, args=(builder,)) for builder in builders[1:]]
    for thread in (*others, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    for thread in others:
        thread.join()
    assert [row.version for row in store.list(Listing())] == [3, 52, 52, 52]
    assert set(seen) == {1}


APPEND = """
import sys
from msgspec.structs import replace
from wakelog_adapters.conformance import UnitBuilder
from wakelog_adapters.sqlite import open_store

url, owner, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = open_store(url).application_recorder()
shared, done = UnitBuilder("shared"), 0
while done < count:
    own = UnitBuilder(f"{owner}-{done}")
    shared.instance = replace(shared.instance, version=len(store.events(shared.stream)))
    own_error, _ = store.append([own.begin(), shared.receive()]).errors
    assert own_error is None
    done += 1
    print(done, flush=True)
store.close()
"""


def spawn(store_url: str, owner: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPEND, store_url, owner, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_append_to_one_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    processes = [spawn(url, owner, 100) for owner in ("one", "two")]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    store = open_store(url).application_recorder()
    rows = store.list(Listing(limit=1000))
    assert len([row for row in rows if row.id.startswith(("one-", "two-"))]) == 200
    shared = store.events("task:order:shared")
    assert [event.version for event in shared] == list(range(1, len(shared) + 1))
    log = store.select_notifications(None, 10_000)
    assert [n.id for n in log] == list(range(1, 401 + len(shared)))
    store.close()


def test_a_process_killed_while_it_appends_leaves_whole_units(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    acknowledged = 0
    for life in range(3):
        process = spawn(url, f"life{life}", 1_000_000)
        assert process.stdout is not None
        line = ""
        for line in process.stdout:
            if int(line) == 20 + 17 * life:
                break
        process.kill()
        acknowledged += int([line, *process.stdout.readlines()][-1])
        process.stdout.close()
        process.wait()
        store = open_store(url).application_recorder()
        rows = store.list(Listing(id_prefix="life", limit=10_000))
        assert acknowledged <= len(rows) <= acknowledged + 1
        acknowledged = len(rows)
        for row in rows:
            assert [event.version for event in store.events(row.stream)] == [1, 2]
        log = store.select_notifications(None, 10_000)
        shared = len(store.events("task:order:shared"))
        assert len(log) == 2 * len(rows) + shared
        store.close()


def test_replies_are_kept_as_given(store: SQLiteStore) -> None:
    builder = UnitBuilder()
    given = KeptReply("k", "send", "f☃", '{"a":"☃"}', NOW + 5)
    store.append([builder.begin(kept_reply=given)])
    assert store.kept_replies([(builder.stream, "k")]) == [given]
