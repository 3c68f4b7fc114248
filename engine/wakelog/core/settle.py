"""Decisions about the outcome of a handler call.

U1 and U5 (what a handler asked for becomes events, or is dropped), U2 and U3 (a run that is over
records nothing), T3 and T12 (a refused event), T4 (the last command on state and schedule), T6
(`on_idle`), T8 and T9 (a handler's own clear), T15 (a deferred event that fails), K4 (what cannot
be read waits), R2 to R5 (retries, recovery, exhaustion; `retry` decides whether there is another
attempt).
"""

from __future__ import annotations

from msgspec.structs import replace

from wakelog.core.calls import (
    HandlerCall,
    HandlerEnded,
    HandlerFailed,
    PayloadUnread,
    RunGivenBack,
    Settle,
)
from wakelog.core.commands import (
    CancelSchedule,
    Emit,
    HandlerName,
    KeepResult,
    Pause,
    ScheduleAt,
    Send,
    SetState,
    Stop,
)
from wakelog.core.events import (
    Cleared,
    DeadLettered,
    Event,
    EventHandled,
    Executed,
    ExecutionFailed,
    ExecutionLost,
    MessageSent,
    Paused,
    RetryExhausted,
    RetryScheduled,
    Returned,
    ScheduleCancelled,
    Scheduled,
    StateSet,
    Stopped,
)
from wakelog.core.evolve import fold
from wakelog.core.instance import DeferredEvent, Instance
from wakelog.core.policy import Decision, Policy, Then, decided
from wakelog.core.retry import Again, Over, Reason, Verdict, judge

__all__ = ["exhausted", "settle", "stopping"]

RECOVERERS: tuple[HandlerName, ...] = ("on_error", "on_retry_exhausted")
"""The handlers that may recover a failed one."""


def settle(instance: Instance, settle: Settle, policy: Policy, now_us: int) -> Decision:
    """The decision on the outcome of a call; stale if the call's run is over already."""
    call, outcome = settle.call, settle.outcome
    if call.run is not None and (instance.run is None or instance.run.token != call.run.token):
        return Decision((), instance, stale=True)
    match outcome:
        case HandlerEnded():
            return _ended(instance, call, outcome, policy, now_us)
        case HandlerFailed():
            return _failed(instance, settle, outcome, policy, now_us)
        case RunGivenBack():
            run = call.run
            if run is None:
                raise AssertionError(f"only a run can be given back, not {call.handler}")
            back = ExecutionLost(
                run=run.number, attempt=run.attempt, worker=run.worker, reason="shutdown"
            )
            return decided(instance, (back,), now_us)
        case PayloadUnread():
            return _unread(instance, call, outcome, now_us)


def exhausted(
    instance: Instance,
    call: HandlerCall | None,
    policy: Policy,
    run: int,
    attempts: int,
    reason: Reason,
    now_us: int,
) -> Then:
    """The events of a run that has no attempt left, and what the policy does then (R5). `call` is
    None if the run's worker was lost."""
    then = policy.on_exhausted
    given_up = RetryExhausted(run=run, attempts=attempts, reason=reason, then=then)
    if then == "clear":
        lost = instance.unfinished
        cleared = Cleared(reason="no attempt is left", by="policy", discarded=lost)
        return Then((given_up, cleared))
    if then == "fail":
        return Then((given_up,))
    after = fold(instance, (given_up,), now_us)
    follows = policy.failed(after, call, now_us)
    return Then((given_up, *follows.events), follows.call)


def stopping(instance: Instance, stopped: Stopped) -> tuple[Event, ...]:
    """The events of a stop: a scheduled run, or one that was asked for, is cancelled."""
    events: list[Event] = []
    if instance.due_us is not None:
        events.append(ScheduleCancelled(by=stopped.by))
    if instance.triggered_us is not None:
        events.append(ScheduleCancelled(action="trigger", by=stopped.by))
    return *events, stopped


def _unread(instance: Instance, call: HandlerCall, outcome: PayloadUnread, now_us: int) -> Decision:
    """What was taken is given back, and waits for code that can read it (K4)."""
    run = call.run
    version = call.batch_versions[0] if call.batch_versions else call.event_version
    back = Returned(
        event_version=version if outcome.is_event else None,
        run=None if run is None else run.number,
        attempt=1 if run is None else run.attempt,
        error_type=outcome.error_type,
        message=outcome.message,
    )
    if run is not None:
        return decided(instance, (back,), now_us)
    return replace(decided(call.base, (back,), now_us), starts_over=True)


# -- a handler that ended well ---------------------------------------------------------------------


