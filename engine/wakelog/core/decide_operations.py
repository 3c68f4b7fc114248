"""Decisions about what operators ask for.

T7 and D6 (trigger, flush), R7 (retry), C1 and C7 (start, stop), A5 (pause, resume), T8, C9 and D8
(clear, now or later), K4 (a retry leaves `parked`).
"""

from __future__ import annotations

from wakelog.core.decide_runs import without_lease
from wakelog.core.events import (
    Cleared,
    Event,
    Paused,
    Resumed,
    RetryScheduled,
    ScheduleCancelled,
    Scheduled,
    Started,
    StateSet,
    Stopped,
)
from wakelog.core.evolve import fold
from wakelog.core.instance import Instance
from wakelog.core.policy import Decision, Policy, decided
from wakelog.core.requests import Clear, PauseWork, ResumeWork, Start, StopWork, TriggerRun
from wakelog.core.settle import stopping

__all__ = ["cancel_clear", "clear", "pause", "resume", "retry", "start", "stop", "trigger"]


def trigger(instance: Instance, request: TriggerRun, policy: Policy, now_us: int) -> Decision:
    """Ask for a run now, in the way of its type of job (T7, D6). A run that has failed, or waits
    for its next attempt, is started anew (R7); one that has been asked for is not asked for again.
    """
    if instance.paused or instance.stopped or instance.parked or instance.waits_for_code:
        return decided(instance, (), now_us)
    has_schedule = instance.visible_schedule_us is not None and instance.run is None
    is_consumed = request.consume_alarm and has_schedule
    consumed = (ScheduleCancelled(by="operator"),) if is_consumed else ()
    if instance.triggered_us is not None and instance.triggered_us <= now_us:
        return decided(instance, consumed, now_us)
    asked = policy.triggered(instance, now_us).events
    again = retry(instance, now_us).events
    return decided(instance, (*consumed, *asked, *again), now_us)


def retry(instance: Instance, now_us: int) -> Decision:
    """Start the run that failed, or that waits for its next attempt, again at attempt 1 (R7).

    What waits for code is tried again at once. A parked instance is read again (K4); if it had an
    open run, that has lost its lease by now.
    """
    if instance.paused or instance.stopped:
        return decided(instance, (), now_us)
    healed: tuple[Event, ...] = ()
    if instance.parked:
        open_run = () if instance.run is None else (without_lease(instance.run),)
        healed = (Resumed(reason="retry"), *open_run)
    elif instance.unread is not None:
        healed = (Scheduled(due_us=now_us, action="deferred", by="operator"),)
    after = fold(instance, healed, now_us)
    if after.run is not None or not (after.retry or after.failed):
        return decided(instance, healed, now_us)
    run = after.run_count if after.retry is None else after.retry.run
    again = RetryScheduled(run=run, attempt=1, due_us=now_us, by="operator")
    return decided(instance, (*healed, again), now_us)


def start(instance: Instance, request: Start, policy: Policy, now_us: int) -> Decision:
    """Begin recurring work, or resume it after a stop; nothing if it is going on (C1)."""
    if instance.exists and not instance.stopped:
        return decided(instance, (), now_us)
    id = instance.id
    begun: tuple[Event, ...] = (Started(kind=id.kind, name=id.name, id=id.id, input=request.input),)
    if instance.exists:
        begun = (Resumed(reason="started again"),)
        if request.replace:
            begun = (*begun, StateSet(state=request.input))
    then = policy.started(fold(instance, begun, now_us), now_us)
    return decided(instance, (*begun, *then.events), now_us)


def stop(instance: Instance, request: StopWork, now_us: int) -> Decision:
    """Keep the state and start nothing more; an open run may end (C7)."""
    if not instance.exists or instance.stopped:
        return decided(instance, (), now_us)
    return decided(instance, stopping(instance, Stopped(reason=request.reason)), now_us)


def pause(instance: Instance, request: PauseWork, now_us: int) -> Decision:
    """Let everything wait except an open run, which may end (A5)."""
    can = instance.exists and not instance.paused and not instance.stopped
    return decided(instance, (Paused(reason=request.reason),) if can else (), now_us)


def resume(instance: Instance, request: ResumeWork, now_us: int) -> Decision:
    """Continue after a pause (A5)."""
    resumed = (Resumed(reason=request.reason),) if instance.paused else ()
    return decided(instance, resumed, now_us)


def clear(instance: Instance, request: Clear, now_us: int) -> Decision:
    """End the life from outside, now or later, and discard its unfinished events (T8). Without a
    life a later clear is not recorded: it would end the next one."""
    if not instance.exists and (request.at_us is not None or not instance.deferred):
        return decided(instance, (), now_us)
    if request.at_us is not None:
        due_us = max(now_us, request.at_us)
        later = Scheduled(due_us=due_us, action="clear", by="operator", reason=request.reason)
        return decided(instance, (later,), now_us)
    cleared = Cleared(reason=request.reason, discarded=instance.unfinished)
    return decided(instance, (cleared,), now_us)


def cancel_clear(instance: Instance, now_us: int) -> Decision:
    """Cancel a scheduled clear, if there is one (T8)."""
    if instance.clear_at_us is None:
        return decided(instance, (), now_us)
    return decided(instance, (ScheduleCancelled(action="clear", by="operator"),), now_us)
