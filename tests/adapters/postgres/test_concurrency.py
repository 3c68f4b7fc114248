"""Many writers, workers and readers on one PostgreSQL: threads, stores, processes."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent
from msgspec.structs import replace

from tests.support import WAIT_S
from tests.support_postgres import bare_connection, with_options
from wakelog.ports.rows import Due, Listing
from wakelog.ports.units import Lease, StreamLocked, Unit
from wakelog_adapters.conformance.units import (
    NOW,
    ORDERS,
    UnitBuilder,
    claim_request,
    in_parallel,
    kept_reply,
    kinds,
)
from wakelog_adapters.postgres import PostgresStore, claims, open_store
from wakelog_adapters.postgres import append as appends
from wakelog_adapters.postgres.connections import Connection, connect
from wakelog_adapters.postgres.schema import migrations

MINUTE_US = 60_000_000


@pytest.fixture
def stores(postgres_url: str) -> Iterator[tuple[PostgresStore, PostgresStore]]:
    """Two openings of one store, as two processes have them."""
    one, two = (open_store(postgres_url).application_recorder() for _ in range(2))
    yield one, two
    one.close()
    two.close()


@pytest.fixture
def bare(
    stores: tuple[PostgresStore, PostgresStore], postgres_url: str
) -> Iterator[psycopg.Connection]:
    """A connection to the schema beside the stores."""
    with bare_connection(postgres_url) as connection:
        connection.execute(f"SET search_path = {stores[0].datastore.schema}".encode())
        yield connection


def all_of(*calls: Callable[[], None]) -> None:
    """Run each call on a thread of its own, and raise what one of them has raised."""
    errors: list[BaseException] = []

    def guarded(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    in_parallel([threading.Thread(target=guarded, args=(call,)) for call in calls])
    if errors:
        raise errors[0]


def versions_in_log(store: PostgresStore) -> dict[str, list[int]]:
    """Of each stream, the versions in the order of the log."""
    found: dict[str, list[int]] = {}
    for n in store.select_notifications(None, 100_000):
        found.setdefault(str(n.originator_id), []).append(n.originator_version)
    return found


# -- writers


def any_unit(chance: random.Random, builder: UnitBuilder, number: int, turn: int) -> Unit:
    """A unit of one of the kinds that lock something."""
    lease = Lease(f"w{number}", NOW + MINUTE_US, builder.instance.version + 1, True)
    match chance.randrange(4):
        case 0:
            return builder.begin(NOW + turn)
        case 1:
            return builder.receive(kept_reply=kept_reply(f"{number}-{turn}"))
        case 2:
            return builder.receive(take=lease)
        case _:
            return builder.receive(ends_lease=True)


def test_random_groups_of_many_writers_never_deadlock(
    stores: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a deadlock an append is repeated, so that it would not show; here it raises."""
    monkeypatch.setattr(appends, "TRIES", 1)
    written = [0, 0, 0, 0]

    def write(number: int) -> None:
        store, chance = stores[number % 2], random.Random(number)
        for turn in range(60):
            builders = [UnitBuilder(f"o-{i}") for i in chance.sample(range(16), 6)]
            rows = store.status([builder.stream for builder in builders])
            units: list[Unit] = []
            for builder, row in zip(builders, rows, strict=True):
                builder.instance = replace(builder.instance, version=row.version if row else 0)
                builder.hash = row.hash if row else ""
                units.append(any_unit(chance, builder, number, turn))
            appended = store.append(units)
            good = [u for u, e in zip(units, appended.errors, strict=True) if e is None]
            written[number] += sum(len(unit.events) for unit in good)
            if turn % 5 == 0:
                store.renew(f"w{number}", NOW + MINUTE_US, NOW)
                store.release(f"w{number}", [(u.stream, u.take.token) for u in good if u.take])

    all_of(*[lambda number=number: write(number) for number in range(4)])
    log = versions_in_log(stores[0])
    assert sum(map(len, log.values())) == sum(written) > 100
    for stream, versions in log.items():
        assert versions == list(range(1, len(versions) + 1)), stream


