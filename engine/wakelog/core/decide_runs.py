"""Decisions about runs: claims, lost runs, steps, and what a sweep finds stranded.

T5 (an alarm is consumed by `RunStarted`), T8 (a scheduled clear), R4 to R6 (pending retries, lost
runs), D4 (a run names the events that it takes), I4 (a step's result), A1 and A4 (never early;
re-arming).
"""

from __future__ import annotations

from msgspec.structs import replace

from wakelog.core.calls import HandlerCall
from wakelog.core.events import (
    Cleared,
    Event,
    ExecutionLost,
    RetryScheduled,
    RunStarted,
    Scheduled,
    StepCompleted,
    Trigger,
)
from wakelog.core.evolve import evolve, fold
from wakelog.core.instance import Instance, OpenRun, next_wake
from wakelog.core.policy import Decision, Policy, decided
from wakelog.core.requests import Claim, Rearm, RecordStep, Reread, Retime
from wakelog.core.retry import Advice, Over, judge
from wakelog.core.settle import exhausted

__all__ = [
    "CLOCK_SKEW_US",
    "claim",
    "rearm",
    "record_step",
    "reread",
    "retime",
    "without_lease",
]

CLOCK_SKEW_US = 1_000_000
"""How far the clocks of two machines may differ before what one has set is set anew by another."""


def claim(instance: Instance, request: Claim, policy: Policy, now_us: int) -> Decision:
    """Take what the instance is due for; nothing if it is not due (a stale alarm)."""
    if request.takes_over and instance.run is not None:
        return _recover(instance, request, instance.run, policy, now_us)
    wake = next_wake(instance)
    if wake is None or wake.due_us > now_us or wake.action == "deferred":
        return decided(instance, (), now_us)
    if wake.action == "clear":
        cleared = Cleared(reason=instance.clear_reason, discarded=instance.unfinished)
        return decided(instance, (cleared,), now_us)
    if not request.may_run:
        return decided(instance, (), now_us)
    trigger: Trigger = "manual" if wake.action == "trigger" else "alarm"
    number, attempt, retry = instance.run_count + 1, 1, instance.retry
    if retry is not None:
        number, attempt, trigger = retry.run, retry.attempt, retry.trigger
    return _run(
        instance,
        policy,
        now_us,
        worker=request.worker,
        number=number,
        attempt=attempt,
        trigger=trigger,
        due_us=wake.due_us,
    )


def record_step(instance: Instance, request: RecordStep, now_us: int) -> Decision:
    """Record the result of a step, on top of what others have appended (I4); nothing if its run is
    over."""
    if instance.run is None or instance.run.token != request.run.token:
        return Decision((), instance, stale=True)
    done = StepCompleted(run=request.run.number, step=request.step, result=request.result)
    return decided(instance, (done,), now_us)


def rearm(instance: Instance, request: Rearm, policy: Policy, now_us: int) -> Decision:
    """Record again what a sweep found missing: the alarm of pending work, or the end of an open run
    that has no lease (A4)."""
    if instance.version != request.version:  # it has changed since
        return decided(instance, (), now_us)
    run, retry, wake = instance.run, instance.retry, next_wake(instance)
    if run is not None:
        lost = without_lease(run)
        after = evolve(instance, lost, now_us)
        given_up = _given_up(after, run, policy, request.max_lost, now_us)
        return decided(instance, (lost, *given_up), now_us)
    if wake is None:
        return decided(instance, (), now_us)
    if retry is not None:
        again = RetryScheduled(
            run=retry.run, attempt=retry.attempt, due_us=retry.due_us, by="sweep"
        )
        return decided(instance, (again,), now_us)
    reason = instance.due_reason if wake.action == "execute" else None
    found = Scheduled(due_us=wake.due_us, action=wake.action, by="sweep", reason=reason)
    return decided(instance, (found,), now_us)


def reread(instance: Instance, request: Reread, now_us: int) -> Decision:
    """Re-arm what waited for code that can read it (K4); nothing if that has changed since."""
    if instance.version != request.version or instance.unread is None:
        return decided(instance, (), now_us)
    found = Scheduled(due_us=now_us, action="deferred", by="sweep", reason="readable")
    return decided(instance, (found,), now_us)


