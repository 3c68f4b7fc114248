"""What an ask leads to. Pure: the same instance, request and time always answer the same.

`decide` is asked at least twice in a unit of work, through the one door: first with a request,
answering events and at most one call of a handler; then, when that handler has ended, with
`Settle`, answering what follows, which may be one more call (`on_error`, then `on_idle`).

What is the same for all types of job is here and in `settle`: what it takes to begin a life, to
defer, to claim, to recover, to retry and to clear. Where types differ, the `Policy` answers.
"""

from __future__ import annotations

from typing import cast

from msgspec.structs import replace

from wakelog.core.commands import (
    Call,
    CancelClear,
    Claim,
    Clear,
    HandleWaiting,
    PauseWork,
    Rearm,
    Receive,
    RecordStep,
    Request,
    ResumeWork,
    Retime,
    RetryRun,
    Settle,
    Start,
    StopWork,
    TriggerRun,
)
from wakelog.core.events import (
    Cleared,
    Event,
    EventReceived,
    ExecutionLost,
    Paused,
    Resumed,
    RetryScheduled,
    RunStarted,
    ScheduleCancelled,
    Scheduled,
    Started,
    StateSet,
    StepCompleted,
    Stopped,
    Trigger,
)
from wakelog.core.evolve import evolve, fold
from wakelog.core.instance import Instance, OpenRun, Wake, next_wake
from wakelog.core.policy import START, Decision, Policy, Then, decided
from wakelog.core.retry import Advice, Over, judge
from wakelog.core.settle import exhausted, settle, stopping
from wakelog.core.windows import Place
from wakelog.errors import QueueFullError

__all__ = ["Decision", "Policy", "Then", "decide"]


def decide(instance: Instance, request: Request, policy: Policy, now_us: int) -> Decision:
    """Answer `request` put to `instance` at `now_us`.

    Raises `QueueFullError` when too many events of the instance are waiting already.
    """
    match request:
        case Settle():
            return settle(instance, request, policy, now_us)
        case Receive():
            return _receive(instance, request, policy, now_us)
        case Claim():
            if request.lost is None:
                return _claim(instance, request.worker, policy, now_us)
            return _recover(instance, request, request.lost, policy, now_us)
        case HandleWaiting():
            return _handle_waiting(instance, request, policy, now_us)
        case RecordStep():
            return _record_step(instance, request, now_us)
        case TriggerRun():
            if policy.batching is not None:
                return _flush(instance, now_us)
            return _trigger(instance, request, now_us)
        case RetryRun():
            return _retry(instance, now_us)
        case Start():
            return _start(instance, request, policy, now_us)
        case StopWork():
            return _stop(instance, request, now_us)
        case Retime():
            return decided(instance, policy.retimed(instance, now_us).events, now_us)
        case PauseWork():
            return _pause(instance, request, now_us)
        case ResumeWork():
            return _resume(instance, request, now_us)
        case Clear():
            return _clear(instance, request, now_us)
        case CancelClear():
            pending = instance.clear_at_us is not None
            cancelled = ScheduleCancelled(action="clear", by="operator")
            return decided(instance, (cancelled,) if pending else (), now_us)
        case Rearm():
            moved_on = instance.version != request.version
            if moved_on:
                return decided(instance, (), now_us)
            return _rearm(instance, request.max_lost, policy, now_us)


# -- events ---------------------------------------------------------------------------------------


def _begun(instance: Instance) -> tuple[Event, ...]:
    if instance.exists:
        return ()
    return (Started(kind=instance.id.kind, name=instance.id.name, id=instance.id.id),)


def _receive(instance: Instance, request: Receive, policy: Policy, now_us: int) -> Decision:
    """Accept an event: handled now if nothing is before it, else deferred (T1, T15)."""
    place = _place(instance, policy, now_us)
    must_wait = instance.is_busy(now_us) or (place is not None and place.must_wait)
    window, timed = (place.window, place.then) if place else (None, ())
    if request.defer or request.handle_at_us is not None or must_wait:
        if len(instance.waiting) >= policy.max_waiting:
            raise QueueFullError(
                f"the queue of events waiting at {instance.id}",
                policy.max_waiting,
                "let a worker handle some first, or raise max_waiting= of the definition",
            )
        handle_at_us = request.handle_at_us
        if handle_at_us is not None:  # a time in the past does not overtake those who wait already
            handle_at_us = max(now_us, handle_at_us)
        waiting = EventReceived(
            event_id=request.event_id,
            deferred=True,
            handle_at_us=handle_at_us,
            window=window,
            payload=request.payload,
        )
        return decided(instance, (*_begun(instance), waiting, *timed), now_us)
    then = policy.received(instance, now_us)
    accepted = EventReceived(event_id=request.event_id, window=window, payload=request.payload)
    events = (*_begun(instance), accepted, *timed, *then.events)
    call = then.call and Call(
        then.call, base=instance, payload=request.payload, event_id=request.event_id
    )
    return decided(instance, events, now_us, call)


def _place(instance: Instance, policy: Policy, now_us: int) -> Place | None:
    if policy.batching is None:
        return None
    return policy.batching.place(instance.windows, instance.window_count, now_us)


def _handle_waiting(
    instance: Instance, request: HandleWaiting, policy: Policy, now_us: int
) -> Decision:
    first = instance.in_line
    if instance.is_held or first is None or first.version != request.version:
        return decided(instance, (), now_us)
    then = policy.received(instance, now_us)
    call = then.call and Call(
        then.call,
        base=instance,
        payload=request.payload,
        event_id=request.event_id,
        event_version=request.version,
        attempt=first.attempt,
    )
    return decided(instance, (*_begun(instance), *then.events), now_us, call)


# -- runs -----------------------------------------------------------------------------------------


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
    return "start" if instance.due_reason == START else "alarm"


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
    if given_up or after.is_held:
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
    call = Call(then.call, base=after, run=after.run, attempt=attempt)
    return Decision((*then.events, started), after, call)


def _record_step(instance: Instance, request: RecordStep, now_us: int) -> Decision:
    """Keep the result of a step, on top of what others have appended; not of a run that is over."""
    if instance.run is None or instance.run.token != request.run.token:
        return Decision((), instance, stale=True)
    done = StepCompleted(run=request.run.number, step=request.step, result=request.result)
    return decided(instance, (done,), now_us)


def _trigger(instance: Instance, request: TriggerRun, now_us: int) -> Decision:
    """Ask for a run now (T7). One that is asked for or open already is not asked for again; one
    that failed or waits for its next attempt is started anew (R7)."""
    if not instance.exists or instance.is_held:
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
    if not instance.exists and (request.at_us is not None or not instance.waiting):
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


def _without_lease(run: OpenRun) -> ExecutionLost:
    return ExecutionLost(run=run.number, attempt=run.attempt, worker=run.worker, reason="no_lease")
