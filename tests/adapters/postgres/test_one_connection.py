"""Few connections: whoever has one in a transaction never waits for another (K3)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.postgres.started_appends import opened
from tests.support_postgres import bare_connection, with_options
from wakelog_adapters.conformance.units import NOW, UnitBuilder, claim_request
from wakelog_adapters.postgres import PostgresStore

APP = "one_connection"
SESSIONS = f"application_name = '{APP}'"


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    """A store that may have one connection, and waits for it only a moment."""
    url = with_options(postgres_url, timeout=0.5, application_name=APP)
    store = opened(url, pool=1)
    yield store
    store.close()


def test_K3_a_claim_that_takes_over_needs_one_connection(store: PostgresStore) -> None:
    builder = UnitBuilder()
    store.append([builder.begin(NOW), builder.run("w2", NOW)])
    lent: list[int] = []

    def may_take_over() -> bool:
        lent.append(store.datastore.lent)
        return True

    dues = store.claim(claim_request(may_take_over=may_take_over))
    assert [due.stream for due in dues] == [builder.stream]
    assert lent == [1]
    assert store.datastore.lent == 0


def test_K3_a_claim_whose_connection_breaks_before_it_takes_over_begins_again(
    store: PostgresStore, postgres_url: str
) -> None:
    builder = UnitBuilder()
    store.append([builder.begin(NOW), builder.run("w2", NOW)])
    cuts = [f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {SESSIONS}"]

    def may_take_over() -> bool:
        with bare_connection(postgres_url) as bare:
            while cuts:
                bare.execute(cuts.pop().encode())
        return True

    dues = store.claim(claim_request(may_take_over=may_take_over))
    assert [due.stream for due in dues] == [builder.stream]
    assert store.lease_tokens([builder.stream]) == [-1]
    assert store.counters["store_retries"] == 1


def test_nobody_in_a_transaction_is_given_another_connection(store: PostgresStore) -> None:
    with store.datastore.lend() as connection:
        connection.execute(b"SELECT 1")
        with connection.transaction():
            for call in (
                lambda: store.append([UnitBuilder().begin()]),
                lambda: store.release("w1", [("task:order:o-1", 1)]),
                lambda: store.max_notification_id(),
            ):
                with pytest.raises(AssertionError, match="must not wait for another connection"):
                    call()
    assert store.append([UnitBuilder().begin()]).errors == [None]
