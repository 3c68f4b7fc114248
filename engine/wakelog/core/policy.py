"""What `decide` must know of a definition, and what it answers."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from wakelog.core.calls import Ended, HandlerCall, HandlerFailed
from wakelog.core.commands import HandlerName
from wakelog.core.events import Event, Trigger
from wakelog.core.evolve import fold
from wakelog.core.instance import Instance
from wakelog.core.retry import OnExhausted, Retry
from wakelog.core.windows import Batching

__all__ = ["NOTHING", "START_REASON", "Decision", "Policy", "Then", "decided"]


START_REASON = "start"
"""The reason of a schedule that a start has set: its run says that it was triggered by that."""


class Then(Struct, frozen=True):
    """A policy's answer: events of its own to append, and a handler to call."""

    events: tuple[Event, ...] = ()
    call: HandlerName | None = None
    due_us: int | None = None
    """When the run was due, where that is not what woke it: after an outage the last occurrence."""


NOTHING = Then()


class Policy(Protocol):
    """What `decide` must know of a definition. The four methods are where job types differ."""

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
        """How failing runs, and failing handlers of deferred events, are tried again."""
        ...

    @property
    def on_exhausted(self) -> OnExhausted:
        """What becomes of an instance whose run has no attempt left."""
        ...

    @property
    def batching(self) -> Batching | None:
        """How accepted events are put into windows, where runs take them in batches."""
        ...

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


class Decision(Struct, frozen=True):
    """The answer: what is to be appended, what the instance is then, and what to call next."""

    events: tuple[Event, ...]
    after: Instance
    call: HandlerCall | None = None
    starts_over: bool = False
    """The events replace those that the unit had decided on before."""
    raises: tuple[HandlerFailed, ...] = ()
    """The failures that the caller is to be told of, the first one first."""
    stale: bool = False
    """The run is not ours any more (cleared or lost): nothing may be recorded."""


def decided(
    instance: Instance, events: tuple[Event, ...], now_us: int, call: HandlerCall | None = None
) -> Decision:
    """The decision for these events, folded on `instance`."""
    return Decision(events, fold(instance, events, now_us), call)
