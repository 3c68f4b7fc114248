"""Task: a state machine driven by events and by the one alarm that its handlers set."""

from __future__ import annotations

from wakelog.core.calls import HandlerCall, HandlerEnded
from wakelog.core.instance import Instance
from wakelog.core.policy import NOTHING, Then
from wakelog.kinds.behaviour import Behaviour

__all__ = ["TaskBehaviour"]

ON_IDLE = Then(call="on_idle")


class TaskBehaviour(Behaviour):
    """An event calls `on_event`, an alarm `execute`; when nothing is left to do, `on_idle`.

    A run that failed for good leaves it `failed`, visibly, until a handler ends well (T13).
    """

    __slots__ = ()

    def succeeded(
        self, instance: Instance, call: HandlerCall, outcome: HandlerEnded, now_us: int
    ) -> Then:
        """Idle means: no alarm, no run asked for, no event waiting (T6)."""
        is_idle = (
            instance.due_us is None
            and instance.retry is None
            and instance.triggered_us is None
            and not instance.deferred
        )
        return ON_IDLE if is_idle else NOTHING

    @staticmethod
    def status(instance: Instance) -> str:
        """The first that holds (T10). `unhandled` depends on which workers run: readers add it."""
        if not instance.exists:
            return "not_found"
        if instance.failed or instance.parked:
            return "failed"
        if instance.paused:
            return "paused"
        if instance.stopped:
            return "stopped"
        if instance.is_retrying:
            return "retrying"
        if instance.unread is not None:
            return "waiting_for_code"
        scheduled = instance.due_us is not None or instance.triggered_us is not None
        return "active" if scheduled or instance.deferred else "idle"
