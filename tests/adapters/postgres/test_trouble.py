"""PostgreSQL failing: lost answers, servers that are away, locks that are not released.

"Lost" tests cut the connection at the append itself, over a wire of their own (`cutting`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Literal

import psycopg
import pytest
from msgspec.structs import replace

from tests.adapters.postgres.network_cuts import Wire, wired
from tests.support import WAIT_S
from tests.support_postgres import bare_connection, with_options
from wakelog.errors import StoreUnavailableError, ValidationError
from wakelog.ports.records import StoredEvent
from wakelog.ports.rows import Due, Listing
from wakelog.ports.units import Appended, Unit, VersionConflict
from wakelog_adapters.conformance.units import NOW, UnitBuilder, claim_request, kinds
from wakelog_adapters.postgres import PostgresStore, append, open_store
from wakelog_adapters.postgres.connections import rows_of
from wakelog_adapters.postgres.errors import is_refusal, reason_of
from wakelog_adapters.postgres.url import parse

ORDERING = "LOCK TABLE ordering IN SHARE UPDATE EXCLUSIVE MODE"


def signed(unit: Unit, commit: str) -> Unit:
    """The unit as an engine would have it: the commit id is in each record."""
    events = [
        StoredEvent(e.stream, e.version, e.topic, b'{"at_us":1,"commit":"%b"}' % commit.encode())
        for e in unit.events
    ]
    return replace(unit, events=events, commit=commit)


@pytest.fixture
def cuttable(postgres_url: str) -> Iterator[tuple[Wire, PostgresStore]]:
    """A store, and the proxy to its server."""
    with wired(postgres_url) as (wire, url):
        store = open_store(url).application_recorder()
        yield wire, store
        store.close()


@pytest.fixture
def bare(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A connection to the schema, which exists, beside the store."""
    store = open_store(postgres_url).application_recorder()
    with bare_connection(postgres_url) as connection:
        connection.execute(f"SET search_path = {store.datastore.schema}".encode())
        yield connection
    store.close()


def cuts(bare: psycopg.Connection) -> int:
    """How many appends were abandoned."""
    row = bare.execute("SELECT count(*) FROM abandoned_appends").fetchone()
    assert row is not None
    return int(row[0])


def waiting_for_locks(bare: psycopg.Connection, count: int) -> None:
    """Wait until so many of the server's processes wait for the locks of appends."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        row = bare.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND ("
            "classid = 'abandoned_appends'::regclass OR relation = 'ordering'::regclass)"
        ).fetchone()
        if row is not None and row[0] >= count:
            return
    raise AssertionError(f"there never were {count} that wait")


class Running(threading.Thread):
    """A call on another thread, and its outcome."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self._call = call
        self.answer: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._call()
        except Exception as error:
            self.answer = error

    def joined(self) -> Any:
        self.join(WAIT_S)
        assert not self.is_alive()
        return self.answer


def cut_while_it_waits(wire: Wire, bare: psycopg.Connection, append: Callable[[], Any]) -> Any:
    """What an append of `commit-1` returns whose connection was cut while it waited for the
    ordering lock; it keeps the locks that it took before that one."""
    with bare.transaction():
        bare.execute(ORDERING.encode())
        wire.cut_at("commit-1", "during")
        running = Running(append)
        waiting_for_locks(bare, 1)
        wire.go.set()
        waiting_for_locks(bare, 2)  # the append, at its end; and the call that looks it up
        assert running.is_alive()
    return running.joined()


# -- an append whose answer is lost


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_append_whose_answer_was_lost_is_recorded_once(
    cuttable: tuple[Wire, PostgresStore],
    bare: psycopg.Connection,
    where: Literal["before", "after"],
) -> None:
    wire, store = cuttable
    builder, other = UnitBuilder(), UnitBuilder("o-2")
    wire.cut_at("commit-1", where)
    appended = store.append(
        [signed(builder.begin(NOW), "commit-1"), signed(other.begin(), "commit-2")]
    )
    assert wire.cut.is_set()
    assert appended == Appended([None, None], NOW)
    assert cuts(bare) == (1 if where == "before" else 0)
    assert [len(store.events(each.stream)) for each in (builder, other)] == [3, 2]
    assert store.max_notification_id() == 5
    assert store.append([builder.receive()]).errors == [None]


def test_an_append_that_goes_on_without_its_connection_is_waited_for(
    cuttable: tuple[Wire, PostgresStore], bare: psycopg.Connection
) -> None:
    wire, store = cuttable
    unit = signed(UnitBuilder().begin(NOW), "commit-1")
    assert cut_while_it_waits(wire, bare, lambda: store.append([unit])) == Appended([None], NOW)
    assert (cuts(bare), store.max_notification_id()) == (0, 3)


