"""Decisions about accepted events.

U3 (an event that meets an open run is deferred), T1 and T2 (accepting an event, beginning a life),
T15 (deferral and its order), A9 and K4 (dead letters, and events that no code could read), D1, D2
and D4 (the window of an event, by the policy's answer).
"""

from __future__ import annotations

from wakelog.core.calls import HandlerCall
from wakelog.core.events import (
    DeadLettered,
    Discarded,
    Event,
    EventReceived,
    Requeued,
    Scheduled,
    Started,
    StateSet,
)
from wakelog.core.instance import Instance
from wakelog.core.policy import Decision, Policy, decided
from wakelog.core.requests import (
    Discard,
    GiveUpUnread,
    HandleDeferred,
    Receive,
    RefuseMessage,
    Requeue,
)
from wakelog.core.windows import WindowSlot
from wakelog.errors import QueueFullError

__all__ = [
    "discard",
    "give_up_unread",
    "handle_deferred",
    "receive",
    "refuse_message",
    "requeue",
]


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


def requeue(instance: Instance, request: Requeue, policy: Policy, now_us: int) -> Decision:
    """Let dead letters wait again, behind what waits already (A9). A batch, or an event of one,
    gets a window of its own, which is due at once. A message is sent once more (I2)."""
    has_windows = policy.place(instance, now_us).number is not None
    number, events = instance.window_count, list[Event]()
    waiting = len(instance.deferred)
    for letter in request.letters:
        if letter.version not in instance.dead:
            continue
        if letter.message is not None:
            about, dead = letter.event_version, letter.version
            again = Discarded(event_version=about, dead=dead, reason="sent again")
            events += [letter.message, again]
            continue
        waiting += len(letter.events) or 1
        if waiting > policy.max_waiting:
            raise _queue_full(instance, policy)
        number += 1
        events.append(
            Requeued(
                event_version=letter.event_version,
                events=letter.events,
                window=number if has_windows else None,
                dead=letter.version,
            )
        )
        if has_windows:
            events.append(
                Scheduled(
                    due_us=now_us, action="flush", by="operator", window=number, reason="manual"
                )
            )
    return decided(instance, tuple(events), now_us)


def discard(instance: Instance, request: Discard, now_us: int) -> Decision:
    """Drop dead letters for good, or what waits for code to read it (A9, K4)."""
    reason = request.reason
    events: list[Event] = [
        Discarded(
            event_version=each.event_version, events=each.events, dead=each.version, reason=reason
        )
        for each in request.letters
        if each.version in instance.dead
    ]
    version = request.unread
    if version is not None and instance.unread and instance.unread.event_version == version:
        batch = _unread_batch(instance)
        gone = Discarded(event_version=version, events=batch, reason=reason)
        events += [gone, *_emptied(instance, batch)]
    return decided(instance, tuple(events), now_us)


def refuse_message(instance: Instance, request: RefuseMessage, now_us: int) -> Decision:
    """Make a dead letter of a message that its target will never take (I2)."""
    dead = DeadLettered(
        event_version=request.version,
        reason="refused",
        error_type=request.error_type,
        message=request.message,
    )
    return decided(instance, (dead,), now_us)


def give_up_unread(instance: Instance, request: GiveUpUnread, now_us: int) -> Decision:
    """Make a dead letter of the event or batch that waits for code to read it (K4)."""
    unread = instance.unread
    version = None if unread is None else unread.event_version
    if unread is None or version is None or request.unread not in (None, version):
        return decided(instance, (), now_us)
    batch = _unread_batch(instance)
    dead = DeadLettered(
        event_version=version,
        events=batch,
        reason="waiting_for_code",
        error_type=unread.error_type,
        message=unread.message,
        attempts=0,
    )
    return decided(instance, (dead, *_emptied(instance, batch)), now_us)


def _unread_batch(instance: Instance) -> tuple[int, ...]:
    """The versions of the batch that waits for code; none if it is a single event."""
    is_run = instance.unread is not None and instance.unread.is_run
    return instance.unread_events if is_run else ()


def _emptied(instance: Instance, batch: tuple[int, ...]) -> tuple[Event, ...]:
    """The state that was reduced from a batch goes with it."""
    return () if not batch or instance.state is None else (StateSet(),)


def _queue_full(instance: Instance, policy: Policy) -> QueueFullError:
    return QueueFullError(
        f"the queue of events waiting at {instance.id}",
        policy.max_waiting,
        "let a worker handle some first, or raise max_waiting= of the definition",
    )


def _defer(
    instance: Instance, request: Receive, slot: WindowSlot, policy: Policy, now_us: int
) -> Decision:
    """Accept an event that is handled later, in order of acceptance or at the time given."""
    if len(instance.deferred) >= policy.max_waiting:
        raise _queue_full(instance, policy)
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
