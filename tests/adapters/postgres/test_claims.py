"""Claims on PostgreSQL: what they wait for, and what the server's clock says of ended leases."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.support import WAIT_S
from tests.support_postgres import bare_connection
from wakelog.ports.rows import JobPauseRow, WorkerRow
from wakelog.ports.units import Appended, JobPaused, Takeover, VersionConflict
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder, claim_request, kinds
from wakelog_adapters.postgres import PostgresStore, open_store

PAUSE = JobPauseRow(ORDERS, None, None, NOW)
WAITING = """SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND position(%s IN query) > 0"""
ORDERING = "LOCK TABLE ordering IN SHARE UPDATE EXCLUSIVE MODE"


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    store = open_store(postgres_url).application_recorder()
    yield store
    store.close()


@pytest.fixture
def bare(store: PostgresStore, postgres_url: str) -> Iterator[psycopg.Connection]:
    """A connection to the schema beside the store."""
    with bare_connection(postgres_url) as connection:
        connection.execute(f"SET search_path = {store.datastore.schema}".encode())
        yield connection


@pytest.fixture
def looking(store: PostgresStore, postgres_url: str) -> Iterator[psycopg.Connection]:
    """One more, to see what the others wait for."""
    with bare_connection(postgres_url) as connection:
        yield connection


class Call:
    """A call on a thread of its own."""

    def __init__(self, call: Callable[[], object], ended: list[str] | None = None) -> None:
        """Its name is added to `ended` at its end."""
        self.returned: object = None
        self._call, self._ended = call, [] if ended is None else ended
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.returned = self._call()
        self._ended.append(self._call.__name__)

    def result(self) -> object:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        return self.returned


def wait_until_waiting(looking: psycopg.Connection, what: str) -> None:
    """Wait until a session of this schema's server waits for a lock in a query with `what`."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        row = looking.execute(WAITING, (what,)).fetchone()
        if row is not None and row[0] > 0:
            return
    raise AssertionError(f"nothing waits in {what}")


# -- a job is paused as a whole


def test_a_pause_waits_for_a_claim_that_is_under_way(
    store: PostgresStore, bare: psycopg.Connection, looking: psycopg.Connection
) -> None:
    """Although there is no pause yet, of which the claim could lock the row."""
    schema = store.datastore.schema
    builder = UnitBuilder()
    store.append([builder.begin(NOW)])
    ended: list[str] = []

    def claim() -> object:
        return store.claim(claim_request())

    def pause() -> object:
        return store.pause_job(PAUSE)

    with bare.transaction(force_rollback=True):
        bare.execute(
            "INSERT INTO leases VALUES (%s, %s, 'other', 0, 0, false)", (builder.stream, ORDERS)
        )
        claiming = Call(claim, ended)
        wait_until_waiting(looking, f"{schema}.claim_1")
        pausing = Call(pause, ended)
        wait_until_waiting(looking, f"LOCK TABLE {schema}.job_pauses")
    pausing.result()
    assert claiming.result()
    assert set(ended) == {"claim", "pause"}
    assert store.lease_tokens([builder.stream]) == [-1]


def test_a_pause_waits_for_an_append_that_begins_a_run(
    store: PostgresStore, bare: psycopg.Connection, looking: psycopg.Connection
) -> None:
    schema = store.datastore.schema
    one, two = UnitBuilder("o-1"), UnitBuilder("o-2")
    store.append([one.begin(NOW), two.begin(NOW)])
    assert len(store.claim(claim_request(lease_us=60_000_000))) == 2
    with bare.transaction():
        bare.execute(ORDERING)
        appending = Call(lambda: store.append([one.run("w1", NOW + 9, lease_token=-1)]))
        wait_until_waiting(looking, f"{schema}.append_1")
        pausing = Call(lambda: store.pause_job(PAUSE))
        wait_until_waiting(looking, f"LOCK TABLE {schema}.job_pauses")
        assert store.job_pauses() == []
    assert appending.result() == Appended([None], None)
    assert pausing.result() == PAUSE
    assert kinds(store.append([two.run("w1", NOW + 9, lease_token=-1)])) == [JobPaused]


def test_a_claim_and_the_beginning_of_a_run_wait_for_a_pause_that_is_under_way(
    store: PostgresStore, bare: psycopg.Connection, looking: psycopg.Connection
) -> None:
    schema = store.datastore.schema
    one, two, other = UnitBuilder("o-1"), UnitBuilder("o-2"), UnitBuilder("o-3")
    store.append([one.begin(NOW - 1), two.begin(NOW), other.begin()])
    assert len(store.claim(claim_request(limit=1))) == 1
    with bare.transaction():
        bare.execute("LOCK TABLE job_pauses IN EXCLUSIVE MODE")
        bare.execute("INSERT INTO job_pauses VALUES (%s, NULL, NULL, %s)", (ORDERS, NOW))
        claiming = Call(lambda: store.claim(claim_request(-2)))
        wait_until_waiting(looking, f"{schema}.claim_1")
        appending = Call(lambda: kinds(store.append([one.run("w1", NOW + 9, lease_token=-1)])))
        wait_until_waiting(looking, f"{schema}.append_1")
        assert store.append([other.receive()]).errors == [None]  # what begins no run goes on
    assert claiming.result() == []
    assert appending.result() == [JobPaused]


