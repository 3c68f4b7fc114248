"""Workers are killed with `kill -9` in the middle of flushes: no accepted event is lost or handed
over in another batch (D4, K1)."""

from __future__ import annotations

import random

import pytest

from tests.acceptance.jobs_under_kill import MAX_BATCH, PARTS, batch, jobs
from tests.acceptance.processes import Children, audited, wait_until
from tests.engine.kinds.debouncing import fates
from wakelog.core.events import EventReceived, ExecutionLost, Flushed, RunStarted

IDS = ["a", "b", "c"]


def kill_in_flushes(url: str, *, kills: int, adds: int, seed: int) -> int:
    """Kill workers while they flush and others add; how many attempts were lost."""
    rng = random.Random(seed)
    accepted: dict[str, list[int]] = {id: [] for id in IDS}
    number = 0
    with jobs.open(url) as app, Children(url) as children:
        client = app.debounce(batch)

        def add() -> None:
            nonlocal number
            for _ in range(adds):
                number += 1
                id = rng.choice(IDS)
                client.add(id, number)
                accepted[id].append(number)

        for _ in range(kills):
            worker = children.worker()
            add()
            worker.until("run")
            for _ in range(rng.randint(0, PARTS)):
                worker.line()
            worker.kill()
        worker = children.worker()
        add()
        wait_until(lambda: all(client.status(id).event_count == 0 for id in IDS), worker)
        worker.kill()
    lost = 0
    for id in IDS:
        history = audited(url)[f"debounce:batch:{id}"]
        events = [each.event for each in history]
        # then all that was accepted was flushed, in order, none in two batches
        assert set(fates(history, MAX_BATCH).values()) == {"Flushed"}
        received = [int(e.payload or 0) for e in events if isinstance(e, EventReceived)]
        assert received == accepted[id]
        # and a flush that was lost was done again with the same events
        taken: dict[int, tuple[int, ...]] = {}
        for event in events:
            if isinstance(event, RunStarted):
                assert taken.setdefault(event.run, event.events) == event.events
        assert [f.events for f in events if isinstance(f, Flushed)] == list(taken.values())
        lost += sum(isinstance(event, ExecutionLost) for event in events)
    return lost


def test_k1_flushes_that_are_killed_are_done_again_with_the_same_events(shared_url: str) -> None:
    assert kill_in_flushes(shared_url, kills=3, adds=40, seed=1) >= 3


@pytest.mark.chaos
def test_k1_flushes_that_are_killed_for_long(sqlite_url: str) -> None:
    assert kill_in_flushes(sqlite_url, kills=25, adds=60, seed=2) >= 25
