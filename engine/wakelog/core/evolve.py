"""How one event changes an instance. Nothing else does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from msgspec.structs import replace

from wakelog.core.events import (
    Cancelled,
    Cleared,
    DeadLettered,
    Discarded,
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
    Returned,
    RunStarted,
    ScheduleCancelled,
    Scheduled,
    Started,
    StateSet,
    Stopped,
    Trigger,
    WakeAction,
)
from wakelog.core.instance import (
    MAX_DEAD_LETTERS,
    Deferred,
    Failure,
    Instance,
    OpenRun,
    PendingRetry,
    Unread,
    blank,
    deferred_with,
    deferred_without,
    ready_by,
    retried,
    with_windows,
)
from wakelog.core.windows import Window, placed, timed, without

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
            return _scheduled(step, event, at_us)
        case ScheduleCancelled():
            return _cancelled(step, event.action)
        case RunStarted():
            return _run_started(step, event, at_us)
        case Started():
            return replace(
                blank(step),
                lives=step.lives + 1,
                started_us=at_us,
                state=event.input,
                event_count=len(step.deferred),
            )
        case EventHandled():
            left = deferred_without(step.deferred, event.event_version)
            return replace(step, deferred=left, failed=False)
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
        case DeadLettered():
            return _dead_lettered(step, event)
        case Cancelled():
            return _gone(step, event.event_version)
        case Requeued():
            return _requeued(step, event, at_us)
        case Discarded():
            if event.dead is not None:
                return replace(step, dead=_without(step.dead, event.dead))
            return _dropped(step, event.event_version, event.events)
        case Returned():
            return _returned(step, event, at_us)
        case Missed() if event.due_us > step.ran_upto_us:
            return replace(step, ran_from_us=0)
        case Cleared():
            return _cleared(step, event)
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


def _cleared(step: Instance, event: Cleared) -> Instance:
    """The life is over. What waits at a handler's own clear stays; the dead letters of a life that
    an operator ends are discarded with it."""
    if event.by == "handler":
        return blank(step)
    dead = () if event.by == "operator" else step.dead
    return blank(replace(step, deferred=Deferred(), dead=dead))


def _received(step: Instance, event: EventReceived, at_us: int) -> Instance:
    count = step.event_count + 1
    if event.window is not None:
        windows = placed(step.windows, event.window, step.version, at_us)
        window_count = max(step.window_count, event.window)
        step = with_windows(replace(step, window_count=window_count), windows)
    if not event.deferred:
        return replace(step, event_count=count, failed=False)
    version, until_us = step.version, event.handle_at_us
    deferred = deferred_with(step.deferred, (version,), version, at_us, until_us)
    return replace(step, event_count=count, deferred=deferred)


def _gone(step: Instance, event_version: int) -> Instance:
    """A deferred event will not be handled: it leaves its window too."""
    step = replace(step, deferred=deferred_without(step.deferred, event_version))
    windows = without(step.windows, event_version)
    if windows is step.windows:
        return step
    return with_windows(replace(step, event_count=step.event_count - 1), windows)


def _dropped(step: Instance, event_version: int, batch: tuple[int, ...]) -> Instance:
    """An event, or the batch of the first window, is given up; nothing waits for code to read
    it."""
    unread = step.unread
    if unread is not None and unread.event_version == event_version:
        step = replace(step, unread=None, retry=None if unread.is_run else step.retry)
    return _flushed(step, batch) if batch else _gone(step, event_version)


def _dead_lettered(step: Instance, event: DeadLettered) -> Instance:
    dead = (*step.dead, step.version)[-MAX_DEAD_LETTERS:]
    step = replace(_dropped(step, event.event_version, event.events), dead=dead)
    return replace(step, failed=False) if event.events else step


def _requeued(step: Instance, event: Requeued, at_us: int) -> Instance:
    """A dead letter waits again, behind what waits already; in a window of its own, if there are
    windows."""
    versions = event.events or (event.event_version,)
    waiting = deferred_with(step.deferred, versions, step.version, at_us)
    step = replace(step, deferred=waiting, dead=_without(step.dead, event.dead))
    if event.window is None:
        return step
    opened = Window(event.window, versions, at_us, at_us, at_us, set_us=at_us)
    count = step.event_count + len(versions)
    step = replace(step, window_count=event.window, event_count=count)
    return with_windows(step, (*step.windows, opened))


def _returned(step: Instance, event: Returned, at_us: int) -> Instance:
    """What was taken waits for code that can read it, and a run with it: the same attempt of it."""
    is_run = event.run is not None
    unread = Unread(event.event_version, is_run, event.error_type, event.message, at_us)
    if event.run is None:
        return replace(step, unread=unread)
    again = PendingRetry(event.run, event.attempt, at_us, "recovery", at_us)
    return replace(step, unread=unread, run=None, retry=again)


def _without(versions: tuple[int, ...], version: int) -> tuple[int, ...]:
    return tuple(each for each in versions if each != version)


def _flushed(step: Instance, events: tuple[int, ...]) -> Instance:
    """The first window is gone, and the next one becomes the first."""
    count = max(0, step.event_count - len(events))
    return with_windows(replace(step, event_count=count), step.windows[1:])


def _scheduled(step: Instance, event: Scheduled, at_us: int) -> Instance:
    due_us = event.due_us
    if event.window is not None:
        reason = cast(FlushReason, event.reason)
        return with_windows(step, timed(step.windows, event.window, due_us, reason, at_us))
    match event.action:
        case "clear":
            return replace(step, clear_at_us=due_us, clear_reason=event.reason)
        case "trigger":
            return replace(step, triggered_us=due_us)
        case "deferred":
            return _rearmed(step, event)
        case action:
            return replace(
                step,
                due_us=due_us,
                due_action=action,
                due_reason=event.reason,
                due_set_us=at_us,
            )


def _rearmed(step: Instance, event: Scheduled) -> Instance:
    """Events that wait are ready by then: those accepted while the clock was ahead; and what waits
    for code is tried, with its run, if there is code that can read it or an operator asks."""
    step = replace(step, deferred=ready_by(step.deferred, event.due_us))
    unread, retry = step.unread, step.retry
    if unread is None or (event.by != "operator" and event.reason != "readable"):
        return step
    if unread.is_run and retry is not None and retry.due_us > event.due_us:
        retry = replace(retry, due_us=event.due_us)  # it was given back while the clock was ahead
    return replace(step, unread=None, retry=retry)


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
        step = with_windows(step, (replace(first, taken=True), *others))
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
    error = Failure(
        event.handler, event.error_type, event.message, event.traceback, at_us, event.where
    )
    step = replace(step, failure_count=step.failure_count + 1, last_error=error)
    if event.handler != "execute":
        return step
    failed = not (event.recovered or event.will_retry)
    return replace(step, run=None, losses=0, failed=failed, last_run_us=at_us)


def _retry_scheduled(step: Instance, event: RetryScheduled, at_us: int) -> Instance:
    """The next attempt of a run (attempt 1 if an operator asked for it), or the next attempt to
    handle a deferred event."""
    if event.event_version is not None:
        version, attempt, due_us = event.event_version, event.attempt, event.due_us
        return replace(step, deferred=retried(step.deferred, version, attempt, due_us, at_us))
    trigger: Trigger = "manual" if event.attempt == 1 else "retry"
    if event.by == "sweep" and step.retry is not None:
        trigger = step.retry.trigger
    retry = PendingRetry(event.run, event.attempt, event.due_us, trigger, at_us)
    return replace(step, retry=retry, failed=False)


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
