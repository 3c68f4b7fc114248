"""What must have been recorded of chores, however many of their workers were killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.auditing import runs_of
from wakelog.core.events import (
    Cleared,
    Event,
    EventHandled,
    EventReceived,
    Executed,
    ExecutionLost,
    RunStarted,
    ScheduleCancelled,
    Scheduled,
)
from wakelog.log.records import Recorded

__all__ = ["check_alarms", "check_runs", "check_waiting"]


def check_waiting(history: Sequence[Recorded]) -> None:
    """Each deferred event was handled once, in the order of acceptance."""
    deferred = [
        recorded.version
        for recorded in history
        if isinstance(recorded.event, EventReceived) and recorded.event.deferred
    ]
    handled = [r.event.event_version for r in history if isinstance(r.event, EventHandled)]
    assert handled == deferred


def check_alarms(stream: str, events: Sequence[Event]) -> None:
    """Each alarm was consumed by a run, on its due time, or replaced by another one."""
    due_us: int | None = None
    for event in events:
        if isinstance(event, Scheduled):
            due_us = event.due_us if event.action == "execute" else due_us
        elif isinstance(event, RunStarted) and event.trigger == "alarm":
            upto = "\n".join(map(repr, events[: events.index(event) + 1]))
            assert event.due_us == due_us, f"{stream}: {event} was not due at {due_us}:\n{upto}"
            due_us = None
        elif isinstance(event, ScheduleCancelled | Cleared):
            raise AssertionError(f"{stream}: nobody asked for {event}")
    assert due_us is None, f"{stream}: an alarm at {due_us} was lost"


def check_runs(stream: str, history: Sequence[Recorded]) -> int:
    """Each attempt has one end; each run ended well once, with its last attempt. How many."""
    attempts = runs_of(history)
    ends = [[type(end.event) for end in attempt] for attempt in attempts.values()]
    assert all(end in ([Executed], [ExecutionLost]) for end in ends), f"{stream}: {attempts}"
    executed = Counter(
        run for (_, run, _), [end] in attempts.items() if isinstance(end.event, Executed)
    )
    begun = {run for _, run, _ in attempts}
    assert executed == Counter(begun), f"{stream}: a run ended well never, or twice"
    for run in begun:
        tries = [attempt for _, of, attempt in attempts if of == run]
        assert tries == [*range(1, len(tries) + 1)], f"{stream}: attempts of run {run}: {tries}"
    return len(begun)
