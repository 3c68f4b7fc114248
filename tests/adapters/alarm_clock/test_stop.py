"""An alarm clock that is stopped has handed over all that it claimed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from wakelog_adapters.alarm_scheduler import SchedulerClock

WAIT_S = 20.0


class Claims:
    """A desk with three claims, where a stop comes in while the first is handed over."""

    def __init__(self) -> None:
        self.clock = SchedulerClock(self)
        self.stopping = threading.Thread(target=self.clock.stop)
        self.claims: list[object] = ["a", "b", "c"]
        self.begun: list[object] = []
        self.handed_over = threading.Event()

    def take(self, now_us: int) -> Sequence[object]:
        taken, self.claims = self.claims, []
        return taken

    def begin(self, claimed: object) -> None:
        if not self.begun:
            self.stopping.start()
            deadline_s = time.monotonic() + WAIT_S
            while self.clock._scheduler.running and time.monotonic() < deadline_s:
                pass  # until the stop has been asked for: a few microseconds
        self.begun.append(claimed)
        self.handed_over.set()

    def next_us(self, now_us: int) -> int | None:
        return None


def test_a_stop_in_the_middle_of_a_batch_hands_over_the_rest() -> None:
    desk = Claims()
    desk.clock.start()
    assert desk.handed_over.wait(WAIT_S)
    desk.stopping.join(WAIT_S)
    assert not desk.stopping.is_alive()
    assert desk.begun == ["a", "b", "c"]
