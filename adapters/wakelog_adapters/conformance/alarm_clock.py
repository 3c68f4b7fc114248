"""The exam that every alarm clock passes: subclass `AlarmClockExam`, make your clock, run pytest.

    class TestMyClock(AlarmClockExam):
        def make_clock(self, claimant: Claimant) -> AlarmClock:
            return MyClock(claimant)

It runs in real time, in which every wait is for a signal: `WAIT_S` is only when a test fails.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

import pytest

from wakelog.clock import SystemClock
from wakelog.ports.alarm_clock import AlarmClock, Claimant

__all__ = ["WAIT_S", "AlarmClockExam"]

WAIT_S = 20.0
"""How long a signal may take before a test fails."""
SOON_US = 50_000
FAR_US = 3_600_000_000
MANY = 1_000
"""Claimed at a time."""

_CLOCK = SystemClock()


def nothing(now_us: int) -> Sequence[object]:
    """There is nothing to claim."""
    return ()


def never(now_us: int) -> int | None:
    """Do not look again before a wakeup."""
    return None


class RecordingClaimant:
    """A worker that does what a test says, and records how its clock calls it."""

    def __init__(
        self,
        claim: Callable[[int], Sequence[object]] = nothing,
        *,
        next_look: Callable[[int], int | None] = never,
        begin: Callable[[Sequence[object]], None] = lambda claimed: None,
    ) -> None:
        self._claim, self._next_look, self._begin = claim, next_look, begin
        self.claims: list[tuple[int, int]] = []
        """The time that the clock gave, and the machine's, of each claim."""
        self.begun: list[object] = []
        self.threads: set[int] = set()
        self._claimed: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._some_begun: queue.SimpleQueue[None] = queue.SimpleQueue()

    def claim(self, now_us: int) -> Sequence[object]:
        self.threads.add(threading.get_ident())
        self.claims.append((now_us, _CLOCK.now_us()))
        try:
            return self._claim(now_us)
        finally:
            self._claimed.put(None)

    def begin(self, claimed: Sequence[object]) -> None:
        self.threads.add(threading.get_ident())
        self.begun += claimed
        try:
            self._begin(claimed)
        finally:
            self._some_begun.put(None)

    def next_look_us(self, now_us: int) -> int | None:
        self.threads.add(threading.get_ident())
        return self._next_look(now_us)

    def wait_for_claim(self, times: int = 1) -> None:
        """Wait for so many more claims. Raises `queue.Empty` if there are fewer."""
        for _ in range(times):
            self._claimed.get(timeout=WAIT_S)

    def wait_for_begin(self, times: int = 1) -> None:
        """Wait until so many more claims were begun. Raises `queue.Empty` if there are fewer."""
        for _ in range(times):
            self._some_begun.get(timeout=WAIT_S)


class Stopping:
    """Stops a clock from another thread, and records what was begun by the end of it."""

    def __init__(self, clock: AlarmClock, claimant: RecordingClaimant) -> None:
        self._clock, self._claimant = clock, claimant
        self._entered = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.begun: list[object] = []
        """What was begun when `stop` returned."""

    def start(self) -> None:
        """Return when the clock is being stopped."""
        self._thread.start()
        assert self._entered.wait(WAIT_S)

    def join(self) -> None:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        self._entered.set()
        self._clock.stop()
        self.begun = list(self._claimant.begun)


def once(*values: object) -> Callable[[int], Sequence[object]]:
    """A claim that gets these the first time, and then nothing."""
    left = [values]
    return lambda now_us: left.pop() if left else ()


def first(value: Callable[[], int]) -> Callable[[int], int | None]:
    """A next look at this time, and then none before a wakeup."""
    left = [value]
    return lambda now_us: left.pop()() if left else None


def failing(error: BaseException) -> Callable[[int], Sequence[object]]:
    """A claim that fails the first time, then gets one, and then nothing."""
    left: list[Sequence[object]] = [("a",)]
    errors = [error]

    def claim(now_us: int) -> Sequence[object]:
        if errors:
            raise errors.pop()
        return left.pop() if left else ()

    return claim


