"""Checks of the jobs in a store: which workers run, what waits for a worker, what has failed.

They query the tables, which have the same names and columns in every SQL store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from wakelog_adapters.sql.findings import Finding, counted, duration, ok, problem, warning
from wakelog_adapters.sql.log_check import check_log
from wakelog_adapters.sql.message_health import check_messages
from wakelog_adapters.sql.pool_health import check_pools

__all__ = ["HealthQueries", "check_jobs"]

LATE_US = 60_000_000
"""How long an alarm may be due, or a lease have expired, before it is reported."""
STRANDED_US = 60_000_000
"""How long work may be without an alarm: twice as long as until a worker's next sweep."""

AHEAD_US = 1_000_000
"""How far in the future an event may lie: the clocks of machines differ a little."""

_UNREADABLE = '{"handler": "load"'
"""How the last error of a parked instance begins."""


class HealthQueries(NamedTuple):
    """How the checks query a store."""

    rows: Callable[[str], Sequence[Sequence[Any]]]
    """The rows of a query. `{t}` in it is what the names of the tables begin with."""
    now_us: int
    """By this machine's clock, which decides when an alarm is due."""
    lease_now_us: int
    """By the clock that decides when a lease has expired."""


def check_jobs(queries: HealthQueries) -> Iterator[Finding]:
    """Change nothing, and lock nothing."""
    served, workers = _workers(queries)
    yield workers
    yield from _due(queries, served)
    yield _leases(queries)
    yield _stranded(queries)
    yield check_log(queries.rows)
    yield _ahead(queries)
    yield from _failed(queries)
    yield _dead_letters(queries)
    yield _waiting_for_code(queries)
    yield check_messages(queries.rows, queries.now_us)
    yield _inbox(queries, served)
    yield from check_pools(queries.rows, served)


def _workers(queries: HealthQueries) -> tuple[frozenset[str], Finding]:
    """The jobs that running workers serve, and the finding about the workers."""
    rows = queries.rows("SELECT jobs, until_us, worker FROM {t}workers ORDER BY worker")
    running = [(jobs, worker) for jobs, until_us, worker in rows if until_us > queries.now_us]
    served = frozenset(job for jobs, _ in running for job in json.loads(jobs))
    dead = len(rows) - len(running)
    lost = f"; {counted(dead, 'other')} ended without a shutdown in the last day" if dead else ""
    if running:
        names = ", ".join(worker for _, worker in running[:3]) + (", …" if len(running) > 3 else "")
        return served, ok("workers", f"{counted(len(running), 'worker')} running ({names}){lost}")
    [(alarms,)] = queries.rows("SELECT count(*) FROM {t}alarms")
    if not alarms:
        return served, ok("workers", f"no worker is running, and nothing is scheduled{lost}")
    text = f"no worker is running, and {counted(alarms, 'instance')} will need one{lost}"
    return served, warning("workers", text, "start one: wakelog worker MODULE:jobs")


def _due(queries: HealthQueries, served: frozenset[str]) -> Iterator[Finding]:
    """Due alarms that no worker has claimed: no worker knows the job, or none has a free slot."""
    rows = queries.rows(
        f"""SELECT a.job, count(*), min(a.due_us) FROM {{t}}alarms a
        WHERE a.due_us <= {queries.now_us} AND NOT EXISTS (
            SELECT 1 FROM {{t}}leases l
            WHERE l.stream = a.stream AND l.until_us > {queries.lease_now_us})
        GROUP BY a.job ORDER BY a.job"""
    )
    all_ok = True
    for job, number, oldest_us in rows:
        late_us = queries.now_us - oldest_us
        text = f"{counted(number, 'instance')} of {job} due, the oldest for {duration(late_us)}"
        if job not in served:
            all_ok = False
            advice = f"start a worker that knows {job}: wakelog worker MODULE:jobs"
            yield problem("due", f"{text}: no running worker knows it", advice)
        elif late_us > LATE_US:
            all_ok = False
            advice = "add workers, raise --concurrency, or look for runs that never end"
            yield warning("due", f"{text}: the workers are behind", advice)
    if all_ok:
        yield ok("due", "nothing is overdue")


def _leases(queries: HealthQueries) -> Finding:
    """Any worker that knows its job takes over an expired lease at once, but for those on the
    partitions of a pool, which have no status row: those it takes over when there is work."""
    [(number, expired, oldest_us)] = queries.rows(
        f"""SELECT count(*), coalesce(sum(CASE WHEN s.stream IS NOT NULL
                AND l.until_us <= {queries.lease_now_us - LATE_US} THEN 1 END), 0),
            min(CASE WHEN s.stream IS NOT NULL THEN l.until_us END)
        FROM {{t}}leases l LEFT JOIN {{t}}status s ON s.stream = l.stream"""
    )
    if not expired:
        return ok("leases", f"{counted(number, 'lease')}, none that expired long ago")
    longest = duration(queries.lease_now_us - oldest_us)
    text = f"{counted(expired, 'lease')} expired up to {longest} ago, and no worker has taken over"
    return problem("leases", text, "start a worker that knows their jobs: it begins the runs again")


