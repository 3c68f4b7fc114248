"""Leases in a file, which are judged by the clocks of the processes, after one was ahead (U9)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wakelog.ports.rows import WorkerRow
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder
from wakelog_adapters.sqlite import SQLiteStore, open_store

SECOND = 1_000_000
HOUR = 3600 * SECOND
LEASE = 30 * SECOND


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = open_store(f"sqlite:///{tmp_path}/jobs.db").application_recorder()
    yield store
    store.close()


def seen(worker: str, at_us: int, lease_us: int = LEASE) -> WorkerRow:
    return WorkerRow(worker, (ORDERS,), 1, "host", 1, at_us, at_us, at_us + lease_us)


def run(store: SQLiteStore, worker: str, until_us: int) -> None:
    builder = UnitBuilder()
    assert store.append([builder.begin(), builder.run(worker, until_us)]).errors == [None] * 2


def ends_us(store: SQLiteStore) -> list[int]:
    return [held.lease.until_us for held in store.leases(NOW, 10)]


@pytest.mark.parametrize("is_known", [True, False])
def test_U9_a_lease_that_a_clock_ahead_has_taken_lasts_no_longer_than_a_lease(
    store: SQLiteStore, is_known: bool
) -> None:
    run(store, "gone", NOW + HOUR + LEASE)
    if is_known:
        store.put_worker(seen("gone", NOW + HOUR))
    store.renew("w1", NOW + LEASE, NOW)
    assert ends_us(store) == [NOW + LEASE]
    # and it is not prolonged by further renewals
    for seconds in (10, 20, 31):
        now_us = NOW + seconds * SECOND
        store.renew("w1", now_us + LEASE, now_us)
    assert ends_us(store) == [NOW + LEASE]
    assert store.workers(NOW + LEASE) == []


def test_U9_the_lease_of_another_worker_may_be_longer_than_that_of_the_one_that_renews(
    store: SQLiteStore,
) -> None:
    run(store, "patient", NOW + 10 * LEASE)
    store.put_worker(seen("patient", NOW, 10 * LEASE))
    store.renew("w1", NOW + LEASE, NOW)
    assert ends_us(store) == [NOW + 10 * LEASE]
    assert store.workers(NOW) == [seen("patient", NOW, 10 * LEASE)]


def test_U9_a_worker_that_lives_renews_its_own_by_the_clock_as_it_is(store: SQLiteStore) -> None:
    run(store, "w1", NOW + HOUR + LEASE)
    store.renew("w1", NOW + LEASE, NOW)
    assert ends_us(store) == [NOW + LEASE]
