"""WorkerPool: a queue of events, each of which is a run of its own (P1, P5).

What waits, and who takes it, is not decided here: an item is an instance with one run, made when it
is taken. These are the answers for that instance.
"""

from __future__ import annotations

from typing import ClassVar

from wakelog.core.calls import HandlerCall, HandlerEnded
from wakelog.core.events import DeadLettered
from wakelog.core.instance import Instance
from wakelog.core.policy import NOTHING, Then
from wakelog.core.retry import OnExhausted
from wakelog.kinds.behaviour import Behaviour

__all__ = ["WorkerPoolBehaviour"]


class WorkerPoolBehaviour(Behaviour):
    """An item is taken, and runs until it has ended well or is a dead letter."""

    __slots__ = ()

    ON_EXHAUSTED: ClassVar[OnExhausted] = "dead_letter"

    def received(self, instance: Instance, now_us: int) -> Then:
        """Nothing: it waits for a partition."""
        return NOTHING

    def succeeded(
        self, instance: Instance, call: HandlerCall, outcome: HandlerEnded, now_us: int
    ) -> Then:
        """Nothing: the next item is taken anyway."""
        return NOTHING

    def failed(self, instance: Instance, call: HandlerCall | None, now_us: int) -> Then:
        """It is kept as a dead letter, and the definition is told; the next item goes on (P5)."""
        error = instance.last_error
        dead = DeadLettered(
            event_version=instance.run_version,
            reason="lost" if call is None else "handler_failed",
            error_type=error.error_type if error else "",
            message=error.message if error else "",
            attempts=call.attempt if call else instance.losses,
        )
        return Then((dead,), call="on_dead_letter")

    @staticmethod
    def status(instance: Instance) -> str:
        """An item that is being worked on; others are no instances."""
        return "processing" if instance.run is not None else "pending"
