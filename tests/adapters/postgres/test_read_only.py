"""A server that takes no writes for a while: sessions that began meanwhile stay so, unless they are
replaced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.adapters.postgres.started_appends import StartingStore, opened
from tests.adapters.postgres.test_settings import alter, database
from tests.support import WAIT_S
from tests.support_postgres import bare_connection
from wakelog_adapters.conformance.pool.units import count_up, pool_look
from wakelog_adapters.conformance.units import NOW, UnitBuilder, claim_request
from wakelog_adapters.postgres import PostgresStore

__all__ = ["database"]


WRITES: dict[str, Callable[[StartingStore], object]] = {
    "append": lambda store: PostgresStore.append(store, [UnitBuilder().begin()]),
    "started append": lambda store: store.append([UnitBuilder().begin()]),
    "claim": lambda store: store.claim(claim_request()),
    "renew": lambda store: store.renew("w1", NOW, NOW),
    "purge": lambda store: store.purge_kept_replies(NOW, 9),
    "pool": lambda store: store.pool_call(pool_look(), count_up),
}


@pytest.fixture
def store(database: str) -> Iterator[StartingStore]:
    """All its sessions began while the server took no writes."""
    opened(database).close()
    alter(database, {"default_transaction_read_only": "on"})
    store = opened(database)
    yield store
    store.close()


def all_have_begun(store: PostgresStore) -> None:
    """None of its sessions is still on its way: one that began before the end of that time would
    come after the others were replaced."""
    deadline_s = time.monotonic() + WAIT_S
    while (found := store.datastore.pool.get_stats())["pool_available"] < found["pool_size"]:
        assert time.monotonic() < deadline_s, found


@pytest.mark.parametrize("name", WRITES)
def test_K3_a_server_that_was_read_only_is_written_to_once_it_is_not(
    database: str, store: StartingStore, name: str
) -> None:
    with pytest.raises(Exception, match="read-only"):
        WRITES[name](store)
    with bare_connection(database) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(
            f"ALTER DATABASE {connection.info.dbname} RESET default_transaction_read_only".encode()
        )
    all_have_begun(store)
    WRITES[name](store)
