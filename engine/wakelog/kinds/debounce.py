"""Debounce: events of a short while are reduced to one state and handed over as one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wakelog.core.calls import Ended, HandlerCall
from wakelog.core.events import DeadLettered, Event, Flushed, StateSet, Trigger
from wakelog.core.instance import Instance
from wakelog.core.policy import NOTHING, Then
from wakelog.core.retry import OnExhausted
from wakelog.core.windows import Batching

__all__ = ["DebounceBehaviour"]


@dataclass(frozen=True, slots=True)
class DebounceBehaviour:
    """An event is reduced by `on_event`; the flush of a window is a run of `execute` (D3, D5).

    Which window an event belongs to, and when that is due, is `core.windows`.
    """

    ON_EXHAUSTED: ClassVar[OnExhausted] = "dead_letter"

    batching: Batching
    on_exhausted: OnExhausted = ON_EXHAUSTED
    """What becomes of a batch that has failed for good."""

    def received(self, instance: Instance, now_us: int) -> Then:
        return Then(call="on_event")

    def started(self, instance: Instance, now_us: int) -> Then:
        """It begins with its first event."""
        return NOTHING

    def woken(self, instance: Instance, trigger: Trigger, due_us: int, now_us: int) -> Then:
        """A flush of the first window."""
        return Then(call="execute" if instance.windows else None)

    def succeeded(self, instance: Instance, call: HandlerCall, outcome: Ended, now_us: int) -> Then:
        """A batch that was handed over is gone, with its state; the next window begins (D7)."""
        if call.run is None:
            return NOTHING
        is_last = len(instance.windows) == 1
        return Then(_handed_over(instance), call="on_idle" if is_last else None)

    def failed(self, instance: Instance, call: HandlerCall | None, now_us: int) -> Then:
        """The batch is kept as a dead letter, and the instance is ready for new events (D7);
        unless the policy wants it to be taken for done, or to stay until somebody acts."""
        match self.on_exhausted:
            case "dead_letter":
                return Then(_dead(instance, call))
            case "continue":
                return Then(_handed_over(instance))
            case _:
                return NOTHING

    def retimed(self, instance: Instance, now_us: int) -> Then:
        """The windows that are still open follow the rule of today (C10)."""
        return Then(self.batching.retimed(instance.windows, now_us))

    @staticmethod
    def status(instance: Instance) -> str:
        """The first that holds (D8)."""
        if not instance.exists:
            return "not_found"
        if instance.failed or instance.parked:
            return "failed"
        if instance.paused:
            return "paused"
        if instance.run is not None:
            return "flushing"
        if instance.retry is not None:
            return "retrying"
        return "debouncing" if instance.windows else "idle"


def _handed_over(instance: Instance) -> tuple[Event, ...]:
    batch = instance.windows[0]
    return Flushed(events=batch.events, reason=batch.reason), *_emptied(instance)


def _dead(instance: Instance, call: HandlerCall | None) -> tuple[Event, ...]:
    batch, error = instance.windows[0], instance.last_error
    dead = DeadLettered(
        event_version=batch.events[0],
        events=batch.events,
        reason="lost" if call is None else "flush_failed",
        error_type=error.error_type if error else "",
        message=error.message if error else "",
        attempts=call.attempt if call else instance.losses,
    )
    return dead, *_emptied(instance)


def _emptied(instance: Instance) -> tuple[Event, ...]:
    return () if instance.state is None else (StateSet(),)
