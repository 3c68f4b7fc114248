"""Claims on PostgreSQL: what the server's own clock says of ended leases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.support_postgres import bare_connection
from wakelog.ports.rows import Due, WorkerRow
from wakelog.ports.units import Takeover, Unit
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder
from wakelog_adapters.postgres import PostgresStore, open_store
from wakelog_adapters.postgres.url import parse


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    store = open_store(postgres_url).application_recorder()
    yield store
    store.close()


def test_U2_a_server_that_has_just_started_lets_workers_renew_first(store: PostgresStore) -> None:
    """Nobody could renew while it was down."""
    builder = UnitBuilder()
    store.append([builder.begin(), builder.run("w1", NOW)])

    def claimed(takeover: Takeover) -> list[str]:
        offered: list[str] = []

        def begin(dues: Sequence[Due]) -> Sequence[Unit]:
            offered.extend(due.stream for due in dues)
            return []

        store.claim(now_us=NOW, jobs=[ORDERS], limit=9, begin=begin, takeover=takeover)
        return offered

    century_us = 100 * 365 * 86_400_000_000
    assert claimed(Takeover(owner="w2", server_up_us=century_us)) == []
    assert claimed(Takeover(owner="w2", server_up_us=0)) == [builder.stream]


def test_U2_a_lease_that_a_living_worker_could_not_prolong_is_not_taken_over(
    store: PostgresStore, postgres_url: str
) -> None:
    held, second_us = UnitBuilder("held"), 1_000_000
    store.append([held.begin(), held.run("w1", NOW)])
    store.put_worker(WorkerRow("w1", (ORDERS,), 1, "host", 7, NOW, NOW, NOW + 5))

    def claimed() -> list[str]:
        offered: list[str] = []

        def begin(dues: Sequence[Due]) -> Sequence[Unit]:
            offered.extend(due.stream for due in dues)
            return []

        to = Takeover(owner="w2", server_up_us=0)
        store.claim(now_us=NOW, jobs=[ORDERS], limit=9, begin=begin, takeover=to)
        return offered

    # given a row that another session keeps locked until the lease has ended
    with bare_connection(postgres_url) as bare, bare.transaction():
        bare.execute(f"SELECT FROM {parse(postgres_url).schema}.leases FOR UPDATE".encode())
        store.renew("w1", NOW + 60 * second_us, NOW)
    # then it is left to its owner, as long as that lives
    assert claimed() == []
    store.renew("w1", NOW, NOW)
    assert claimed() == [held.stream]
