"""Appends to PostgreSQL: which values it refuses, what appends cost, and how rows are stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from msgspec.structs import astuple, replace

from tests.support_postgres import bare_connection
from wakelog.core.events import ExecutionFailed, Scheduled, StateSet
from wakelog.errors import IntegrityError, StoreUnavailableError
from wakelog.ports.records import StoredSnapshot
from wakelog.ports.rows import Listing
from wakelog.ports.units import KeptReply, Lease, VersionConflict
from wakelog_adapters.conformance.units import (
    NOW,
    ORDERS,
    UnitBuilder,
    claim_request,
    kept_reply,
    kinds,
)
from wakelog_adapters.postgres import PostgresStore, append_call, conflicts, open_store
from wakelog_adapters.postgres.queries import DIALECT
from wakelog_adapters.sql.listing import listing_condition

TABLES = ("stored_events", "snapshots", "status", "alarms", "leases", "kept_replies")


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


# -- a unit that PostgreSQL does not take is refused alone


def refused(error: Exception | None) -> bool:
    return isinstance(error, StoreUnavailableError) and error.reason == "refused"


def test_a_lone_surrogate_is_refused_alone(store: PostgresStore) -> None:
    good, bad = UnitBuilder("o-1"), UnitBuilder("o-2")
    group = [good.begin(), bad.begin(), good.receive()]
    group.append(bad.unit(StateSet(state='"\ud800"')))
    group.append(bad.receive())
    errors = store.append(group).errors
    assert [error is None for error in errors] == [True, True, True, False, False]
    assert refused(errors[3])
    assert isinstance(errors[4], VersionConflict)
    assert [row.version for row in store.list(Listing())] == [3, 2]


@pytest.mark.parametrize("key", ["a\0b", "\ud800", "".join(map(chr, range(0x4E00, 0x6E00)))])
def test_a_key_that_cannot_be_stored_is_refused_alone(store: PostgresStore, key: str) -> None:
    good, bad = UnitBuilder("o-1"), UnitBuilder("o-2")
    errors = store.append([good.begin(NOW + 1), bad.begin(NOW, kept_reply=kept_reply(key))]).errors
    assert errors[0] is None
    assert refused(errors[1])
    assert store.status([bad.stream]) == [None]
    assert store.next_due_us([ORDERS], NOW) == NOW + 1


def test_a_search_for_what_cannot_be_stored_finds_nothing(store: PostgresStore) -> None:
    builder = UnitBuilder()
    store.append([builder.begin(kept_reply=kept_reply("k"))])
    keys = [(builder.stream, "a\0b"), (builder.stream, "k"), ("\ud800", "k")]
    assert store.kept_replies(keys) == [None, kept_reply("k"), None]
    assert store.kept_replies(keys[:1]) == [None]
    assert [row is None for row in store.status(["a\0b", builder.stream])] == [True, False]


def test_a_value_too_big_is_refused_alone(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_call, "MAX_BLOB", 10_000)
    good, bad, most = UnitBuilder("o-1"), UnitBuilder("o-2"), UnitBuilder("o-3")
    shots = [StoredSnapshot(2, bytes(size)) for size in (6_000, 10_000, 6_000)]
    builders = zip((good, bad, most), shots, strict=True)
    group = [builder.begin(NOW, snapshot=shot) for builder, shot in builders]
    appended = store.append([*group, bad.receive(), good.receive()])
    assert [error is None for error in appended.errors] == [True, False, True, False, True]
    assert refused(appended.errors[1])
    assert isinstance(appended.errors[3], VersionConflict)
    assert appended.next_due_us == NOW
    assert [row.version for row in store.list(Listing())] == [4, 3]


def test_facts_that_keep_changing_end_in_a_conflict(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time, the facts do not show the stream, and the append finds it."""
    monkeypatch.setattr(conflicts, "find_conflicts", lambda *_: [None, None])
    builder, other = UnitBuilder("o-1"), UnitBuilder("o-2")
    store.append([builder.fork().begin()])
    errors = store.append([builder.begin(), other.begin()])
    assert kinds(errors) == [VersionConflict, VersionConflict]
    assert store.status([other.stream]) == [None]


def test_a_number_too_big_is_refused_alone(store: PostgresStore) -> None:
    good, bad = UnitBuilder("o-1"), UnitBuilder("o-2")
    errors = store.append([good.begin(), bad.begin(1 << 63)]).errors
    assert errors[0] is None
    assert refused(errors[1])


