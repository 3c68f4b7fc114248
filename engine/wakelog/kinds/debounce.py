"""Debounce: events of a short while are reduced to one state and handed over as one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wakelog.core.calls import HandlerCall, HandlerEnded
from wakelog.core.events import DeadLettered, Event, Flushed, StateSet, Trigger
from wakelog.core.instance import Instance
from wakelog.core.policy import NOTHING, Then
from wakelog.core.retry import OnExhausted
from wakelog.core.windows import Window, WindowRule, WindowSlot
from wakelog.kinds.behaviour import Behaviour

__all__ = ["DebounceBehaviour"]

MORE_SPECIFIC: dict[str, Trigger] = {"manual": "manual", "max_events": "max_events"}
"""Why a window is due, if that says more about its run than `alarm`."""


@dataclass(frozen=True, slots=True)
class DebounceBehaviour(Behaviour):
    """An event is reduced by `on_event`; the flush of a window is a run of `execute` (D3, D5).

    Which window an event belongs to, and when that is due, is decided in `core.windows`.
    """

    ON_EXHAUSTED: ClassVar[OnExhausted] = "dead_letter"

    windows: WindowRule
    on_exhausted: OnExhausted = ON_EXHAUSTED
    """What happens to a batch that has failed for good."""

    def place(self, instance: Instance, now_us: int) -> WindowSlot:
        """In the newest window while it is open, else in a new one (D1, D2)."""
        return self.windows.place(instance.windows, instance.window_count, now_us)

    def triggered(self, instance: Instance, now_us: int) -> Then:
        """The windows that are not due yet are due now (D6): the newest one; also the one before
        requeued batches, which are closed, and those closed while the clock was ahead."""
        late = (each for each in instance.windows if not each.is_ready(now_us))
        return Then(
            tuple(
                each.timed(now_us, each.reason if each.is_closed(now_us) else "manual", "operator")
                for each in late
            )
        )

    def woken(self, instance: Instance, trigger: Trigger, due_us: int, now_us: int) -> Then:
        """A flush of the first window, with all of its events (D4)."""
        if not instance.windows:
            return NOTHING
        batch = instance.windows[0]
        if trigger == "alarm":
            trigger = MORE_SPECIFIC.get(batch.reason, "alarm")
        return Then(call="execute", trigger=trigger, takes=batch.events)

    @property
    def rule(self) -> str:
        """How long its windows stay open, and how many events each takes."""
        return str(self.windows)

    def retimed(self, instance: Instance, now_us: int, ahead_us: int, by_rule: bool) -> Then:
        """The windows that are still open follow the present rule (C10), and none waits for a clock
        that was ahead (U9)."""
        return Then(self.windows.retimed(instance.windows, now_us, ahead_us, by_rule))

    def succeeded(
        self, instance: Instance, call: HandlerCall, outcome: HandlerEnded, now_us: int
    ) -> Then:
        """A batch that was handed over is gone, with its state; the next window is first (D7)."""
        if call.run is None:
            return NOTHING
        is_last = len(instance.windows) == 1
        return Then(_handed_over(instance), call="on_idle" if is_last else None)

    def failed(self, instance: Instance, call: HandlerCall | None, now_us: int) -> Then:
        """The batch is kept as a dead letter, and the instance is ready for new events (D7); unless
        the policy takes it for handed over, or keeps it until an operator acts."""
        match self.on_exhausted:
            case "dead_letter":
                return Then(_dead(instance, call))
            case "continue":
                return Then(_handed_over(instance))
            case _:
                return NOTHING

    def cleared(self, instance: Instance, call: HandlerCall) -> Then:
        """A run that clears the instance has handed its batch over."""
        if call.run is None or not instance.windows:
            return NOTHING
        return Then((_flushed(instance.windows[0]),))

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
        if instance.is_retrying:
            return "retrying"
        if instance.unread is not None:
            return "waiting_for_code"
        return "debouncing" if instance.windows else "idle"


def _flushed(batch: Window) -> Event:
    return Flushed(events=batch.events, reason=batch.reason)


def _handed_over(instance: Instance) -> tuple[Event, ...]:
    return _flushed(instance.windows[0]), *_emptied(instance)


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
