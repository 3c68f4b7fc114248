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
)
from wakelog.core.instance import (
    MAX_DEAD_LETTERS,
    DeferredEvent,
    Failure,
    Instance,
    OpenRun,
    PendingRetry,
    Unread,
)
from wakelog.core.windows import Window, kept, without

__all__ = ["evolve", "fold"]


def fold(instance: Instance, events: Iterable[Event], at_us: int) -> Instance:
    """Evolve over the events of one unit of work, all recorded at `at_us`."""
    for event in events:
        instance = evolve(instance, event, at_us)
    return instance


def evolve(instance: Instance, event: Event, at_us: int) -> Instance:
    """The instance after `event`, recorded at `at_us` as its next version."""
    version = instance.version + 1
    match event:  # the most frequent ones in one `replace`
        case EventReceived() if not event.deferred and event.window is None:
            count = instance.event_count + 1
            return replace(
                instance, version=version, recorded_us=at_us, event_count=count, failed=False
            )
        case StateSet():
            return replace(
                instance,
                version=version,
                recorded_us=at_us,
                state=event.state,
                state_schema=event.schema_version,
            )
        case Scheduled() if event.action == "execute" and event.window is None:
            return replace(
                instance,
                version=version,
                recorded_us=at_us,
                due_us=event.due_us,
                due_action="execute",
                due_reason=event.reason,
                failed=instance.failed and event.by != "policy",  # recurring work goes on
            )
        case Executed():
            return replace(
                instance,
                version=version,
                recorded_us=at_us,
                run=None,
                losses=0,
                failed=False,
                last_run_us=at_us,
            )
        case _:
            step = replace(instance, version=version, recorded_us=at_us)
            return _evolve(step, event, at_us)


def _evolve(step: Instance, event: Event, at_us: int) -> Instance:
    match event:
        case EventReceived():
            return _received(step, event)
        case Scheduled():
            if event.window is not None:
                return _timed(step, event, event.window)
            return _scheduled(step, event.action, event.due_us, event.reason)
        case ScheduleCancelled():
            return _scheduled(step, event.action, None)
        case RunStarted():
            return _run_started(step, event)
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
            return _failed(step, event)
        case ExecutionLost():
            return _lost(step, event)
        case RetryScheduled():
            return _retry_scheduled(step, event)
        case RetryExhausted():
            return replace(step, retry=None, failed=event.then == "fail")
        case Flushed():
            return _flushed(step, event.events)
        case DeadLettered():
            return _dead_lettered(step, event)
        case Cancelled():
            return _gone(step, event.event_version)
        case Requeued():
            return _requeued(step, event)
        case Discarded():
            if event.dead is not None:
                return replace(step, dead=_without(step.dead, event.dead))
            return _dropped(step, event.event_version, event.events)
        case Returned():
            return _returned(step, event)
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
        return _blank(step)
    return _blank(replace(step, deferred=(), dead=() if event.by == "operator" else step.dead))


def _blank(step: Instance) -> Instance:
    """Nothing but the history, the events that wait for the next life, in their windows, and the
    dead letters."""
    windows = kept(step.windows, {each.version for each in step.deferred})
    windows = tuple(replace(window, taken=False) for window in windows)
    id, version, at_us = step.id, step.version, step.recorded_us
    blank = Instance(id, version, at_us, step.lives, deferred=step.deferred, dead=step.dead)
    if not windows:
        return blank
    return _with_windows(replace(blank, window_count=step.window_count), windows)


def _received(step: Instance, event: EventReceived) -> Instance:
    count = step.event_count + 1
    if event.window is not None:
        step = _placed(step, event.window)
    if not event.deferred:
        return replace(step, event_count=count, failed=False)
    at_us = step.recorded_us if event.handle_at_us is None else event.handle_at_us
    deferred = _joined(step, DeferredEvent(at_us, step.version))
    return replace(step, event_count=count, deferred=deferred)


def _joined(step: Instance, new: DeferredEvent) -> tuple[DeferredEvent, ...]:
    """The deferred events with a new one in its place: mostly the last."""
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


def _requeued(step: Instance, event: Requeued) -> Instance:
    """A dead letter waits again, behind what waits already; in a window of its own, if there are
    windows."""
    versions = event.events or (event.event_version,)
    at_us = step.recorded_us
    waiting = (DeferredEvent(at_us, version) for version in versions)
    deferred = tuple(sorted((*step.deferred, *waiting)))
    step = replace(step, deferred=deferred, dead=_without(step.dead, event.dead))
    if event.window is None:
        return step
    opened = Window(event.window, versions, at_us, at_us, at_us)
    count = step.event_count + len(versions)
    step = replace(step, window_count=event.window, event_count=count)
    return _with_windows(step, (*step.windows, opened))


