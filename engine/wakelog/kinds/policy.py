"""What the lifecycle asks of a type of job, and how a definition answers it.

A type of job is a `Behaviour`: five pure answers. A definition binds one to the handlers and
bounds it has, as the `Policy` that `core.decide` knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from wakelog.core.commands import HandlerName
from wakelog.core.decide import Then
from wakelog.core.instance import Instance

__all__ = ["MAX_WAITING", "Behaviour", "BoundPolicy"]

MAX_WAITING = 10_000
"""How many accepted events of one instance may wait, unless the definition says otherwise."""


class Behaviour(Protocol):
    """Where the types of job differ. Answers are events and a handler to call, never actions."""

    def received(self, instance: Instance) -> Then:
        """What on an event that may be handled now?"""
        ...

    def woken(self, instance: Instance) -> Then:
        """What when a run is due?"""
        ...

    def succeeded(self, instance: Instance, after: HandlerName) -> Then:
        """What after a handler that ended well, or was recovered?"""
        ...

    def failed(self, instance: Instance) -> Then:
        """What after a run that failed for good?"""
        ...

    def status(self, instance: Instance) -> str:
        """The word for how the instance stands."""
        ...


@dataclass(frozen=True, slots=True)
class BoundPolicy:
    """A behaviour, with the handlers and bounds of one definition."""

    behaviour: Behaviour
    handlers: frozenset[str]
    max_waiting: int = MAX_WAITING

    def received(self, instance: Instance) -> Then:
        return self._known(self.behaviour.received(instance))

    def woken(self, instance: Instance) -> Then:
        return self._known(self.behaviour.woken(instance))

    def succeeded(self, instance: Instance, after: HandlerName) -> Then:
        return self._known(self.behaviour.succeeded(instance, after))

    def failed(self, instance: Instance) -> Then:
        return self._known(self.behaviour.failed(instance))

    def _known(self, then: Then) -> Then:
        if then.call is None or then.call in self.handlers:
            return then
        return Then(then.events)