def retime(instance: Instance, request: Retime, policy: Policy, now_us: int) -> Decision:
    """Set anew what was set while the clock was ahead (U9), and what another rule has set (C10).

    What counted from the clock then counts from the clock now: what was due at once is due now, and
    a retry comes after the same delay. A time that a handler or a caller asked for stays.
    """
    ahead_us = now_us + CLOCK_SKEW_US
    events: list[Event] = []
    if any(not each.delayed and each.handle_at_us > ahead_us for each in instance.deferred):
        events.append(Scheduled(due_us=now_us, action="deferred", by="sweep"))
    if instance.triggered_us is not None and instance.triggered_us > ahead_us:
        events.append(Scheduled(due_us=now_us, action="trigger", by="sweep"))
    retry = instance.retry
    if retry is not None and retry.set_us > ahead_us:
        due_us = now_us + max(0, retry.due_us - retry.set_us)
        events.append(
            RetryScheduled(run=retry.run, attempt=retry.attempt, due_us=due_us, by="sweep")
        )
    for each in instance.deferred:
        if each.retry_set_us > ahead_us:
            due_us = now_us + max(0, each.retry_at_us - each.retry_set_us)
            version = each.version
            events.append(
                RetryScheduled(
                    attempt=each.attempt, due_us=due_us, event_version=version, by="sweep"
                )
            )
    then = policy.retimed(instance, now_us, ahead_us, request.by_rule)
    return decided(instance, (*events, *then.events), now_us)


def without_lease(run: OpenRun) -> ExecutionLost:
    """The end of an open run that has no lease."""
    return ExecutionLost(run=run.number, attempt=run.attempt, worker=run.worker, reason="no_lease")


def _recover(
    instance: Instance, request: Claim, lost: OpenRun, policy: Policy, now_us: int
) -> Decision:
    """The lease of an open run has expired: record the loss, then run again or give up (R6). A
    paused or stopped instance starts nothing: the next attempt waits for a resume or a start."""
    gone = ExecutionLost(run=lost.number, attempt=lost.attempt, worker=lost.worker)
    after = evolve(instance, gone, now_us)
    given_up = _given_up(after, lost, policy, request.max_lost, now_us)
    if given_up or after.is_blocked:
        return decided(instance, (gone, *given_up), now_us)
    again = _run(
        after,
        policy,
        now_us,
        worker=request.worker,
        number=lost.number,
        attempt=lost.attempt + 1,
        trigger="recovery",
        due_us=lost.due_us,
    )
    return replace(again, events=(gone, *again.events))


def _given_up(
    after: Instance, lost: OpenRun, policy: Policy, max_lost: int, now_us: int
) -> tuple[Event, ...]:
    """The end of a run that was lost too often, or for too long; else nothing, and the next attempt
    is due at once, whatever delay its policy has (R6)."""
    again_now = Advice(after_us=0)
    verdict = judge(policy.retry, again_now, lost.attempt, after.run_began_us, now_us, seed="")
    reason = verdict.reason if isinstance(verdict, Over) else None
    if after.losses >= max_lost:
        reason = "lost"
    if reason is None:
        return ()
    return exhausted(after, None, policy, lost.number, lost.attempt, reason, now_us).events


def _run(
    instance: Instance,
    policy: Policy,
    now_us: int,
    *,
    worker: str,
    number: int,
    attempt: int,
    trigger: Trigger,
    due_us: int,
) -> Decision:
    """Start an attempt of a run, if the policy says so (T5, D4)."""
    then = policy.woken(instance, trigger, due_us, now_us)
    if then.call is None:
        return decided(instance, then.events, now_us)
    due_us = due_us if then.due_us is None else then.due_us
    started = RunStarted(
        run=number,
        attempt=attempt,
        trigger=then.trigger or trigger,
        due_us=due_us,
        late_us=max(0, now_us - due_us),
        worker=worker,
        events=then.takes,
    )
    after = fold(instance, (*then.events, started), now_us)
    call = HandlerCall(
        then.call, base=after, batch_versions=then.takes, run=after.run, attempt=attempt
    )
    return Decision((*then.events, started), after, call)
