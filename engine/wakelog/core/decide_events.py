"""Decisions about accepted events.

U3 (an event that meets an open run is deferred), T1 and T2 (accepting an event, beginning a life),
T15 (deferral and its order), D1, D2 and D4 (the window of an event, by the policy's answer).
"""

from __future__ import annotations

from wakelog.core.calls import HandlerCall
from wakelog.core.events import Event, EventReceived, Started
from wakelog.core.instance import Instance
from wakelog.core.policy import Decision, Policy, decided
from wakelog.core.requests import HandleDeferred, Receive
from wakelog.core.windows import WindowSlot
from wakelog.errors import QueueFullError

__all__ = ["handle_deferred", "receive"]


def receive(instance: Instance, request: Receive, policy: Policy, now_us: int) -> Decision:
    """Accept an event: handled now if no other event is before it, else deferred (T1, T15)."""
    slot = policy.place(instance, now_us)
    is_delayed = request.handle_at_us is not None
    if request.defer or is_delayed or slot.must_wait or instance.is_busy(now_us):
        return _defer(instance, request, slot, policy, now_us)
    then = policy.received(instance, now_us)
    accepted = EventReceived(event_id=request.event_id, window=slot.number, payload=request.payload)
    events = (*_begun(instance), accepted, *slot.timing, *then.events)
    call = then.call and HandlerCall(
        then.call,
        base=instance,
        payload=request.payload,
        copy=request.copy,
        event_id=request.event_id,
    )
    return decided(instance, events, now_us, call)


def handle_deferred(
    instance: Instance, request: HandleDeferred, policy: Policy, now_us: int
) -> Decision:
    """Handle the deferred event that is next (T15). Nothing happens if it is not the one asked
    for, or if nothing may start now."""
    first = instance.next_deferred
    if instance.is_blocked or first is None or first.version != request.version:
        return decided(instance, (), now_us)
    then = policy.received(instance, now_us)
    call = then.call and HandlerCall(
        then.call,
        base=instance,
        payload=request.payload,
        event_id=request.event_id,
        event_version=request.version,
        attempt=first.attempt,
    )
    return decided(instance, (*_begun(instance), *then.events), now_us, call)


def _defer(
    instance: Instance, request: Receive, slot: WindowSlot, policy: Policy, now_us: int
) -> Decision:
    """Accept an event that is handled later, in order of acceptance or at the time given."""
    if len(instance.deferred) >= policy.max_waiting:
        raise QueueFullError(
            f"the queue of events waiting at {instance.id}",
            policy.max_waiting,
            "let a worker handle some first, or raise max_waiting= of the definition",
        )
    handle_at_us = request.handle_at_us
    if handle_at_us is not None:  # a time in the past must not overtake the events that wait
        handle_at_us = max(now_us, handle_at_us)
    accepted = EventReceived(
        event_id=request.event_id,
        deferred=True,
        handle_at_us=handle_at_us,
        window=slot.number,
        payload=request.payload,
    )
    return decided(instance, (*_begun(instance), accepted, *slot.timing), now_us)


def _begun(instance: Instance) -> tuple[Event, ...]:
    """The beginning of a life, unless one is going on."""
    if instance.exists:
        return ()
    return (Started(kind=instance.id.kind, name=instance.id.name, id=instance.id.id),)
