"""Claims in SQLite: a look without the lock, and a statement that takes what is as it was seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from wakelog.errors import StoreUnavailableError
from wakelog.ports.rows import Due, JobPauseRow
from wakelog.ports.units import ANY_ENDED, ClaimRequest, Lease, NothingDue, Takeover
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder
from wakelog_adapters.sqlite import SQLiteStore, open_store

FOUR = ["o-1", "o-2", "o-3", "o-4"]
LATE = NOW + 10


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[SQLiteStore, SQLiteStore]]:
    """Two stores of the same file."""
    url = f"sqlite:///{tmp_path}/jobs.db?timeout=0.1"
    stores = open_store(url).application_recorder(), open_store(url).application_recorder()
    yield stores
    for store in stores:
        store.close()


@pytest.fixture
def bare(stores: object, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the file beside the stores."""
    connection = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    yield connection
    connection.close()


class Meanwhile(int):
    """The length of a lease, which the store needs when it has looked and not taken anything yet:
    at that moment something happens."""

    happens: Callable[[], object]

    def __radd__(self, now_us: int) -> int:
        self.happens()
        return now_us + int(self)


def request(
    token: int,
    happens: Callable[[], object] | None = None,
    *,
    owner: str = "w1",
    jobs: Sequence[str] = (ORDERS,),
    limit: int = 9,
    limits: Mapping[str, int] = {},
    takeover: Takeover = ANY_ENDED,
    may_take_over: Callable[[], bool] = lambda: True,
    left: Sequence[str] = (),
) -> ClaimRequest:
    lease_us = Meanwhile(1000)
    lease_us.happens = happens or (lambda: None)
    needed = LATE, jobs, limit, owner, lease_us, token
    return ClaimRequest(*needed, limits, takeover, may_take_over, left)


def begun(store: SQLiteStore, *ids: str) -> list[UnitBuilder]:
    """Instances that are due."""
    builders = [UnitBuilder(id) for id in ids]
    units = [builder.begin(NOW + i) for i, builder in enumerate(builders)]
    assert not any(store.append(units).errors)
    return builders


def streams(dues: Sequence[Due] | NothingDue) -> list[str]:
    assert not isinstance(dues, NothingDue)
    return [due.stream.removeprefix(f"{ORDERS}:") for due in dues]


def held(store: SQLiteStore, owner: str) -> dict[str, int]:
    """The leases of a worker, by id, and their tokens."""
    return {
        row.stream.removeprefix(f"{ORDERS}:"): row.lease.token
        for row in store.leases(LATE, 99)
        if row.lease.owner == owner
    }


def test_with_nothing_due_no_lock_is_taken(
    stores: tuple[SQLiteStore, SQLiteStore], bare: sqlite3.Connection
) -> None:
    store, _ = stores
    store.append([UnitBuilder().begin(LATE + 5)])
    bare.execute("BEGIN IMMEDIATE")
    assert store.claim(request(-1)) == NothingDue(LATE + 5)
    assert store.claim(request(-1, jobs=["task:none"])) == NothingDue(None)
    assert store.claim(request(-1, limit=0)) == ()
    bare.execute("ROLLBACK")


def test_a_claim_waits_for_the_lock_no_longer_than_the_timeout(
    stores: tuple[SQLiteStore, SQLiteStore], bare: sqlite3.Connection
) -> None:
    store, _ = stores
    begun(store, *FOUR)
    bare.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked"):
        store.claim(request(-1))
    bare.execute("ROLLBACK")
    assert streams(store.claim(request(-2))) == FOUR
    assert held(store, "w1") == dict.fromkeys(FOUR, -2)


def test_an_id_of_any_characters_is_claimed(stores: tuple[SQLiteStore, SQLiteStore]) -> None:
    store, _ = stores
    odd = ['a"b', "a\\u0000", "a\t\x01\x7f", "☃ 😀", "\u2028", "[1,2]", "null", "7"]
    begun(store, *odd)
    assert streams(store.claim(request(-1))) == odd
    assert held(store, "w1") == dict.fromkeys(odd, -1)
    store.release("w1", [(f"{ORDERS}:{id}", -1) for id in odd])
    assert held(store, "w1") == {}


