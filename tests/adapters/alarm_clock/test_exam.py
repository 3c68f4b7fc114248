"""The alarm clock passes the exam."""

from __future__ import annotations

from wakelog.ports.alarm_clock import AlarmClock, Claimant
from wakelog_adapters.alarm_scheduler import open_alarm_clock
from wakelog_adapters.conformance.alarm_clock import AlarmClockExam


class TestScheduler(AlarmClockExam):
    def make_clock(self, claimant: Claimant) -> AlarmClock:
        return open_alarm_clock(claimant)