def test_an_append_that_was_abandoned_is_refused_if_it_arrives_later(
    cuttable: tuple[Wire, PostgresStore],
) -> None:
    _, store = cuttable
    builder = UnitBuilder()
    attempt = store.appender.attempt([signed(builder.begin(NOW), "commit-1")])
    attempt.expected = Appended([None], NOW)
    assert store.appender.was_recorded(attempt, psycopg.OperationalError("cut")) is False
    with store.datastore.lend() as connection:
        with pytest.raises(psycopg.DatabaseError) as caught:
            store.appender.run(attempt, connection)
        assert caught.value.sqlstate == "WK004"
    assert store.status([builder.stream]) == [None]


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_append_without_its_refused_units_whose_answer_was_lost(
    cuttable: tuple[Wire, PostgresStore], where: Literal["before", "after"]
) -> None:
    wire, store = cuttable
    builder, other = UnitBuilder(), UnitBuilder("o-2")
    store.append([builder.begin()])
    late = builder.fork()
    store.append([builder.receive()])
    wire.cut_at("commit-1", where, after=1)  # the first is that of the whole group
    group = [late.receive(), signed(other.begin(NOW), "commit-1")]
    assert kinds(store.append(group)) == [VersionConflict, None]
    assert wire.cut.is_set()
    assert [len(store.events(each.stream)) for each in (builder, other)] == [3, 2 + 1]


def test_the_outcome_of_an_append_is_not_known_while_no_server_answers(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append, "SETTLE_S", 0.0)
    with wired(with_options(postgres_url, timeout=0.5)) as (wire, url):
        store = open_store(url).application_recorder()
        wire.cut_at("commit-1", "after", for_good=True)
        with pytest.raises(StoreUnavailableError, match="is not known") as caught:
            store.append([signed(UnitBuilder().begin(), "commit-1")])
        assert caught.value.reason == "unreachable"
        store.close()


# -- a claim whose answer is lost


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_claim_whose_answer_was_lost_is_made_again(
    cuttable: tuple[Wire, PostgresStore], where: Literal["before", "after"]
) -> None:
    wire, store = cuttable
    builder = UnitBuilder()
    store.append([builder.begin(NOW)])
    wire.cut_at("claim_1", where)
    [due] = store.claim(claim_request(-7))
    expected = Due(builder.stream, NOW, 3, builder.hash, None, run=True)
    assert replace(due, head=None, newest=None) == expected
    assert store.counters["store_retries"] == 1
    assert [held.lease.token for held in store.leases(NOW, 9)] == [-7]


def test_leases_of_a_claim_that_stays_unknown_are_released(postgres_url: str) -> None:
    """Its second answer was lost too."""
    with wired(with_options(postgres_url, pooler="transaction")) as (wire, url):
        store = open_store(url).application_recorder()
        builder = UnitBuilder()
        store.append([builder.begin(NOW)])
        wire.cut_at("claim_1", "after")

        def cut_again() -> None:
            assert wire.cut.wait(WAIT_S)
            wire.cut_at("claim_1", "after")

        cutting = threading.Thread(target=cut_again)
        cutting.start()
        with pytest.raises(StoreUnavailableError):
            store.claim(claim_request(-7))
        cutting.join(WAIT_S)
        assert not wire.is_to_be_cut
        assert store.leases(NOW, 9) == []
        assert len(store.claim(claim_request(-8))) == 1
        store.close()


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_ended_lease_is_taken_over_for_sure_or_not_at_all(
    cuttable: tuple[Wire, PostgresStore], where: Literal["before", "after"]
) -> None:
    """If the answer to the commit is lost, a lease that was taken over is given up: the run is
    found without one."""
    wire, store = cuttable
    free, lost = UnitBuilder("free"), UnitBuilder("lost")
    store.append([free.begin(NOW), lost.begin(), lost.run("w2", NOW)])
    wire.cut_at("COMMIT", where)
    claimed = {due.stream for due in store.claim(claim_request(-7, lease_us=60_000_000))}
    taken = {held.stream for held in store.leases(NOW, 9)}
    assert claimed == taken
    assert free.stream in claimed
    assert list(store.stranded(NOW + 1, 9)) == ([] if where == "before" else [lost.stream])


# -- connections that broke while they were idle


