"""Plans what operators do: pause, resume, drain, cancel, requeue, discard, dead-letter, change
priorities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from wakelog.core.events import DeadLettered, Event, Paused, Resumed, Stopped
from wakelog.core.pool.events import (
    EventsCancelled,
    EventsDiscarded,
    EventsRequeued,
    PrioritiesChanged,
)
from wakelog.pools.items import item_name
from wakelog.pools.state import (
    Detail,
    Lane,
    Recall,
    Take,
    bounded,
    detail_of,
    job_stream,
)
from wakelog.pools.writing import Writing
from wakelog.ports.pools import ExceptionKey, ExceptionRow, PoolSeen, SegmentRow, TrailRow

__all__ = [
    "Found", "ItemAct", "plan_act", "plan_drain", "plan_pause", "plan_resume", "record_act",
]  # fmt: skip

Found = Literal["done", "not_found", "taken", "recalled", "dead", "unchanged"]
"""What an act found: it was done; there is no such item waiting or dead; it is being worked on; it
was taken, and is done to it if it has not begun; it is dead, and so does not wait; it waits or is
dead, and there is nothing to change."""

DEAD = "dead"


class ItemAct(NamedTuple):
    """What is to be done to some items."""

    act: Literal["cancel", "requeue", "discard", "prioritize", "dead_letter"]
    reason: str | None = None
    priority: int = 0
    actor: str | None = None
    is_last: bool = False
    """If it is taken still, nothing is to be done to it later."""


def plan_act(
    writing: Writing,
    seen: PoolSeen,
    keys: Sequence[ExceptionKey],
    act: ItemAct,
    segment_of: Callable[[ExceptionKey], tuple[SegmentRow, str | None] | None],
) -> list[Found]:
    """Do it to those of `keys` for which it can be done; what was found of each.

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
            take = _take_of(writing, key)
            what = "not_found" if take is None else _recall(writing, take, key, act)
        found[key] = what
    done = [key for key, what in found.items() if what == "done"]
    if done:
        record_act(writing, done, act, rows)
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
                return "unchanged"
            writing.remove(row)
            state.discarded += 1
        case "dead_letter":
            if row.why != "unread":
                return "unchanged"
            writing.remove(row)
            writing.put(_given_up(row, now_us))
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
    if act.act in ("requeue", "discard", "dead_letter"):
        return "unchanged"
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


def _take_of(writing: Writing, key: ExceptionKey) -> Take | None:
    for partition in writing.state.partitions:
        take = partition.take
        if take is None:
            continue
        in_range = any(r.lane == key.lane and r.after < key.off <= r.upto for r in take.ranges)
        skipped = key in {ExceptionKey(*each) for each in take.without}
        if (in_range and not skipped) or any(row[:2] == key for row in take.rows):
            return take
    return None


def _recall(writing: Writing, take: Take, key: ExceptionKey, act: ItemAct) -> Found:
    """Its worker gives it back, unless it has begun, and then it is done (P6). Only what waited for
    code can be discarded."""
    if act.act == "discard":
        may_be = any(row[:2] == key and row.why == "unread" for row in take.rows)
    else:
        may_be = act.act == "cancel"
    others = [each for each in take.recalls if each[:2] != key]
    is_recalled = len(others) < len(take.recalls)
    if act.is_last and is_recalled:
        take.recalls, writing.must_write = others, True
    elif may_be and not is_recalled and not act.is_last:
        what: Literal["cancel", "discard"] = "discard" if act.act == "discard" else "cancel"
        take.recalls.append(Recall(*key, what, act.reason, act.actor))
        writing.must_write = writing.is_told = True
    return "recalled" if may_be and not act.is_last else "taken"


def record_act(
    writing: Writing,
    done: list[ExceptionKey],
    act: ItemAct,
    rows: Mapping[ExceptionKey, ExceptionRow],
) -> None:
    """Record what was done to these items, whose rows in the table of exceptions were these."""
    items = tuple(item_name(*key) for key in done)
    reason = act.reason
    events: list[Event] = []
    match act.act:
        case "cancel":
            events.append(EventsCancelled(items=items, reason=reason))
        case "requeue":
            events.append(EventsRequeued(items=items, reason=reason))
        case "discard":
            events.append(EventsDiscarded(items=items, reason=reason))
        case "prioritize":
            events.append(PrioritiesChanged(items=items, reason=reason, priority=act.priority))
        case "dead_letter":
            events += [_dead_lettered(rows[key]) for key in done]
    stream = job_stream(writing.job)
    meta = replace(writing.meta, actor=act.actor)
    version = writing.append(stream, writing.state.head, events, meta)
    is_shared = len(events) < len(done)
    writing.trail += [
        TrailRow(*key, stream, version if is_shared else version + index)
        for index, key in enumerate(done)
    ]


def _given_up(row: ExceptionRow, now_us: int) -> ExceptionRow:
    """The dead letter of an item that waited for code."""
    before = detail_of(row)
    detail = Detail(before.attempt - 1, reason="waiting_for_code", error_type=before.error_type,
                    message=before.message, at_us=now_us)  # fmt: skip
    return row._replace(why=DEAD, due_us=None, detail=detail.dumped())


def _dead_lettered(row: ExceptionRow) -> DeadLettered:
    """The event of that."""
    before = detail_of(row)
    return DeadLettered(
        event_version=1,
        reason="waiting_for_code",
        error_type=before.error_type,
        message=before.message,
        attempts=before.attempt - 1,
        item=item_name(row.lane, row.off),
    )


# -- the pool as a whole, or one of its partitions -------------------------------------------------


def plan_pause(
    writing: Writing, partition: int | None, reason: str | None, actor: str | None
) -> bool:
    """Take nothing from now on, and give back what has not begun; False if that is so already."""
    target = writing.state if partition is None else writing.state.partition(partition)
    if target.paused:
        return False
    target.paused, target.reason = True, bounded(reason)
    writing.is_told = True
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