APPEND = """
import sys
from msgspec.structs import replace
from wakelog_adapters.conformance import UnitBuilder
from wakelog_adapters.postgres import open_store

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


def spawn(url: str, owner: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPEND, url, owner, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_append_to_one_store(
    stores: tuple[PostgresStore, PostgresStore], postgres_url: str
) -> None:
    processes = [spawn(postgres_url, owner, 100) for owner in ("one", "two")]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    rows = stores[0].list(Listing(limit=1000))
    assert len([row for row in rows if row.id.startswith(("one-", "two-"))]) == 200
    shared = [event.version for event in stores[0].events("task:order:shared")]
    assert shared == list(range(1, len(shared) + 1))
    log = stores[0].select_notifications(None, 10_000)
    assert [n.id for n in log] == list(range(1, 401 + len(shared)))


def test_a_process_killed_while_it_appends_leaves_whole_units(
    stores: tuple[PostgresStore, PostgresStore], postgres_url: str
) -> None:
    acknowledged = 0
    for life in range(2):
        process = spawn(postgres_url, f"life{life}", 1_000_000)
        assert process.stdout is not None
        line = ""
        for line in process.stdout:
            if int(line) == 20 + 17 * life:
                break
        process.kill()
        acknowledged += int([line, *process.stdout.readlines()][-1])
        process.stdout.close()
        process.wait()
    # A last append of each process may still be on its way; it locks what it writes.
    builders = [UnitBuilder(f"life{life}-{acknowledged}") for life in range(2)]
    stores[0].append([builder.begin() for builder in builders])
    rows = stores[0].list(Listing(id_prefix="life", limit=10_000))
    assert acknowledged <= len(rows) - 2 <= acknowledged + 2
    for row in rows:
        assert [event.version for event in stores[0].events(row.stream)] == [1, 2]


# -- late commits, and readers that follow the log


SLOW = """
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(random() * 0.004); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON stored_events DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION late();
"""


Writer = Callable[[PostgresStore, str], None]
"""Adds two events to the log, to a stream of this name."""


def append(store: PostgresStore, name: str) -> None:
    """As the engine does."""
    assert store.append([UnitBuilder(name).begin()]).errors == [None]


def insert(store: PostgresStore, name: str) -> None:
    """As an aggregate of the library does, with our recorder."""
    store.insert_events([StoredEvent(name, version, "t", b"s") for version in (1, 2)])


def insert_as_the_library(store: PostgresStore, name: str) -> None:
    """As the library's own recorder does, on the same table: it locks the whole table."""
    with store.datastore.lend() as connection, connection.transaction():
        insert_in(connection, store, name)


def insert_in(connection: Connection, store: PostgresStore, name: str) -> None:
    table = f"{store.datastore.schema}.stored_events"
    connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())
    sql = f"INSERT INTO {table} VALUES (%s, 1, 't', ''), (%s, 2, 't', '')"
    connection.execute(sql.encode(), (name, name))


def append_in(connection: Connection, store: PostgresStore, name: str) -> None:
    attempt = store.appender.attempt([UnitBuilder(name).begin()])
    store.appender.run(attempt, connection)


WRITERS: tuple[Writer, ...] = (append, insert, insert_as_the_library)


def positions(store: PostgresStore, after: int = 0, limit: int = 9999) -> list[int]:
    found = store.select_notifications(after, limit, inclusive_of_start=False)
    return [notification.id for notification in found]