class AlarmClockExam:
    """What is promised in `wakelog.ports.alarm_clock`, as tests."""

    _clocks: list[AlarmClock]

    def make_clock(self, claimant: Claimant) -> AlarmClock:
        """A clock that is not started yet."""
        raise NotImplementedError

    def setup_method(self) -> None:
        self._clocks = []

    def teardown_method(self) -> None:
        for clock in self._clocks:
            clock.stop()

    def clock(self, claimant: Claimant) -> AlarmClock:
        """A clock that is stopped when the test ends."""
        clock = self.make_clock(claimant)
        self._clocks.append(clock)
        return clock

    def started(self, claimant: Claimant) -> AlarmClock:
        clock = self.clock(claimant)
        clock.start()
        return clock

    def pass_time(self) -> None:
        """Wait until another clock has woken at a time that lies ahead."""
        timer = RecordingClaimant(next_look=first(lambda: _CLOCK.now_us() + SOON_US))
        self.started(timer)
        timer.wait_for_claim(2)

    # -- when it claims

    def test_it_claims_at_once_and_begins_each_claimed_thing_once_in_order(self) -> None:
        things = [str(number) for number in range(MANY)]
        worker = RecordingClaimant(once(*things))
        clock = self.started(worker)
        worker.wait_for_begin()
        clock.stop()
        assert worker.begun == things

    def test_equal_things_are_begun_each(self) -> None:
        worker = RecordingClaimant(once("a", "a", "a"))
        clock = self.started(worker)
        worker.wait_for_begin()
        clock.stop()
        assert worker.begun == ["a", "a", "a"]

    def test_it_claims_again_at_the_next_look_and_never_before(self) -> None:
        given: list[int] = []

        def next_look(now_us: int) -> int | None:
            if given:
                return None
            given.append(now_us + SOON_US)
            return given[0]

        worker = RecordingClaimant(next_look=next_look)
        self.started(worker)
        worker.wait_for_claim(2)
        assert all(told_us <= real_us for told_us, real_us in worker.claims)
        assert worker.claims[1][0] >= given[0]

    def test_a_late_alarm_is_handed_over(self) -> None:
        late = iter([(), ("late",)])
        worker = RecordingClaimant(
            lambda now_us: next(late, ()), next_look=first(lambda: _CLOCK.now_us() - FAR_US)
        )
        self.started(worker)
        worker.wait_for_begin()
        assert worker.begun == ["late"]

    def test_without_a_next_look_it_claims_after_a_wakeup_only(self) -> None:
        worker = RecordingClaimant()
        clock = self.started(worker)
        worker.wait_for_claim()
        self.pass_time()
        assert len(worker.claims) == 1
        clock.wakeup()
        worker.wait_for_claim()

    def test_a_wakeup_comes_before_a_later_look(self) -> None:
        worker = RecordingClaimant(next_look=lambda now_us: now_us + FAR_US)
        clock = self.started(worker)
        worker.wait_for_claim()
        clock.wakeup()
        worker.wait_for_claim()

    def test_a_wakeup_from_any_thread_during_a_claim_leads_to_another(self) -> None:
        def claim(now_us: int) -> Sequence[object]:
            if len(worker.claims) == 1:
                other = threading.Thread(target=clock.wakeup)
                other.start()
                other.join(WAIT_S)
            return ()

        worker = RecordingClaimant(claim)
        clock = self.clock(worker)
        clock.start()
        worker.wait_for_claim(2)

    def test_a_wakeup_while_things_are_begun_leads_to_another_claim(self) -> None:
        worker = RecordingClaimant(once("a"), begin=lambda claimed: clock.wakeup())
        clock = self.clock(worker)
        clock.start()
        worker.wait_for_claim(2)

    def test_all_calls_are_on_one_thread_of_its_own(self) -> None:
        worker = RecordingClaimant(once("a"), next_look=first(_CLOCK.now_us))
        clock = self.started(worker)
        worker.wait_for_claim(2)
        clock.wakeup()
        worker.wait_for_claim()
        assert len(worker.threads) == 1
        assert threading.get_ident() not in worker.threads

    # -- how it ends

    def test_after_a_stop_it_claims_nothing(self) -> None:
        worker = RecordingClaimant(next_look=lambda now_us: now_us)
        clock = self.started(worker)
        worker.wait_for_claim(3)
        clock.stop()
        claims = len(worker.claims)
        clock.wakeup()
        self.pass_time()
        assert len(worker.claims) == claims

    def test_a_stop_during_a_claim_waits_until_what_it_claimed_was_begun(self) -> None:
        def claim(now_us: int) -> Sequence[object]:
            stopping.start()
            return ["a", "b", "c"]

        worker = RecordingClaimant(claim)
        clock = self.clock(worker)
        stopping = Stopping(clock, worker)
        clock.start()
        worker.wait_for_begin()
        stopping.join()
        assert stopping.begun == ["a", "b", "c"]
        assert len(worker.claims) == 1

    def test_a_stop_waits_for_a_claim_no_longer_than_its_timeout(self) -> None:
        claiming, go = threading.Event(), threading.Event()

        def claim(now_us: int) -> Sequence[object]:
            claiming.set()
            assert go.wait(WAIT_S)
            return ()

        worker = RecordingClaimant(claim)
        clock = self.started(worker)
        assert claiming.wait(WAIT_S)
        clock.stop(0.01)
        go.set()
        worker.wait_for_claim()
        clock.wakeup()
        clock.stop()
        assert len(worker.claims) == 1

    def test_a_stop_while_things_are_begun_waits_for_the_rest(self) -> None:
        ended: list[bool] = []

        def begin(claimed: Sequence[object]) -> None:
            stopping.start()
            assert not stopping.begun
            ended.append(True)

        worker = RecordingClaimant(once("a", "b", "c"), begin=begin)
        clock = self.clock(worker)
        stopping = Stopping(clock, worker)
        clock.start()
        worker.wait_for_begin()
        stopping.join()
        assert ended
        assert stopping.begun == ["a", "b", "c"]

    def test_it_may_be_stopped_and_woken_at_any_time(self) -> None:
        worker = RecordingClaimant()
        clock = self.clock(worker)
        clock.wakeup()
        clock.stop()
        assert worker.claims == []
        clock.start()
        worker.wait_for_claim()
        clock.stop()
        clock.stop()

    # -- errors

    def test_keeping_it_running_starts_it_once_at_most(self) -> None:
        worker = RecordingClaimant()
        clock = self.clock(worker)
        clock.keep_running()  # it was not started, so it is not started again
        clock.start()
        worker.wait_for_claim()
        clock.keep_running()
        clock.wakeup()
        worker.wait_for_claim()
        assert len(worker.threads) == 1
        clock.stop()
        clock.keep_running()
        self.pass_time()
        assert len(worker.claims) == 2

    @pytest.mark.parametrize("error", [MemoryError(), SystemExit()])
    def test_it_claims_again_whatever_is_raised(self, error: BaseException) -> None:
        worker = RecordingClaimant(failing(error))
        self.started(worker)
        worker.wait_for_begin()
        assert worker.begun == ["a"]

    def test_it_claims_again_after_a_claim_has_failed(self) -> None:
        worker = RecordingClaimant(failing(OSError("the store is gone")))
        self.started(worker)
        worker.wait_for_begin()
        assert worker.begun == ["a"]

    def test_it_claims_again_after_a_next_look_has_failed(self) -> None:
        errors: list[Exception] = [OSError("the store is gone")]

        def next_look(now_us: int) -> int | None:
            if errors:
                raise errors.pop()
            return None

        worker = RecordingClaimant(next_look=next_look)
        self.started(worker)
        worker.wait_for_claim(2)

    def test_a_beginning_that_fails_keeps_no_other_from_beginning(self) -> None:
        def begin(claimed: Sequence[object]) -> None:
            if claimed == ("a",):
                raise OSError("no")

        claims = iter([("a",), ("b",)])
        worker = RecordingClaimant(lambda now_us: next(claims, ()), begin=begin)
        clock = self.started(worker)
        worker.wait_for_begin()
        clock.wakeup()
        worker.wait_for_begin()
        assert worker.begun == ["a", "b"]
