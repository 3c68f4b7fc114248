"""What a claim, a lost run and a step lead to."""

from __future__ import annotations

from typing import cast

from msgspec.structs import replace

from wakelog.core.calls import HandlerCall
from wakelog.core.events import Cleared, Event, ExecutionLost, RunStarted, StepCompleted, Trigger
from wakelog.core.evolve import evolve, fold
from wakelog.core.instance import Instance, OpenRun, Wake, next_wake
from wakelog.core.policy import START_REASON, Decision, Policy, decided
from wakelog.core.requests import Claim, RecordStep
from wakelog.core.retry import Advice, Over, judge
from wakelog.core.settle import exhausted

__all__ = []


def _claim(instance: Instance, worker: str, policy: Policy, now_us: int) -> Decision:
    """Take what the instance is due for; nothing when it is not due (a stale alarm)."""
    wake = next_wake(instance)
    if wake is None or wake.due_us > now_us or wake.action == "deferred":
        return decided(instance, (), now_us)
    due_us = wake.due_us
    if wake.action == "clear":
        cleared = Cleared(reason=instance.clear_reason, discarded=instance.unfinished)
        return decided(instance, (cleared,), now_us)
    if instance.retry is not None:
        retry = instance.retry
        attempt = retry.attempt
        return _run(instance, worker, retry.trigger, retry.run, attempt, policy, now_us, due_us)
    trigger = _trigger_of(instance, wake)
    return _run(instance, worker, trigger, instance.run_count + 1, 1, policy, now_us, due_us)


def _trigger_of(instance: Instance, wake: Wake) -> Trigger:
    if instance.windows and (reason := instance.windows[0].reason) in ("manual", "max_events"):
        return cast(Trigger, reason)
    if wake.action == "trigger":
        return "manual"
    return "start" if instance.due_reason == START_REASON else "alarm"


def _recover(
    instance: Instance, request: Claim, lost: OpenRun, policy: Policy, now_us: int
) -> Decision:
    """The lease of an open run has ended: record the loss, then run again or give up (R6). What
    is paused or stopped starts nothing: the next attempt waits for a resume or a start."""
    if instance.run is None or instance.run.token != lost.token:
        return decided(instance, (), now_us)
    gone = ExecutionLost(run=lost.number, attempt=lost.attempt, worker=lost.worker)
    after = evolve(instance, gone, now_us)
    given_up = _given_up(after, lost, policy, request.max_lost, now_us)
    if given_up or after.is_blocked:
        return decided(instance, (gone, *given_up), now_us)
    again = _run(
        after,
        request.worker,
        "recovery",
        lost.number,
        lost.attempt + 1,
        policy,
        now_us,
        lost.due_us,
    )
    return replace(again, events=(gone, *again.events))


def _given_up(
    after: Instance, lost: OpenRun, policy: Policy, max_lost: int, now_us: int
) -> tuple[Event, ...]:
    """The end of a run that was lost once too often, or for too long; else it is tried again at
    once, whatever its policy says of delays (R6)."""
    again_now = Advice(after_us=0)
    verdict = judge(policy.retry, again_now, lost.attempt, after.run_began_us, now_us, seed="")
    reason = verdict.reason if isinstance(verdict, Over) else None
    if after.losses >= max_lost:
        reason = "lost"
    if reason is None:
        return ()
    return exhausted(after, None, policy, lost.number, lost.attempt, reason, now_us)


def _run(
    instance: Instance,
    worker: str,
    trigger: Trigger,
    number: int,
    attempt: int,
    policy: Policy,
    now_us: int,
    due_us: int,
) -> Decision:
    then = policy.woken(instance, trigger, due_us, now_us)
    if then.call is None:
        return decided(instance, then.events, now_us)
    due_us = due_us if then.due_us is None else then.due_us
    started = RunStarted(
        run=number,
        attempt=attempt,
        trigger=trigger,
        due_us=due_us,
        late_us=max(0, now_us - due_us),
        worker=worker,
        events=instance.windows[0].events if instance.windows else (),
    )
    after = fold(instance, (*then.events, started), now_us)
    call = HandlerCall(then.call, base=after, run=after.run, attempt=attempt)
    return Decision((*then.events, started), after, call)


def _record_step(instance: Instance, request: RecordStep, now_us: int) -> Decision:
    """Keep the result of a step, on top of what others have appended; not of a run that is over."""
    if instance.run is None or instance.run.token != request.run.token:
        return Decision((), instance, stale=True)
    done = StepCompleted(run=request.run.number, step=request.step, result=request.result)
    return decided(instance, (done,), now_us)


def _without_lease(run: OpenRun) -> ExecutionLost:
    return ExecutionLost(run=run.number, attempt=run.attempt, worker=run.worker, reason="no_lease")
