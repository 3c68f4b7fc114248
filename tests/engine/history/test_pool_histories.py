"""Histories of a pool: of one event, and of the streams of the pool and its partitions (H1, P8)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from wakelog import Backoff, InstanceNotFoundError, Jobs, Retry, UnknownActionError, WorkerPool
from wakelog.testing import Simulation

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def letters(ctx: Any, letter: str) -> str:
    if letter == "nobody":
        raise LookupError("no such address")
    return f"with {letter}"


@pytest.fixture
def sim(store_url: str) -> Iterator[Simulation]:
    pool = WorkerPool(
        event=str,
        concurrency=2,
        keep_results=True,
        retry=Retry(max_attempts=2, delay=Backoff.constant("1m"), jitter=0),
    )
    pool.execute(letters)
    with Simulation(Jobs(letters=pool), url=store_url, start=START) as sim:
        yield sim


def told(sim: Simulation, id: str) -> list[str]:
    """What happened, without the path and line of the handler."""
    described = [entry.description for entry in sim.history(f"workerPool:letters:{id}")]
    return [re.sub(r"\(/.*py:\d+ in", "(in", each) for each in described]


def test_H1_one_event_is_told_from_its_acceptance_to_its_result(sim: Simulation) -> None:
    sim.worker_pool("letters").enqueue("ann", id="l-1", priority=3)
    sim.run_until_idle()
    assert told(sim, "l-1") == [
        'accepted event "ann" as #1.1, with priority 3',
        "taken by simulation, attempt 1",
        'ended well after 0 ms with "with ann"',
    ]
    entries = sim.worker_pool("letters").history("l-1")
    assert [entry.description for entry in entries] == told(sim, "l-1") == told(sim, "#1.1")


def test_H1_the_order_is_that_of_the_log_though_the_clock_stands_still(sim: Simulation) -> None:
    # given
    pool = sim.worker_pool("letters")
    pool.enqueue("nobody", id="l-1")
    sim.run_until_idle()
    # when no time passes between the outcome and what operators do
    pool.requeue(["l-1"], actor="ann")
    pool.set_priority(7, ["l-1"])
    pool.cancel_event("l-1", reason="moved away")
    # then
    assert told(sim, "l-1") == [
        'accepted event "nobody" as #1.1',
        "taken by simulation, attempt 1",
        "execute failed: LookupError: no such address (in letters), will be retried",
        "attempt 2 is due at 2026-03-02 09:01:00 UTC",
        "taken by simulation, attempt 2",
        "execute failed: LookupError: no such address (in letters)",
        "given up after 2 attempts (max_attempts)",
        "dead-lettered after 2 attempts (handler failed: LookupError: no such address)",
        "requeued: it waits again",
        "moved to priority 7",
        "cancelled: moved away",
    ]
    assert pool.get("l-1").status == "cancelled"


def test_H1_a_stream_of_the_pool_names_the_events(sim: Simulation) -> None:
    pool = sim.worker_pool("letters")
    pool.enqueue_many(["ann", "bob", "nobody"])
    pool.enqueue("cyd", delay="1h")
    pool.pause(1, reason="hot")
    pool.cancel_event("#0.1")
    sim.run_until_idle()
    assert told(sim, "shared") == [
        "accepted 3 events: #1.1 to #1.3",
        "accepted 1 event: #0.1",
        "partition 1: paused by operator: hot",
        "cancelled #0.1",
    ]
    first = told(sim, "0")
    assert first[:2] == ["took 1 event on simulation: #1.1", "1 run ended well: #1.1"]
    failed = "#1.3: execute failed: LookupError: no such address (in letters), will be retried"
    assert failed in first
    assert first[-1].startswith("#1.3: dead-lettered after 2 attempts")


def test_H1_a_delayed_event_says_when_it_is_taken(sim: Simulation) -> None:
    sim.worker_pool("letters").enqueue("cyd", id="l-1", delay="1h")
    assert told(sim, "l-1") == [
        'accepted event "cyd" as #0.1, to be taken at 2026-03-02 10:00:00 UTC'
    ]


@pytest.mark.parametrize("id", ["0", "7", "l-9", "#3.17"])
def test_what_never_was_has_no_history(sim: Simulation, id: str) -> None:
    sim.worker_pool("letters").pause()
    with pytest.raises(InstanceNotFoundError):
        told(sim, id)


def test_a_pool_has_no_state(sim: Simulation) -> None:
    sim.worker_pool("letters").enqueue("ann")
    with pytest.raises(UnknownActionError, match="it has no instances"):
        sim.state_at("workerPool:letters:shared", version=1)


def test_P7_the_pools_of_a_store_are_listed_in_numbers(sim: Simulation) -> None:
    assert sim.pools() == []
    sim.worker_pool("letters").enqueue("ann")
    [status] = sim.pools()
    assert (status.name, status.pending) == ("letters", 1)