def _ended(
    instance: Instance, call: HandlerCall, outcome: HandlerEnded, policy: Policy, now_us: int
) -> Decision:
    if outcome.cleared:
        return _cleared(instance, call, outcome, policy, now_us)
    events = (*_closing(call, outcome), *_moves(instance, outcome))
    after = fold(instance, events, now_us)
    if call.is_epilogue:
        return Decision(events, after)
    then = policy.succeeded(after, call, outcome, now_us)
    after = fold(after, then.events, now_us)
    source = call.source or call.handler
    next_call = HandlerCall(then.call, base=after, source=source) if then.call else None
    return Decision((*events, *then.events), after, next_call)


def _closing(call: HandlerCall, outcome: HandlerEnded) -> tuple[Event, ...]:
    """The events that end the call itself."""
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
                result=_result(outcome),
            ),
        )
    if call.event_version is not None:
        return (EventHandled(event_version=call.event_version),)
    return ()


def _cleared(
    instance: Instance, call: HandlerCall, outcome: HandlerEnded, policy: Policy, now_us: int
) -> Decision:
    """The end of the life: the handler's state and schedule are dropped, its messages kept (T8).

    Deferred events open the next life (T9); other accepted events that are unfinished are
    discarded.
    """
    events = _closing(call, outcome)
    after = fold(instance, events, now_us)
    then = policy.cleared(after, call)
    after = fold(after, then.events, now_us)
    messages = (_message(each) for each in outcome.commands if isinstance(each, Emit | Send))
    discarded = after.unfinished - len(after.deferred)
    cleared = Cleared(reason=outcome.reason, by="handler", discarded=discarded)
    return decided(instance, (*events, *then.events, *messages, cleared), now_us)


def _result(outcome: HandlerEnded) -> str | None:
    if not outcome.commands:
        return None
    return next((c.result for c in outcome.commands if isinstance(c, KeepResult)), None)


def _message(command: Emit | Send) -> MessageSent:
    if isinstance(command, Emit):
        return MessageSent(topic=command.topic, payload=command.payload)
    to, key = command.to, command.partition_key
    return MessageSent(to=to, partition_key=key, priority=command.priority, payload=command.payload)


def _moves(instance: Instance, outcome: HandlerEnded) -> tuple[Event, ...]:
    """The commands as events: all messages, the last state, the last schedule or its end (T4)."""
    if not outcome.commands:
        return ()
    events: list[Event] = []
    state: SetState | None = None
    schedule: ScheduleAt | CancelSchedule | None = None
    halt: Paused | Stopped | None = None
    for command in outcome.commands:
        match command:
            case SetState():
                state = command
            case ScheduleAt() | CancelSchedule():
                schedule = command
            case Emit() | Send():
                events.append(_message(command))
            case Pause() if not isinstance(halt, Stopped):
                halt = Paused(reason=command.reason, by="handler")
            case Pause():
                pass  # a stop goes further than a pause
            case KeepResult():
                pass  # it goes with `Executed`
            case Stop():
                halt = Stopped(reason=command.reason, by="handler")
    if state is not None:
        events.append(StateSet(state=state.state, schema_version=state.schema_version))
    if instance.stopped:  # while the handler ran: there is no schedule to change, nothing to halt
        return tuple(events)
    if isinstance(halt, Stopped):
        return *events, *stopping(instance, halt)
    if isinstance(schedule, ScheduleAt):
        events.append(Scheduled(due_us=schedule.due_us, asked_us=schedule.asked_us))
    elif isinstance(schedule, CancelSchedule) and instance.due_us is not None:
        events.append(ScheduleCancelled())
    return (*events, halt) if halt else tuple(events)


# -- a handler that failed -------------------------------------------------------------------------


def _failed(
    instance: Instance, settle: Settle, outcome: HandlerFailed, policy: Policy, now_us: int
) -> Decision:
    call = settle.call
    if call.is_epilogue:
        return decided(instance, _failures(settle), now_us)
    first = call.recovers or settle
    verdict = _verdict(first, instance, policy, now_us)
    if isinstance(verdict, Again):
        return _again(instance, settle, verdict, now_us)
    recoverer = _recoverer(call, policy)
    if recoverer is not None:
        return Decision((), instance, _recovering(settle, outcome, recoverer))
    if call.run is not None:
        return _run_failed(instance, settle, verdict, policy, now_us)
    return _event_failed(settle, verdict, now_us)


def _verdict(settle: Settle, instance: Instance, policy: Policy, now_us: int) -> Verdict:
    """Whether there is another attempt. Only a run and a deferred event can have one."""
    call, outcome = settle.call, settle.outcome
    if not isinstance(outcome, HandlerFailed) or not call.may_be_repeated:
        return None
    deferred = _deferred(call)
    first_us = instance.run_began_us if call.run else (deferred and deferred.first_us) or now_us
    seed = f"{instance.id}@{call.run.token if call.run else call.event_version}.{call.attempt}"
    return judge(policy.retry, outcome.advice, call.attempt, first_us, now_us, seed)


