"""Why an event of a pool is where it is (P12)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from wakelog.application import Application
from wakelog.client.gateway import RequestGateway
from wakelog.client.pool.reading import Located, pool_event, pool_status
from wakelog.client.pool.results import Cause, PoolEvent, PoolStatus, Why
from wakelog.core.time import as_datetime
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.pools.items import item_name
from wakelog.pools.state import PoolState, detail_of, loaded
from wakelog.ports.pools import ExceptionKey, PoolFilter, PoolLook, PoolSeen

__all__ = ["why"]


async def why(gateway: RequestGateway, definition: WorkerPool[Any], located: Located) -> Why:
    """The first cause that holds. Raises `InstanceNotFoundError`."""
    app, job = gateway.app, definition.job
    event = await pool_event(app, job, located)
    key = ExceptionKey(located.lane, located.off)
    seen = await app.pools.look(PoolLook(job, app.clock.now_us(), keys=[key], leases=True))
    status = await pool_status(app, definition.job, definition.concurrency)
    known = await gateway.known_jobs()
    of_event = _own_cause(event, seen) or await _behind(app, definition, event, seen)
    cause, text = of_event or _of_pool(
        definition, event, located, loaded(seen.state), status,
        has_worker=known is None or job in known, now_us=app.clock.now_us(),
    )  # fmt: skip
    return Why(event_id=event.event_id, status=event.status, cause=cause, text=text)


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _own_cause(event: PoolEvent, seen: PoolSeen) -> tuple[Cause, str] | None:
    """What the event alone explains."""
    match event.status:
        case "completed" | "cancelled" | "discarded" | "dead":
            said = f": {event.error.type}: {event.error.message}" if event.error else ""
            return "over", f"it is {event.status}{said if event.status == 'dead' else ''}"
        case "processing":
            return "running", f"a partition has taken it (attempt {event.attempts})"
        case "waiting_for_code":
            details = [detail_of(row) for row in seen.exceptions]
            said = "".join(f": {each.error_type}: {each.message}" for each in details)
            return "waiting_for_code", f"it waits for code that can read it{said}"
        case "delayed":
            return "delayed", f"it was accepted for {_time(event.due_at)}"
        case "retrying":
            said = f" after {event.error.type}: {event.error.message}" if event.error else ""
            return "retrying", f"its next attempt is at {_time(event.due_at)}{said}"
        case _:
            return None


async def _behind(
    app: Application, definition: WorkerPool[Any], event: PoolEvent, seen: PoolSeen
) -> tuple[Cause, str] | None:
    key = event.partition_key
    if not definition.ordered or key is None:
        return None
    filter = PoolFilter(why=("retrying", "lost", "unread", "delayed"), key=key, limit=1)
    rows = await app.threads.browse(app.store.pool_exceptions, definition.job, filter)
    if not rows:
        return None
    name = item_name(rows[0].lane, rows[0].off)
    return "behind_key", f"its key {key!r} is held back by {name}, which is {rows[0].why}"


def _of_pool(
    definition: WorkerPool[Any],
    event: PoolEvent,
    located: Located,
    state: PoolState,
    status: PoolStatus,
    *,
    has_worker: bool,
    now_us: int,
) -> tuple[Cause, str]:
    if status.paused:
        said = f": {status.reason}" if status.reason else ""
        return "paused", f"the pool is paused{said}"
    if not has_worker:
        return "no_worker", "no living worker has this pool"
    if definition.rate_limit is not None:
        count, span_us = definition.rate_limit
        recent = [each for each in state.starts if each[0] > now_us - span_us]
        if sum(each[1] for each in recent) + state.processing >= count:
            until = as_datetime(min((each[0] for each in recent), default=now_us) + span_us)
            return (
                "rate_limit",
                f"{count} runs may start in {span_us / 1e6:g} s; next at {_time(until)}",
            )
    taken = sum(each.take is not None for each in state.partitions)
    place = _place(state, located)
    share = _share(state, located)
    if taken >= definition.concurrency:
        return "slots_taken", f"all {taken} partitions are working; {place}{share}"
    return "next", f"{place}{share}"


def _place(state: PoolState, located: Located) -> str:
    for lane in state.lanes:
        if lane.number == located.lane and located.off > lane.taken:
            ahead = located.off - lane.taken
            first = sum(each.waiting for each in state.lanes if each.priority > lane.priority)
            of = "" if lane.fair is None else f" for {lane.fair}"
            before = f", after {first} of a higher priority" if first else ""
            return f"it is number {ahead}{of}{before}"
    return "it is about to be taken"


def _share(state: PoolState, located: Located) -> str:
    """Under fair sharing: how many of the newest starts its key had (P11)."""
    for lane in state.lanes:
        if lane.number == located.lane and lane.fair is not None and state.recent:
            had = state.recent.count(lane.fair)
            return f"; {lane.fair} had {had} of the last {len(state.recent)} starts"
    return ""
