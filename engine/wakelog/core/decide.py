"""What an ask leads to. Pure: the same instance, request and time always answer the same.

`decide` is asked at least twice in a unit of work, through the one door: first with a request,
answering events and at most one call of a handler; then, when that handler has ended, with
`Settle`, answering what follows, which may be one more call (`on_error`, then `on_idle`).

What is the same for all types of job is here: what it takes to begin a life, to defer, to claim,
to recover and to clear. Where types differ, the `Policy` answers one of four questions.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from wakelog.core.commands import (
    Call,
    CancelClear,
    Claim,
    Clear,
    Ended,
    Failed,
    GaveBack,
    HandlerName,
    HandleWaiting,
    Rearm,
    Receive,
    Request,
    Settle,
    TriggerRun,
)
from wakelog.core.events import (
    Cleared,
    Event,
    EventReceived,
    ExecutionLost,
    RetryExhausted,
    RetryScheduled,
    RunStarted,
    ScheduleCancelled,
    Scheduled,
    Started,
    Trigger,
)
from wakelog.core.evolve import evolve, fold
from wakelog.core.instance import Instance, OpenRun, next_wake
from wakelog.core.settle import closing, gave_up, moves, recovering
from wakelog.errors import QueueFullError

__all__ = ["Decision", "Policy", "Then", "decide"]


class Then(NamedTuple):
    """A policy's answer: events of its own to append, and a handler to call."""

    events: tuple[Event, ...] = ()
    call: HandlerName | None = None


class Policy(Protocol):
    """What `decide` must know of a definition. The four methods are where job types differ."""

    @property
    def handlers(self) -> frozenset[str]:
        """The names of the handlers that the definition has."""
        ...

    @property
    def max_waiting(self) -> int:
        """How many accepted events of one instance may wait to be handled."""
        ...

    def received(self, instance: Instance) -> Then:
        """What on an event that may be handled now?"""
        ...

    def woken(self, instance: Instance) -> Then:
        """What when a run is due?"""
        ...

    def succeeded(self, instance: Instance, after: HandlerName) -> Then:
        """What after a handler that ended well, or was recovered?"""
        ...

    def failed(self, instance: Instance) -> Then:
        """What after a run that failed for good?"""
        ...


class Decision(NamedTuple):
    """The answer: what is to be appended, what the instance is then, and what to call next."""

    events: tuple[Event, ...]
    after: Instance
    call: Call | None = None
    starts_over: bool = False
    """The events replace those that the unit had decided on before."""
    raises: tuple[Failed, ...] = ()
    """The failures that the caller is to be told of, the first one first."""
    stale: bool = False
    """The run is not ours any more (cleared or lost): nothing may be recorded."""


def decide(instance: Instance, request: Request, policy: Policy, now_us: int) -> Decision:
    """Answer `request` put to `instance` at `now_us`.

    Raises `QueueFullError` when too many events of the instance are waiting already.
    """
    match request:
        case Settle():
            return _settle(instance, request, policy, now_us)
        case Receive():
            return _receive(instance, request, policy, now_us)
        case Claim():
            if request.lost is None:
                return _claim(instance, request.worker, policy, now_us)
            return _recover(instance, request, request.lost, policy, now_us)
        case HandleWaiting():
            return _handle_waiting(instance, request, policy, now_us)
        case TriggerRun():
            return _trigger(instance, request, now_us)
        case Clear():
            return _clear(instance, request, now_us)
        case CancelClear():
            pending = instance.clear_at_us is not None
            cancelled = ScheduleCancelled(action="clear", by="operator")
            return _decided(instance, (cancelled,) if pending else (), now_us)
        case Rearm():
            moved_on = instance.version != request.version
            return _decided(instance, (), now_us) if moved_on else _rearm(instance, now_us)


def _decided(
    instance: Instance, events: tuple[Event, ...], now_us: int, call: Call | None = None
) -> Decision:
    return Decision(events, fold(instance, events, now_us), call)


