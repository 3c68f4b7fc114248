"""Task: a state machine driven by events and by the one alarm that its handlers set."""

from __future__ import annotations

from typing import ClassVar

from wakelog.core.calls import Ended, HandlerCall
from wakelog.core.events import Trigger
from wakelog.core.instance import Instance
from wakelog.core.policy import NOTHING, Then
from wakelog.core.retry import OnExhausted

__all__ = ["TaskBehaviour"]

ON_EVENT, EXECUTE, ON_IDLE = Then(call="on_event"), Then(call="execute"), Then(call="on_idle")


class TaskBehaviour:
    """An event calls `on_event`, an alarm `execute`; when nothing is left to do, `on_idle`."""

    ON_EXHAUSTED: ClassVar[OnExhausted] = "fail"

    def received(self, instance: Instance, now_us: int) -> Then:
        return ON_EVENT

    def started(self, instance: Instance, now_us: int) -> Then:
        """Events begin it, nothing else does."""
        return NOTHING

    def woken(self, instance: Instance, trigger: Trigger, due_us: int, now_us: int) -> Then:
        return EXECUTE

    def succeeded(self, instance: Instance, call: HandlerCall, outcome: Ended, now_us: int) -> Then:
        """Idle is: no alarm, no run asked for, no event waiting (T6)."""
        quiet = (
            instance.due_us is None
            and instance.retry is None
            and instance.triggered_us is None
            and not instance.deferred
        )
        return ON_IDLE if quiet else NOTHING

    def failed(self, instance: Instance, call: HandlerCall | None, now_us: int) -> Then:
        """It stays `failed`, for all to see, until something ends well (T13)."""
        return NOTHING

    def retimed(self, instance: Instance, now_us: int) -> Then:
        """Its handlers set the schedule, no rule does."""
        return NOTHING

    @staticmethod
    def status(instance: Instance) -> str:
        """The first that holds (T10); `unhandled` depends on who is alive, so readers add it."""
        if not instance.exists:
            return "not_found"
        if instance.failed or instance.parked:
            return "failed"
        if instance.paused:
            return "paused"
        if instance.stopped:
            return "stopped"
        if instance.retry is not None:
            return "retrying"
        scheduled = instance.due_us is not None or instance.triggered_us is not None
        return "active" if scheduled or instance.deferred else "idle"