def _returned(step: Instance, event: Returned) -> Instance:
    """What was taken waits for code that can read it, and a run with it: the same attempt of it."""
    is_run = event.run is not None
    unread = Unread(event.event_version, is_run, event.error_type, event.message, step.recorded_us)
    if event.run is None:
        return replace(step, unread=unread)
    again = PendingRetry(event.run, event.attempt, step.recorded_us, "recovery")
    return replace(step, unread=unread, run=None, retry=again)


def _without(versions: tuple[int, ...], version: int) -> tuple[int, ...]:
    return tuple(each for each in versions if each != version)


def _placed(step: Instance, number: int) -> Instance:
    """The newest event joins its window, or opens it; the `Scheduled` that follows says when the
    window is due."""
    at_us, version = step.recorded_us, step.version
    *before, newest = step.windows or (None,)
    if newest is None or newest.number != number:
        opened = Window(number, (version,), at_us, at_us, at_us)
        return _with_windows(replace(step, window_count=number), (*step.windows, opened))
    joined = replace(newest, events=(*newest.events, version), newest_us=at_us)
    return replace(step, windows=(*before, joined))


def _timed(step: Instance, event: Scheduled, number: int) -> Instance:
    reason = cast(FlushReason, event.reason)
    return _with_windows(
        step,
        tuple(
            replace(each, due_us=event.due_us, reason=reason) if each.number == number else each
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


def _scheduled(
    step: Instance, action: str, due_us: int | None, reason: str | None = None
) -> Instance:
    if action == "clear":
        return replace(step, clear_at_us=due_us, clear_reason=reason)
    if action == "trigger":
        return replace(step, triggered_us=due_us)
    if action == "flush":
        return replace(step, due_us=due_us, due_action="flush", due_reason=reason)
    if action == "execute":
        return replace(step, due_us=due_us, due_action="execute", due_reason=reason)
    return step if step.unread is None else replace(step, unread=None)  # what waits is re-armed


def _run_started(step: Instance, event: RunStarted) -> Instance:
    """A run consumes what it was started for: the schedule, the trigger or the retry (T5)."""
    run = OpenRun(
        event.run,
        event.attempt,
        event.trigger,
        event.due_us,
        step.recorded_us,
        event.worker,
        step.version,
    )
    is_new = event.run != step.run_count
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
        run_began_us=step.recorded_us if event.attempt == 1 else step.run_began_us,
        retry=None,
        failed=False,
        due_us=None if alarm else step.due_us,
        due_reason=None if alarm else step.due_reason,
        triggered_us=None if manual else step.triggered_us,
        losses=step.losses if event.trigger in ("retry", "recovery") else 0,
    )


def _failed(step: Instance, event: ExecutionFailed) -> Instance:
    error = Failure(
        event.handler, event.error_type, event.message, event.traceback, step.recorded_us
    )
    step = replace(step, failure_count=step.failure_count + 1, last_error=error)
    if event.handler != "execute":
        return step
    failed = not (event.recovered or event.will_retry)
    return replace(step, run=None, losses=0, failed=failed, last_run_us=step.recorded_us)


def _retry_scheduled(step: Instance, event: RetryScheduled) -> Instance:
    """The next attempt of a run (attempt 1 if an operator asked for it), or the next attempt to
    handle a deferred event."""
    if event.event_version is not None:
        return _waits_again(step, event, event.event_version)
    trigger: Trigger = "manual" if event.attempt == 1 else "retry"
    retry = PendingRetry(event.run, event.attempt, event.due_us, trigger)
    return replace(step, retry=retry, failed=False)


def _waits_again(step: Instance, event: RetryScheduled, version: int) -> Instance:
    deferred = tuple(
        replace(
            each,
            attempt=event.attempt,
            retry_at_us=event.due_us,
            first_us=each.first_us or step.recorded_us,
        )
        if each.version == version
        else each
        for each in step.deferred
    )
    return replace(step, deferred=deferred)


def _lost(step: Instance, event: ExecutionLost) -> Instance:
    """The run is still to be done: its next attempt is due at once, under the same number (R6)."""
    error = Failure(
        "execute",
        "ExecutionLost",
        f"worker {event.worker} was lost ({event.reason})",
        "",
        step.recorded_us,
    )
    given_back = event.reason == "shutdown"
    return replace(
        step,
        run=None,
        retry=PendingRetry(event.run, event.attempt + 1, step.recorded_us, "recovery"),
        losses=step.losses if given_back else step.losses + 1,
        last_error=step.last_error if given_back else error,
    )
