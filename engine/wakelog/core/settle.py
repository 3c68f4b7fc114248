"""What an outcome is in events: how a call closes, what its commands move, how failures read."""

from __future__ import annotations

from wakelog.core.commands import (
    Call,
    CancelSchedule,
    Emit,
    Ended,
    Failed,
    ScheduleAt,
    SetState,
    Settle,
)
from wakelog.core.events import (
    Cleared,
    DeadLettered,
    Event,
    EventHandled,
    Executed,
    ExecutionFailed,
    MessageSent,
    ScheduleCancelled,
    Scheduled,
    StateSet,
)
from wakelog.core.instance import Instance

__all__ = ["closing", "gave_up", "moves", "recovering"]


def closing(call: Call, outcome: Ended) -> tuple[Event, ...]:
    """The events that say the call itself is over, and well."""
    if call.recovers is not None:
        first = _failure(call.recovers, recovered=True)
        handled = call.recovers.call.event_version
        return (first,) if handled is None else (first, EventHandled(event_version=handled))
    if call.run is not None:
        return (
            Executed(
                run=call.run.number,
                attempt=call.run.attempt,
                started_us=call.run.started_us,
                duration_us=max(0, outcome.now_us - call.run.started_us),
            ),
        )
    if call.event_version is not None:
        return (EventHandled(event_version=call.event_version),)
    return ()


def moves(instance: Instance, outcome: Ended) -> tuple[Event, ...]:
    """The commands as events: all messages, the last state, the last word on the schedule (T4).

    A clear drops the handler's state and schedule and keeps its messages (T8).
    """
    events: list[Event] = []
    state: SetState | None = None
    schedule: ScheduleAt | CancelSchedule | None = None
    for command in outcome.commands:
        match command:
            case SetState():
                state = command
            case ScheduleAt() | CancelSchedule():
                schedule = command
            case Emit():
                events.append(MessageSent(topic=command.topic, payload=command.payload))
    if outcome.cleared:
        events.append(Cleared(reason=outcome.reason, by="handler"))
        return tuple(events)
    if state is not None:
        events.append(StateSet(state=state.state, schema_version=state.schema_version))
    if isinstance(schedule, ScheduleAt):
        events.append(Scheduled(due_us=schedule.due_us, asked_us=schedule.asked_us))
    elif schedule is not None and instance.due_us is not None:
        events.append(ScheduleCancelled())
    return tuple(events)


def recovering(settle: Settle, outcome: Failed) -> Call:
    """The call of `on_error` for a failed call, with the state as before it (U5)."""
    failed = settle.call
    return Call(
        "on_error",
        base=failed.base,
        run=failed.run,
        error=outcome.error,
        recovers=settle,
        source=failed.handler,
    )


def gave_up(settle: Settle) -> tuple[Event, ...]:
    """The events of a failure that nothing recovered; of both, where `on_error` failed too."""
    first = settle.call.recovers
    failures = (_failure(first), _failure(settle)) if first else (_failure(settle),)
    failed = (first or settle).call
    if failed.event_version is None:
        return failures
    said = failures[0]
    dead = DeadLettered(
        event_version=failed.event_version,
        reason="handler_failed",
        error_type=said.error_type,
        message=said.message,
    )
    return (*failures, dead)


def _failure(settle: Settle, *, recovered: bool = False) -> ExecutionFailed:
    call, outcome = settle.call, settle.outcome
    if not isinstance(outcome, Failed):
        raise AssertionError(f"{call.handler} did not fail")
    return ExecutionFailed(
        handler=call.handler,
        error_type=outcome.error_type,
        message=outcome.message,
        traceback=outcome.traceback,
        run=call.run and call.run.number,
        attempt=call.run and call.run.attempt,
        recovered=recovered,
        event_version=call.event_version,
        payload=call.payload if call.event_version is None else None,
    )
