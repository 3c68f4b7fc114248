"""Continuous: recurring work for each key, by interval or cron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wakelog.core.calls import HandlerCall, HandlerEnded
from wakelog.core.commands import ScheduleAt
from wakelog.core.events import Event, Missed, Scheduled, Trigger
from wakelog.core.instance import Instance
from wakelog.core.policy import NOTHING, Then
from wakelog.core.recurrence import CatchUp, Recurrence
from wakelog.core.retry import OnExhausted
from wakelog.kinds.behaviour import Behaviour
from wakelog.kinds.occurrences import Occurrences, origin_of

__all__ = ["ContinuousBehaviour"]

START_REASON = "start"
"""The reason of a schedule that a start has set: its run is triggered by the start."""


@dataclass(frozen=True, slots=True)
class ContinuousBehaviour(Behaviour):
    """Unless it is stopped or has failed for good, a run is open or the next one is scheduled."""

    ON_EXHAUSTED: ClassVar[OnExhausted] = "continue"

    recurrence: Recurrence
    start_immediately: bool
    grace_us: int
    catch_up: CatchUp
    max_catch_up: int

    def received(self, instance: Instance, now_us: int) -> Then:
        """It accepts no events."""
        return NOTHING

    def started(self, instance: Instance, now_us: int) -> Then:
        """The first run is due at once, or after one interval (C1, C2)."""
        if self.start_immediately:
            return Then((Scheduled(due_us=now_us, by="policy", reason=START_REASON),))
        return Then((self._occurrences.next(instance, now_us, now_us),))

    def woken(self, instance: Instance, trigger: Trigger, due_us: int, now_us: int) -> Then:
        """A run. An occurrence later than `grace` was missed, and `catch_up` applies (C4)."""
        if trigger == "alarm" and instance.due_reason == START_REASON:
            return Then(call="execute", trigger="start")
        moved_us = self._occurrences.moved(instance) if trigger == "alarm" else None
        if moved_us is not None and moved_us > now_us:
            return Then((self._occurrences.at(instance, moved_us),))
        if trigger != "alarm" or now_us - due_us <= self.grace_us:
            return Then(call="execute")
        if self.recurrence.is_grid and due_us <= instance.ran_upto_us <= now_us:
            # the clock had gone back, and went over occurrences that have run
            due_us = self.recurrence.after(instance.ran_upto_us, origin_of(instance))
            if due_us > now_us:
                return Then((self._occurrences.next(instance, now_us, now_us),))
        due_us = max(due_us, moved_us or 0)
        late = self.recurrence.late(
            due_us, now_us, origin_of(instance), self.catch_up, self.max_catch_up
        )
        if self.catch_up == "skip":
            return Then((*late.missed, self._occurrences.next(instance, now_us, now_us)))
        return Then(late.missed, "execute", late.due_us)

    def succeeded(
        self, instance: Instance, call: HandlerCall, outcome: HandlerEnded, now_us: int
    ) -> Then:
        """The next occurrence, unless the handler has scheduled one or the job was stopped."""
        if instance.stopped or any(isinstance(each, ScheduleAt) for each in outcome.commands):
            return NOTHING
        return Then(self._following(instance, now_us))

    def failed(self, instance: Instance, call: HandlerCall | None, now_us: int) -> Then:
        """The next run comes as if this one had succeeded (C6)."""
        return NOTHING if instance.stopped else Then(self._following(instance, now_us))

    @property
    def _occurrences(self) -> Occurrences:
        return Occurrences(self.recurrence)

    @property
    def rule(self) -> str:
        """The interval or cron, and the rules of its time zone."""
        return self.recurrence.fingerprint

    def retimed(self, instance: Instance, now_us: int, ahead_us: int, by_rule: bool) -> Then:
        """A schedule that another rule has set follows the present one (C10), and one that was set
        while the clock was ahead counts from now (U9). One that a handler has set stays, and so
        does one that is due already: its run would be lost."""
        reason, due_us = instance.due_reason, instance.due_us
        if reason is None or due_us is None or due_us <= now_us:
            return NOTHING
        if reason not in (START_REASON, self.recurrence.text):
            return Then(self._by_present_rule(instance, due_us, now_us)) if by_rule else NOTHING
        if instance.due_set_us > ahead_us:
            return Then(self._anew(instance, due_us, now_us))
        moved_us = self._occurrences.moved(instance) if by_rule else None
        return NOTHING if moved_us is None else Then((self._occurrences.at(instance, moved_us),))

    def _by_present_rule(self, instance: Instance, due_us: int, now_us: int) -> tuple[Event, ...]:
        """The next occurrence. One that has come and that jitter has put off stays, if the present
        rule has it too, or a fixed delay that ends no later takes its place; else it is passed
        over."""
        asked_us, is_grid = instance.due_asked_us, self.recurrence.is_grid
        has_come = asked_us <= now_us
        stays = has_come and is_grid and self._occurrences.has(instance, asked_us)
        base_us = now_us if is_grid else instance.last_run_us or origin_of(instance)
        after_us = asked_us - 1 if stays else base_us
        anew = self._occurrences.next(instance, after_us, now_us, not_before_us=now_us)
        if has_come and not stays and (is_grid or anew.due_us > due_us):
            return Missed(due_us=asked_us, policy="skip"), anew
        return (anew,)

    def _anew(self, instance: Instance, due_us: int, now_us: int) -> tuple[Event, ...]:
        """The schedule by the clock as it is now, unless it is no sooner."""
        if instance.due_reason == START_REASON:
            return (Scheduled(due_us=now_us, by="sweep", reason=START_REASON),)
        anew = self._occurrences.next(instance, now_us, now_us, by="sweep")
        return (anew,) if anew.due_us < due_us else ()

    @staticmethod
    def status(instance: Instance) -> str:
        """The first that holds (T10). One that runs again is not `failed`; its last error shows."""
        if not instance.exists:
            return "not_found"
        if instance.parked or (instance.failed and not instance.stopped):
            return "failed"
        if instance.paused:
            return "paused"
        if instance.stopped:
            return "stopped"
        if instance.is_retrying:
            return "retrying"
        return "active" if instance.unread is None else "waiting_for_code"

    def _following(self, instance: Instance, now_us: int) -> tuple[Event, ...]:
        """The schedule after a run. A run beside the schedule moves only a fixed delay (C7), and no
        run moves what a start has scheduled. A grid continues from when the run was due, however
        long its attempts took: occurrences since then are late, or missed, but not lost."""
        is_grid = self.recurrence.is_grid
        if instance.due_us is not None and (is_grid or instance.due_reason == START_REASON):
            return ()
        after_us = self._occurrences.newest(instance) if is_grid else now_us
        return (self._occurrences.next(instance, after_us, now_us),)