def test_after_a_restart_of_the_server_the_next_call_of_each_kind_works(
    postgres_url: str, bare: psycopg.Connection
) -> None:
    store = open_store(with_options(postgres_url, application_name="soon")).application_recorder()
    builder = UnitBuilder()
    store.append([builder.begin(NOW)])

    def cut_off() -> None:
        with ExitStack() as stack:  # so that there are several in the pool, broken
            for _ in range(3):
                stack.enter_context(store.datastore.lend())
        cut = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'soon'"
        )
        while bare.execute(cut.encode()).fetchall():
            pass

    calls: list[Any] = [
        lambda: store.append([signed(builder.receive(), "commit-1")]).errors == [None],
        lambda: [row.version for row in store.list(Listing())] == [4],
        lambda: len(store.claim(claim_request(lease_us=60_000_000))) == 1,
        lambda: store.renew("w1", NOW + 60_000_000, NOW) == [(builder.stream, -1)],
        lambda: store.release("w1", [(builder.stream, -1)]) or True,  # type: ignore[func-returns-value]
        lambda: store.max_notification_id() == 4,
        lambda: store.purge_kept_replies(NOW, 9) == 0,
    ]
    for call in calls:
        cut_off()
        assert call()
    store.close()


# -- servers that are away, and exhausted pools


def refusal(url: str) -> StoreUnavailableError:
    with pytest.raises(StoreUnavailableError) as caught:
        open_store(url)
    return caught.value


def test_a_server_that_does_not_exist() -> None:
    error = refusal("postgresql://me:hidden@127.0.0.1:1/db")
    assert error.reason == "unreachable"
    assert "127.0.0.1:1" in error.detail
    assert "hidden" not in str(error)


def test_a_database_that_does_not_exist(postgres_server: str) -> None:
    error = refusal(postgres_server.replace("/postgres?", "/none?"))
    assert (error.reason, '"none" does not exist' in error.detail) == ("unreachable", True)


def test_a_server_that_goes_away_is_unreachable(postgres_url: str) -> None:
    with wired(with_options(postgres_url, timeout=0.5)) as (wire, url):
        store = open_store(url).application_recorder()
        wire.close()
        with pytest.raises(StoreUnavailableError, match="refused") as caught:
            store.list(Listing())
        assert caught.value.reason == "unreachable"
        store.close()


def test_an_exhausted_pool_is_named_in_the_error(postgres_url: str) -> None:
    url = with_options(postgres_url, pool=3, timeout=0.1)
    store = open_store(url).application_recorder()
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(store.datastore.lend())
        with pytest.raises(StoreUnavailableError, match="all 3 of the pool are in use") as caught:
            store.append([UnitBuilder().begin()])
    assert caught.value.reason == "unreachable"
    assert store.append([UnitBuilder().begin()]).errors == [None]
    store.close()


def test_calls_of_a_closed_store_are_refused(postgres_url: str) -> None:
    store = open_store(postgres_url).application_recorder()
    store.close()
    store.close()
    for call in (lambda: store.append([UnitBuilder().begin()]), lambda: store.list(Listing())):
        with pytest.raises(StoreUnavailableError, match="closed"):
            call()


# -- locks, and databases that may not be written


def test_a_statement_that_takes_too_long(postgres_url: str, bare: psycopg.Connection) -> None:
    url = with_options(postgres_url, options="-cstatement_timeout%3D50")
    store = open_store(url).application_recorder()
    with bare.transaction():
        bare.execute(ORDERING.encode())
        with pytest.raises(StoreUnavailableError) as caught:
            store.append([UnitBuilder().begin()])
    assert caught.value.reason == "locked"
    assert store.append([UnitBuilder().begin()]).errors == [None]
    store.close()


def test_a_database_that_is_read_only(postgres_url: str, bare: psycopg.Connection) -> None:
    url = with_options(postgres_url, options="-cdefault_transaction_read_only%3Don")
    store = open_store(url).application_recorder()
    assert store.list(Listing()) == []
    with pytest.raises(StoreUnavailableError) as caught:
        store.append([UnitBuilder().begin()])
    assert caught.value.reason == "read_only"
    store.close()


def test_the_message_of_the_server_is_shown_without_the_query(
    postgres_url: str, bare: psycopg.Connection
) -> None:
    store = open_store(postgres_url).application_recorder()
    bare.execute(f"DROP TABLE {store.datastore.schema}.stored_events CASCADE".encode())
    with pytest.raises(StoreUnavailableError) as caught:
        store.append([UnitBuilder().begin()])
    store.close()
    assert caught.value.reason == "damaged"
    assert "stored_events" in caught.value.detail
    assert caught.value.detail.endswith(" does not exist")


