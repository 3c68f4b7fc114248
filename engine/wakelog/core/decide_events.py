"""What an accepted event leads to."""

from __future__ import annotations

from wakelog.core.calls import HandlerCall
from wakelog.core.events import Event, EventReceived, Started
from wakelog.core.instance import Instance
from wakelog.core.policy import Decision, Policy, decided
from wakelog.core.requests import HandleDeferred, Receive
from wakelog.core.windows import WindowSlot
from wakelog.errors import QueueFullError

__all__ = []


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
        if len(instance.deferred) >= policy.max_waiting:
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
    call = then.call and HandlerCall(
        then.call, base=instance, payload=request.payload, event_id=request.event_id
    )
    return decided(instance, events, now_us, call)


def _place(instance: Instance, policy: Policy, now_us: int) -> WindowSlot | None:
    if policy.batching is None:
        return None
    return policy.batching.place(instance.windows, instance.window_count, now_us)


def _handle_waiting(
    instance: Instance, request: HandleDeferred, policy: Policy, now_us: int
) -> Decision:
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