def test_claims_runs_and_pauses_never_deadlock(
    store: PostgresStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a deadlock a call is repeated, so that it would not show; here it raises."""
    monkeypatch.setattr("wakelog_adapters.postgres.append.TRIES", 1)
    other = open_store(postgres_url).application_recorder()
    builders = {builder.stream: builder for builder in (UnitBuilder(f"o-{i}") for i in range(120))}
    store.append([builder.begin(NOW) for builder in builders.values()])
    begun: list[str] = []
    failed: list[BaseException] = []

    def work(number: int) -> None:
        token, mine = -number, (store, other)[number % 2]
        while len(begun) < len(builders) and not failed:
            token -= 10
            request = claim_request(token, owner=f"w{number}", limit=7, lease_us=60_000_000)
            dues = mine.claim(request)
            kept, given = dues[:4], dues[4:]
            mine.release(f"w{number}", [(due.stream, token) for due in given])
            units = [
                builders[due.stream].fork().run(f"w{number}", NOW + 10**9, lease_token=token)
                for due in kept
            ]
            errors = kinds(mine.append(units))
            # a conflict: it was paused and resumed at each of several tries
            assert set(errors) <= {None, JobPaused, VersionConflict}
            back = [due.stream for due, error in zip(kept, errors, strict=True) if error]
            mine.release(f"w{number}", [(stream, token) for stream in back])
            begun.extend(due.stream for due, error in zip(kept, errors, strict=True) if not error)

    def pause() -> None:
        while len(begun) < len(builders) and not failed:
            other.pause_job(PAUSE)
            store.resume_job(ORDERS)

    def guarded(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    calls = [pause, *(lambda number=number: work(number) for number in range(4))]
    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert failed == []
    assert sorted(begun) == sorted(builders)
    other.close()


# -- leases that have ended


def test_U2_a_server_that_has_just_started_lets_workers_renew_first(store: PostgresStore) -> None:
    """Nobody could renew while it was down."""
    builder = UnitBuilder()
    store.append([builder.begin(), builder.run("w1", NOW)])
    century_us = 100 * 365 * 86_400_000_000

    def claimed(up_us: int) -> list[str]:
        takeover = Takeover(owner="w2", server_up_us=up_us)
        return [due.stream for due in store.claim(claim_request(owner="w2", takeover=takeover))]

    assert claimed(century_us) == []
    assert claimed(0) == [builder.stream]


def test_U2_a_lease_that_a_living_worker_could_not_prolong_is_not_taken_over(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    held, second_us = UnitBuilder("held"), 1_000_000
    store.append([held.begin(), held.run("w1", NOW)])
    store.put_worker(WorkerRow("w1", (ORDERS,), 1, "host", 7, NOW, NOW, NOW + 5))

    def claimed() -> list[str]:
        takeover = Takeover(owner="w2")
        return [due.stream for due in store.claim(claim_request(owner="w2", takeover=takeover))]

    # given a row that another session keeps locked until the lease has ended
    with bare.transaction():
        bare.execute("SELECT FROM leases FOR UPDATE")
        store.renew("w1", NOW + 60 * second_us, NOW)
    # then it is left to its owner, as long as that lives
    assert claimed() == []
    store.renew("w1", NOW, NOW)
    assert claimed() == [held.stream]


def test_U2_leases_that_ended_while_the_server_stalled_are_not_taken_over(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    """The claim is undone; what was free is kept, under the leases that it has got."""
    lost, free = UnitBuilder("lost"), UnitBuilder("free")
    store.append([lost.begin(), lost.run("w1", NOW), free.begin(NOW)])
    request = claim_request(owner="w2", lease_us=60_000_000, may_take_over=lambda: False)
    assert [due.stream for due in store.claim(request)] == [free.stream]
    found = bare.execute("SELECT stream, owner, token FROM leases ORDER BY stream").fetchall()
    assert found == [(free.stream, "w2", -1), (lost.stream, "w1", 3)]


def test_a_claim_is_one_transaction_unless_a_lease_has_ended(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    builders = [UnitBuilder(f"o-{i}") for i in range(3)]
    store.append([builder.begin(NOW) for builder in builders])

    def written(token: int) -> int:
        """How many leases one transaction has written."""
        assert len(store.claim(claim_request(token, limit=3))) == 3
        sql = "SELECT xmin::text, count(*) FROM leases WHERE token = %s GROUP BY 1"
        return len(bare.execute(sql, (token,)).fetchall())

    assert written(-1) == 1
    store.release("w1", [(builder.stream, -1) for builder in builders])
    bare.execute(
        "INSERT INTO leases VALUES (%s, %s, 'w0', 0, 9, true)", (builders[0].stream, ORDERS)
    )
    assert written(-2) == 2


def test_a_claim_that_finds_nothing_writes_nothing(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    """So there is nothing to wait for the disk for."""
    store.append([UnitBuilder().begin(NOW + 1)])
    left: list[str] = []
    rules = ("w1", 9, -1, False, "w1", 0, left, 0)
    with bare.transaction():
        found = bare.execute(store.queries.claim, ([ORDERS], None, NOW, None, 9, *rules))
        assert found.fetchall() == [('{"has_ended" : false, "dues" : []}',)]
        row = bare.execute("SELECT pg_current_xact_id_if_assigned()").fetchone()
        assert row == (None,)


def test_without_jobs_or_a_limit_nothing_is_claimed(store: PostgresStore) -> None:
    store.append([UnitBuilder().begin(NOW)])
    for jobs, limit in (([], 9), ([ORDERS], 0)):
        assert list(store.claim(claim_request(jobs=jobs, limit=limit))) == []
