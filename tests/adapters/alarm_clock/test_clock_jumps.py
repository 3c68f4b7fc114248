"""The wall clock is set on or back while the alarm clock waits, or while it decides how long to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import time_machine

from wakelog.clock import SystemClock
from wakelog_adapters.alarm_scheduler import SchedulerClock, open_alarm_clock
from wakelog_adapters.conformance.alarm_clock import RecordingClaimant

HOUR_US = 3_600_000_000
SOON_US = 50_000


class Wall:
    """The wall clock of this process, which is set at will."""

    def __init__(self) -> None:
        self._travels: list[time_machine.travel] = []

    def set_on(self, us: int) -> None:
        """By so many microseconds from what it shows, or back."""
        there = (SystemClock().now_us() + us) / 1_000_000
        self._travels.append(time_machine.travel(there, tick=True))
        self._travels[-1].start()

    def right(self) -> None:
        while self._travels:
            self._travels.pop().stop()


@pytest.fixture
def wall() -> Iterator[Wall]:
    wall = Wall()
    yield wall
    wall.right()


@pytest.fixture
def clocks() -> Iterator[list[SchedulerClock]]:
    clocks: list[SchedulerClock] = []
    yield clocks
    for clock in clocks:
        clock.stop()


def started(clocks: list[SchedulerClock], claimant: RecordingClaimant) -> SchedulerClock:
    clocks.append(open_alarm_clock(claimant))
    clocks[-1].start()
    return clocks[-1]


def test_A1_a_clock_that_is_set_on_past_an_alarm_brings_it(
    wall: Wall, clocks: list[SchedulerClock]
) -> None:
    # given an alarm in half an hour
    worker = RecordingClaimant(next_look=lambda now_us: now_us + HOUR_US // 2)
    started(clocks, worker)
    worker.wait_for_claim()
    # when the clock is set on by an hour, then it is looked at
    wall.set_on(HOUR_US)
    worker.wait_for_claim()


def test_A1_a_clock_that_is_set_back_does_not_put_off_the_next_look(
    wall: Wall, clocks: list[SchedulerClock]
) -> None:
    # given the next look is soon: others may have set an alarm by then
    worker = RecordingClaimant(next_look=lambda now_us: now_us + 20 * SOON_US)
    started(clocks, worker)
    worker.wait_for_claim()
    # when the clock is set back, then that look comes, and the next
    wall.set_on(-HOUR_US)
    worker.wait_for_claim(2)


def test_A1_a_clock_that_is_set_back_while_the_next_look_is_decided_does_not_put_it_off(
    wall: Wall, clocks: list[SchedulerClock]
) -> None:
    """The difference of the two times would be an hour, and only that much later would it look."""
    set_back = [-HOUR_US]

    def next_look(now_us: int) -> int:
        if set_back:
            wall.set_on(set_back.pop())
        return now_us + SOON_US

    # given a clock that is right again only after it was wrong
    wall.set_on(HOUR_US)
    worker = RecordingClaimant(next_look=next_look)
    # when it is set back during a look
    started(clocks, worker)
    # then the next looks come as if it had not been
    worker.wait_for_claim(3)
