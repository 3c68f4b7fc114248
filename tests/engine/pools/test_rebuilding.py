"""The tables of a pool are made anew from its log, while workers run (H4, H5).

That a rebuild of what is well changes nothing is played in `test_model`, and checked after every
call of every other test by `tests.auditing_pools`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, TypeVar, cast

import msgspec
import pytest
from msgspec.structs import replace

from tests.engine.pools.live import audited, opened, pool_of, until
from tests.engine.pools.played import JOB, SECOND, Played, item
from wakelog.errors import IntegrityError, StoreUnavailableError
from wakelog.jobs import open_store
from wakelog.pools.operate import ItemAct, plan_drain, plan_pause
from wakelog.pools.rebuild import check_tables
from wakelog.pools.state import PoolState, detail_of
from wakelog.ports.pools import ExceptionKey, PoolRows, Positioned
from wakelog.ports.store import Store
from wakelog_adapters.memory.store import MemoryStore

pytestmark = pytest.mark.anyio
R = TypeVar("R")
Change = Callable[[PoolRows], PoolRows]


@pytest.fixture
def store(pool_url: str) -> Generator[Store]:
    with closing(open_store(pool_url)) as factory:
        opened_store: Store = factory.application_recorder()
        yield opened_store


def filled(store: Store) -> Played:
    """A pool in which there is one of everything, and a worker that has taken two items."""
    pool = Played(store, concurrency=3, ordered=True, rate=50, span_us=60 * SECOND)
    names = ("well", "retried", "dead", "cancelled", "moved", "unread", "lost", "first", "second")
    pool.accept(*(item(name, id=name) for name in names))
    pool.accept(item("delayed", due_us=pool.now_us + SECOND, key="k"), item("a", key="k"))
    pool.accept(item("b", key="k"), *(item(f"fair-{n}", fair=f"f{n}") for n in "xy"))
    well, retried, dead, cancelled, moved, *_ = ((1, off) for off in range(1, 10))
    pool.act(ItemAct("cancel", "not wanted"), cancelled)
    pool.act(ItemAct("prioritize", priority=-3), moved)
    one, two, three = pool.hands("w")
    one.take(4)
    one.ends(one.items[0], '"done"')
    one.fails(one.items[0])
    one.dies(one.items[0])
    one.unread(one.items[0])
    one.take(0)
    three.take(1)
    pool.operate(lambda writing: plan_pause(writing, 2, "looking", None))
    two.take(2)
    assert (well, retried, dead) == ((1, 1), (1, 2), (1, 3))
    assert two.items
    assert three.items
    return pool


@pytest.fixture
def pool(store: Store) -> Played:
    """Such a pool on each store."""
    return filled(store)


@pytest.fixture
def in_memory() -> Played:
    """The same in memory."""
    return filled(MemoryStore())


def rows_of(pool: Played) -> PoolRows:
    return pool.store.pool_rows(pool.job)


def spoil(pool: Played, change: Change) -> None:
    """Something else has changed the tables."""

    def refold(since: Sequence[Positioned], stored: PoolRows | None) -> PoolRows:
        assert stored is not None
        return change(stored)

    pool.store.pool_rebuild(pool.job, 0, refold)


def other(row: R, field: int, value: object) -> R:
    """A row with another value in one of its fields."""
    values: list[Any] = [*cast("tuple[Any, ...]", row)]
    values[field] = value
    return type(row)(*values)


def in_document(**members: Any) -> Change:
    def change(rows: PoolRows) -> PoolRows:
        assert rows.state is not None
        document = msgspec.json.decode(rows.state)
        return replace(rows, state=msgspec.json.encode({**document, **members}))

    return change


DAMAGES: dict[str, Change] = {
    "a lane is gone": in_document(lanes=[]),
    "a count": in_document(processed=99),
    "a take is gone": in_document(partitions=[]),
    "another head": in_document(head=[1, "x", 5]),
    "it is paused": in_document(paused=True, reason="who?"),
    "something is hidden": in_document(groups=[[0, 0, 1 << 60, 1, 1 << 60]]),
    "no document": lambda rows: replace(rows, state=b"{}"),
    "a document of nothing": lambda rows: replace(rows, state=b"[1, 2"),
    "no segments": lambda rows: replace(rows, segments=[]),
    "a segment elsewhere": lambda rows: replace(
        rows, segments=[other(rows.segments[0], 4, 3), *rows.segments[1:]]
    ),
    "no takes": lambda rows: replace(rows, taken=[]),
    "an id of another": lambda rows: replace(rows, ids=[other(rows.ids[0], 2, 2), *rows.ids[1:]]),
    "no ids": lambda rows: replace(rows, ids=[]),
    "an item twice": lambda rows: replace(
        rows, exceptions=[*rows.exceptions, other(other(rows.exceptions[0], 0, 1), 1, 1)]
    ),
    "no exceptions": lambda rows: replace(rows, exceptions=[]),
    "an attempt": lambda rows: replace(
        rows, exceptions=[other(row, 8, '{"attempt":9}') for row in rows.exceptions]
    ),
    "a skip": lambda rows: replace(rows, skips=[*rows.skips, ExceptionKey(1, 9)]),
    "no skips": lambda rows: replace(rows, skips=[]),
    "no trail": lambda rows: replace(rows, trail=[]),
    "all of it": lambda rows: PoolRows(0, b"x", [], [], [], [], [], []),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_H4_H5_damage_is_found_and_made_good_from_the_log(in_memory: Played, damage: str) -> None:
    damaged_and_made_good(in_memory, damage)


@pytest.mark.parametrize("damage", ["no document", "a document of nothing", "all of it"])
def test_H4_H5_a_pool_that_cannot_be_used_is_made_good(pool: Played, damage: str) -> None:
    damaged_and_made_good(pool, damage)


def damaged_and_made_good(pool: Played, damage: str) -> None:
    # given
    before = rows_of(pool)
    # when
    spoil(pool, DAMAGES[damage])
    # then it is found
    found = check_tables(pool.store, pool.job, pool.rules)
    assert found.differences
    assert found.events == len(pool.store.pool_log(pool.job, 0, 1_000))
    # and made good, and every item is where it was
    assert pool.rebuild().differences == found.differences
    after = rows_of(pool)
    for name in ("segments", "taken", "skips", "trail"):
        assert set(getattr(after, name)) == set(getattr(before, name))
    assert {row[:3] for row in after.ids} == {row[:3] for row in before.ids}
    assert {row[:3] for row in after.exceptions} == {row[:3] for row in before.exceptions}


def test_H5_a_rebuild_does_not_touch_what_workers_have_taken(pool: Played) -> None:
    # given what was taken, and a document that has forgotten it
    take = pool.state.partitions[1].take
    spoil(pool, in_document(partitions=[], lanes=[], next_token=7))
    # when
    pool.rebuild()
    # then
    assert pool.state.partitions[1].take == take
    assert pool.state.next_token >= 7
    pool.audit()


def test_H5_tokens_of_leases_never_come_again_if_the_document_is_gone(in_memory: Played) -> None:
    pool = in_memory
    used = pool.state.next_token
    spoil(pool, lambda rows: replace(rows, state=b"x"))
    pool.rebuild()
    assert pool.state.next_token > used + 1_000_000


def test_P10_the_starts_of_a_rate_limit_are_counted_again(in_memory: Played) -> None:
    pool = in_memory
    before = sum(count for _, count in pool.state.starts)
    spoil(pool, in_document(starts=[]))
    pool.rebuild()
    assert sum(count for _, count in pool.state.starts) >= before > 0


def test_P11_the_shares_of_fair_keys_are_kept_if_they_can_be_read(store: Store) -> None:
    pool = Played(store)
    pool.accept(*(item(f"{key}-{n}", fair=key) for key in "ab" for n in range(4)))
    hand = pool.hand()
    hand.take(3)
    tags = [lane.tag for lane in pool.state.lanes]
    pool.rebuild()
    assert [lane.tag for lane in pool.state.lanes] == tags


def test_I1_ids_keep_what_was_asked_and_one_without_it_is_a_duplicate(in_memory: Played) -> None:
    pool = in_memory
    # a rebuild of what can be read keeps the fingerprints
    pool.rebuild()
    assert {row.fingerprint for row in rows_of(pool).ids} >= {"well", "dead"}
    # and an id that was lost still names its event
    spoil(pool, lambda rows: replace(rows, ids=[]))
    pool.rebuild()
    [again] = pool.accept(item("anything", id="well"))
    assert (again.place, again.duplicate) == ((1, 1), True)


def test_K4_H5_why_an_item_waits_for_code_is_kept_if_it_can_be_read(store: Store) -> None:
    pool = Played(store)
    pool.accept("old")
    hand = pool.hand()
    hand.take()
    hand.unread(hand.items[0])
    hand.take(0)

    def said() -> list[str]:
        return [detail_of(row).error_type for row in rows_of(pool).exceptions]

    # then the rebuild keeps what its code has said
    pool.rebuild()
    assert said() == ["V"]
    # also once another worker has taken it, and given it back without having begun
    pool.reads_all = True
    hand.take()
    hand.gives_back("shutdown")
    assert pool.rebuild().differences == []
    assert said() == ["V"]
    # and if that is lost, the rest is made good
    spoil(pool, lambda rows: replace(rows, exceptions=[]))
    pool.rebuild()
    assert said() == [""]


def test_P7_a_drain_and_its_reason_are_folded(store: Store) -> None:
    pool = Played(store)
    pool.accept("a")
    pool.operate(lambda writing: plan_drain(writing, "we move", None))
    spoil(pool, in_document(draining=False, reason=None))
    assert len(pool.rebuild().differences) == 2
    assert (pool.state.draining, pool.state.reason) == (True, "we move")


def test_H4_a_damaged_log_rebuilds_nothing(pool: Played) -> None:
    # given a log whose newest event of a partition is gone from the middle
    before = rows_of(pool)
    log = [(at, event) for at, event in pool.store.pool_log(JOB, 0, 1_000) if event.version != 2]

    class Cut:
        """A store that has lost the second event of each stream."""

        def pool_log(self, job: str, after: int, limit: int) -> Sequence[Positioned]:
            return [each for each in log if each[0] > after][:limit]

        def __getattr__(self, name: str) -> Any:
            return getattr(pool.store, name)

    # then
    cut: Any = Cut()
    with pytest.raises(IntegrityError):
        check_tables(cut, JOB, pool.rules)
    assert rows_of(pool) == before


def test_a_pool_of_which_nothing_was_recorded_is_well(store: Store) -> None:
    pool = Played(store)
    assert pool.rebuild().differences == []
    assert pool.state.accepted == 0
    assert PoolState().head == pool.state.head


async def test_H5_a_rebuild_while_a_worker_is_at_full_speed(pool_url: str) -> None:
    # given a pool that works
    pool = pool_of(lambda ctx, event: None, concurrency=4)
    async with opened(pool_url, pool) as client:

        async def is_done() -> bool:
            return (await client.status()).processed == 800

        for _ in range(4):
            await client.enqueue_many([*range(200)])
            # when
            rebuilt = await client.rebuild()
            # then nothing was otherwise
            assert rebuilt.differences == ()
            checked = await client.rebuild(dry_run=True)
            assert (checked.differences, checked.dry_run) == ((), True)
        await until(is_done)
    # and at the end each event has ended once
    ends = audited(pool_url).ends()
    assert ends == {"completed": 800}


async def test_H5_a_pool_whose_document_is_damaged_works_again(pool_url: str) -> None:
    # given
    pool = pool_of(lambda ctx, event: event, keep_results=True)
    async with opened(pool_url, pool, worker=False) as client:
        await client.enqueue_many([1, 2, 3])
        with closing(open_store(pool_url)) as factory:
            played = Played(factory.application_recorder(), job="workerPool:pool", check=False)
            spoil(played, lambda rows: replace(rows, state=b'{"lanes": 3}'))
        with pytest.raises(StoreUnavailableError):
            await client.status()
        # when
        rebuilt = await client.rebuild()
        # then
        assert len(rebuilt.differences) == 1
        assert (await client.status()).pending == 3
    async with opened(pool_url, pool) as client:
        assert (await client.wait("#1.3")).result == 3
