"""Plans what operators do: pause, resume, drain, cancel, requeue, discard, change priorities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from wakelog.core.events import Event, Paused, Resumed, Stopped
from wakelog.core.pool.events import (
    EventsCancelled,
    EventsDiscarded,
    EventsRequeued,
    PrioritiesChanged,
)
from wakelog.pools.items import item_name
from wakelog.pools.state import Lane, bounded, job_stream
from wakelog.pools.writing import Writing
from wakelog.ports.pools import ExceptionKey, ExceptionRow, PoolSeen, SegmentRow, TrailRow

__all__ = ["Found", "ItemAct", "plan_act", "plan_drain", "plan_pause", "plan_resume"]

Found = Literal["done", "not_found", "taken", "dead", "unchanged"]
"""What an act found: it was done; there is no such item waiting or dead; it is being worked on; it
is dead, and so does not wait; there is nothing to change."""

DEAD = "dead"


class ItemAct(NamedTuple):
    """What is to be done to some items."""

    act: Literal["cancel", "requeue", "discard", "prioritize"]
    reason: str | None = None
    priority: int = 0
    actor: str | None = None


def plan_act(
    writing: Writing,
    seen: PoolSeen,
    keys: Sequence[ExceptionKey],
    act: ItemAct,
    segment_of: Callable[[ExceptionKey], tuple[SegmentRow, str | None] | None],
) -> list[Found]:
    """Do it to those of `keys` for which it can be done, in one event; what was found of each.

    `segment_of` gives where an item that waits in its lane was accepted, and its partition key.
    """
    rows = {ExceptionKey(row.lane, row.off): row for row in seen.exceptions}
    skipped = set(seen.skips)
    found: dict[ExceptionKey, Found] = {}
    for key in dict.fromkeys(keys):
        row = rows.get(key)
        lane = next((each for each in writing.state.lanes if each.number == key.lane), None)
        waits = lane is not None and lane.taken < key.off <= lane.received and key not in skipped
        if row is not None:
            what = _act_on_row(writing, row, act)
        elif lane is not None and waits:
            what = _act_on_waiting(writing, key, lane, act, segment_of)
        else:
            what = "taken" if _is_taken(writing, key) else "not_found"
        found[key] = what
    done = [key for key, what in found.items() if what == "done"]
    if done:
        _record(writing, done, act)
        _release(writing, seen.behind, {_key_of(each, segment_of) for each in done})
    return [found[key] for key in keys]


def _key_of(
    item: ExceptionKey,
    segment_of: Callable[[ExceptionKey], tuple[SegmentRow, str | None] | None],
) -> str | None:
    found = segment_of(item)
    return None if found is None else found[1]


def _release(writing: Writing, behind: Sequence[ExceptionRow], keys: set[str | None]) -> None:
    """What waited behind an item to which something was done is looked at now: it may be free."""
    for row in behind:
        if row.key in keys and writing.is_kept(row):
            writing.remove(row)
            writing.put(row._replace(due_us=writing.meta.now_us))


def _act_on_row(writing: Writing, row: ExceptionRow, act: ItemAct) -> Found:
    state, is_dead = writing.state, row.why == DEAD
    now_us = writing.meta.now_us
    match act.act:
        case "requeue":
            if not is_dead:
                return "unchanged"
            writing.remove(row)
            writing.put(row._replace(why="requeued", due_us=now_us, detail="{}"))
            state.requeued += 1
        case "discard":
            if not is_dead and row.why != "unread":
                return "not_found"
            writing.remove(row)
            state.discarded += 1
        case "cancel":
            if is_dead:
                return "dead"
            writing.remove(row)
            state.cancelled += 1
        case "prioritize":
            if is_dead:
                return "dead"
            if row.priority == act.priority:
                return "unchanged"
            writing.remove(row)
            writing.put(row._replace(priority=act.priority))
    return "done"


def _act_on_waiting(
    writing: Writing,
    key: ExceptionKey,
    lane: Lane,
    act: ItemAct,
    segment_of: Callable[[ExceptionKey], tuple[SegmentRow, str | None] | None],
) -> Found:
    if act.act in ("requeue", "discard"):
        return "unchanged" if act.act == "requeue" else "not_found"
    if act.act == "prioritize":
        found = segment_of(key)
        if lane.priority == act.priority:
            return "unchanged"
        if found is None:
            return "not_found"
        segment, partition_key = found
        seq = segment.seq + key.off - (segment.upto - segment.n + 1)
        slot, now_us = lane.slot, writing.meta.now_us
        writing.put(
            ExceptionRow(*key, "moved", slot, act.priority, now_us, seq, partition_key, "{}")
        )
    else:
        writing.state.cancelled += 1
    lane.skips += 1
    writing.skips.append(key)
    return "done"


def _is_taken(writing: Writing, key: ExceptionKey) -> bool:
    for partition in writing.state.partitions:
        take = partition.take
        if take is None:
            continue
        in_range = any(r.lane == key.lane and r.after < key.off <= r.upto for r in take.ranges)
        skipped = key in {ExceptionKey(*each) for each in take.without}
        if (in_range and not skipped) or any(row[:2] == key for row in take.rows):
            return True
    return False


def _record(writing: Writing, done: list[ExceptionKey], act: ItemAct) -> None:
    items = tuple(item_name(*key) for key in done)
    reason = act.reason
    event: Event
    match act.act:
        case "cancel":
            event = EventsCancelled(items=items, reason=reason)
        case "requeue":
            event = EventsRequeued(items=items, reason=reason)
        case "discard":
            event = EventsDiscarded(items=items, reason=reason)
        case "prioritize":
            event = PrioritiesChanged(items=items, reason=reason, priority=act.priority)
    stream = job_stream(writing.job)
    meta = replace(writing.meta, actor=act.actor)
    version = writing.append(stream, writing.state.head, [event], meta)
    writing.trail += [TrailRow(*key, stream, version) for key in done]


# -- the pool as a whole, or one of its partitions -------------------------------------------------


def plan_pause(
    writing: Writing, partition: int | None, reason: str | None, actor: str | None
) -> bool:
    """Take nothing from now on; False if that is so already."""
    target = writing.state if partition is None else writing.state.partition(partition)
    if target.paused:
        return False
    target.paused, target.reason = True, bounded(reason)
    _control(writing, Paused(reason=reason, item=_partition_name(partition)), actor)
    return True


def plan_resume(writing: Writing, partition: int | None, actor: str | None) -> bool:
    """Take again, and accept again after a drain; False if there was nothing to resume."""
    state = writing.state
    target = state if partition is None else state.partition(partition)
    was_draining = partition is None and state.draining
    if not target.paused and not was_draining:
        return False
    target.paused, target.reason = False, None
    if partition is None:
        state.draining = False
    _control(writing, Resumed(item=_partition_name(partition)), actor)
    return True


def plan_drain(writing: Writing, reason: str | None, actor: str | None) -> bool:
    """Accept nothing more, and finish what is there; False if that is so already."""
    if writing.state.draining:
        return False
    writing.state.draining, writing.state.reason = True, bounded(reason)
    _control(writing, Stopped(reason=reason), actor)
    return True


def _partition_name(partition: int | None) -> str | None:
    return None if partition is None else str(partition)


def _control(writing: Writing, event: Paused | Resumed | Stopped, actor: str | None) -> None:
    meta = replace(writing.meta, actor=actor)
    writing.append(job_stream(writing.job), writing.state.head, [event], meta)
