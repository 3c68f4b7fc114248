"""Pools in PostgreSQL: lost answers, locks that are not released, and what a call costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.types.json import Json

from tests.adapters.postgres.network_cuts import Wire, wired
from tests.support import WAIT_S
from tests.support_pgbouncer import needs_pgbouncer, pgbouncer
from tests.support_postgres import bare_connection, running_server, with_options
from wakelog.errors import StoreUnavailableError
from wakelog.ports.pools import PoolSeen, PoolWrites, TakenRow
from wakelog_adapters.conformance.pool.units import (
    POOL,
    SHARED,
    call,
    count_up,
    document,
    excepted,
    number_in,
    pool_event,
    pool_look,
    seen_by,
    segment,
)
from wakelog_adapters.conformance.units import NOW, UnitBuilder, in_parallel
from wakelog_adapters.postgres import PostgresStore, open_store, pools
from wakelog_adapters.postgres.notifications import POLL_WITH_LISTENER_US

ORDERING = "LOCK TABLE ordering IN SHARE UPDATE EXCLUSIVE MODE"
PARTITION = f"{POOL}:0"
FEW, MANY = 10, 100_000
MAY_GROW = 40
"""Pages: an index of many rows is some levels deeper, at each of some ten places."""


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    store = open_store(postgres_url).application_recorder()
    yield store
    store.close()


@pytest.fixture
def cuttable(postgres_url: str) -> Iterator[tuple[Wire, PostgresStore]]:
    """A store, and the proxy to its server."""
    with wired(postgres_url) as (wire, url):
        store = open_store(url).application_recorder()
        yield wire, store
        store.close()


@pytest.fixture
def bare(postgres_url: str, store: PostgresStore) -> Iterator[psycopg.Connection]:
    """A connection to the schema, beside the store."""
    with bare_connection(postgres_url) as connection:
        connection.execute(f"SET search_path = {store.datastore.schema}".encode())
        yield connection


class Counting:
    """A plan that counts up, and what each of its calls has seen."""

    def __init__(self, plan: Callable[[PoolSeen], PoolWrites] = count_up) -> None:
        self._plan = plan
        self.seen: list[int] = []

    def __call__(self, seen: PoolSeen) -> PoolWrites:
        self.seen.append(number_in(seen.state))
        return self._plan(seen)


def counted_silently(seen: PoolSeen) -> PoolWrites:
    """Counts up without an event."""
    return PoolWrites(state=document(number=number_in(seen.state) + 1, marker="silent-1"))


def until(is_so: Callable[[], Any]) -> None:
    """Wait until something is so."""
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s


# -- answers that are lost


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_call_whose_answer_was_lost_is_recorded_once(
    cuttable: tuple[Wire, PostgresStore], where: Literal["before", "after"]
) -> None:
    wire, store = cuttable
    plan = Counting()
    wire.cut_at("commit-1", where)
    store.pool_call(pool_look(), plan)
    assert wire.cut.is_set()
    assert plan.seen == ([0, 0] if where == "before" else [0])
    assert number_in(seen_by(store).state) == 1
    assert [event.version for event in store.events(SHARED)] == [1]
    assert store.counters["store_lost_answers"] == 1
    assert store.counters["store_retries"] == (1 if where == "before" else 0)
    store.pool_call(pool_look(), plan)
    assert plan.seen[-1] == 1


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_call_without_events_whose_answer_was_lost_is_planned_anew(
    cuttable: tuple[Wire, PostgresStore], where: Literal["before", "after"]
) -> None:
    wire, store = cuttable
    plan = Counting(counted_silently)
    wire.cut_at("silent-1", where)
    store.pool_call(pool_look(), plan)
    assert plan.seen == ([0, 0] if where == "before" else [0, 1])
    assert number_in(seen_by(store).state) == plan.seen[-1] + 1


def test_a_call_without_events_whose_answer_was_lost_is_not_said_to_be_unrecorded(
    cuttable: tuple[Wire, PostgresStore],
) -> None:
    wire, store = cuttable
    wire.cut_at("silent-1", "after", for_good=True)
    with pytest.raises(StoreUnavailableError, match=f"not known whether a call of {POOL}"):
        store.pool_call(pool_look(), Counting(counted_silently))


def test_a_call_that_was_never_sent_is_not_recorded(
    cuttable: tuple[Wire, PostgresStore],
) -> None:
    wire, store = cuttable
    wire.cut_at("pool_look_1", "before", for_good=True)
    with pytest.raises(StoreUnavailableError) as raised:
        store.pool_call(pool_look(), Counting(counted_silently))
    assert "not known" not in str(raised.value)


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_call_whose_look_was_lost_looks_again(
    cuttable: tuple[Wire, PostgresStore], where: Literal["before", "after"]
) -> None:
    wire, store = cuttable
    plan = Counting()
    wire.cut_at("pool_look_1", where)
    store.pool_call(pool_look(), plan)
    assert wire.cut.is_set()
    assert plan.seen == [0]
    assert number_in(seen_by(store).state) == 1


def test_a_call_that_was_abandoned_is_refused_if_it_arrives_later(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    bare.execute("SELECT settle_1('late', '1s', NULL, NULL, NULL)")
    look: tuple[Any, ...] = (
        "late",
        "1s",
        "1s",
        POOL,
        NOW,
        NOW,
        [],
        0,
        [],
        [],
        False,
        [],
        "none",
        None,
    )
    with pytest.raises(psycopg.Error) as raised:
        bare.execute(store.queries.pool_look, look)
    assert raised.value.sqlstate == "WK004"


def test_what_a_plan_raises_is_raised_whatever_it_is(store: PostgresStore) -> None:
    plan = Counting(lambda seen: [][0])
    for error in (psycopg.OperationalError("the plan's own"), OSError("its own"), ValueError("v")):

        def fail(seen: PoolSeen, error: Exception = error) -> PoolWrites:
            raise error

        with pytest.raises(type(error)) as raised:
            store.pool_call(pool_look(), fail)
        assert raised.value is error
    with pytest.raises(IndexError):
        store.pool_call(pool_look(), plan)
    assert plan.seen == [0]
    assert store.counters["store_retries"] == 0
    store.pool_call(pool_look(), count_up)
    assert number_in(seen_by(store).state) == 1


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_cannot_be_stored_is_refused(store: PostgresStore, text: str) -> None:
    for writes in (
        PoolWrites(put=[excepted(1, 1, key=text)]),
        PoolWrites(leases=[(text, "w", 1, 1)]),
    ):
        with pytest.raises(StoreUnavailableError) as raised:
            call(store, writes)
        assert raised.value.reason == "refused"
    call(store, PoolWrites(put=[excepted(1, 1)]))


# -- locks of others


def test_a_session_that_keeps_the_log_is_waited_for_no_longer_than_the_timeout(
    postgres_url: str, bare: psycopg.Connection
) -> None:
    store = open_store(with_options(postgres_url, timeout=1)).application_recorder()
    plan = Counting()
    with bare.transaction():
        bare.execute(ORDERING.encode())
        with pytest.raises(StoreUnavailableError) as raised:
            store.pool_call(pool_look(), plan)
        assert raised.value.reason == "locked"
        assert seen_by(store).state is None
    assert plan.seen == []
    store.pool_call(pool_look(), plan)
    assert plan.seen == [0]
    store.close()


def test_a_locked_lease_is_waited_for_a_moment_at_a_time(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    lease = PoolWrites(leases=[(PARTITION, "w1", 1, 1000)])
    call(store, lease)
    plan = Counting(lambda seen: lease)
    with bare.transaction():
        bare.execute("SELECT FROM leases FOR UPDATE")
        with pytest.raises(StoreUnavailableError) as raised:
            store.pool_call(pool_look(), plan)
        assert raised.value.reason == "locked"
    assert len(plan.seen) > 1
    assert call(store, lease).state is None


def test_the_locks_of_a_process_that_stops_while_it_plans_are_released(
    postgres_url: str,
    store: PostgresStore,
    bare: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "PLAN_TIMEOUT", "50ms")
    other = open_store(postgres_url).application_recorder()
    ordering = "SELECT count(*) FROM pg_locks WHERE relation = 'ordering'::regclass"

    def stall(seen: PoolSeen) -> PoolWrites:
        if len(plan.seen) == 1:
            until(lambda: bare.execute(ordering).fetchall() == [(0,)])
            call(other, PoolWrites(state=document(number=7)))
        return count_up(seen)

    plan = Counting(stall)
    store.pool_call(pool_look(), plan)
    other.close()
    assert plan.seen == [0, 7]
    assert number_in(seen_by(store).state) == 8


def test_what_cannot_be_read_after_the_commit_is_recorded_once(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    plan = Counting(
        lambda seen: PoolWrites(
            state=document(number=1), segments=[segment(1, 1, 1, 1)], read=[(1, 0, 1)]
        )
    )
    bare.execute("DROP FUNCTION pool_slices_1")
    assert store.pool_call(pool_look(), plan) == ()
    assert plan.seen == [0]
    assert seen_by(store).number == 1
    # and the connection can be used again
    store.pool_call(pool_look(), count_up)
    assert number_in(seen_by(store).state) == 2


# -- other processes


def test_other_processes_are_notified_of_work_in_a_pool(
    postgres_url: str, store: PostgresStore
) -> None:
    other = open_store(postgres_url).application_recorder()
    dues: list[int] = []
    stop = other.watch_alarms(dues.append)
    until(lambda: other.poll_us == POLL_WITH_LISTENER_US)
    call(store, PoolWrites(state=document(), due_us=None))
    call(store, PoolWrites(due_us=1))
    call(store, PoolWrites(state=document(), due_us=7))
    until(lambda: 7 in dues)
    assert 1 not in dues
    stop()
    other.close()


def test_other_processes_are_notified_of_work_before_it_is_written(
    postgres_url: str, store: PostgresStore, bare: psycopg.Connection
) -> None:
    """So that they wait for the lock, and look as soon as it is committed."""
    other = open_store(postgres_url).application_recorder()
    told: list[tuple[str, int]] = []
    stop = other.watch_alarms(lambda due_us: None, lambda pool, number: told.append((pool, number)))
    until(lambda: other.poll_us == POLL_WITH_LISTENER_US)
    # given a call that waits for the lock of the log
    with bare.transaction(force_rollback=True):
        bare.execute(ORDERING)
        look = replace(pool_look(), brings_work=True)
        plan = Counting(lambda seen: PoolWrites(state=document(), due_us=NOW))
        calling = threading.Thread(target=store.pool_call, args=(look, plan))
        calling.start()
        # then
        until(lambda: told)
        assert calling.is_alive()
    calling.join(WAIT_S)
    assert seen_by(other).number == 1
    # and once more after the commit, for those who came before the call
    until(lambda: len(told) > 1)
    assert told == [(POOL, 0), (POOL, 1)]
    stop()
    other.close()


def test_who_follows_the_log_is_told_of_a_call(store: PostgresStore) -> None:
    with store.subscribe(gt=0) as followed:
        store.pool_call(pool_look(), count_up)
        assert next(iter(followed)).originator_id == SHARED


def test_behind_a_pooler_nothing_is_prepared_or_set_in_the_session(postgres_url: str) -> None:
    store = open_store(with_options(postgres_url, pooler="transaction")).application_recorder()
    for _ in range(10):
        store.pool_call(pool_look(), count_up)
        store.pool_call(pool_look(), lambda seen: PoolWrites())
        seen_by(store)
    with store.datastore.lend() as connection:
        assert connection.execute("SELECT name FROM pg_prepared_statements").fetchall() == []
        for name in ("idle_in_transaction_session_timeout", "lock_timeout"):
            [row] = connection.execute(f"SHOW {name}".encode()).fetchall()
            assert row == {name: "0"}
    store.close()


@needs_pgbouncer
def test_calls_of_many_threads_behind_pgbouncer() -> None:
    with running_server() as server, pgbouncer(server, connections=2) as url:
        stores = [open_store(url).application_recorder() for _ in range(2)]

        def count(store: PostgresStore) -> None:
            for _ in range(25):
                store.pool_call(pool_look(), count_up)

        in_parallel([threading.Thread(target=count, args=(stores[i % 2],)) for i in range(4)])
        assert [event.version for event in stores[0].events(SHARED)] == [*range(1, 101)]
        for store in stores:
            store.close()


# -- what is refused, and what a call leaves behind


def test_a_call_that_is_refused_leaves_no_gap_in_the_log(store: PostgresStore) -> None:
    call(store, PoolWrites(events=[pool_event(1)], taken=[TakenRow(1, 1, 0, 1)]))
    with pytest.raises(StoreUnavailableError, match="refused"):
        call(store, PoolWrites(events=[pool_event(2)], taken=[TakenRow(1, 1, 0, 1)]))
    assert store.append([UnitBuilder().begin()]).errors == [None]
    assert store.max_notification_id() == 3


def test_a_connection_is_good_after_any_number_of_refused_calls(store: PostgresStore) -> None:
    for version in range(1, 20):
        call(store, PoolWrites(events=[pool_event(version)]))
        with pytest.raises(StoreUnavailableError, match="refused"):
            call(store, PoolWrites(events=[pool_event(version)]))
    assert store.counters["store_retries"] == 0


def test_a_pool_keeps_its_two_newest_documents(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    for _ in range(5):
        store.pool_call(pool_look(), count_up)
    assert bare.execute("SELECT n FROM pool_states ORDER BY n").fetchall() == [(4,), (5,)]


# -- what a call costs, with tables that the server has never analysed

LOOK = (None, None, None, POOL, NOW, NOW, ["id-3"], 5, [2, 2], [3, 7], True, ["k8"], "all", [1])
EXPLAIN = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "


def fill(bare: psycopg.Connection, first: int, last: int) -> None:
    """Items `first` to `last` of each table; an event has 100 items in each of two lanes."""
    numbers = f"generate_series({first}, {last}) AS g (i)"
    for statement in (
        f"INSERT INTO stored_events SELECT '{SHARED}', i, 't', convert_to("
        f"'{{}}' || chr(10) || repeat('x', 5000), 'UTF8') FROM {numbers} WHERE i <= 2000",
        f"INSERT INTO pool_segments SELECT '{POOL}', lane, 100 * i, 100, i, 7 * lane, 40, 1, i"
        f" FROM {numbers}, generate_series(1, 2) AS l (lane)",
        f"INSERT INTO pool_taken SELECT '{POOL}', 1, i, 0, i FROM {numbers}",
        f"INSERT INTO pool_ids SELECT '{POOL}', 'id-' || i, 1, i, 'f', 1, 0 FROM {numbers}",
        f"INSERT INTO pool_trail SELECT '{POOL}', 1, i, '{SHARED}', 1 FROM {numbers}",
        f"INSERT INTO pool_skips SELECT '{POOL}', 1, i FROM {numbers} WHERE i <= 10",
        f"INSERT INTO pool_exceptions SELECT '{POOL}', 2, i, CASE i % 2 WHEN 0 THEN 'behind'"
        f" ELSE 'retrying' END, 0, 0, {NOW} - i, i, 'k' || i % 1000, '{{}}' FROM {numbers}",
    ):
        bare.execute(statement.encode())


def pages(bare: psycopg.Connection, sql: bytes, params: Any) -> int:
    """How many pages a statement reads, once all its plans are made; it is undone."""
    found = 0
    with bare.transaction(force_rollback=True):
        for _ in range(3):
            with bare.transaction(force_rollback=True):
                [(plan,)] = bare.execute(EXPLAIN + sql, params).fetchall()
            root = plan[0]["Plan"]
            found = root["Shared Hit Blocks"] + root["Shared Read Blocks"]
    return found


def statements(store: PostgresStore) -> dict[str, tuple[bytes, Any]]:
    queries = store.queries
    row = {"why": "lost", "slot": 0, "priority": 0, "due_us": NOW, "seq": 1, "detail": "{}"}
    put = Json([{"lane": 2, "off": 7, "key": "k7", **row}, {"lane": 3, "off": 1, **row}])
    gone, lease = Json([{"lane": 2, "off": 5}]), {"owner": "w", "token": 1, "lasts_us": 9}
    leases = Json([{"stream": PARTITION, **lease}])
    nothing = (None, None, None, None)
    written = ("1s", POOL, NOW, 1, document(), None, None, None)
    why = {"why": ["behind", "dead"], "pool": POOL, "lane": 0, "off": 0, "limit": 5}
    return {
        "look": (queries.pool_look, LOOK),
        "put": (queries.pool_write, (*written, None, put, *nothing, *nothing[:3], b"")),
        "gone": (queries.pool_write, (*written, gone, *nothing, *nothing, b"")),
        "leases": (
            queries.pool_write,
            (*written, *nothing, leases, [SHARED], None, [1], None, b""),
        ),
        "slices": (queries.pool_slices, (POOL, SHARED, [1, 2, 1], [50, 0, 250], [260, 90, 420])),
        "taken": (queries.pool_taken, (POOL, 1, 3)),
        "trail": (queries.pool_trail, (POOL, 1, 3)),
        "page": (queries.pool_exceptions, (POOL, 0, 0, 5)),
        "of why": (queries.pool_exceptions_why, why),
        "of key": (queries.pool_exceptions_key, (POOL, "none", 0, 0, [], [], 5)),
        "blocked": (queries.pool_blocked, (["k3", "none"], POOL)),
    }


def test_what_a_pool_costs_does_not_depend_on_how_much_it_has(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    state = document(lanes=[[1, 5, 5], [2, 150, 0]], groups=[[0, 0, 0]])
    call(store, PoolWrites(state=state, leases=[(PARTITION, "w", 1, 9)]))
    fill(bare, 1, FEW)
    few = {name: pages(bare, *each) for name, each in statements(store).items()}
    fill(bare, FEW + 1, MANY)
    many = {name: pages(bare, *each) for name, each in statements(store).items()}
    grown = {name: (few[name], many[name]) for name in few if many[name] > few[name] + MAY_GROW}
    assert grown == {}
    assert max(few.values()) < 200


def test_a_slice_reads_only_its_pages(store: PostgresStore, bare: psycopg.Connection) -> None:
    body = bytes(range(256)) * 4_000
    rows = [segment(1, 1, 1, 1, 500_000, 3_000), segment(1, 2, 1, 1, 0, len(body))]
    call(store, PoolWrites(events=[pool_event(1, body)], segments=rows))
    sql = store.queries.pool_slices
    part, whole = (pages(bare, sql, (POOL, SHARED, [1], [after], [after + 1])) for after in (0, 1))
    assert part < 40
    assert whole > 120
    assert store.pool_slices(POOL, [(1, 0, 1)]) == [(rows[0], body[500_000:503_000])]


def test_calls_and_reads_scan_no_table(store: PostgresStore, bare: psycopg.Connection) -> None:
    call(store, PoolWrites(state=document(lanes=[[1, 5, 5], [2, 150, 0]], groups=[[0, 0, 0]])))
    fill(bare, 1, 400)
    scans = "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE schemaname = %s"
    for name, (sql, params) in statements(store).items():
        with bare.transaction(force_rollback=True):
            bare.execute(sql, params)
            found = bare.execute(scans.encode(), (store.datastore.schema,)).fetchall()
        scanned = {table: count for table, count in found if count and table.startswith("pool")}
        assert scanned == {}, name