# -- events ---------------------------------------------------------------------------------------


def _begun(instance: Instance) -> tuple[Event, ...]:
    if instance.exists:
        return ()
    return (Started(kind=instance.id.kind, name=instance.id.name, id=instance.id.id),)


def _receive(instance: Instance, request: Receive, policy: Policy, now_us: int) -> Decision:
    """Accept an event: handled now if nothing is before it, else deferred (T1, T15)."""
    if request.defer or request.handle_at_us is not None or instance.is_busy(now_us):
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
            payload=request.payload,
        )
        return _decided(instance, (*_begun(instance), waiting), now_us)
    then = policy.received(instance)
    accepted = EventReceived(event_id=request.event_id, payload=request.payload)
    events = (*_begun(instance), accepted, *then.events)
    call = then.call and Call(
        then.call, base=instance, payload=request.payload, event_id=request.event_id
    )
    return _decided(instance, events, now_us, call)


def _handle_waiting(
    instance: Instance, request: HandleWaiting, policy: Policy, now_us: int
) -> Decision:
    if instance.is_held or all(waiting.version != request.version for waiting in instance.waiting):
        return _decided(instance, (), now_us)
    then = policy.received(instance)
    call = then.call and Call(
        then.call,
        base=instance,
        payload=request.payload,
        event_id=request.event_id,
        event_version=request.version,
    )
    return _decided(instance, (*_begun(instance), *then.events), now_us, call)


# -- runs -----------------------------------------------------------------------------------------


def _claim(instance: Instance, worker: str, policy: Policy, now_us: int) -> Decision:
    """Take what the instance is due for; nothing when it is not due (a stale alarm)."""
    wake = next_wake(instance)
    if wake is None or wake.due_us > now_us or wake.action == "deferred":
        return _decided(instance, (), now_us)
    due_us = wake.due_us
    if wake.action == "clear":
        cleared = Cleared(reason=instance.clear_reason, discarded=len(instance.waiting))
        return _decided(instance, (cleared,), now_us)
    if instance.retry is not None:
        retry = instance.retry
        attempt = retry.attempt
        return _run(instance, worker, retry.trigger, retry.run, attempt, policy, now_us, due_us)
    trigger: Trigger = "manual" if wake.action == "trigger" else "alarm"
    return _run(instance, worker, trigger, instance.run_count + 1, 1, policy, now_us, due_us)


def _recover(
    instance: Instance, request: Claim, lost: OpenRun, policy: Policy, now_us: int
) -> Decision:
    """The lease of an open run has ended: record the loss, then run again or give up (R6)."""
    if instance.run is None or instance.run.token != lost.token:
        return _decided(instance, (), now_us)
    gone = ExecutionLost(run=lost.number, attempt=lost.attempt, worker=lost.worker)
    after = evolve(instance, gone, now_us)
    if after.losses >= request.max_lost:
        exhausted = RetryExhausted(run=lost.number, attempts=lost.attempt, reason="lost")
        return _decided(instance, (gone, exhausted), now_us)
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
    return again._replace(events=(gone, *again.events))


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
    then = policy.woken(instance)
    started = RunStarted(
        run=number,
        attempt=attempt,
        trigger=trigger,
        due_us=due_us,
        late_us=max(0, now_us - due_us),
        worker=worker,
    )
    after = fold(instance, (*then.events, started), now_us)
    call = then.call and Call(then.call, base=after, run=after.run)
    return Decision((*then.events, started), after, call)


def _trigger(instance: Instance, request: TriggerRun, now_us: int) -> Decision:
    """Ask for a run now (T7). One that is asked for or open already is not asked for again."""
    if not instance.exists or instance.run is not None or instance.triggered_us is not None:
        return _decided(instance, (), now_us)
    consumes = request.consume_alarm and instance.due_us is not None
    consumed = (ScheduleCancelled(by="operator"),) if consumes else ()
    asked = Scheduled(due_us=now_us, action="trigger", by="operator")
    return _decided(instance, (*consumed, asked), now_us)