def test_reasons_of_errors_that_no_test_can_provoke() -> None:
    reasons = {
        psycopg.errors.DiskFull: "full",
        psycopg.errors.DataCorrupted: "damaged",
        psycopg.errors.UndefinedTable: "damaged",
        psycopg.errors.InsufficientPrivilege: "read_only",
        psycopg.errors.DuplicatePreparedStatement: "unreachable",
        psycopg.errors.InvalidSqlStatementName: "unreachable",
        psycopg.errors.DeadlockDetected: "locked",
        psycopg.errors.TooManyConnections: "unreachable",
        psycopg.errors.AdminShutdown: "unreachable",
        psycopg.errors.ProgramLimitExceeded: "refused",
        psycopg.errors.UntranslatableCharacter: "refused",
        psycopg.OperationalError: "unreachable",
    }
    assert {error: reason_of(error()) for error in reasons} == reasons
    assert not is_refusal(psycopg.errors.DiskFull())


# -- databases that cannot be opened


def test_a_schema_from_a_newer_wakelog(postgres_url: str, bare: psycopg.Connection) -> None:
    bare.execute("INSERT INTO migrations VALUES (9999, 'later')")
    error = refusal(postgres_url)
    assert error.reason == "wrong_version"
    assert "9999" in error.detail


def test_a_database_that_cannot_hold_every_text(postgres_server: str) -> None:
    with bare_connection(postgres_server) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            error = refusal(postgres_server.replace("/postgres?", "/latin?"))
        finally:
            connection.execute("DROP DATABASE latin WITH (FORCE)")
    assert (error.reason, "LATIN1" in error.detail) == ("not_a_database", True)


@pytest.mark.parametrize("word", ["user", "select", "all"])
def test_a_schema_that_is_named_by_a_keyword(postgres_server: str, word: str) -> None:
    error = refusal(with_options(postgres_server, schema=word))
    assert error.reason == "not_a_database"
    assert f"schema={word} is a reserved word of SQL: choose another name" in error.detail


def test_stores_with_schemas_share_a_database(postgres_url: str) -> None:
    name = parse(postgres_url).schema
    urls = [postgres_url, postgres_url.replace(name, f"{name}_b")]
    stores = [open_store(url).application_recorder() for url in urls]
    assert stores[0].append([UnitBuilder().begin(NOW)]).errors == [None]
    assert [len(store.list(Listing())) for store in stores] == [1, 0]
    assert [store.max_notification_id() for store in stores] == [3, None]
    with stores[0].datastore.lend() as connection:
        rows_of(connection, b"SELECT 1")
        connection.execute(f"DROP SCHEMA {name}_b CASCADE".encode())
    for store in stores:
        store.close()


# -- URLs


def test_urls_name_databases_and_options() -> None:
    place = parse("postgresql://me:pw@h:5/db?schema=jobs&sslmode=disable&pool=9&timeout=2.5")
    assert (place.conninfo, place.schema) == ("postgresql://me:pw@h:5/db?sslmode=disable", "jobs")
    assert (place.pool, place.timeout_s, place.wait_s, place.pooled) == (9, 2.5, 0, None)
    assert parse("postgresql://h/db?wait=60").wait_s == 60
    assert place.label == "postgresql://h:5/db"
    assert parse("postgres:///db?host=/tmp").label == "postgresql:///tmp/db"
    assert parse("postgresql://h/db?pooler=transaction").pooled is True
    assert parse("postgresql://h/db?pooler=session").pooled is False
    assert parse("postgresql://h/db?clock=given").server_clock is False


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("postgresql://me:hidden@h/db?schema=A-b", "schema"),
        ("postgresql://me:hidden@h/db?schema=pg_mine", "schema"),
        ("postgresql://me:hidden@h/db?pool=2", "pool"),
        ("postgresql://me:hidden@h/db?pool=many", "pool"),
        ("postgresql://me:hidden@h/db?timeout=0", "timeout"),
        ("postgresql://me:hidden@h/db?timeout=nan", "timeout"),
        ("postgresql://me:hidden@h/db?wait=-1", "wait"),
        ("postgresql://me:hidden@h/db?pooler=statement", "pooler"),
        ("postgresql://me:hidden@h/db?clock=mine", "clock"),
        ("postgresql://me:hidden@h/db?prefix=a_", "prefix"),
        ("postgresql://me:hidden%zz@h/db", "percent signs"),
        ("postgresql://h/db?password=hidden&schema=A", "schema"),
    ],
)
def test_an_invalid_url_is_refused_with_a_hint(url: str, hint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(url)
    assert hint in str(caught.value)
    assert "hidden" not in str(caught.value)
