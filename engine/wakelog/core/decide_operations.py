"""What an operator's request leads to."""

from __future__ import annotations

from wakelog.core.decide_runs import _given_up, _without_lease
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
from wakelog.core.evolve import evolve, fold
from wakelog.core.instance import Instance, next_wake
from wakelog.core.policy import Decision, Policy, decided
from wakelog.core.requests import Clear, PauseWork, ResumeWork, Start, StopWork, TriggerRun
from wakelog.core.settle import stopping

__all__ = []


def _trigger(instance: Instance, request: TriggerRun, now_us: int) -> Decision:
    """Ask for a run now (T7). One that is asked for or open already is not asked for again; one
    that failed or waits for its next attempt is started anew (R7)."""
    if not instance.exists or instance.is_blocked:
        return decided(instance, (), now_us)
    consumes = request.consume_alarm and instance.due_us is not None
    consumed = (ScheduleCancelled(by="operator"),) if consumes else ()
    if instance.triggered_us is not None:
        return decided(instance, consumed, now_us)
    if instance.retry is not None or instance.failed:
        return decided(instance, (*consumed, *_retry(instance, now_us).events), now_us)
    asked = Scheduled(due_us=now_us, action="trigger", by="operator")
    return decided(instance, (*consumed, asked), now_us)


def _flush(instance: Instance, now_us: int) -> Decision:
    """Let the newest window be due now, and so all before it (D6); a batch that has failed, or
    waits for its next attempt, is started anew (R7)."""
    if not instance.windows or instance.paused or instance.stopped or instance.parked:
        return decided(instance, (), now_us)
    newest = instance.windows[-1]
    closed = () if newest.is_closed(now_us) else (newest.timed(now_us, "manual", "operator"),)
    again = _retry(instance, now_us).events
    return decided(instance, (*closed, *again), now_us)


def _retry(instance: Instance, now_us: int) -> Decision:
    """Start the run that failed, or that waits for its next attempt, again at attempt 1 (R7).

    A parked instance is read again (K4); a run that it had open has lost its lease long since.
    """
    if instance.paused or instance.stopped:
        return decided(instance, (), now_us)
    healed: tuple[Event, ...] = ()
    if instance.parked:
        open_run = () if instance.run is None else (_without_lease(instance.run),)
        healed = (Resumed(reason="retry"), *open_run)
    after = fold(instance, healed, now_us)
    if after.run is not None or not (after.retry or after.failed):
        return decided(instance, healed, now_us)
    run = after.run_count if after.retry is None else after.retry.run
    again = RetryScheduled(run=run, attempt=1, due_us=now_us, by="operator")
    return decided(instance, (*healed, again), now_us)


def _start(instance: Instance, request: Start, policy: Policy, now_us: int) -> Decision:
    """Begin, or go on after a stop; nothing where it goes on already (C1)."""
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


def _stop(instance: Instance, request: StopWork, now_us: int) -> Decision:
    """Keep the state and start nothing more; an open run may end (C7)."""
    if not instance.exists or instance.stopped:
        return decided(instance, (), now_us)
    return decided(instance, stopping(instance, Stopped(reason=request.reason)), now_us)


def _pause(instance: Instance, request: PauseWork, now_us: int) -> Decision:
    """Hold everything back but an open run, which may end (A5)."""
    can = instance.exists and not instance.paused and not instance.stopped
    return decided(instance, (Paused(reason=request.reason),) if can else (), now_us)


def _resume(instance: Instance, request: ResumeWork, now_us: int) -> Decision:
    resumed = (Resumed(reason=request.reason),) if instance.paused else ()
    return decided(instance, resumed, now_us)


def _clear(instance: Instance, request: Clear, now_us: int) -> Decision:
    """End the life from outside, now or later (T8); unfinished events go with it. Where there is
    no life to end later, nothing is kept: it would end the next one."""
    if not instance.exists and (request.at_us is not None or not instance.deferred):
        return decided(instance, (), now_us)
    if request.at_us is not None:
        due_us = max(now_us, request.at_us)
        later = Scheduled(due_us=due_us, action="clear", by="operator", reason=request.reason)
        return decided(instance, (later,), now_us)
    cleared = Cleared(reason=request.reason, discarded=instance.unfinished)
    return decided(instance, (cleared,), now_us)


def _rearm(instance: Instance, max_lost: int, policy: Policy, now_us: int) -> Decision:
    """Put back what a sweep found missing: the alarm of pending work, or the end of a run (A4)."""
    run, retry, wake = instance.run, instance.retry, next_wake(instance)
    if run is not None:
        lost = _without_lease(run)
        after = evolve(instance, lost, now_us)
        given_up = _given_up(after, run, policy, max_lost, now_us)
        return decided(instance, (lost, *given_up), now_us)
    if wake is None:
        return decided(instance, (), now_us)
    if retry is not None:
        again = RetryScheduled(run=retry.run, attempt=retry.attempt, due_us=retry.due_us)
        return decided(instance, (again,), now_us)
    found = Scheduled(due_us=wake.due_us, action=wake.action, by="sweep")
    return decided(instance, (found,), now_us)