def test_a_unit_with_a_gap_is_refused_alone(store: PostgresStore) -> None:
    good, bad = UnitBuilder("o-1"), UnitBuilder("o-2")
    wrong = replace(bad.begin(), base_version=1)
    errors = store.append([good.begin(), wrong]).errors
    assert errors[0] is None
    assert isinstance(errors[1], VersionConflict)


def test_events_that_the_views_do_not_show_are_damage(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    builder, other = UnitBuilder(), UnitBuilder("o-2")
    bare.execute("INSERT INTO stored_events VALUES (%s, 2, 't', 'x')", (builder.stream,))
    assert kinds(store.append([other.begin(), builder.begin()])) == [None, IntegrityError]
    assert store.status([builder.stream]) == [None]


# -- what an append costs


def transactions(bare: psycopg.Connection) -> int:
    """A number that each writing transaction and each savepoint increments; this query too."""
    row = bare.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert row is not None
    return int(row[0])


def test_a_good_group_is_one_transaction(store: PostgresStore, bare: psycopg.Connection) -> None:
    before = transactions(bare)
    store.append([UnitBuilder(f"o-{i}").begin(NOW, kept_reply=kept_reply("k")) for i in range(300)])
    assert transactions(bare) - before == 2


def test_a_refused_group_costs_a_few_whatever_its_size(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    builders = [UnitBuilder(f"o-{i}") for i in range(100)]
    store.append([builder.begin() for builder in builders])
    late = builders[50].fork()
    store.append([builders[50].receive()])
    before = transactions(bare)
    group = [(late if i == 50 else builder).receive() for i, builder in enumerate(builders)]
    errors = store.append(group).errors
    assert [i for i, error in enumerate(errors) if error is not None] == [50]
    # the refused one, the one without the refused unit, and this query
    assert transactions(bare) - before == 3


def test_a_refused_group_leaves_no_gap_in_the_log(store: PostgresStore) -> None:
    builders = [UnitBuilder(f"o-{i}") for i in range(3)]
    store.append([builders[0].begin()])
    stale = UnitBuilder("o-0").begin()
    store.append([builders[1].begin(), stale, builders[2].begin()])
    assert [n.id for n in store.select_notifications(None, 99)] == [1, 2, 3, 4, 5, 6]


# -- the rows


def test_view_rows_are_written_as_plain_columns(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    builder = UnitBuilder()
    failed = ExecutionFailed(handler="execute", error_type="Oops", message="\0", payload=None)
    store.append(
        [builder.begin(NOW), builder.unit(failed), builder.unit(Scheduled(due_us=NOW + 9))]
    )
    rows = bare.execute("SELECT * FROM status").fetchall()
    assert [row[:-1] for row in rows] == [astuple(builder.row)]  # without the head
    assert bare.execute("SELECT * FROM alarms").fetchall() == [
        (builder.stream, ORDERS, NOW + 9, "execute")
    ]
    assert [found.id for found in store.list(Listing(error_type="Oops"))] == ["o-1"]


def test_a_missing_alarm_row_is_found(store: PostgresStore, bare: psycopg.Connection) -> None:
    builders = [UnitBuilder(f"o-{i}") for i in range(3)]
    store.append([builder.begin(NOW + 5) for builder in builders])
    store.append([builders[2].unit(take=Lease("w1", NOW + 9_000_000, 3, False))])
    assert store.stranded(NOW + 1, 9) == []
    bare.execute("DELETE FROM alarms WHERE stream <> %s", (builders[0].stream,))
    assert store.stranded(NOW + 1, 9) == [builders[1].stream]
    assert store.stranded(NOW, 9) == []
    store.append([builders[1].unit()])
    assert store.stranded(NOW + 1, 9) == []
    assert store.next_due_us([ORDERS], NOW) == NOW + 5


def test_replies_are_kept_as_given(store: PostgresStore) -> None:
    builder = UnitBuilder()
    given = KeptReply("k", "send", "f☃", '{"a":"☃"}', NOW + 5)
    store.append([builder.begin(kept_reply=given)])
    assert store.kept_replies([(builder.stream, "k")]) == [given]


# -- plans, with tables that the server has never analysed: as they are when a store is new


def test_frequent_queries_scan_no_table(store: PostgresStore, bare: psycopg.Connection) -> None:
    builders = [UnitBuilder(f"o-{i}") for i in range(400)]
    store.append(
        [
            builder.begin(NOW + i % 7, kept_reply=kept_reply("k"))
            for i, builder in enumerate(builders)
        ]
    )
    store.append([builder.run("w1", NOW + 9) for builder in builders[:50]])
    queries, streams = store.queries, [builder.stream for builder in builders]
    where, ends = listing_condition(Listing(kind="task", name="order", after=streams[7]), DIALECT)
    first, then, rules = ([ORDERS],), (NOW, None, 5, "w2", 9, -1), ("w2", 0, streams[50:60], NOW)
    executed: list[tuple[bytes, Any]] = [
        (queries.next_due, {"clock_us": None, "jobs": [ORDERS], "limits": [None], "now_us": NOW}),
        (queries.next_due, {"clock_us": None, "jobs": [ORDERS], "limits": [60], "now_us": NOW}),
        (queries.claim, (*first, None, *then, False, *rules)),
        (queries.claim, (*first, [60], *then, False, *rules)),
        (queries.claim, (*first, [60], *then, True, *rules)),
        (queries.release_claim, ("w2", -1)),
        (queries.facts, (streams, streams, ["k"] * 400, [ORDERS], streams, streams, [1, 2])),
        (queries.messages_due, ([ORDERS], NOW, 500, 500)),
        (queries.messages_of, (streams, 1000)),
        (queries.load, ([streams[3]],)),
        (queries.load, (streams,)),
        (queries.events, (streams[3], 0, 9, 9)),
        (queries.status, (streams,)),
        (queries.kept_replies, (streams, ["k"] * 400)),
        (queries.renew, ("w1", NOW + 9, NOW, None)),
        (queries.release, (streams, [4] * 400, "w1")),
        (queries.list_where.replace(b"{where}", where.encode()), (*ends, 9)),
        (queries.settle, ("none", "1s", streams[3], 1, "c")),
    ]
    scans = "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE schemaname = %s"
    for sql, params in executed:
        with bare.transaction():
            bare.execute(sql, params)
            found: dict[str, int] = dict(
                bare.execute(scans.encode(), (store.datastore.schema,)).fetchall()
            )
        assert {name: found[name] for name in TABLES if found[name]} == {}, sql.decode()


def test_appends_scan_no_table(store: PostgresStore, bare: psycopg.Connection) -> None:
    builders = [UnitBuilder(f"o-{i}") for i in range(400)]
    store.append([builder.begin(NOW, kept_reply=kept_reply("k")) for builder in builders])
    attempt = store.appender.attempt(
        [
            builder.unit(Scheduled(due_us=NOW + 9), kept_reply=kept_reply("l"))
            for builder in builders[:100]
        ]
        + [builder.run("w1", NOW + 9) for builder in builders[100:200]]
        + [UnitBuilder(f"p-{i}").begin() for i in range(100)]
    )
    with store.datastore.lend() as connection, connection.transaction():
        assert store.appender.run(attempt, connection).errors == [None] * 300
        rows = connection.execute(
            "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE schemaname = %s",
            (store.datastore.schema,),
        ).fetchall()
    assert {row["relname"]: row["seq_scan"] for row in rows if row["seq_scan"]} == {}


def test_a_changed_status_row_stays_on_its_page(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    builder = UnitBuilder()
    store.append([builder.begin()])
    with store.datastore.lend() as connection, connection.transaction():
        attempt = store.appender.attempt([builder.receive()])
        store.appender.run(attempt, connection)
        row = connection.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables"
            " WHERE schemaname = %s AND relname = 'status'",
            (store.datastore.schema,),
        ).fetchone()
    assert row == {"n_tup_upd": 1, "n_tup_hot_upd": 1}


def test_behind_a_pooler_nothing_is_prepared_or_set_in_the_session(postgres_url: str) -> None:
    store = open_store(f"{postgres_url}&pooler=transaction").application_recorder()
    builder = UnitBuilder()
    store.append([builder.begin(NOW)])
    for _ in range(10):
        store.append([builder.receive()])
        store.status([builder.stream])
    assert [due.stream for due in store.claim(claim_request())] == [builder.stream]
    assert store.append([builder.run("w1", NOW + 9, lease_token=-1)]).errors == [None]
    with store.datastore.lend() as connection:
        rows = connection.execute("SELECT name FROM pg_prepared_statements").fetchall()
        assert rows == []
        rows = connection.execute("SHOW idle_in_transaction_session_timeout").fetchall()
        assert rows == [{"idle_in_transaction_session_timeout": "0"}]
    store.close()
