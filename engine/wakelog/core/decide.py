"""What an ask leads to. Pure: the same instance, request and time always answer the same.

`decide` is asked at least twice in a unit of work, through the one door: first with a request,
answering events and at most one call of a handler; then, when that handler has ended, with
`Settle`, answering what follows, which may be one more call (`on_error`, then `on_idle`).

What is the same for all types of job is here and in `settle`: what it takes to begin a life, to
defer, to claim, to recover, to retry and to clear. Where types differ, the `Policy` answers.
"""

from __future__ import annotations

from wakelog.core.calls import Settle
from wakelog.core.decide_events import _handle_waiting, _receive
from wakelog.core.decide_operations import (
    _clear,
    _flush,
    _pause,
    _rearm,
    _resume,
    _retry,
    _start,
    _stop,
    _trigger,
)
from wakelog.core.decide_runs import _claim, _record_step, _recover
from wakelog.core.events import ScheduleCancelled
from wakelog.core.instance import Instance
from wakelog.core.policy import Decision, Policy, Then, decided
from wakelog.core.requests import (
    CancelClear,
    Claim,
    Clear,
    HandleDeferred,
    PauseWork,
    Rearm,
    Receive,
    RecordStep,
    Request,
    ResumeWork,
    Retime,
    RetryRun,
    Start,
    StopWork,
    TriggerRun,
)
from wakelog.core.settle import settle

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
        case HandleDeferred():
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


# -- runs -----------------------------------------------------------------------------------------