def test_readers_by_position_miss_nothing_that_commits_late(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    """Each commit comes some time after its events were given their positions."""
    bare.execute(SLOW)
    ended = threading.Event()
    followed: dict[int, list[int]] = {1: [], 3: [], 9999: []}
    looks: list[list[int]] = []

    def write(number: int) -> None:
        for turn in range(12):
            WRITERS[number % 3](stores[number % 2], f"{number}-{turn}")

    def write_all() -> None:
        try:
            all_of(*[lambda number=number: write(number) for number in range(9)])
        finally:
            ended.set()

    def follow(limit: int) -> None:
        seen = followed[limit]
        while True:
            last = ended.is_set()
            found = positions(stores[1], seen[-1] if seen else 0, limit)
            seen += found
            if last and not found:
                return

    def look() -> None:
        while not ended.is_set():
            looks.append(positions(stores[0]))

    all_of(write_all, look, *[lambda limit=limit: follow(limit) for limit in followed])
    log = positions(stores[0])
    assert len(log) == 9 * 12 * 2
    assert all(seen == log for seen in followed.values())
    # at any time, what was visible was the beginning of the whole log, in its order
    assert all(seen == log[: len(seen)] for seen in looks)
    assert len({len(seen) for seen in looks}) > 5


@pytest.mark.parametrize("begin", [append_in, insert_in])
def test_no_position_is_seen_before_one_that_is_still_to_commit(
    stores: tuple[PostgresStore, PostgresStore],
    begin: Callable[[Connection, PostgresStore, str], None],
) -> None:
    # given a writer that has its positions, and waits before its commit
    one, two = stores
    later: list[threading.Thread] = []
    with closing(connect(one.location)) as connection, connection.transaction():
        begin(connection, one, "held")
        # when other writers of all kinds come after it
        for writer in WRITERS:
            thread = threading.Thread(target=writer, args=(two, writer.__name__))
            thread.start()
            later.append(thread)
            wait_for_waiting(connection, one, len(later))
        # then none of their events is seen
        assert positions(one) == positions(two) == []
    for thread in later:
        thread.join(WAIT_S)
    found = [n.originator_id for n in one.select_notifications(None, 99)]
    assert [id for id in found[:2] if "held" in str(id)] == found[:2]
    assert len(found) == 2 * (1 + len(WRITERS))
    assert found[::2] == found[1::2]


def wait_for_waiting(connection: Connection, store: PostgresStore, count: int) -> None:
    """Wait until so many processes wait for a lock on the log, of any kind."""
    schema = store.datastore.schema
    tables = (f"{schema}.ordering", f"{schema}.stored_events")
    waits = b"SELECT FROM pg_locks WHERE NOT granted AND relation IN (%s::regclass, %s::regclass)"
    deadline_s = time.monotonic() + WAIT_S
    while len(connection.execute(waits, tables).fetchall()) < count:
        assert time.monotonic() < deadline_s


def test_events_of_other_aggregates_share_the_order(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, _ = stores
    one.append([UnitBuilder().begin()])
    event = StoredEvent("customer-1", 1, "t", b"\x00s")
    assert one.insert_events([event]) == [3]
    assert one.select_events("customer-1") == [event]
    with pytest.raises(IntegrityError):
        one.insert_events([event])


# -- workers


def claimed(store: PostgresStore, owner: str, limit: int, **given: Any) -> Sequence[Due]:
    """Claim with leases of a minute, unless others are given."""
    given = {"lease_us": MINUTE_US, **given}
    return store.claim(claim_request(limit=limit, owner=owner, **given))


def begun(store: PostgresStore, owner: str, limit: int, **given: Any) -> Sequence[Due]:
    """Claim, begin the runs of all that was claimed, and return it."""
    dues = claimed(store, owner, limit, **given)
    now_us, lease_us = given.get("now_us", NOW), given.get("lease_us", MINUTE_US)
    units: list[Unit] = []
    for due in dues:
        builder = UnitBuilder(due.stream.removeprefix("task:order:"))
        builder.instance = replace(builder.instance, version=due.version)
        builder.hash = due.hash
        units.append(builder.run(owner, now_us + lease_us, at_us=now_us, lease_token=-1))
    assert list(store.append(units).errors) == [None] * len(dues)
    return dues


def test_a_claim_during_another_gets_the_next_ones_at_once(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    """Also if the other has locked as many as it looks for at first."""
    one, two = stores
    one.append([UnitBuilder(f"o-{i}").begin(NOW - 10 + i) for i in range(5)])
    with bare.transaction():
        bare.execute("SELECT FROM status WHERE id IN ('o-0', 'o-1') FOR UPDATE")
        others = claimed(two, "w2", 2)
    assert [due.stream for due in others] == ["task:order:o-2", "task:order:o-3"]
    mine = claimed(one, "w1", 2)
    assert [due.stream for due in mine] == ["task:order:o-0", "task:order:o-1"]
    assert [due.stream for due in claimed(two, "w2", 9)] == ["task:order:o-4"]
    assert claimed(one, "w1", 9) == []


def test_U2_a_worker_that_stalls_in_a_claim_does_not_block_others_for_long(
    stores: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "IDLE_TIMEOUT", "200ms")
    one, two = stores
    builder = UnitBuilder()
    one.append([builder.begin(), builder.run("w0", NOW)])
    others: list[Due] = []

    def meanwhile() -> bool:
        """The worker that is about to take over sleeps for long."""
        if not others:
            assert claimed(two, "w2", 1) == []  # the instance is locked
            unit = builder.receive()
            while kinds(two.append([unit])) == [StreamLocked]:  # until the server ends the claim
                pass
            others.extend(claimed(two, "w2", 1))
        return True

    assert claimed(one, "w1", 1, may_take_over=meanwhile) == []
    assert [due.stream for due in others] == [builder.stream]
    assert [held.lease.owner for held in two.leases(NOW, 9)] == ["w2"]


def test_workers_together_claim_all_and_each_once(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    stores[0].append([UnitBuilder(f"o-{i}").begin(NOW - 1) for i in range(120)])
    taken: list[str] = []

    def drain(number: int) -> None:
        store = stores[number % 2]
        while (store.next_due_us([ORDERS], NOW) or NOW + 1) <= NOW:
            taken.extend(due.stream for due in begun(store, f"w{number}", 3))

    all_of(*[lambda number=number: drain(number) for number in range(4)])
    assert sorted(taken) == sorted(f"task:order:o-{i}" for i in range(120))


def test_a_heartbeat_waits_for_no_claim_and_takes_nothing_from_it(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    """One of two ended leases is being taken over; meanwhile the other is prolonged. Until it is
    taken over, the first one counts too."""
    one, two = stores
    one.append([UnitBuilder("o-1").begin(NOW - 1), UnitBuilder("o-2").begin(NOW - 2)])
    begun(one, "w1", 9, lease_us=1)
    held: list[Sequence[tuple[str, int]]] = []

    def beat() -> bool:
        held.append(one.renew("w1", NOW + MINUTE_US, NOW))
        return True

    assert len(begun(two, "w2", 1, may_take_over=beat)) == 1
    assert len(held[0]) == 2
    [left] = one.renew("w1", NOW + MINUTE_US, NOW)
    assert left in held[0]
    assert len(two.renew("w2", NOW + MINUTE_US, NOW)) == 1


# -- the server's clock judges leases


def test_a_lease_lasts_as_long_as_given_whatever_the_clocks_of_workers_show(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, two = stores
    one.append([UnitBuilder("o-1").begin(NOW), UnitBuilder("o-2").begin(NOW)])
    slow, fast = NOW, NOW + 3600_000_000
    assert len(begun(one, "w1", 1, now_us=slow)) == 1
    assert [due.expired for due in begun(two, "w2", 9, now_us=fast)] == [None]
    due_us = two.next_due_us([ORDERS], fast)
    assert due_us is not None
    assert fast < due_us <= fast + MINUTE_US
    assert len(one.renew("w1", slow + 1, slow)) == 1  # from now on one microsecond
    taken = begun(two, "w3", 9, now_us=slow - 99)
    assert [(due.stream, due.expired and due.expired.owner) for due in taken] == [
        ("task:order:o-1", "w1")
    ]
    assert taken[0].due_us <= slow - 99
    assert one.renew("w1", slow + MINUTE_US, slow) == []


def test_alarms_are_due_by_the_given_time(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    store = stores[0]
    future = time.time_ns() // 1000 + 3600_000_000
    store.append([UnitBuilder().begin(future)])
    assert begun(store, "w1", 9, now_us=future - 1) == []
    assert len(begun(store, "w1", 9, now_us=future)) == 1


# -- opening


def test_many_may_create_the_schema_at_the_same_time(postgres_url: str) -> None:
    start = threading.Barrier(8)

    def make(number: int) -> None:
        start.wait()
        store = open_store(postgres_url).application_recorder()
        assert store.append([UnitBuilder(f"o-{number}").begin()]).errors == [None]
        store.close()

    all_of(*[lambda number=number: make(number) for number in range(8)])
    store = open_store(postgres_url).application_recorder()
    assert len(store.list(Listing())) == 8
    with store.datastore.lend() as connection:
        table = f"{store.datastore.schema}.migrations"
        rows = connection.execute(f"SELECT number FROM {table}".encode()).fetchall()
    assert [row["number"] for row in rows] == [m.number for m in migrations()]
    store.close()


def test_opening_an_up_to_date_schema_waits_for_no_lock(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection, postgres_url: str
) -> None:
    with bare.transaction():
        bare.execute("LOCK TABLE migrations IN EXCLUSIVE MODE")
        store = open_store(with_options(postgres_url, timeout=1)).application_recorder()
        assert store.list(Listing()) == []
        store.close()
