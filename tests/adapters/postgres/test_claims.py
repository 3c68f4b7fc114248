"""Claims on PostgreSQL: what the server's own clock says of ended leases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from wakelog.ports.rows import Due
from wakelog.ports.units import Takeover, Unit
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder
from wakelog_adapters.postgres import PostgresStore, open_store


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
