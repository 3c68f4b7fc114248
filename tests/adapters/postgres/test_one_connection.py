"""Few connections: whoever has one in a transaction never waits for another (K3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.adapters.postgres.started_appends import opened
from tests.support_postgres import bare_connection, with_options
from wakelog.ports.rows import Due
from wakelog.ports.units import Unit
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder
from wakelog_adapters.postgres import PostgresStore

APP = "one_connection"


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    """A store that may have one connection, and waits for it only a moment."""
    url = with_options(postgres_url, timeout=0.5, application_name=APP)
    store = opened(url, pool=1)
    yield store
    store.close()


def claim_reading(store: PostgresStore, builder: UnitBuilder, read: Callable[[], Any]) -> list[Any]:
    """What `read` returns each time that a claim begins."""
    found: list[Any] = []

    def begin(dues: Sequence[Due]) -> list[Unit]:
        found.append(read())
        return [builder.fork().run("w1", NOW + 60_000_000)]

    assert store.claim(now_us=NOW, jobs=[ORDERS], limit=9, begin=begin).errors == [None]
    return found


def test_K3_a_claim_reads_on_the_connection_that_it_has(store: PostgresStore) -> None:
    builder = UnitBuilder()
    store.append([builder.begin(NOW)])

    def read() -> list[object]:
        loaded = store.load_all([builder.stream])[0]
        [row] = store.status([builder.stream])
        events = store.events(builder.stream)
        return [len(loaded.tail), row and row.version, len(events), store.datastore.lent]

    assert claim_reading(store, builder, read) == [[3, 3, 3, 1]]
    assert store.datastore.lent == 0


def test_K3_a_claim_whose_connection_breaks_while_it_reads_begins_again(
    store: PostgresStore, postgres_url: str
) -> None:
    builder = UnitBuilder()
    store.append([builder.begin(NOW)])
    sessions = f"pg_stat_activity WHERE application_name = '{APP}'"
    cuts = [f"SELECT pg_terminate_backend(pid) FROM {sessions}"]

    def read() -> int:
        with bare_connection(postgres_url) as bare:
            while cuts:
                bare.execute(cuts.pop().encode())
        return len(store.events(builder.stream))

    assert claim_reading(store, builder, read) == [3]
    assert store.counters["store_retries"] == 1


def test_nobody_in_a_transaction_is_given_another_connection(store: PostgresStore) -> None:
    with store.datastore.lend() as connection:
        connection.execute(b"SELECT 1")
        assert store.datastore.own_transaction is None
        with connection.transaction():
            assert store.datastore.own_transaction is connection
            for call in (
                lambda: store.append([UnitBuilder().begin()]),
                lambda: store.release("w1", [("task:order:o-1", 1)]),
                lambda: store.max_notification_id(),
            ):
                with pytest.raises(AssertionError, match="must not wait for another connection"):
                    call()
    assert store.append([UnitBuilder().begin()]).errors == [None]
