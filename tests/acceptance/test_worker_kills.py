"""Workers are killed with `kill -9` in the middle of runs, and nothing is lost (K1, A1, U2)."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.acceptance.jobs_under_kill import PARTS, Chore, Done, chore, jobs
from tests.acceptance.processes import Child, Children, Said, audited, is_quiet, wait_until
from tests.acceptance.recorded import check_alarms, check_runs, check_waiting
from wakelog import BlockingApp
from wakelog.core.events import EventReceived, Executed, ExecutionLost
from wakelog.log.records import Recorded

IDS = [f"c-{number}" for number in range(20)]
SENDERS = 3
SENDS_PER_RUN = 2
SENDS_PER_KILL = 20
RUNS_PER_KILL = 25


@dataclass
class Sending:
    """Threads that send while others kill; each send takes a ticket."""

    app: BlockingApp
    rng: random.Random
    work_s: float
    tickets: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    acknowledged: list[str] = field(default_factory=list[str])
    done: bool = False

    @contextmanager
    def going_on(self) -> Generator[None]:
        """Send from several threads, until the end of the block; raise what a send raised."""
        with ThreadPoolExecutor(SENDERS) as threads:
            ends = [threads.submit(self._send_all, name) for name in range(SENDERS)]
            try:
                yield
            finally:
                self.done = True
                self.tickets.release(SENDERS)
            for end in ends:
                end.result()

    def _send_all(self, name: int) -> None:
        task = self.app.task(chore)
        number = 0
        while True:
            self.tickets.acquire()
            if self.done:
                return
            number += 1
            key = f"{name}-{number}"
            after_s = self.rng.choice([0, 0, 0.1, 0.3])
            event = Chore(number=number, after_s=after_s, work_s=self.work_s)
            id = self.rng.choice(IDS)
            assert not task.send(id, event, event_id=key).duplicate
            self.acknowledged.append(key)
            if number % 10 == 0:
                assert task.send(id, event, event_id=key).duplicate


def kill_workers(url: str, *, kills: int, lease: str, work_s: float, seed: int) -> str:
    """Kill workers while events come in, let a last one finish, check it all; a line of figures."""
    rng = random.Random(seed)
    killed: set[int] = set()
    with jobs.open(url) as app, Children(url) as children:
        sending = Sending(app, random.Random(seed + 1), work_s)
        with sending.going_on():
            sending.tickets.release(2 * SENDS_PER_KILL)
            for _ in range(kills):
                worker = children.worker(lease)
                _listen(worker, rng, sending)
                worker.kill()
                killed.add(worker.pid)
                sending.tickets.release(SENDS_PER_KILL)
            worker = children.worker(lease)
        wait_until(lambda: is_quiet(app), worker)
        worker.kill()
        states = {f"task:chore:{id}": app.task(chore).get_state(id) for id in IDS}
    return _report(audited(url), states, sending.acknowledged, killed)


def _listen(worker: Child, rng: random.Random, sending: Sending) -> None:
    """Return at a random point: so many runs have begun, and then so many lines were printed."""
    runs = rng.randint(1, RUNS_PER_KILL)
    lines = rng.randint(0, 2 * PARTS)
    while runs or lines:
        if runs == 0:
            lines -= 1
        if Said.of(worker.line()).what == "run":
            runs = max(0, runs - 1)
            sending.tickets.release(SENDS_PER_RUN)


def _report(
    histories: dict[str, list[Recorded]],
    states: dict[str, Done | None],
    acknowledged: list[str],
    killed: set[int],
) -> str:
    """Check what was recorded against what was acknowledged; say it in figures."""
    keys: Counter[str | None] = Counter()
    runs = losses = of_the_living = doubled = 0
    for stream, history in histories.items():
        events = [recorded.event for recorded in history]
        received = [e for e in events if isinstance(e, EventReceived)]
        keys.update(e.event_id for e in received)
        check_waiting(history)
        check_alarms(stream, events)
        begun = check_runs(stream, history)
        executed = [e.run for e in events if isinstance(e, Executed)]
        state = states[stream]
        assert state is not None
        assert (state.told, state.runs) == (len(received), begun)
        lost = [e for e in events if isinstance(e, ExecutionLost)]
        runs += begun
        doubled += len(executed) - len(set(executed))
        losses += len(lost)
        of_the_living += sum(int(e.worker.split(":")[-2]) not in killed for e in lost)
    assert keys == Counter(acknowledged), "acknowledged sends and recorded events differ"
    assert doubled == 0
    assert losses > 0, "no kill came in the middle of a run"
    return (
        f"kills {len(killed)}, sends {len(acknowledged)}, runs {runs}, lost runs {losses} "
        f"(of living workers {of_the_living}), doubled {doubled}, "
        f"events {sum(map(len, histories.values()))}"
    )


def test_K1_A1_five_workers_killed_in_the_middle_of_runs(shared_url: str) -> None:
    print(kill_workers(shared_url, kills=5, lease="1s", work_s=0.2, seed=1))


@pytest.mark.chaos
def test_K1_A1_fifty_workers_killed_in_the_middle_of_runs(shared_url: str) -> None:
    print(kill_workers(shared_url, kills=50, lease="400ms", work_s=0.1, seed=2))