def _stranded(queries: HealthQueries) -> Finding:
    """What a worker's sweep would find, a little later."""
    [(number,)] = queries.rows(
        f"""SELECT count(*) FROM {{t}}status s
        WHERE (s.executing OR s.wake_us IS NOT NULL)
        AND s.updated_us < {queries.now_us - STRANDED_US}
        AND NOT EXISTS (SELECT 1 FROM {{t}}leases l WHERE l.stream = s.stream)
        AND (s.executing OR NOT EXISTS (SELECT 1 FROM {{t}}alarms a WHERE a.stream = s.stream))"""
    )
    if not number:
        return ok("stranded", "all work has an alarm or a lease")
    text = f"{counted(number, 'instance')} with work, but with neither alarm nor lease"
    return warning("stranded", text, "start a worker that knows them: it re-arms them")


def _ahead(queries: HealthQueries) -> Finding:
    """Streams that were written to while a clock was ahead."""
    later = f"FROM {{t}}status WHERE updated_us > {queries.now_us + AHEAD_US}"
    [(number, newest_us)] = queries.rows(f"SELECT count(*), max(updated_us) {later}")
    if not number:
        return ok("future", "no event lies in the future")
    streams = [
        stream for (stream,) in queries.rows(f"SELECT stream {later} ORDER BY stream LIMIT 3")
    ]
    names = ", ".join(streams) + (", …" if number > len(streams) else "")
    ahead = duration(newest_us - queries.now_us)
    text = f"the newest event of {counted(number, 'instance')} lies up to {ahead} ahead ({names})"
    return warning("future", text, "set the clocks of all machines right: work goes on by itself")


def _failed(queries: HealthQueries) -> Iterator[Finding]:
    """Instances that have failed; those whose history cannot be read are a check of their own."""
    [(failed, parked)] = queries.rows(
        f"""SELECT count(*), coalesce(
            sum(CASE WHEN substr(last_error, 1, {len(_UNREADABLE)}) = '{_UNREADABLE}' THEN 1 END),
            0) FROM {{t}}status WHERE status = 'failed'"""
    )
    if parked:
        text = f"{counted(parked, 'instance')} parked: the history cannot be read"
        advice = "see wakelog ls --status failed, and wakelog history of one of them"
        yield problem("parked", text, advice)
    if failed - parked:
        text = f"{counted(failed - parked, 'instance')} failed"
        yield warning("failed", text, "see wakelog ls --status failed; trigger them again")
    if not failed:
        yield ok("failed", "no instance has failed")


def _dead_letters(queries: HealthQueries) -> Finding:
    """What was given up and waits for an operator, also of lives that have ended."""
    [(letters, instances)] = queries.rows(
        "SELECT coalesce(sum(dead_count), 0), count(*) FROM {t}status WHERE dead_count > 0"
    )
    if not letters:
        return ok("dead_letters", "no dead letters")
    text = f"{counted(letters, 'dead letter')} of {counted(instances, 'instance')}"
    advice = "see wakelog dead-letters; then wakelog requeue, or wakelog discard"
    return warning("dead_letters", text, advice)


def _inbox(queries: HealthQueries, served: frozenset[str]) -> Finding:
    """What was sent in transactions and is not taken up: refused, of a job that no worker knows,
    held back, or late."""
    by_job = queries.rows(
        """SELECT job, count(*), min(at_us), sum(CASE WHEN refused THEN 1 ELSE 0 END),
            sum(CASE WHEN retry_us > 0 THEN 1 ELSE 0 END), max(error)
        FROM {t}inbox GROUP BY job ORDER BY job"""
    )
    number = sum(count for _, count, *_ in by_job)
    for job, _, _, refused, _, error in by_job:
        if refused:
            text = f"{counted(refused, 'event')} for {job} refused in the inbox ({error})"
            return problem("inbox", text, "see wakelog inbox list; retry or drop them")
    for job, count, *_ in by_job:
        if job not in served:
            text = f"{counted(count, 'event')} for {job} in the inbox: no running worker knows it"
            return problem("inbox", text, f"start a worker that knows {job}: wakelog worker")
    for job, _, _, _, held, error in by_job:
        if held:
            text = f"{counted(held, 'event')} for {job} held back in the inbox ({error})"
            return warning("inbox", text, "they are tried again; see wakelog inbox list")
    late_us = max((queries.now_us - at_us for _, _, at_us, *_ in by_job), default=0)
    if late_us > LATE_US:
        text = f"{counted(number, 'event')} in the inbox, the oldest for {duration(late_us)}"
        return warning("inbox", text, "add workers: those that run are behind")
    return ok("inbox", f"{counted(number, 'event')} in the inbox" if number else "it is empty")


def _waiting_for_code(queries: HealthQueries) -> Finding:
    """What no worker that has tried it could read, and one example of why."""
    [(number,)] = queries.rows("SELECT count(*) FROM {t}status WHERE code_error IS NOT NULL")
    if not number:
        return ok("waiting_for_code", "nothing waits for code that can read it")
    [(stream, why)] = queries.rows(
        "SELECT stream, code_error FROM {t}status WHERE code_error IS NOT NULL"
        " ORDER BY stream LIMIT 1"
    )
    try:
        unread = json.loads(why)
        said = f"{unread['error_type']}: {unread['message']}"
    except (ValueError, RecursionError, KeyError, TypeError):
        said = "why is damaged"  # `check_log` tells of it
    text = (
        f"{counted(number, 'instance')} with an event or a state that no worker's code could read"
        f" ({stream}: {said})"
    )
    advice = "start a worker whose code can read it: it goes on by itself; see wakelog ls --status"
    return warning("waiting_for_code", text, f"{advice} waiting_for_code")
