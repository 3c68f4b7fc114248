"""Appends that are started on a pool's connection: the same outcome, whatever comes in between.

The pool has one connection: one that does not come back is missed at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import psycopg
import pytest

from tests.adapters.postgres.network_cuts import (
    Wire,
    as_a_pooler_would,
    as_if_all_shared_a_session,
    wired,
)
from tests.adapters.postgres.started_appends import (
    StartingStore,
    all_are_back,
    backend,
    ended,
    large,
    opened,
    started,
    stopped,
)
from tests.adapters.postgres.test_appends import transactions
from tests.adapters.postgres.test_trouble import (
    ORDERING,
    Running,
    bare,
    cut_while_it_waits,
    cuts,
    signed,
    waiting_for_locks,
)
from tests.support import WAIT_S
from tests.support_postgres import running_server, with_options
from wakelog.core.events import StateSet
from wakelog.errors import StoreUnavailableError
from wakelog.ports.records import StoredSnapshot
from wakelog.ports.rows import Listing
from wakelog.ports.units import Appended, KeyTaken, Lease, LeaseGone, Unit, VersionConflict
from wakelog_adapters.conformance.units import NOW, UnitBuilder, kept_reply, kinds
from wakelog_adapters.postgres import append, append_call, append_run
from wakelog_adapters.postgres import append_started as started_module
from wakelog_adapters.postgres.connections import rows_of

__all__ = ["bare"]

OFTEN = 20


@pytest.fixture
def store(postgres_url: str) -> Iterator[StartingStore]:
    store = opened(postgres_url, pool=1)
    yield store
    all_are_back(store)
    assert ended(started(store, [UnitBuilder("last").begin()])) == Appended([None], None)
    all_are_back(store)
    store.close()


@pytest.fixture
def cuttable(postgres_url: str) -> Iterator[tuple[Wire, StartingStore]]:
    """A store of one connection, and the proxy to its server."""
    with wired(postgres_url) as (wire, url):
        store = opened(url, pool=1)
        yield wire, store
        all_are_back(store)
        store.close()


# -- the plain case, and appends that are not started


def test_a_plain_append_is_started_and_its_answer_received(store: StartingStore) -> None:
    builder = UnitBuilder()
    appended = threading.Event()
    store.listeners.add(appended)
    sent = started(store, [builder.begin(NOW)])
    assert ended(sent) == Appended([None], NOW)
    assert appended.is_set()
    for _ in range(OFTEN):
        assert ended(started(store, [builder.receive()])) == Appended([None], NOW)
    assert len(store.events(builder.stream)) == 3 + OFTEN
    assert set(store.counters.values()) == {0}


def test_nothing_is_started_while_all_connections_are_lent(store: StartingStore) -> None:
    builder = UnitBuilder()
    unit = builder.begin()
    with store.datastore.lend():
        for _ in range(OFTEN):
            assert store.start_append([unit]) is None
        begun = Running(lambda: store.append([unit]))
        assert begun.is_alive()
        assert store.datastore.pool.get_stats()["pool_size"] == 1
    assert begun.joined() == Appended([None], None)
    assert len(store.events(builder.stream)) == 2


def test_nothing_is_started_without_units(store: StartingStore) -> None:
    assert store.start_append([]) is None


def test_nothing_is_started_by_a_closed_store(postgres_url: str) -> None:
    store = opened(postgres_url)
    store.close()
    assert store.start_append([UnitBuilder().begin()]) is None


def test_an_error_in_making_the_call_is_raised_by_the_blocking_append(
    store: StartingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(units: Sequence[Unit]) -> Any:
        raise LookupError("no such thing")

    monkeypatch.setattr(started_module, "AppendCall", broken)
    monkeypatch.setattr(append_run, "AppendCall", broken)
    for _ in range(OFTEN):
        assert store.start_append([UnitBuilder().begin()]) is None
    with pytest.raises(LookupError):
        store.append([UnitBuilder().begin()])
    monkeypatch.undo()


# -- a unit that the server refuses is refused alone


def test_each_kind_of_refusal_is_found_and_the_rest_is_committed(store: StartingStore) -> None:
    for n in range(OFTEN // 4):
        late, keyed, leased, good = (
            UnitBuilder(f"{name}-{n}") for name in ("late", "key", "run", "good")
        )
        store.append([late.begin(), keyed.begin(kept_reply=kept_reply("k")), leased.begin()])
        stale = late.fork()
        store.append([late.receive()])
        group = [
            stale.receive(),
            keyed.receive(kept_reply=kept_reply("k")),
            leased.receive(lease_token=3),
        ]
        appended = ended(started(store, [*group, good.begin(NOW)]))
        assert kinds(appended) == [VersionConflict, KeyTaken, LeaseGone, None]
        assert appended.next_due_us == NOW
        rows = store.status([builder.stream for builder in (late, keyed, leased)])
        versions = [row.version for row in rows if row is not None]
        assert versions == [3, 2, 2]
        all_are_back(store)
    assert store.counters["store_lost_answers"] == 0


def test_a_refused_group_costs_no_more_than_a_blocking_append(
    store: StartingStore, bare: psycopg.Connection
) -> None:
    builders = [UnitBuilder(f"o-{i}") for i in range(50)]
    store.append([builder.begin() for builder in builders])
    stale = builders[25].fork()
    store.append([builders[25].receive()])
    before = transactions(bare)
    group = [(stale if i == 25 else builder).receive() for i, builder in enumerate(builders)]
    errors = ended(started(store, group)).errors
    assert [i for i, error in enumerate(errors) if error is not None] == [25]
    # the refused one, the one without the refused unit, and this query
    assert transactions(bare) - before == 3


def test_an_outcome_under_a_live_lease_is_recorded(store: StartingStore) -> None:
    builder = UnitBuilder()
    lease = Lease("w1", NOW + 60_000_000, 3, True)
    assert ended(started(store, [builder.begin(), builder.unit(take=lease)])).errors == [None, None]
    assert ended(started(store, [builder.receive(lease_token=3, ends_lease=True)])).errors == [None]
    assert kinds(ended(started(store, [builder.receive(lease_token=3)]))) == [LeaseGone]


@pytest.mark.parametrize("extras", [{"due_us": 1 << 63}, {"kept_reply": kept_reply("a\0b")}])
def test_a_value_that_the_server_refuses(store: StartingStore, extras: dict[str, Any]) -> None:
    good, bad = UnitBuilder("o-1"), UnitBuilder("o-2")
    errors = ended(started(store, [good.begin(), bad.begin(**extras)])).errors
    assert errors[0] is None
    assert isinstance(errors[1], StoreUnavailableError)
    assert errors[1].reason == "refused"
    assert store.status([bad.stream]) == [None]


def test_a_value_that_cannot_even_be_sent(store: StartingStore) -> None:
    good, bad = UnitBuilder("o-1"), UnitBuilder("o-2")
    group = [good.begin(), bad.begin(), bad.unit(StateSet(state='"\ud800"'))]
    assert store.start_append(group) is None
    errors = store.append(group).errors
    assert [error is None for error in errors] == [True, True, False]


def test_more_than_one_call_can_carry_is_appended_by_blocking(
    store: StartingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_call, "MAX_BLOB", 10_000)
    builders = UnitBuilder("o-1"), UnitBuilder("o-2")
    shots = [StoredSnapshot(2, bytes(6_000)) for _ in builders]
    group = [
        builder.begin(NOW, snapshot=shot) for builder, shot in zip(builders, shots, strict=True)
    ]
    assert store.start_append(group) is None
    assert store.append(group) == Appended([None, None], NOW)


def fail_at_commit(bare: psycopg.Connection, code: str) -> None:
    """From now on the commit of an append to `bad` fails, after the function has returned."""
    bare.execute(
        f"""CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'not today' USING ERRCODE = '{code}'; END $$""".encode()
    )
    bare.execute("""CREATE CONSTRAINT TRIGGER late AFTER INSERT ON stored_events
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.originator_id LIKE '%:bad')
        EXECUTE FUNCTION never()""")


def test_a_commit_that_fails_after_the_function_has_returned_is_a_failure(
    store: StartingStore, bare: psycopg.Connection
) -> None:
    fail_at_commit(bare, "P0001")
    for n in range(OFTEN // 4):
        good, bad = UnitBuilder(f"o-{n}"), UnitBuilder("bad")
        with pytest.raises(StoreUnavailableError, match="not today"):
            ended(started(store, [good.begin(), bad.begin()]))
        assert store.status([good.stream, bad.stream]) == [None, None]
        all_are_back(store)


def test_a_commit_that_is_refused_after_the_function_has_returned_is_a_refusal(
    store: StartingStore, bare: psycopg.Connection
) -> None:
    fail_at_commit(bare, "23514")
    good, bad = UnitBuilder("o-1"), UnitBuilder("bad")
    errors = kinds(ended(started(store, [good.begin(), bad.begin()])))
    assert errors == [VersionConflict, VersionConflict]  # it cannot be found which unit was refused
    assert store.status([good.stream, bad.stream]) == [None, None]


# -- locks and limits


def test_a_lock_is_waited_for_once(postgres_url: str, bare: psycopg.Connection) -> None:
    store = opened(with_options(postgres_url, timeout=0.1), pool=1)
    with bare.transaction():
        bare.execute(ORDERING.encode())
        for n in range(1, 4):
            sent = started(store, [UnitBuilder().begin()])
            with pytest.raises(StoreUnavailableError) as caught:
                ended(sent)
            assert caught.value.reason == "locked"
            assert sent.attempt.id.endswith(f"{n:x}")  # and no other was made
            all_are_back(store)
    assert ended(started(store, [UnitBuilder().begin()])).errors == [None]
    assert set(store.counters.values()) == {0}
    store.close()


def test_a_statement_that_takes_too_long(postgres_url: str, bare: psycopg.Connection) -> None:
    url = with_options(postgres_url, options="-cstatement_timeout%3D50")
    store = opened(url, pool=1)
    with bare.transaction():
        bare.execute(ORDERING.encode())
        with pytest.raises(StoreUnavailableError) as caught:
            ended(started(store, [UnitBuilder().begin()]))
    assert caught.value.reason == "locked"
    assert ended(started(store, [UnitBuilder().begin()])).errors == [None]
    all_are_back(store)
    store.close()


def test_a_deadlock_is_tried_again(store: StartingStore, bare: psycopg.Connection) -> None:
    bare.execute("""CREATE FUNCTION once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('tries') = 1 THEN RAISE 'a deadlock' USING ERRCODE = '40P01'; END IF;
        RETURN NEW; END $$""")
    bare.execute("CREATE SEQUENCE tries")
    bare.execute("""CREATE TRIGGER first BEFORE INSERT ON stored_events
        FOR EACH ROW EXECUTE FUNCTION once()""")
    with bare.transaction():
        schema = store.datastore.schema
        bare.execute(f"ALTER FUNCTION once() SET search_path = {schema}".encode())
    builder = UnitBuilder()
    assert ended(started(store, [builder.begin(NOW)])) == Appended([None], NOW)
    assert store.counters == {"store_waits": 0, "store_retries": 1, "store_lost_answers": 0}
    assert len(store.events(builder.stream)) == 3


# -- other messages on the connection


def test_notices_and_notifications_are_not_taken_for_results(
    store: StartingStore, bare: psycopg.Connection
) -> None:
    bare.execute("""CREATE FUNCTION chatter() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE NOTICE 'a word %', repeat('x', 1000); RETURN NEW; END $$""")
    bare.execute("""CREATE TRIGGER chatter BEFORE INSERT ON stored_events
        FOR EACH ROW EXECUTE FUNCTION chatter()""")
    with store.datastore.lend() as connection:
        connection.execute("LISTEN gossip")
        connection.execute("SET client_min_messages = notice")
    builder = UnitBuilder()
    unit = signed(builder.begin(NOW), "commit-1")
    with bare.transaction():
        bare.execute(ORDERING.encode())
        sent = started(store, [unit])
        waiting_for_locks(bare, 1)
        sent.look()
        assert not sent.is_over
    bare.execute("NOTIFY gossip, 'x'")
    assert ended(sent) == Appended([None], NOW)
    bare.execute("NOTIFY gossip, 'y'")
    assert ended(started(store, [builder.receive() for _ in range(100)])).errors == [None] * 100
    assert set(store.counters.values()) == {0}


# -- an append whose answer is lost


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_append_whose_answer_was_lost_is_recorded_once(
    cuttable: tuple[Wire, StartingStore],
    bare: psycopg.Connection,
    where: Literal["before", "after"],
) -> None:
    wire, store = cuttable
    for n in range(1, 6):
        builder, other = UnitBuilder(f"a-{n}"), UnitBuilder(f"b-{n}")
        wire.cut_at("commit-1", where)
        group = [signed(builder.begin(NOW), "commit-1"), signed(other.begin(), "commit-2")]
        assert ended(started(store, group)) == Appended([None, None], NOW)
        assert wire.cut.is_set()
        assert cuts(bare) == (n if where == "before" else 0)
        assert store.max_notification_id() == 5 * n
        all_are_back(store)
        lost, again = store.counters["store_lost_answers"], store.counters["store_retries"]
        assert (lost, again) == (n, n if where == "before" else 0)


def test_an_append_that_goes_on_without_its_connection_is_waited_for(
    cuttable: tuple[Wire, StartingStore], bare: psycopg.Connection
) -> None:
    wire, store = cuttable
    unit = signed(UnitBuilder().begin(NOW), "commit-1")
    appended = cut_while_it_waits(wire, bare, lambda: ended(started(store, [unit])))
    assert appended == Appended([None], NOW)
    assert (cuts(bare), store.max_notification_id()) == (0, 3)


def test_the_outcome_of_an_append_is_not_known_while_no_server_answers(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append, "SETTLE_S", 0.0)
    with wired(with_options(postgres_url, timeout=0.5)) as (wire, url):
        store = opened(url, pool=1)
        wire.cut_at("commit-1", "after", for_good=True)
        with pytest.raises(StoreUnavailableError, match="is not known") as caught:
            ended(started(store, [signed(UnitBuilder().begin(), "commit-1")]))
        assert caught.value.reason == "unreachable"
        assert store.datastore.lent == 0
        store.close()


def test_a_connection_that_broke_while_it_was_idle(
    store: StartingStore, bare: psycopg.Connection
) -> None:
    builder = UnitBuilder()
    store.append([builder.begin()])
    for n in range(1, 4):
        pid = backend(store)
        bare.execute("SELECT pg_terminate_backend(%s, %s)", (pid, round(1000 * WAIT_S)))
        assert ended(started(store, [builder.receive()])) == Appended([None], None)
        assert len(store.events(builder.stream)) == 2 + n
        assert store.counters["store_lost_answers"] == n
        all_are_back(store)


def test_idle_sessions_that_the_server_ends(postgres_url: str, bare: psycopg.Connection) -> None:
    url = with_options(postgres_url, options="-cidle_session_timeout%3D20")
    store = opened(url, pool=1)
    builder = UnitBuilder()
    pid = backend(store)
    while bare.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchall():
        pass
    sent = store.start_append([builder.begin()])
    assert sent is not None
    assert ended(sent) == Appended([None], None)
    assert len(store.events(builder.stream)) == 2
    store.close()


def test_a_server_that_dies_and_comes_back() -> None:
    with running_server() as server:
        store = opened(server.url, pool=1)
        builder = UnitBuilder()
        for mode in ("fast", "immediate", "kill"):
            base = builder.instance.version
            server.stop(mode)
            server.start()
            unit = builder.receive() if base else builder.begin()
            assert ended(started(store, [unit])) == Appended([None], None)
            assert len(store.events(builder.stream)) == builder.instance.version
            all_are_back(store)
        store.close()


# -- more than a socket holds


def test_an_append_that_takes_long_to_send(store: StartingStore) -> None:
    builder = UnitBuilder()
    unit = large(builder)
    with stopped(backend(store)) as go_on:
        sent = started(store, [unit])
        assert sent.is_sending
        for _ in range(OFTEN):
            sent.look()
        assert sent.is_sending
        go_on()
        assert ended(sent) == Appended([None], NOW)
    assert not sent.is_sending
    assert store.events(builder.stream) == unit.events


def test_a_connection_that_breaks_while_it_is_sent_on(
    store: StartingStore, bare: psycopg.Connection
) -> None:
    for n in range(3):
        builder = UnitBuilder(f"o-{n}")
        unit = large(builder)
        pid = backend(store)
        with stopped(pid) as go_on:
            sent = started(store, [unit])
            assert sent.is_sending
            bare.execute("SELECT pg_terminate_backend(%s)", (pid,))
            go_on()
            assert ended(sent) == Appended([None], NOW)
        assert not sent.is_sending
        assert len(store.events(builder.stream)) == 3
        assert store.counters["store_lost_answers"] == n + 1
        all_are_back(store)


def test_settling_an_append_under_way_waits_for_it_and_lets_others_work(
    store: StartingStore, bare: psycopg.Connection
) -> None:
    """As if no loop can watch the socket. The GIL is released meanwhile."""
    for size in (0, 24 << 20):
        builder = UnitBuilder(f"o-{size}")
        unit = large(builder, size)
        sent = started(store, [unit])
        assert sent.settle() == Appended([None], NOW)
        assert store.events(builder.stream) == unit.events
    with bare.transaction():
        bare.execute(ORDERING.encode())
        sent = started(store, [UnitBuilder("last-but-one").begin(NOW)])
        running = Running(sent.settle)
        waiting_for_locks(bare, 1)
        assert running.is_alive()
    assert running.joined() == Appended([None], NOW)


# -- poolers


@pytest.mark.parametrize("answering", [as_a_pooler_would, as_if_all_shared_a_session])
def test_through_a_transaction_pooler(
    postgres_url: str, answering: Callable[[bytes], bytes]
) -> None:
    with wired(postgres_url) as (wire, url):
        wire.answering = answering
        store = opened(url, pool=1)
        builder = UnitBuilder()
        late = builder.fork()
        assert ended(started(store, [builder.begin(NOW)])) == Appended([None], NOW)
        for _ in range(OFTEN):
            assert ended(started(store, [builder.receive()])) == Appended([None], NOW)
        assert kinds(ended(started(store, [late.begin()]))) == [VersionConflict]
        with store.datastore.lend() as connection:
            assert rows_of(connection, b"SELECT name FROM pg_prepared_statements") == []
        wire.cut_at("commit-1", "after")
        assert ended(started(store, [signed(builder.receive(), "commit-1")])).errors == [None]
        assert len(store.events(builder.stream)) == 4 + OFTEN
        all_are_back(store)
        assert len(store.list(Listing())) == 1
        store.close()
