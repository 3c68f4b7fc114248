"""Pools in SQLite: what their calls cost, and what they leave behind."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import WAIT_S
from wakelog.ports.pools import (
    ExceptionKey,
    IdRow,
    PoolFilter,
    PoolSeen,
    PoolWrites,
    TakenRow,
)
from wakelog.ports.records import StoredEvent
from wakelog_adapters.conformance.pool.units import (
    POOL,
    SHARED,
    call,
    count_up,
    document,
    excepted,
    pool_event,
    pool_look,
    segment,
)
from wakelog_adapters.conformance.units import NOW, UnitBuilder
from wakelog_adapters.sqlite import SQLiteStore, open_store

FEW, MANY = 1_500, 30_000
BATCH = 100
"""Items of an event."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = open_store(f"sqlite:///{tmp_path}/jobs.db").application_recorder()
    yield store
    store.close()


def fill(store: SQLiteStore, count: int) -> None:
    """So many items that wait, as many exceptions, ids and skips."""
    segments = [segment(1, BATCH * n, BATCH, n, 0, 2) for n in range(1, count // BATCH + 2)]
    offs = range(1, count + 1)
    call(
        store,
        PoolWrites(
            events=[pool_event(row.version, b"ab") for row in segments],
            state=document(lanes=[[1, 50, 1]], groups=[[0, 0, 0]]),
            segments=segments,
            taken=[TakenRow(1, off, 0, off) for off in offs],
            ids=[IdRow(f"id-{off}", 1, off, "", NOW, 0) for off in offs],
            put=[excepted(2, off, "behind", key=f"k{off % 5000}") for off in offs],
            skips=[ExceptionKey(1, off) for off in offs],
            commit="c",
        ),
    )


def steps_of(path: Path, use: Callable[[SQLiteStore], object]) -> int:
    """How many hundreds of steps of SQLite's machine `use` takes, on connections of its own."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    class Counted(sqlite3.Connection):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]
            self.set_progress_handler(count, 100)

    original = sqlite3.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sqlite3, "connect", lambda *args, **kwargs: original(*args, factory=Counted, **kwargs)
        )
        store = open_store(f"sqlite:///{path}").application_recorder()
        use(store)
        steps = 0
        use(store)
        store.close()
    return steps


def one_call(store: SQLiteStore) -> None:
    """A call that looks at everything and writes a row of each kind, with what the next needs."""
    number = len(store.events(SHARED, after=1_000_000)) + 1

    def plan(seen: PoolSeen) -> PoolWrites:
        off = 1_000_000 + number
        return PoolWrites(
            events=[StoredEvent(SHARED, off, "t", b"{}\nab")],
            state=seen.state,
            segments=[segment(3, off, 1, off)],
            taken=[TakenRow(3, off, 0, off)],
            ids=[IdRow(f"id-{off}", 3, off, "", NOW, 0)],
            put=[excepted(3, off)],
            gone=[ExceptionKey(2, number)],
            skips=[ExceptionKey(3, off)],
            leases=[(f"{POOL}:0", "w", 1, 1000)],
        )

    look = pool_look(ids=["id-3"], due_limit=2, keys=[ExceptionKey(2, 7)], leases=True)
    store.pool_call(look, plan)


READS: dict[str, Callable[[SQLiteStore], object]] = {
    "call": one_call,
    "slices": lambda store: store.pool_slices(POOL, [(1, 50, 150), (1, 120, 180)]),
    "taken": lambda store: store.pool_taken(POOL, 1, 5),
    "trail": lambda store: store.pool_trail(POOL, 1, 5),
    "page": lambda store: store.pool_exceptions(POOL, PoolFilter(limit=5)),
    "of why": lambda store: store.pool_exceptions(POOL, PoolFilter(why=["behind"], limit=5)),
    "of key": lambda store: store.pool_exceptions(POOL, PoolFilter(key="k7", limit=5)),
    "blocked": lambda store: store.pool_blocked(POOL, ["k3", "k7"]),
}


MAY_GROW = 10
"""Hundreds of steps."""


def test_what_a_pool_costs_does_not_depend_on_how_much_it_has(tmp_path: Path) -> None:
    steps: dict[int, dict[str, int]] = {}
    for count in (FEW, MANY):
        path = tmp_path / f"{count}.db"
        store = open_store(f"sqlite:///{path}").application_recorder()
        fill(store, count)
        store.close()
        steps[count] = {name: steps_of(path, use) for name, use in READS.items()}
    grown = {
        name: (few, steps[MANY][name])
        for name, few in steps[FEW].items()
        if steps[MANY][name] > few + MAY_GROW
    }
    assert grown == {}


def test_a_pool_keeps_its_two_newest_documents(store: SQLiteStore, tmp_path: Path) -> None:
    for _ in range(5):
        store.pool_call(pool_look(), count_up)
    bare = sqlite3.connect(tmp_path / "jobs.db")
    numbers = bare.execute("SELECT n FROM wakelog_pool_states ORDER BY n").fetchall()
    bare.close()
    assert numbers == [(4,), (5,)]


def test_who_follows_the_log_is_told_of_a_call(store: SQLiteStore) -> None:
    with store.subscribe(gt=0) as followed:
        told = threading.Event()
        versions: list[int] = []

        def follow() -> None:
            for each in followed:
                versions.append(each.originator_version)
                if len(versions) == 2:
                    break
            told.set()

        thread = threading.Thread(target=follow)
        thread.start()
        store.pool_call(pool_look(), count_up)
        store.append([UnitBuilder().begin()])
        assert told.wait(WAIT_S)
        thread.join()
    assert versions == [1, 1]
