"""Workers are killed with `kill -9` in the middle of recurring runs: none is lost or counted twice,
and none leaves its instance dormant (C5, C6, R6, K1)."""

from __future__ import annotations

import random

import pytest

from tests.acceptance.jobs_under_kill import PARTS, jobs, pulse
from tests.acceptance.processes import Child, Children, audited
from wakelog.core.events import Executed, ExecutionLost, RunStarted, Started
from wakelog.log.records import Recorded

IDS = ["a", "b", "c"]
EVERY_US = 100_000


def kill_in_runs(url: str, *, kills: int, seed: int) -> int:
    """Kill workers while they run; how many attempts were lost."""
    rng = random.Random(seed)
    with jobs.open(url) as app, Children(url) as children:
        client = app.continuous(pulse)
        for id in IDS:
            client.start(id, 0, wait=False)
        for _ in range(kills):
            worker = children.worker()
            worker.until("run", rng.choice(IDS))
            for _ in range(rng.randint(0, PARTS)):
                worker.line()
            worker.kill()
        worker = children.worker()
        for id in IDS:
            go_on(worker, id)
            client.stop(id)
        counts = {id: client.get_state(id) for id in IDS}
        worker.kill()
    lost = 0
    for id in IDS:
        history = audited(url)[f"continuous:pulse:{id}"]
        lost += check(history)
        ended = sum(isinstance(each.event, Executed) for each in history)
        assert ended - (counts[id] or 0) in (0, 1)  # one may have ended since it was asked
    return lost


def go_on(worker: Child, id: str) -> None:
    """Wait for two more runs of an instance to end."""
    for _ in range(2):
        worker.until("end", id)


def check(history: list[Recorded]) -> int:
    """Each run was due on the grid, after the one before it, and went on until it had ended."""
    origin_us = next(each.at_us for each in history if isinstance(each.event, Started))
    begun: list[RunStarted] = []
    ended: list[int] = []
    lost = 0
    for each in history:
        match each.event:
            case RunStarted(attempt=1) as event:
                assert event.run == len(begun) + 1 == len(ended) + 1
                assert (event.due_us - origin_us) % EVERY_US == 0
                assert not begun or event.due_us > begun[-1].due_us
                assert each.at_us >= event.due_us
                begun.append(event)
            case RunStarted() as event:
                assert (event.run, event.trigger) == (len(begun), "recovery")
            case ExecutionLost():
                lost += 1
            case Executed() as event:
                ended.append(event.run)
            case _:
                pass
    assert ended == [*range(1, len(ended) + 1)]
    return lost


def test_K1_C5_recurring_work_goes_on_over_kills(shared_url: str) -> None:
    assert kill_in_runs(shared_url, kills=3, seed=1) >= 1


@pytest.mark.chaos
def test_K1_C5_recurring_work_goes_on_over_kills_for_long(shared_url: str) -> None:
    assert kill_in_runs(shared_url, kills=25, seed=2) >= 10
