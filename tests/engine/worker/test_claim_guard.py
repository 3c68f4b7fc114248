"""When a worker may claim, and what it may take over, given how its beats went (U2)."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.support import task_of
from wakelog import Jobs
from wakelog.ports.units import Takeover
from wakelog.worker.claim_guard import OVERDUE_US, STEPPED_US, ClaimGuard
from wakelog.worker.claims import claim_due

LEASE_US, BEAT_US = 30_000_000, 10_000_000
EVERY_LEASE = Takeover(True, "w1", LEASE_US)
NO_LEASE = Takeover(False, "w1", LEASE_US)


class Clocks:
    """Two clocks that move as a test says."""

    def __init__(self) -> None:
        self.at_us = 1_800_000_000_000_000
        self.running_us = 5_000_000

    def now_us(self) -> int:
        return self.at_us

    def monotonic_us(self) -> int:
        return self.running_us

    def wait(self, event: threading.Event, us: int) -> None:
        raise AssertionError("nothing waits here")

    def go_on(self, us: int) -> None:
        self.at_us += us
        self.running_us += us


class Worker:
    """A guard, and how often it asked for a beat."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        self.asked = 0
        self.guard = ClaimGuard(
            self.clocks, "w1", lease_us=LEASE_US, beat_us=BEAT_US, renew=self._ask
        )

    def _ask(self) -> None:
        self.asked += 1

    def beat(self) -> bool:
        return self.guard.beat_succeeded(self.guard.beat_begins())


@pytest.fixture
def worker() -> Worker:
    """One that has been there for long enough to take over what has ended."""
    worker = Worker()
    worker.clocks.go_on(BEAT_US)
    worker.beat()
    return worker


def test_U2_a_worker_that_has_just_started_leaves_others_a_beats_time() -> None:
    """The store may have been away before, and they are about to renew."""
    worker = Worker()
    assert worker.guard.takeover() == NO_LEASE
    worker.clocks.go_on(BEAT_US - 1)
    assert worker.guard.takeover() == NO_LEASE
    worker.clocks.go_on(1)
    assert worker.guard.takeover() == EVERY_LEASE
    assert worker.asked == 0


def test_U2_a_worker_that_beats_in_time_takes_over_what_has_ended(worker: Worker) -> None:
    assert worker.guard.takeover() == EVERY_LEASE
    for _ in range(3):
        worker.clocks.go_on(BEAT_US + OVERDUE_US)
        assert worker.guard.takeover() == EVERY_LEASE
        assert worker.beat() is False
    assert worker.asked == 0


def test_U2_after_a_beat_that_failed_nothing_is_claimed_before_one_succeeds(
    worker: Worker,
) -> None:
    worker.guard.beat_begins()
    worker.guard.beat_failed()
    assert [worker.guard.takeover() for _ in range(2)] == [None, None]
    assert worker.asked == 2
    assert worker.beat() is True
    assert worker.guard.takeover() == NO_LEASE


def test_U2_other_workers_have_a_beats_time_after_an_outage(worker: Worker) -> None:
    worker.guard.beat_failed()
    worker.beat()
    worker.clocks.go_on(BEAT_US - 1)
    assert worker.guard.takeover() == NO_LEASE
    assert worker.beat() is False
    worker.clocks.go_on(1)
    assert worker.guard.takeover() == EVERY_LEASE


def test_U2_a_beat_that_is_overdue_comes_first(worker: Worker) -> None:
    worker.clocks.go_on(BEAT_US + OVERDUE_US + 1)
    assert worker.guard.takeover() is None
    assert worker.asked == 1
    assert worker.beat() is True
    assert worker.guard.takeover() == NO_LEASE


@pytest.mark.parametrize("step_us", [STEPPED_US + 1, -STEPPED_US - 1, 3_600_000_000])
def test_U2_a_clock_that_was_stepped_leads_to_a_beat_first(worker: Worker, step_us: int) -> None:
    worker.clocks.at_us += step_us
    assert worker.guard.takeover() is None
    assert worker.beat() is True
    assert worker.guard.takeover() == NO_LEASE
    worker.clocks.go_on(BEAT_US)
    assert worker.guard.takeover() == EVERY_LEASE


def test_U2_a_clock_that_is_steered_is_not_stepped(worker: Worker) -> None:
    for _ in range(100):
        worker.clocks.go_on(BEAT_US)
        worker.clocks.at_us += STEPPED_US // 2
        assert worker.guard.takeover() == EVERY_LEASE
        worker.beat()


def test_U2_a_clock_that_is_stepped_during_a_beat_leads_to_another_one(worker: Worker) -> None:
    began = worker.guard.beat_begins()
    worker.clocks.at_us += 3_600_000_000
    worker.guard.beat_succeeded(began)
    assert worker.guard.takeover() is None


def test_U2_a_beat_notices_itself_that_it_was_overdue(worker: Worker) -> None:
    worker.clocks.go_on(2 * LEASE_US)
    assert worker.beat() is True
    assert worker.guard.takeover() == NO_LEASE


def test_U2_what_a_claim_may_take_over_is_asked_again_once_the_store_has_found_it(
    worker: Worker,
) -> None:
    """The store may have stalled with the claim in it."""
    assert worker.guard.takeover() == EVERY_LEASE
    assert worker.guard.may_take_over()
    worker.clocks.go_on(BEAT_US + OVERDUE_US + 1)
    assert not worker.guard.may_take_over()
    # and not either if a beat has succeeded by then
    worker.beat()
    assert not worker.guard.may_take_over()
    worker.clocks.go_on(BEAT_US)
    assert worker.guard.may_take_over()


@pytest.mark.anyio
async def test_U2_a_claim_that_was_held_up_leaves_ended_leases_and_takes_the_rest(
    store_url: str,
) -> None:
    async with Jobs(job=task_of()).open(store_url) as app:
        application = app.application

        def claim(may_take_over: bool) -> list[str]:
            claimed, _ = claim_due(
                application,
                worker="w2",
                jobs=["task:job"],
                limit=9,
                now_us=application.clock.now_us(),
                may_take_over=lambda: may_take_over,
            )
            return [each.stream for each in claimed]

        # given a run of another worker, whose lease has ended, and one that is due
        await app.task("job").send("lost", {"schedule": 0})
        assert await asyncio.to_thread(claim, True) == ["task:job:lost"]
        application.store.renew("w2", 0, application.clock.now_us())
        await app.task("job").send("due", {"schedule": 0})
        # then
        assert await asyncio.to_thread(claim, False) == ["task:job:due"]
        assert await asyncio.to_thread(claim, True) == ["task:job:lost"]
