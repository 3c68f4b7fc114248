"""What the lifecycle asks of a type of job, and how a definition answers it.

A type of job is a `Behaviour`: a few pure answers. A definition binds one to the handlers, the
retry policy and the bounds it has, as the `Policy` that `core.decide` knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from wakelog.core.calls import Ended, HandlerCall
from wakelog.core.events import Trigger
from wakelog.core.instance import Instance
from wakelog.core.policy import Then
from wakelog.core.retry import OnExhausted, Retry
from wakelog.core.windows import Batching

__all__ = ["MAX_WAITING", "Behaviour", "BoundPolicy"]

MAX_WAITING = 10_000
"""How many accepted events of one instance may wait, unless the definition says otherwise."""


class Behaviour(Protocol):
    """Where the types of job differ. Answers are events and a handler to call, never actions."""

    ON_EXHAUSTED: ClassVar[OnExhausted]
    """What becomes of an instance whose run has no attempt left, unless its policy says."""

    def received(self, instance: Instance, now_us: int) -> Then:
        """What on an event that may be handled now?"""
        ...

    def started(self, instance: Instance, now_us: int) -> Then:
        """What when recurring work begins, or goes on after a stop?"""
        ...

    def woken(self, instance: Instance, trigger: Trigger, due_us: int, now_us: int) -> Then:
        """What when a run is due since `due_us`? Without a call there is none."""
        ...

    def succeeded(self, instance: Instance, call: HandlerCall, outcome: Ended, now_us: int) -> Then:
        """What after a handler that ended well, or was recovered?"""
        ...

    def failed(self, instance: Instance, call: HandlerCall | None, now_us: int) -> Then:
        """What after a run that failed for good? Its call is None where its worker was lost."""
        ...

    def retimed(self, instance: Instance, now_us: int) -> Then:
        """What where a schedule was set under another rule than the definition has now?"""
        ...

    @staticmethod
    def status(instance: Instance) -> str:
        """The word for how the instance stands."""
        ...


@dataclass(frozen=True, slots=True)
class BoundPolicy:
    """A behaviour, with the handlers and bounds of one definition."""

    behaviour: Behaviour
    handlers: frozenset[str]
    max_waiting: int = MAX_WAITING
    retry: Retry | None = None
    batching: Batching | None = None

    @property
    def on_exhausted(self) -> OnExhausted:
        """As the retry policy says, else as the type of job does."""
        said = None if self.retry is None else self.retry.on_exhausted
        return said or self.behaviour.ON_EXHAUSTED

    def received(self, instance: Instance, now_us: int) -> Then:
        return self._known(self.behaviour.received(instance, now_us))

    def started(self, instance: Instance, now_us: int) -> Then:
        return self._known(self.behaviour.started(instance, now_us))

    def woken(self, instance: Instance, trigger: Trigger, due_us: int, now_us: int) -> Then:
        return self._known(self.behaviour.woken(instance, trigger, due_us, now_us))

    def succeeded(self, instance: Instance, call: HandlerCall, outcome: Ended, now_us: int) -> Then:
        return self._known(self.behaviour.succeeded(instance, call, outcome, now_us))

    def failed(self, instance: Instance, call: HandlerCall | None, now_us: int) -> Then:
        return self._known(self.behaviour.failed(instance, call, now_us))

    def retimed(self, instance: Instance, now_us: int) -> Then:
        return self.behaviour.retimed(instance, now_us)

    def _known(self, then: Then) -> Then:
        if then.call is None or then.call in self.handlers:
            return then
        return Then(then.events, due_us=then.due_us)
