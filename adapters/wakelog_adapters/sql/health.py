"""How the jobs of a store get on: who works, what waits for nobody, what is stuck.

Asked of the tables, which every SQL store has under the same names and columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from wakelog_adapters.sql.findings import Finding, length, ok, problem, warning

__all__ = ["Ward", "examine_work"]

LATE_US = 60_000_000
"""How long something may be due, or a lease be over, before that is worth a word."""
STRANDED_US = 60_000_000
"""How long work may be without an alarm: twice as long as until a worker's next sweep."""

_UNREADABLE = '{"handler": "load"'
"""How the last error of an instance begins that was parked."""


class Ward(NamedTuple):
    """A store under examination."""

    ask: Callable[[str], Sequence[Sequence[Any]]]
    """The rows that a query answers. `{t}` in it stands for what precedes the tables' names."""
    now_us: int
    """By this machine's clock, as alarms are judged."""
    lease_now_us: int
    """By the clock that leases are judged by."""


def examine_work(ward: Ward) -> Iterator[Finding]:
    """Nothing is changed, and nothing is locked."""
    jobs, workers = _workers(ward)
    yield workers
    yield from _due(ward, jobs)
    yield _leases(ward)
    yield _stranded(ward)
    yield from _failed(ward)


def _workers(ward: Ward) -> tuple[frozenset[str], Finding]:
    """Which jobs are worked on, and by whom."""
    rows = ward.ask("SELECT jobs, until_us, worker FROM {t}workers ORDER BY worker")
    alive = [(jobs, worker) for jobs, until_us, worker in rows if until_us > ward.now_us]
    served = frozenset(job for jobs, _ in alive for job in json.loads(jobs))
    dead = len(rows) - len(alive)
    gone = f"; {_count(dead, 'other')} ended without a word in the last day" if dead else ""
    if alive:
        names = ", ".join(worker for _, worker in alive[:3]) + (", …" if len(alive) > 3 else "")
        return served, ok("workers", f"{_count(len(alive), 'worker')} alive ({names}){gone}")
    [(alarms,)] = ward.ask("SELECT count(*) FROM {t}alarms")
    if not alarms:
        return served, ok("workers", f"no worker is alive, and nothing is scheduled{gone}")
    text = f"no worker is alive, and {_count(alarms, 'instance')} will need one{gone}"
    return served, warning("workers", text, "start one: wakelog worker MODULE:jobs")


def _due(ward: Ward, served: frozenset[str]) -> Iterator[Finding]:
    """What is due and nobody has begun: for lack of a worker that knows it, or of a free one."""
    rows = ward.ask(
        f"""SELECT a.job, count(*), min(a.due_us) FROM {{t}}alarms a
        WHERE a.due_us <= {ward.now_us} AND NOT EXISTS (
            SELECT 1 FROM {{t}}leases l
            WHERE l.stream = a.stream AND l.until_us > {ward.lease_now_us})
        GROUP BY a.job ORDER BY a.job"""
    )
    fine = True
    for job, number, oldest_us in rows:
        late_us = ward.now_us - oldest_us
        text = f"{_count(number, 'instance')} of {job} due, the oldest for {length(late_us)}"
        if job not in served:
            fine = False
            advice = f"start a worker that knows {job}: wakelog worker MODULE:jobs"
            yield problem("due", f"{text}: no living worker knows it", advice)
        elif late_us > LATE_US:
            fine = False
            advice = "more workers, or a higher --concurrency; or look for runs that never end"
            yield warning("due", f"{text}: the workers are behind", advice)
    if fine:
        yield ok("due", "nothing is overdue")


def _leases(ward: Ward) -> Finding:
    """A lease that has ended is taken up by any worker that knows its job, at once."""
    [(number, over, oldest_us)] = ward.ask(
        f"""SELECT count(*),
            coalesce(sum(CASE WHEN until_us <= {ward.lease_now_us - LATE_US} THEN 1 END), 0),
            min(until_us) FROM {{t}}leases"""
    )
    if not over:
        return ok("leases", f"{_count(number, 'lease')}, none that ended long ago")
    since = length(ward.lease_now_us - oldest_us)
    text = f"{_count(over, 'lease')} ended up to {since} ago, and nobody has taken them up"
    advice = "start a worker that knows their jobs; their runs are begun again"
    return problem("leases", text, advice)


def _stranded(ward: Ward) -> Finding:
    """As a worker's sweep sees it, a little later."""
    [(number,)] = ward.ask(
        f"""SELECT count(*) FROM {{t}}status s
        WHERE (s.executing OR s.wake_us IS NOT NULL)
        AND s.updated_us < {ward.now_us - STRANDED_US}
        AND NOT EXISTS (SELECT 1 FROM {{t}}leases l WHERE l.stream = s.stream)
        AND (s.executing OR NOT EXISTS (SELECT 1 FROM {{t}}alarms a WHERE a.stream = s.stream))"""
    )
    if not number:
        return ok("stranded", "all work has its alarm or its lease")
    text = f"{_count(number, 'instance')} with work, but with neither alarm nor lease"
    return warning("stranded", text, "a living worker that knows them re-arms them: start one")


def _failed(ward: Ward) -> Iterator[Finding]:
    """What has given up, apart from what cannot be read at all."""
    [(failed, parked)] = ward.ask(
        f"""SELECT count(*), coalesce(
            sum(CASE WHEN substr(last_error, 1, {len(_UNREADABLE)}) = '{_UNREADABLE}' THEN 1 END),
            0) FROM {{t}}status WHERE status = 'failed'"""
    )
    if parked:
        text = f"{_count(parked, 'instance')} set aside: their history cannot be read"
        advice = "see wakelog ls --status failed, and wakelog history of one of them"
        yield problem("parked", text, advice)
    if failed - parked:
        text = f"{_count(failed - parked, 'instance')} failed"
        yield warning("failed", text, "see wakelog ls --status failed; trigger them again")
    if not failed:
        yield ok("failed", "no instance has failed")


def _count(number: int, one: str) -> str:
    return f"{number} {one if number == 1 else one + 's'}"
