"""Checks of the pools in a store: what waits for a worker, what was given up, and the log's end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from wakelog.errors import StoreUnavailableError
from wakelog.ids import InstanceId
from wakelog.pools.state import PoolState, job_stream, loaded, partition_stream
from wakelog_adapters.sql.findings import Finding, counted, ok, problem, warning

__all__ = ["check_pools"]

Rows = Callable[[str], Sequence[Sequence[Any]]]

_NEWEST = """SELECT s.pool, s.state FROM {t}pool_states s
    WHERE s.n = (SELECT max(n) FROM {t}pool_states m WHERE m.pool = s.pool) ORDER BY s.pool"""
_WITHOUT_DOCUMENT = """SELECT DISTINCT s.pool FROM {t}pool_segments s
    WHERE NOT EXISTS (SELECT 1 FROM {t}pool_states d WHERE d.pool = s.pool) ORDER BY s.pool"""
_ENDS = """SELECT originator_id, max(originator_version) FROM {t}stored_events
    WHERE originator_id IN (%s) GROUP BY originator_id"""


def check_pools(rows: Rows, served: Collection[str]) -> Iterator[Finding]:
    """`rows` returns those of a query; `served` are the jobs that running workers have. Changes
    nothing, and locks nothing."""
    states: dict[str, PoolState] = {}
    damaged: list[str] = []
    for job, document in rows(_NEWEST):
        try:
            states[job] = loaded(bytes(document))
        except StoreUnavailableError as error:
            text = f"the document of {job} cannot be read: {error.detail}"
            yield problem("pools", text, _rebuild(job))
            damaged.append(job)
    for (job,) in rows(_WITHOUT_DOCUMENT):
        damaged.append(job)
        yield problem("pools", f"the document of {job} is gone", _rebuild(job))
    if not states:
        if not damaged:
            yield ok("pools", "no worker pool")
        return
    found = [
        finding
        for job, state in states.items()
        for finding in (
            *_waiting(job, state, served),
            *_given_up(job, state),
            *_ends(rows, job, state),
        )
    ]
    yield from found
    if not found:
        pending = sum(state.pending for state in states.values())
        text = f"{counted(len(states), 'worker pool')}, {counted(pending, 'event')} pending"
        yield ok("pools", text)


def _waiting(job: str, state: PoolState, served: Collection[str]) -> Iterator[Finding]:
    """Events that no worker will take."""
    number = state.pending + state.processing
    if number and job not in served:
        text = f"{counted(number, 'event')} of {job} pending: no running worker knows it"
        yield problem("pools", text, f"start a worker that knows {job}: wakelog worker MODULE:jobs")


def _given_up(job: str, state: PoolState) -> Iterator[Finding]:
    name = InstanceId.parse(job_stream(job)).name
    if dead := state.counts.get("dead", 0):
        advice = f"see wakelog pool dead {name}; then wakelog pool requeue, or wakelog pool discard"
        yield warning("pools", f"{counted(dead, 'dead event')} of {job}", advice)
    if unread := state.counts.get("unread", 0):
        text = f"{counted(unread, 'event')} of {job} that no worker's code could read"
        advice = (
            "start a worker whose code can read it, and it goes on; if there is none: "
            f"wakelog pool dead-letter {name}"
        )
        yield warning("pools", text, advice)


def _ends(rows: Rows, job: str, state: PoolState) -> Iterator[Finding]:
    """Streams of the pool that do not end as its document says."""
    heads = {partition_stream(job, each.number): each.head for each in state.partitions}
    heads[job_stream(job)] = state.head
    names = ", ".join("'" + stream.replace("'", "''") + "'" for stream in heads)
    ends = {stream: version for stream, version in rows(_ENDS % names)}
    elsewhere = [each for each, head in heads.items() if ends.get(each, 0) != head.version]
    if elsewhere:
        text = f"{counted(len(elsewhere), 'stream')} of {job} whose end is not where its pool says"
        is_cut = any(ends.get(each, 0) < heads[each].version for each in elsewhere)
        cut = "stop what else writes to the store, and restore a copy: events are missing"
        advice = cut if is_cut else _rebuild(job)
        yield problem("pools", f"{text}, as {elsewhere[0]}", advice)


def _rebuild(job: str) -> str:
    name = InstanceId.parse(job_stream(job)).name
    return f"make it anew from the log: wakelog pool rebuild {name} --jobs MODULE:jobs"