def _clear(instance: Instance, request: Clear, now_us: int) -> Decision:
    """End the life from outside, now or later (T8); waiting events go with it."""
    if not instance.exists and not instance.waiting:
        return _decided(instance, (), now_us)
    if request.at_us is not None:
        due_us = max(now_us, request.at_us)
        later = Scheduled(due_us=due_us, action="clear", by="operator", reason=request.reason)
        return _decided(instance, (later,), now_us)
    cleared = Cleared(reason=request.reason, discarded=len(instance.waiting))
    return _decided(instance, (cleared,), now_us)


def _rearm(instance: Instance, now_us: int) -> Decision:
    """Put back what a sweep found missing: the alarm of pending work, or the end of a run (A4)."""
    run, retry, wake = instance.run, instance.retry, next_wake(instance)
    if run is not None:
        lost = ExecutionLost(
            run=run.number, attempt=run.attempt, worker=run.worker, reason="no_lease"
        )
        return _decided(instance, (lost,), now_us)
    if wake is None:
        return _decided(instance, (), now_us)
    if retry is not None:
        again = RetryScheduled(run=retry.run, attempt=retry.attempt, due_us=retry.due_us)
        return _decided(instance, (again,), now_us)
    found = Scheduled(due_us=wake.due_us, action=wake.action, by="sweep")
    return _decided(instance, (found,), now_us)


# -- settling -------------------------------------------------------------------------------------


def _settle(instance: Instance, settle: Settle, policy: Policy, now_us: int) -> Decision:
    """What follows from the outcome of a call."""
    call, outcome = settle.call, settle.outcome
    if call.run is not None and (instance.run is None or instance.run.token != call.run.token):
        return Decision((), instance, stale=True)
    match outcome:
        case Ended():
            return _ended(instance, call, outcome, policy, now_us)
        case Failed():
            return _failed(instance, settle, outcome, policy, now_us)
        case GaveBack():
            run = call.run
            if run is None:
                raise AssertionError(f"only a run can be given back, not {call.handler}")
            back = ExecutionLost(
                run=run.number, attempt=run.attempt, worker=run.worker, reason="shutdown"
            )
            return _decided(instance, (back,), now_us)


def _ended(instance: Instance, call: Call, outcome: Ended, policy: Policy, now_us: int) -> Decision:
    events = (*closing(call, outcome), *moves(instance, outcome))
    after = fold(instance, events, now_us)
    if outcome.cleared or call.handler == "on_idle":
        return Decision(events, after)
    source = call.source or call.handler
    then = policy.succeeded(after, source)
    after = fold(after, then.events, now_us)
    next_call = Call(then.call, base=after, source=source) if then.call else None
    return Decision((*events, *then.events), after, next_call)


def _failed(
    instance: Instance, settle: Settle, outcome: Failed, policy: Policy, now_us: int
) -> Decision:
    call = settle.call
    if call.handler == "on_idle":
        return _decided(instance, gave_up(settle), now_us)
    if call.handler != "on_error" and "on_error" in policy.handlers:
        return Decision((), instance, recovering(settle, outcome))
    events = gave_up(settle)
    if call.run is not None:
        after = fold(instance, events, now_us)
        then = policy.failed(after)
        raises = _failures(settle)
        return Decision((*events, *then.events), fold(after, then.events, now_us), raises=raises)
    base = call.base
    if not base.exists and call.event_version is None:
        events = ()
    return Decision(
        events,
        fold(base, events, now_us),
        starts_over=True,
        raises=_failures(settle),
    )


def _failures(settle: Settle) -> tuple[Failed, ...]:
    first = settle.call.recovers
    chain = (first.outcome, settle.outcome) if first else (settle.outcome,)
    return tuple(outcome for outcome in chain if isinstance(outcome, Failed))
