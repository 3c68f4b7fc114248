"""How one event changes an instance. Nothing else does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from msgspec.structs import replace

from wakelog.core.events import (
    Cancelled,
    Cleared,
    DeadLettered,
    Event,
    EventHandled,
    EventReceived,
    Executed,
    ExecutionFailed,
    ExecutionLost,
    Flushed,
    FlushReason,
    Missed,
    Parked,
    Paused,
    Requeued,
    Resumed,
    RetryExhausted,
    RetryScheduled,
    RunStarted,
    ScheduleCancelled,
    Scheduled,
    Started,
    StateSet,
    Stopped,
    Trigger,
    WakeAction,
)
from wakelog.core.instance import DeferredEvent, Failure, Instance, OpenRun, PendingRetry
from wakelog.core.windows import Window, kept, without

__all__ = ["evolve", "fold"]


def fold(instance: Instance, events: Iterable[Event], at_us: int) -> Instance:
    """Evolve over the events of one unit of work, all decided when the clock showed `at_us`."""
    for event in events:
        instance = evolve(instance, event, at_us)
    return instance


def evolve(instance: Instance, event: Event, at_us: int) -> Instance:
    """The instance after `event`, decided when the clock showed `at_us`, as its next version.

    What follows from the event counts from `at_us`. The recorded time alone never goes back: it
    stays where it was if the clock was ahead when the event before was recorded (U9).
    """
    version = instance.version + 1
    recorded_us = at_us if at_us > instance.recorded_us else instance.recorded_us
    match event:  # the most frequent ones in one `replace`
        case EventReceived() if not event.deferred and event.window is None:
            count = instance.event_count + 1
            return replace(
                instance,
                version=version,
                recorded_us=recorded_us,
                event_count=count,
                failed=False,
            )
        case StateSet():
            return replace(
                instance,
                version=version,
                recorded_us=recorded_us,
                state=event.state,
                state_schema=event.schema_version,
            )
        case Scheduled() if event.action == "execute" and event.window is None:
            return replace(
                instance,
                version=version,
                recorded_us=recorded_us,
                due_us=event.due_us,
                due_action="execute",
                due_reason=event.reason,
                due_asked_us=event.due_us if event.asked_us is None else event.asked_us,
                due_local=event.local,
                due_set_us=at_us,
                failed=instance.failed and event.by != "policy",  # recurring work goes on
            )
        case Executed():
            return replace(
                instance,
                version=version,
                recorded_us=recorded_us,
                run=None,
                losses=0,
                failed=False,
                last_run_us=at_us,
            )
        case _:
            step = replace(instance, version=version, recorded_us=recorded_us)
            return _evolve(step, event, at_us)


def _evolve(step: Instance, event: Event, at_us: int) -> Instance:
    match event:
        case EventReceived():
            return _received(step, event, at_us)
        case Scheduled():
            if event.window is not None:
                return _timed(step, event, event.window, at_us)
            return _scheduled(step, event, at_us)
        case ScheduleCancelled():
            return _cancelled(step, event.action)
        case RunStarted():
            return _run_started(step, event, at_us)
        case Started():
            return replace(
                _blank(step),
                lives=step.lives + 1,
                started_us=at_us,
                state=event.input,
                event_count=len(step.deferred),
            )
        case EventHandled():
            return replace(_handled(step, event.event_version), failed=False)
        case ExecutionFailed():
            return _failed(step, event, at_us)
        case ExecutionLost():
            return _lost(step, event, at_us)
        case RetryScheduled():
            return _retry_scheduled(step, event, at_us)
        case RetryExhausted():
            return replace(step, retry=None, failed=event.then == "fail")
        case Flushed():
            return _flushed(step, event.events)
        case DeadLettered() if event.events:
            return replace(_flushed(step, event.events), failed=False)
        case DeadLettered() | Cancelled():
            return _gone(step, event.event_version)
        case Requeued():
            return replace(step, deferred=_joined(step, at_us, event.event_version))
        case Missed() if event.due_us > step.ran_upto_us:
            return replace(step, ran_from_us=0)
        case Cleared():
            return _blank(step if event.by == "handler" else replace(step, deferred=()))
        case Paused():
            return replace(step, paused=True, blocked_reason=event.reason)
        case Resumed():
            if step.paused:
                return replace(step, paused=False, blocked_reason=None)
            return replace(step, stopped=False, parked=False, blocked_reason=None)
        case Stopped():
            return replace(step, stopped=True, paused=False, blocked_reason=event.reason)
        case Parked():
            error = Failure("load", event.error_type, event.message, "", at_us)
            return replace(step, parked=True, last_error=error)
        case _:
            return step


def _blank(step: Instance) -> Instance:
    """Nothing but the history, and the events that wait for the next life, in their windows."""
    windows = kept(step.windows, {each.version for each in step.deferred})
    windows = tuple(replace(window, taken=False) for window in windows)
    blank = Instance(step.id, step.version, step.recorded_us, step.lives, deferred=step.deferred)
    if not windows:
        return blank
    return _with_windows(replace(blank, window_count=step.window_count), windows)


def _received(step: Instance, event: EventReceived, at_us: int) -> Instance:
    count = step.event_count + 1
    if event.window is not None:
        step = _placed(step, event.window, at_us)
    if not event.deferred:
        return replace(step, event_count=count, failed=False)
    deferred = _joined(step, at_us, step.version, event.handle_at_us)
    return replace(step, event_count=count, deferred=deferred)


def _joined(
    step: Instance, at_us: int, version: int, delayed_until_us: int | None = None
) -> tuple[DeferredEvent, ...]:
    """The deferred events with a new one in its place: mostly the last. One without a delay comes
    after those accepted before it, even if the clock was ahead then."""
    if delayed_until_us is not None:
        new = DeferredEvent(delayed_until_us, version, delayed=True)
    else:
        newest_us = max(
            (each.handle_at_us for each in step.deferred if not each.delayed), default=0
        )
        new = DeferredEvent(max(at_us, newest_us), version)
    deferred = (*step.deferred, new)
    return deferred if not step.deferred or step.deferred[-1] < new else tuple(sorted(deferred))


def _handled(step: Instance, event_version: int) -> Instance:
    if step.deferred and step.deferred[0].version == event_version:
        return replace(step, deferred=step.deferred[1:])
    deferred = tuple(each for each in step.deferred if each.version != event_version)
    return replace(step, deferred=deferred)


def _gone(step: Instance, event_version: int) -> Instance:
    """A deferred event will not be handled: it leaves its window too."""
    step = _handled(step, event_version)
    windows = without(step.windows, event_version)
    if windows is step.windows:
        return step
    return _with_windows(replace(step, event_count=step.event_count - 1), windows)


def _placed(step: Instance, number: int, at_us: int) -> Instance:
    """The newest event joins its window, or opens it; the `Scheduled` that follows says when the
    window is due."""
    version = step.version
    *before, newest = step.windows or (None,)
    if newest is None or newest.number != number:
        opened = Window(number, (version,), at_us, at_us, at_us, set_us=at_us)
        return _with_windows(replace(step, window_count=number), (*step.windows, opened))
    joined = replace(newest, events=(*newest.events, version), newest_us=at_us)
    return replace(step, windows=(*before, joined))


def _timed(step: Instance, event: Scheduled, number: int, at_us: int) -> Instance:
    reason = cast(FlushReason, event.reason)
    return _with_windows(
        step,
        tuple(
            replace(each, due_us=event.due_us, reason=reason, set_us=at_us)
            if each.number == number
            else each
            for each in step.windows
        ),
    )


def _flushed(step: Instance, events: tuple[int, ...]) -> Instance:
    """The first window is gone, and the next one becomes the first."""
    count = max(0, step.event_count - len(events))
    return _with_windows(replace(step, event_count=count), step.windows[1:])


def _with_windows(step: Instance, windows: tuple[Window, ...]) -> Instance:
    """The schedule is when the first window is due; one that a run has taken is no longer due."""
    first = windows[0] if windows else None
    due_us = None if first is None or first.taken else first.due_us
    return replace(step, windows=windows, due_us=due_us, due_action="flush")


def _scheduled(step: Instance, event: Scheduled, at_us: int) -> Instance:
    due_us = event.due_us
    match event.action:
        case "clear":
            return replace(step, clear_at_us=due_us, clear_reason=event.reason)
        case "trigger":
            return replace(step, triggered_us=due_us)
        case "deferred":
            return replace(step, deferred=_ready_by(step, due_us))
        case action:
            return replace(
                step,
                due_us=due_us,
                due_action=action,
                due_reason=event.reason,
                due_set_us=at_us,
            )


def _cancelled(step: Instance, action: WakeAction) -> Instance:
    match action:
        case "clear":
            return replace(step, clear_at_us=None, clear_reason=None)
        case "trigger":
            return replace(step, triggered_us=None)
        case "deferred":
            return step
        case _:
            return replace(step, due_us=None, due_action=action, due_reason=None)


def _ready_by(step: Instance, due_us: int) -> tuple[DeferredEvent, ...]:
    """The deferred events, none without a delay later than `due_us`: they were accepted while the
    clock was ahead."""
    moved = (
        each if each.delayed or each.handle_at_us <= due_us else replace(each, handle_at_us=due_us)
        for each in step.deferred
    )
    return tuple(sorted(moved))


def _run_started(step: Instance, event: RunStarted, at_us: int) -> Instance:
    """A run consumes what it was started for: the schedule, the trigger or the retry (T5)."""
    run = OpenRun(
        event.run,
        event.attempt,
        event.trigger,
        event.due_us,
        at_us,
        event.worker,
        step.version,
    )
    is_new = event.run != step.run_count
    if is_new and event.trigger in ("alarm", "start"):
        step = _ran(step, event)
    alarm, manual = event.trigger in ("alarm", "start"), event.trigger == "manual"
    if event.events and step.windows:
        first, *others = step.windows
        step = _with_windows(step, (replace(first, taken=True), *others))
    return replace(
        step,
        run=run,
        run_count=event.run,
        run_version=step.version if is_new else step.run_version,
        run_due_us=event.due_us if is_new else step.run_due_us,
        run_began_us=at_us if event.attempt == 1 else step.run_began_us,
        retry=None,
        failed=False,
        due_us=None if alarm else step.due_us,
        due_reason=None if alarm else step.due_reason,
        triggered_us=None if manual else step.triggered_us,
        losses=step.losses if event.trigger in ("retry", "recovery") else 0,
    )


def _ran(step: Instance, event: RunStarted) -> Instance:
    """A run of a schedule: it follows the one before, unless some between them were missed, or the
    clock has gone back."""
    due_us = event.due_us
    step = replace(step, run_reason=step.due_reason, run_local=step.due_local)
    if due_us <= step.ran_upto_us:
        return step
    begins = event.trigger == "start" or not step.ran_from_us
    return replace(step, ran_from_us=due_us if begins else step.ran_from_us, ran_upto_us=due_us)


def _failed(step: Instance, event: ExecutionFailed, at_us: int) -> Instance:
    error = Failure(event.handler, event.error_type, event.message, event.traceback, at_us)
    step = replace(step, failure_count=step.failure_count + 1, last_error=error)
    if event.handler != "execute":
        return step
    failed = not (event.recovered or event.will_retry)
    return replace(step, run=None, losses=0, failed=failed, last_run_us=at_us)


def _retry_scheduled(step: Instance, event: RetryScheduled, at_us: int) -> Instance:
    """The next attempt of a run (attempt 1 if an operator asked for it), or the next attempt to
    handle a deferred event."""
    if event.event_version is not None:
        return _waits_again(step, event, event.event_version, at_us)
    trigger: Trigger = "manual" if event.attempt == 1 else "retry"
    retry = PendingRetry(event.run, event.attempt, event.due_us, trigger, at_us)
    return replace(step, retry=retry, failed=False)


def _waits_again(step: Instance, event: RetryScheduled, version: int, at_us: int) -> Instance:
    deferred = tuple(
        replace(
            each,
            attempt=event.attempt,
            retry_at_us=event.due_us,
            first_us=each.first_us or at_us,
            retry_set_us=at_us,
        )
        if each.version == version
        else each
        for each in step.deferred
    )
    return replace(step, deferred=deferred)


def _lost(step: Instance, event: ExecutionLost, at_us: int) -> Instance:
    """The run is still to be done: its next attempt is due at once, under the same number (R6)."""
    error = Failure(
        "execute",
        "ExecutionLost",
        f"worker {event.worker} was lost ({event.reason})",
        "",
        at_us,
    )
    given_back = event.reason == "shutdown"
    return replace(
        step,
        run=None,
        retry=PendingRetry(event.run, event.attempt + 1, at_us, "recovery", at_us),
        losses=step.losses if given_back else step.losses + 1,
        last_error=step.last_error if given_back else error,
    )
