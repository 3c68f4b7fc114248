"""Reads what there is to know of a pool and its events; nothing here writes or takes a lock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple, cast

import msgspec

from wakelog.application import Application
from wakelog.arguments import check_key
from wakelog.client.pool.oldest import OLDEST_LIMIT, oldest_pending_us
from wakelog.client.pool.results import (
    ItemStatus,
    PartitionStatus,
    PoolDeadLetter,
    PoolEvent,
    PoolStatus,
)
from wakelog.client.results import ErrorInfo, stored_moment
from wakelog.core.events import DeadLettered, ExecutionFailed
from wakelog.core.pool.events import (
    EventsCancelled,
    EventsDiscarded,
    EventsRequeued,
    RunsExecuted,
    RunsReturned,
    RunsStarted,
)
from wakelog.errors import InstanceNotFoundError, StoreUnavailableError
from wakelog.ids import InstanceId, check_text
from wakelog.log.batches import read_item
from wakelog.log.records import Recorded
from wakelog.pools.items import Slices, item_name, place_of
from wakelog.pools.state import PoolState, Take, detail_of, job_stream, loaded, partition_stream
from wakelog.ports.pools import ExceptionKey, ExceptionRow, PoolFilter, PoolLook, PoolSeen
from wakelog.runtime.pool_history import item_history

__all__ = [
    "Located",
    "dead_letters",
    "list_pools",
    "locate",
    "pool_event",
    "pool_status",
    "status_word",
]

_WORDS: dict[str, ItemStatus] = {
    "delayed": "delayed",
    "retrying": "retrying",
    "dead": "dead",
    "unread": "waiting_for_code",
}


class Located(NamedTuple):
    """Where an event was accepted."""

    event_id: str
    lane: int
    off: int


async def locate(app: Application, job: str, event_id: str) -> Located:
    """The event of that id, given by its caller or its place. Raises `InstanceNotFoundError`, and
    `ValidationError` for what is no id."""
    check_key(event_id, "event id")
    place = place_of(event_id)
    if place is not None:
        return Located(event_id, *place)
    seen = await app.pools.look(PoolLook(job, app.clock.now_us(), ids=[event_id]))
    if not seen.ids:
        raise InstanceNotFoundError(f"{job}:{event_id}")
    return Located(event_id, seen.ids[0].lane, seen.ids[0].off)


# -- the pool --------------------------------------------------------------------------------------


async def pool_status(app: Application, job: str, concurrency: int | None = None) -> PoolStatus:
    """The pool in numbers; without its definition with as many partitions as it had last."""
    now_us = app.clock.now_us()
    look = PoolLook(job, now_us, leases=True, due_limit=OLDEST_LIMIT, firsts="all")
    seen = await app.pools.look(look)
    state = loaded(seen.state)
    counts = state.counts
    oldest_us = await oldest_pending_us(app, job, state, seen)
    return PoolStatus(
        name=InstanceId.parse(job_stream(job)).name,
        pending=state.pending - counts.get("unread", 0),
        delayed=counts.get("delayed", 0),
        retrying=counts.get("retrying", 0),
        processing=state.processing,
        processed=state.processed,
        dead=counts.get("dead", 0),
        cancelled=state.cancelled,
        discarded=state.discarded,
        waiting_for_code=counts.get("unread", 0),
        active_partitions=sum(each.take is not None for each in state.partitions),
        paused=state.paused or seen.is_paused,
        draining=state.draining,
        reason=state.reason,
        oldest_pending_age=(
            None if oldest_us is None else timedelta(microseconds=max(0, now_us - oldest_us))
        ),
        partitions=tuple(_partitions(job, concurrency or state.concurrency, state, seen)),
    )


def _partitions(
    job: str, concurrency: int, state: PoolState, seen: PoolSeen
) -> list[PartitionStatus]:
    owners = {each.stream: each.owner for each in seen.leases if not each.has_ended}
    found: list[PartitionStatus] = []
    for number in range(max(concurrency, len(state.partitions))):
        partition = state.partition(number)
        owner = owners.get(partition_stream(job, number))
        take = partition.take
        if number >= concurrency and take is None:
            continue
        is_held = owner is not None
        word = "processing" if take is not None else "idle" if is_held else "not_found"
        if partition.paused or (state.paused and take is None):
            word = "paused"
        found.append(
            PartitionStatus(
                partition=number,
                status=cast("Any", word),
                current_event_id=None if take is None else _first_of(take),
                worker=owner,
            )
        )
    return found


def _first_of(take: Take) -> str | None:
    if take.rows:
        return item_name(take.rows[0].lane, take.rows[0].off)
    skipped = set(take.without)
    for lane, after, upto, *_ in take.ranges:
        for off in range(after + 1, upto + 1):
            if (lane, off) not in skipped:
                return item_name(lane, off)
    return None


async def list_pools(app: Application) -> list[PoolStatus]:
    """Every pool of the store of which something was recorded, by name; one that is damaged is
    listed too, with what is wrong, and hides no other."""
    return [await _listed(app, job) for job in await app.threads.browse(app.store.pool_jobs)]


async def _listed(app: Application, job: str) -> PoolStatus:
    try:
        return await pool_status(app, job)
    except StoreUnavailableError as error:
        if error.reason != "damaged":
            raise
        return PoolStatus(name=InstanceId.parse(job_stream(job)).name, damaged=error.detail)


# -- one event -------------------------------------------------------------------------------------


async def pool_event(app: Application, job: str, located: Located) -> PoolEvent:
    """One event, from its history. Raises `InstanceNotFoundError`."""
    key = ExceptionKey(located.lane, located.off)
    now_us = app.clock.now_us()
    seen = await app.pools.look(PoolLook(job, now_us, keys=[key]))
    history = await item_history(app.store, app.threads, job, located)
    slices = await app.threads.browse(
        app.store.pool_slices, job, [(located.lane, located.off - 1, located.off)]
    )
    if not slices or not history:
        raise InstanceNotFoundError(f"{job}:{located.event_id}")
    [(_, segment, line)] = Slices(job, slices).lines(*_range(located))
    item = read_item(line)
    row = seen.exceptions[0] if seen.exceptions else None
    is_waiting = _waits(loaded(seen.state), seen, key)
    failed = [
        r.event
        for r in history
        if isinstance(r.event, DeadLettered)
        or (isinstance(r.event, ExecutionFailed) and r.event.handler == "execute")
    ]
    event_id = located.event_id
    if item is not None and item.id is not None:
        event_id = item.id
    return PoolEvent(
        event_id=event_id,
        status=status_word(row, is_waiting, history),
        payload=None if item is None else msgspec.json.decode(item.payload),
        partition_key=None if item is None else item.key,
        attempts=_attempts(history, located, row),
        accepted_at=stored_moment(segment.at_us, f"an event of {job}"),
        due_at=(
            stored_moment(row.due_us, f"an event of {job}")
            if row is not None and row.due_us is not None and row.why in ("delayed", "retrying")
            else None
        ),
        result=_result(history, located),
        error=(
            ErrorInfo(type=failed[-1].error_type, message=failed[-1].message) if failed else None
        ),
    )


def _range(located: Located) -> tuple[int, int, int]:
    return located.lane, located.off - 1, located.off


def _waits(state: PoolState, seen: PoolSeen, key: ExceptionKey) -> bool:
    in_lane = any(
        lane.number == key.lane and lane.taken < key.off <= lane.received for lane in state.lanes
    )
    return in_lane and key not in seen.skips


def status_word(row: ExceptionRow | None, is_waiting: bool, history: list[Recorded]) -> ItemStatus:
    """Where an event is: by the tables if it waits, else by the last thing that was recorded."""
    if row is not None:
        return _WORDS.get(row.why, "pending")
    if is_waiting:
        return "pending"
    for recorded in reversed(history):
        match recorded.event:
            case RunsExecuted():
                return "completed"
            case EventsCancelled():
                return "cancelled"
            case EventsDiscarded():
                return "discarded"
            case RunsStarted():
                return "processing"
            case RunsReturned():
                return "pending"
            case _:
                pass
    return "pending"


def _attempts(history: list[Recorded], located: Located, row: ExceptionRow | None) -> int:
    """How many runs began; those that were taken and given back did not, and what waits for code
    that can read it is taken again and again."""
    before = current = 0
    for recorded in history:
        match recorded.event:
            case RunsStarted():
                listed = [each[2] for each in recorded.event.items if each[:2] == located[1:]]
                current = listed[0] if listed else 1
            case RunsReturned():
                current -= 1
            case EventsRequeued():
                before, current = before + current, 0
            case _:
                pass
    if row is not None and row.why != "dead":
        current = detail_of(row).attempt - 1
    return before + current


def _result(history: list[Recorded], located: Located) -> Any:
    opening = f"[{located.lane},{located.off},".encode()
    for recorded in reversed(history):
        if isinstance(recorded.event, RunsExecuted):
            for line in recorded.event.lines.split(b"\n"):
                if line.startswith(opening):
                    fields: list[Any] = msgspec.json.decode(line)
                    return fields[5] if len(fields) > 5 else None
    return None


# -- dead letters ----------------------------------------------------------------------------------


async def dead_letters(
    app: Application, job: str, *, limit: int, after: str | None, error: str | None
) -> list[PoolDeadLetter]:
    """The dead events, in the order of their places; only those with this error type, if given."""
    found: list[PoolDeadLetter] = []
    place = ExceptionKey(*(place_of(check_text(after or "", "after")) or (0, 0)))
    while len(found) < limit:
        filter = PoolFilter(why=("dead",), after=place, limit=limit)
        rows = await app.threads.browse(app.store.pool_exceptions, job, filter)
        found += [
            each
            for each in await _letters(app, job, rows)
            if error is None or each.error_type == error
        ]
        if len(rows) < limit:
            break
        place = ExceptionKey(rows[-1].lane, rows[-1].off)
    return found[:limit]


async def _letters(
    app: Application, job: str, rows: list[ExceptionRow] | Any
) -> list[PoolDeadLetter]:
    if not rows:
        return []
    ranges = [(row.lane, row.off - 1, row.off) for row in rows]
    slices = Slices(job, await app.threads.browse(app.store.pool_slices, job, ranges))
    found: list[PoolDeadLetter] = []
    for row in rows:
        [(_, _, line)] = slices.lines(row.lane, row.off - 1, row.off)
        item, detail = read_item(line), detail_of(row)
        name = item_name(row.lane, row.off)
        found.append(
            PoolDeadLetter(
                event_id=(item.id if item is not None else None) or name,
                item=name,
                reason=detail.reason,
                error_type=detail.error_type,
                error_message=detail.message,
                attempts=detail.attempt,
                given_up_at=stored_moment(detail.at_us, f"a dead letter of {job}"),
                payload=None if item is None else msgspec.json.decode(item.payload),
            )
        )
    return found
