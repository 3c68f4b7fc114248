"""The questions that the core asks about a type of job, and how a definition answers them.

A type of job is a `Behaviour`: a few pure answers. A definition binds one to the handlers, the
retry policy and the bounds that it has, as the `Policy` of `core.policy`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from wakelog.core.calls import HandlerCall, HandlerEnded
from wakelog.core.events import Scheduled, Trigger
from wakelog.core.instance import Instance
from wakelog.core.policy import NOTHING, Then
from wakelog.core.retry import OnExhausted, Retry
from wakelog.core.windows import NO_WINDOW, WindowSlot

__all__ = ["MAX_WAITING", "Behaviour", "BoundPolicy"]

MAX_WAITING = 10_000
"""How many accepted events of one instance may wait, unless the definition gives a number."""

ON_EVENT, EXECUTE = Then(call="on_event"), Then(call="execute")


class Behaviour(ABC):
    """Where the types of job differ. Answers are events and a handler to call, never actions.

    The default answers are those of a job whose events are handled one by one, and whose schedule
    is set by its handlers only. A type overrides those in which it differs.
    """

    __slots__ = ()

    ON_EXHAUSTED: ClassVar[OnExhausted] = "fail"
    """What happens to an instance whose run has no attempt left, unless its policy decides."""

    @property
    def rule(self) -> str:
        """A fingerprint of the rule of the definition by which it sets schedules, and which a
        deploy may change; empty if there is none."""
        return ""

    def place(self, instance: Instance, now_us: int) -> WindowSlot:
        """Where does an event go that is accepted now, and must it wait there?"""
        return NO_WINDOW

    def received(self, instance: Instance, now_us: int) -> Then:
        """What follows from an event that may be handled now?"""
        return ON_EVENT

    def started(self, instance: Instance, now_us: int) -> Then:
        """What follows when recurring work begins, or is resumed after a stop?"""
        return NOTHING

    def triggered(self, instance: Instance, now_us: int) -> Then:
        """What follows when an operator asks for a run now? A run beside the schedule (T7); none
        while a run is open, or one that has failed is to be started anew (R7)."""
        is_owed = instance.run is not None or instance.retry is not None or instance.failed
        if not instance.exists or is_owed:
            return NOTHING
        return Then((Scheduled(due_us=now_us, action="trigger", by="operator"),))

    def woken(self, instance: Instance, trigger: Trigger, due_us: int, now_us: int) -> Then:
        """What follows when a run is due since `due_us`? Without a call no run starts."""
        return EXECUTE

    def retimed(self, instance: Instance, now_us: int, ahead_us: int, by_rule: bool) -> Then:
        """What replaces a schedule that was set when the clock showed more than `ahead_us`, or, if
        `by_rule`, by another rule than the definition has now?"""
        return NOTHING

    @abstractmethod
    def succeeded(
        self, instance: Instance, call: HandlerCall, outcome: HandlerEnded, now_us: int
    ) -> Then:
        """What follows a handler that ended well, or was recovered?"""

    def failed(self, instance: Instance, call: HandlerCall | None, now_us: int) -> Then:
        """What follows a run that failed for good? Its call is None if its worker was lost."""
        return NOTHING

    def cleared(self, instance: Instance, call: HandlerCall) -> Then:
        """What precedes the end of a life that its own handler clears?"""
        return NOTHING

    @staticmethod
    @abstractmethod
    def status(instance: Instance) -> str:
        """The status of an instance, in one word."""


class BoundPolicy:
    """A behaviour, with the handlers and bounds of one definition."""

    __slots__ = (
        "_behaviour",
        "cleared",
        "handlers",
        "max_waiting",
        "on_exhausted",
        "place",
        "retimed",
        "retry",
        "triggered",
    )

    def __init__(
        self,
        behaviour: Behaviour,
        handlers: frozenset[str],
        max_waiting: int = MAX_WAITING,
        retry: Retry | None = None,
    ) -> None:
        self._behaviour = behaviour
        self.handlers = handlers
        self.max_waiting = max_waiting
        self.retry = retry
        chosen = None if retry is None else retry.on_exhausted
        self.on_exhausted: OnExhausted = chosen or behaviour.ON_EXHAUSTED
        # answers that never call a handler need no check
        self.place = behaviour.place
        self.triggered = behaviour.triggered
        self.retimed = behaviour.retimed
        self.cleared = behaviour.cleared

    def received(self, instance: Instance, now_us: int) -> Then:
        return self._callable(self._behaviour.received(instance, now_us))

    def started(self, instance: Instance, now_us: int) -> Then:
        return self._callable(self._behaviour.started(instance, now_us))

    def woken(self, instance: Instance, trigger: Trigger, due_us: int, now_us: int) -> Then:
        return self._callable(self._behaviour.woken(instance, trigger, due_us, now_us))

    def succeeded(
        self, instance: Instance, call: HandlerCall, outcome: HandlerEnded, now_us: int
    ) -> Then:
        return self._callable(self._behaviour.succeeded(instance, call, outcome, now_us))

    def failed(self, instance: Instance, call: HandlerCall | None, now_us: int) -> Then:
        return self._callable(self._behaviour.failed(instance, call, now_us))

    def _callable(self, then: Then) -> Then:
        """`then` without the call of a handler that the definition does not have."""
        if then.call is None or then.call in self.handlers:
            return then
        return Then(then.events, due_us=then.due_us)