def _deferred(call: HandlerCall) -> DeferredEvent | None:
    """The deferred event that was being handled."""
    return next((each for each in call.base.deferred if each.version == call.event_version), None)


def _again(instance: Instance, settle: Settle, verdict: Again, now_us: int) -> Decision:
    """The failure, and the next attempt."""
    call = settle.call
    failure = _failure(settle, will_retry=True)
    again = RetryScheduled(
        run=call.run.number if call.run else 0,
        attempt=call.attempt + 1,
        due_us=verdict.due_us,
        event_version=call.event_version,
    )
    if call.run is not None:
        return decided(instance, (failure, again), now_us)
    return replace(decided(call.base, (failure, again), now_us), starts_over=True)


def _recoverer(call: HandlerCall, policy: Policy) -> HandlerName | None:
    """The handler that may recover a failed call; none recovers a failed recovery."""
    if call.handler in RECOVERERS:
        return None
    if call.run is not None and "on_retry_exhausted" in policy.handlers:
        return "on_retry_exhausted"
    return "on_error" if "on_error" in policy.handlers else None


def _recovering(settle: Settle, outcome: HandlerFailed, recoverer: HandlerName) -> HandlerCall:
    """The call that may recover a failed call, with the state as before it (U5)."""
    failed = settle.call
    return HandlerCall(
        recoverer,
        base=failed.base,
        batch_versions=failed.batch_versions,
        batch=failed.batch,
        run=failed.run,
        attempt=failed.attempt,
        error=outcome.error,
        recovers=settle,
        source=failed.handler,
    )


def _run_failed(
    instance: Instance, settle: Settle, verdict: Verdict, policy: Policy, now_us: int
) -> Decision:
    """A run that failed and was not recovered: the instance shows it, or its policy applies."""
    call, run = settle.call, settle.call.run
    if run is None:
        raise AssertionError(f"{call.handler} was not called for a run")
    events = _failures(settle)
    after = fold(instance, events, now_us)
    if isinstance(verdict, Over):
        then = exhausted(after, call, policy, run.number, call.attempt, verdict.reason, now_us)
    else:
        then = policy.failed(after, call, now_us)
    decision = decided(instance, (*events, *then.events), now_us)
    next_call: HandlerCall | None = None
    if then.call is not None and isinstance(settle.outcome, HandlerFailed):
        next_call = HandlerCall(
            then.call,
            base=decision.after,
            payload=call.payload,
            error=settle.outcome.error,
            source=call.handler,
            place=call.place,
        )
    return replace(decision, raises=_raised(settle), call=next_call)


def _event_failed(settle: Settle, verdict: Verdict, now_us: int) -> Decision:
    """An event that was refused (T3); a deferred one, accepted earlier, is dead-lettered (T15)."""
    failed = (settle.call.recovers or settle).call
    events = _failures(settle)
    if failed.event_version is not None:
        failure = _failure(settle.call.recovers or settle)
        dead = DeadLettered(
            event_version=failed.event_version,
            reason=verdict.reason if isinstance(verdict, Over) else "handler_failed",
            error_type=failure.error_type,
            message=failure.message,
            attempts=failed.attempt,
        )
        events = (*events, dead)
    elif not failed.base.exists:
        events = ()
    decision = decided(failed.base, events, now_us)
    return replace(decision, starts_over=True, raises=_raised(settle))


def _failures(settle: Settle) -> tuple[Event, ...]:
    """The failure; both, if the handler that could recover it failed too."""
    first = settle.call.recovers
    return (_failure(first), _failure(settle)) if first else (_failure(settle),)


def _failure(
    settle: Settle, *, recovered: bool = False, will_retry: bool = False
) -> ExecutionFailed:
    call, outcome = settle.call, settle.outcome
    if not isinstance(outcome, HandlerFailed):
        raise AssertionError(f"{call.handler} did not fail")
    return ExecutionFailed(
        handler=call.handler,
        error_type=outcome.error_type,
        message=outcome.message,
        traceback=outcome.traceback,
        where=outcome.where,
        run=None if call.run is None else call.run.number,
        attempt=None if call.run is None else call.run.attempt,
        recovered=recovered,
        will_retry=will_retry,
        event_version=call.event_version,
        payload=call.payload if call.event_version is None and call.place is None else None,
    )


def _raised(settle: Settle) -> tuple[HandlerFailed, ...]:
    """The failures to raise to the caller, the first one first (T12)."""
    first = settle.call.recovers
    chain = (first.outcome, settle.outcome) if first else (settle.outcome,)
    return tuple(outcome for outcome in chain if isinstance(outcome, HandlerFailed))
