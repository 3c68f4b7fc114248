"""What follows from a request. Pure: the same instance, request and time give the same decision.

A unit of work calls `decide` at least twice: first with a request, which gives events and at most
one handler call; then, when that handler has ended, with `Settle`, which gives what follows, and
that may be one more call (`on_error`, then `on_idle`).

What is the same for all types of job is in the modules that this one imports: `decide_events`,
`decide_runs`, `decide_operations` and `settle`. Where types differ, these ask the `Policy`.
"""

from __future__ import annotations

from wakelog.core.calls import Settle
from wakelog.core.decide_events import (
    discard,
    give_up_unread,
    handle_deferred,
    receive,
    refuse_message,
    requeue,
)
from wakelog.core.decide_operations import (
    cancel_clear,
    clear,
    pause,
    resume,
    retry,
    start,
    stop,
    trigger,
)
from wakelog.core.decide_runs import claim, rearm, record_step, reread, retime
from wakelog.core.instance import Instance
from wakelog.core.policy import Decision, Policy, Then
from wakelog.core.requests import (
    CancelClear,
    Claim,
    Clear,
    Discard,
    GiveUpUnread,
    HandleDeferred,
    PauseWork,
    Rearm,
    Receive,
    RecordStep,
    RefuseMessage,
    Request,
    Requeue,
    Reread,
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
    """The decision on `request`, made to `instance` at `now_us`.

    Raises `QueueFullError` if too many events of the instance are waiting already.
    """
    match request:
        case Settle():
            return settle(instance, request, policy, now_us)
        case Receive():
            return receive(instance, request, policy, now_us)
        case Claim():
            return claim(instance, request, policy, now_us)
        case HandleDeferred():
            return handle_deferred(instance, request, policy, now_us)
        case RecordStep():
            return record_step(instance, request, now_us)
        case TriggerRun():
            return trigger(instance, request, policy, now_us)
        case RetryRun():
            return retry(instance, now_us)
        case Start():
            return start(instance, request, policy, now_us)
        case StopWork():
            return stop(instance, request, now_us)
        case Retime():
            return retime(instance, request, policy, now_us)
        case PauseWork():
            return pause(instance, request, now_us)
        case ResumeWork():
            return resume(instance, request, now_us)
        case Clear():
            return clear(instance, request, now_us)
        case CancelClear():
            return cancel_clear(instance, now_us)
        case Rearm():
            return rearm(instance, request, policy, now_us)
        case Reread():
            return reread(instance, request, now_us)
        case Requeue():
            return requeue(instance, request, policy, now_us)
        case Discard():
            return discard(instance, request, now_us)
        case GiveUpUnread():
            return give_up_unread(instance, request, now_us)
        case RefuseMessage():
            return refuse_message(instance, request, now_us)
