"""The benchmarks do what they say they measure. Counts are asserted here, never times."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bench import (
    cold,
    drain,
    hot,
    pools,
    reads,
    run,
    send,
    simulated,
    steady,
    workers,
    written,
)
from tests.bench.measuring import Plan, Row, percentile
from tests.bench.storage import STORES, Mark, MemoryStorage, PostgresStorage, SQLiteStorage, Storage
from tests.support_postgres import bare_connection, with_options
from wakelog.core.instance import Instance
from wakelog.ids import InstanceId
from wakelog.log.status_row import status_row
from wakelog_adapters.postgres import url as postgres_url
from wakelog_adapters.sqlite.connections import connect
from wakelog_adapters.sqlite.url import parse

Planned = Callable[..., Plan]


@pytest.fixture
def storage(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Storage]:
    """Where to measure. A server is the one of all tests, which need not wait for its disk."""
    if store == "memory":
        yield MemoryStorage()
    elif store == "sqlite":
        yield SQLiteStorage(tmp_path)
    else:
        with contextlib.closing(PostgresStorage(request.getfixturevalue("postgres_server"))) as it:
            yield it


@pytest.fixture
def planned(storage: Storage) -> Planned:
    """Plans of one round, of the sizes given."""

    def plan(*sizes: int) -> Plan:
        return Plan(storage=storage, rounds=1, sizes=sizes)

    return plan


on_each = pytest.mark.parametrize("store", STORES)
on_disk = pytest.mark.parametrize("store", ["sqlite", "postgres"])


def has_floor(row: Row) -> bool:
    """Whether a floor was measured: wherever something is written to a disk."""
    assert (row.floor is None) == (row.ratio is None)
    return row.floor is not None


@on_each
def test_W1_each_send_is_three_events_and_one_accepted(planned: Planned) -> None:
    # when
    rows = list(send.measure(planned(20)))
    # then
    cases = [row.case for row in rows]
    assert len(cases) == len(set(cases)) == 7
    assert all(has_floor(row) == (row.store != "memory") for row in rows)
    *in_flight, alone = rows
    assert [row.counts for row in in_flight] == [{"log": 60, "accepted": 20}] * 6
    assert alone.counts == {"accepted": 20}


@on_each
def test_W2_no_send_to_the_hot_key_is_lost(planned: Planned) -> None:
    [row] = hot.measure(planned(100))
    assert row.counts == {"counted": 100}
    assert has_floor(row) == (row.store != "memory")


@on_each
def test_W3_every_alarm_runs_once(planned: Planned) -> None:
    rows = list(drain.measure(planned(10, 20)))
    assert [(row.size, row.counts) for row in rows if "cached" in row.case] == [
        (size, {"runs": size, "instances": size})
        for size in (10, 20)
        for _ in range(2 if rows[0].store != "memory" else 1)
    ]
    assert all(has_floor(row) == (row.store != "memory") for row in rows)


@on_each
def test_W3_alarms_beside_many_pending_run_once(planned: Planned) -> None:
    late, idle = steady.measure(planned(30))
    assert late.counts == {"runs": 1}
    assert late.p99_ms is not None
    assert idle.value >= 0


@on_each
def test_W4_each_event_of_a_pool_runs_once_and_is_counted_by_the_store(planned: Planned) -> None:
    # when
    rows = list(pools.measure(planned(40)))
    # then
    keeps = rows[0].store != "memory"
    if keeps:
        assert len(rows.pop().rounds) == pools.TENTHS  # the memory of a worker process
    enqueued, completed, picked_up = rows[:3], rows[3:-1], rows[-1]
    assert [row.counts for row in enqueued] == [{"pending": 40}] * 3
    assert [row.counts for row in completed] == [{"runs": 40, "processed": 40}] * len(completed)
    assert len(completed) == (4 if keeps else 2)  # with an old snapshot held open, and without
    assert all(has_floor(row) == keeps for row in (*enqueued, *completed))
    assert picked_up.counts == {"picked up": 40}


@on_disk
def test_W5_the_whole_history_is_found(planned: Planned) -> None:
    rows = list(cold.measure(planned(30)))
    assert [row.case for row in rows] == list(cold.CALLS)
    versions = [row.counts["version"] for row in rows]
    assert versions == [28, 28, 31, 31]  # Started, nine sends of three events; then one more send


def test_W7_every_hour_has_its_run_and_its_events() -> None:
    task, continuous = simulated.measure(Plan(storage=MemoryStorage(), rounds=1, sizes=(48,)))
    assert task.counts == {"runs": 48, "events": 4 + 4 * 48}
    assert continuous.counts == {"runs": 48, "events": 2 + 4 * 48}


@on_each
def test_W8_every_read_is_right(planned: Planned) -> None:
    rows = list(reads.measure(planned(40)))
    assert [row.counts for row in rows] == [{"right": 40}] * 4


@on_disk
def test_W10_every_alarm_runs_once_whatever_the_number_of_processes(planned: Planned) -> None:
    # when
    rows = list(workers.measure(planned(10)))
    # then
    assert [row.counts for row in rows] == [{"runs": 10, "instances": 10}] * 4
    assert all(row.p99_ms is not None for row in rows)


# -- the floor


@on_disk
@pytest.mark.parametrize("measure", [send.measure, drain.measure])
def test_the_floor_writes_what_the_engine_wrote(
    measure: Callable[[Plan], Iterator[Row]], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: what the engine has written, and what the floor has
    pairs: list[tuple[Tables, Tables]] = []
    real = storage.floor

    def floor(url: str, mark: Mark | None, mean_batch: float) -> float | None:
        assert mark is not None
        rate = real(url, mark, mean_batch)
        pairs.append((tables(url), tables(mark.copy)))
        return rate

    monkeypatch.setattr(storage, "floor", floor)
    # when
    rows = list(measure(Plan(storage=storage, rounds=1, sizes=(15,))))
    # then
    assert len(pairs) == len(rows)
    assert all(by_floor == by_engine for by_engine, by_floor in pairs)


Tables = dict[str, list[tuple[object, ...]]]


def tables(url: str) -> Tables:
    """The rows of each table that the floor writes."""
    names = ("stored_events", "status", "alarms", "leases", "snapshots")
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(parse(url).path)) as file:
            return {
                name: sorted(file.execute(f"SELECT * FROM wakelog_{name}"), key=repr)
                for name in names
            }
    schema = postgres_url.parse(url).schema
    with bare_connection(url) as server:
        found = {
            name: server.execute(f"SELECT * FROM {schema}.{name}".encode()).fetchall()
            for name in names
        }
    return {
        # but the positions, which have gaps where an append was refused
        name: sorted((row[:4] if name == "stored_events" else row for row in rows), key=repr)
        for name, rows in found.items()
    }


def test_the_floor_commits_in_batches_and_keeps_claims_together() -> None:
    # given
    claimed = [unit(at_us=1, claims=True)] * 3
    others = [unit(at_us=2)] * 5
    # when
    batches = list(written.batches([*claimed, *others, *claimed], 2))
    # then
    assert [len(batch) for batch in batches] == [3, 2, 2, 1, 3]


def unit(*, at_us: int, claims: bool = False) -> written.Written:
    """The rows of a unit, one that takes a lease or another one."""
    shown = status_row(Instance(InstanceId("task", "job", "a"), recorded_us=at_us), "", None)
    lease = ("task:job:a",) if claims else None
    return written.Written(shown.stream, (), shown, None, None, lease, False, None)


# -- the command


def lines(text: str) -> Iterator[str]:
    """The lines of the table."""
    return (line for line in text.splitlines() if line.startswith("| W"))


def test_the_command_writes_the_table_as_markdown_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # given
    said, table = tmp_path / "figures.json", tmp_path / "figures.md"
    asked = ["--workloads", "simulation,W2", "--stores", "sqlite", "--sizes", "24"]
    # when
    run.main([*asked, "--rounds", "2", "--json", str(said), "--markdown", str(table)])
    # then
    figures = json.loads(said.read_text())
    assert [row["workload"] for row in figures["rows"]] == [
        "W7 simulation",
        "W7 simulation",
        "W2 hot key",
    ]
    assert all(len(row["rounds"]) == 2 for row in figures["rows"])
    assert figures["store sqlite"] == "journal_mode=WAL, synchronous=FULL"
    assert {"commit", "cores", "processor", "python", "sqlite", "fsync"} <= figures.keys()
    assert list(lines(table.read_text())) == list(lines(capsys.readouterr().out))


@pytest.mark.parametrize(
    "asked", [["--workloads", "W99"], ["--stores", "paper"], ["--sizes", "0"], ["--sizes", "x"]]
)
def test_the_command_refuses_what_it_does_not_know(asked: list[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(asked)


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 99) == 4.0
    assert percentile([7.0], 1) == 7.0


def test_settings_that_may_lose_a_commit_are_refused_on_postgres(postgres_server: str) -> None:
    careless = with_options(postgres_server, options="-csynchronous_commit%3Doff")
    with pytest.raises(RuntimeError, match="synchronous_commit=off"):
        PostgresStorage(careless).settings()


def test_settings_that_may_lose_a_commit_are_refused_on_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection = connect(parse(f"sqlite:///{tmp_path}/careless.db"))
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    monkeypatch.setattr("tests.bench.storage.connect", careless)
    with pytest.raises(RuntimeError, match="synchronous=0"):
        SQLiteStorage(tmp_path).settings()