def test_U2_what_others_take_between_look_and_claim_is_theirs(
    stores: tuple[SQLiteStore, SQLiteStore],
) -> None:
    one, two = stores
    begun(one, *FOUR)

    def two_claims() -> None:
        assert streams(two.claim(request(-7, owner="w2", limit=3))) == FOUR[:3]

    assert streams(one.claim(request(-8, two_claims))) == FOUR[3:]
    assert held(one, "w1") == {"o-4": -8}
    assert held(one, "w2") == dict.fromkeys(FOUR[:3], -7)


def test_U2_nothing_is_claimed_if_all_was_taken_meanwhile(
    stores: tuple[SQLiteStore, SQLiteStore],
) -> None:
    one, two = stores
    begun(one, *FOUR)
    assert one.claim(request(-8, lambda: two.claim(request(-7, owner="w2")))) == ()
    assert held(one, "w1") == {}


def test_what_changes_between_look_and_claim_is_not_taken(
    stores: tuple[SQLiteStore, SQLiteStore],
) -> None:
    one, two = stores
    builders = begun(one, *FOUR)

    def an_event_comes() -> None:
        assert two.append([builders[1].receive()]).errors == [None]

    claimed = one.claim(request(-1, an_event_comes))
    assert streams(claimed) == ["o-1", "o-3", "o-4"]
    assert streams(one.claim(request(-2))) == ["o-2"]


def test_a_job_that_is_paused_between_look_and_claim_is_not_claimed(
    stores: tuple[SQLiteStore, SQLiteStore],
) -> None:
    one, two = stores
    begun(one, *FOUR)
    pause = JobPauseRow(ORDERS, None, None, NOW)
    assert one.claim(request(-1, lambda: two.pause_job(pause))) == ()
    assert one.claim(request(-2)) == NothingDue(None)
    two.resume_job(ORDERS)
    assert streams(one.claim(request(-3))) == FOUR


def test_runs_that_others_claim_between_look_and_claim_count(
    stores: tuple[SQLiteStore, SQLiteStore],
) -> None:
    one, two = stores
    begun(one, *FOUR)
    limits = {ORDERS: 2}
    newest: list[str] = []

    def two_claims() -> None:
        left = [f"{ORDERS}:{id}" for id in FOUR[:3]]
        newest.extend(streams(two.claim(request(-7, owner="w2", limits=limits, left=left))))

    assert streams(one.claim(request(-8, two_claims, limits=limits))) == ["o-1"]
    assert newest == ["o-4"]


def test_U2_nobody_renews_a_lease_while_the_worker_is_asked_whether_to_take_it_over(
    stores: tuple[SQLiteStore, SQLiteStore],
) -> None:
    one, two = stores
    builders = begun(one, *FOUR)
    two.append([builders[0].run("w2", NOW + 5)])
    asked: list[bool] = []

    def may_take_over() -> bool:
        asked.append(True)
        with pytest.raises(StoreUnavailableError, match="locked"):
            two.renew("w2", NOW + 2000, NOW)
        return True

    claimed = one.claim(request(-1, may_take_over=may_take_over))
    assert streams(claimed) == ["o-2", "o-3", "o-4", "o-1"]
    assert asked == [True]
    assert two.renew("w2", NOW + 2000, NOW) == []
    assert not isinstance(claimed, NothingDue)
    assert claimed[3].expired == Lease("w2", NOW + 5, 4, True)


def test_U2_an_ended_lease_that_a_claim_may_not_take_over_is_not_asked_for(
    stores: tuple[SQLiteStore, SQLiteStore],
) -> None:
    one, two = stores
    builders = begun(one, *FOUR)
    two.append([builders[0].run("w2", NOW + 5)])

    def may_take_over() -> bool:
        raise AssertionError("no lease that has ended may be taken over")

    none, not_own = Takeover(allowed=False), Takeover(owner="w2")
    first = request(-1, takeover=none, may_take_over=may_take_over, limit=2)
    assert streams(one.claim(first)) == ["o-2", "o-3"]
    own = request(-2, owner="w2", takeover=not_own, may_take_over=may_take_over)
    assert streams(one.claim(own)) == ["o-4"]
