"""The questions that `decide` asks about a definition, and its own answer.

What is the same for every type of job is decided in `core`. Everything in which types differ is a
question of `Policy`, so no module here knows which types there are.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from wakelog.core.calls import HandlerCall, HandlerEnded, HandlerFailed
from wakelog.core.commands import HandlerName
from wakelog.core.events import Event, Trigger
from wakelog.core.evolve import fold
from wakelog.core.instance import Instance
from wakelog.core.retry import OnExhausted, Retry
from wakelog.core.windows import WindowSlot

__all__ = ["NOTHING", "Decision", "Policy", "Then", "decided"]


class Then(Struct, frozen=True):
    """A policy's answer: events to append, and a handler to call."""

    events: tuple[Event, ...] = ()
    call: HandlerName | None = None
    due_us: int | None = None
    """For a run: when it was due, if not when it was woken; after an outage the last occurrence."""
    trigger: Trigger | None = None
    """For a run: what triggered it, if that is more specific than what woke it."""
    takes: tuple[int, ...] = ()
    """For a run: the versions of the accepted events that it takes."""


NOTHING = Then()


class Policy(Protocol):
    """What a definition has (handlers, bounds, retry policy), and where types of job differ."""

    @property
    def handlers(self) -> frozenset[str]:
        """The names of the handlers that the definition has."""
        ...

    @property
    def max_waiting(self) -> int:
        """How many accepted events of one instance may wait to be handled."""
        ...

    @property
    def retry(self) -> Retry | None:
        """How failing runs, and failing handlers of deferred events, are retried."""
        ...

    @property
    def on_exhausted(self) -> OnExhausted:
        """What happens to an instance whose run has no attempt left."""
        ...

    # -- events

    def place(self, instance: Instance, now_us: int) -> WindowSlot:
        """Where does an event go that is accepted now, and must it wait there?"""
        ...

    def received(self, instance: Instance, now_us: int) -> Then:
        """What follows from an event that may be handled now?"""
        ...

    # -- runs

    def started(self, instance: Instance, now_us: int) -> Then:
        """What follows when recurring work begins, or is resumed after a stop?"""
        ...

    def triggered(self, instance: Instance, now_us: int) -> Then:
        """What follows when an operator asks for a run now?"""
        ...

    def woken(self, instance: Instance, trigger: Trigger, due_us: int, now_us: int) -> Then:
        """What follows when a run is due since `due_us`? Without a call no run starts."""
        ...

    def retimed(self, instance: Instance, now_us: int, ahead_us: int) -> Then:
        """What replaces a schedule that was set by another rule than the definition has now, or
        when the clock showed more than `ahead_us`?"""
        ...

    # -- outcomes

    def succeeded(
        self, instance: Instance, call: HandlerCall, outcome: HandlerEnded, now_us: int
    ) -> Then:
        """What follows a handler that ended well, or was recovered?"""
        ...

    def failed(self, instance: Instance, call: HandlerCall | None, now_us: int) -> Then:
        """What follows a run that failed for good? Its call is None if its worker was lost."""
        ...

    def cleared(self, instance: Instance, call: HandlerCall) -> Then:
        """What precedes the end of a life that its own handler clears?"""
        ...


class Decision(Struct, frozen=True):
    """The events to append, the instance after them, and the handler to call next."""

    events: tuple[Event, ...]
    after: Instance
    call: HandlerCall | None = None
    starts_over: bool = False
    """The events replace those that the unit had decided on before."""
    raises: tuple[HandlerFailed, ...] = ()
    """The failures to raise to the caller, the first one first."""
    stale: bool = False
    """The run was cleared or lost: nothing may be recorded for it."""


def decided(
    instance: Instance, events: tuple[Event, ...], now_us: int, call: HandlerCall | None = None
) -> Decision:
    """The decision for these events, folded on `instance`."""
    return Decision(events, fold(instance, events, now_us), call)
