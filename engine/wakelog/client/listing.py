"""What can be asked about all jobs at once: how many stand how, and who works on what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TypedDict

from wakelog.client.results import JobCount, Work, WorkerStatus
from wakelog.client.status import status_word
from wakelog.core.events import RunStarted
from wakelog.core.time import as_datetime, moment, moment_us
from wakelog.errors import Issue, UnknownJobTypeError, ValidationError
from wakelog.ids import KINDS, check_text
from wakelog.log.records import decode
from wakelog.ports.rows import HeldLease, Listing, StatusCount, WorkerRow
from wakelog.ports.store import Store

__all__ = ["MAX_HELD", "SEEN_BY_READERS", "STATUSES", "Filters", "job_counts", "listing_of", "team"]

STATUSES = (
    "active",
    "debouncing",
    "failed",
    "flushing",
    "idle",
    "paused",
    "retrying",
    "stopped",
    "unhandled",
)
"""How a living instance may stand."""
SEEN_BY_READERS = ("active", "idle", "unhandled")
"""Statuses that the store cannot tell apart: whether a worker lives is seen when reading."""
MAX_HELD = 10_000
"""Leases that one look at the workers shows."""


class Filters(TypedDict, total=False):
    """Which living instances are meant: all that match everything that is given."""

    type: str | None
    name: str | None
    status: str | None
    id_prefix: str | None
    due_before: datetime | None
    """To be woken before then, for whatever reason."""
    updated_after: datetime | None
    """With an event recorded after then."""
    error: str | None
    """The type of the last error."""


def listing_of(
    now_us: int,
    *,
    type: str | None = None,
    name: str | None = None,
    status: str | None = None,
    id_prefix: str | None = None,
    due_before: datetime | None = None,
    updated_after: datetime | None = None,
    error: str | None = None,
    after: str | None = None,
) -> Listing:
    """The filters as stores take them. Raises `ValidationError` and `UnknownJobTypeError`.

    Those that are due pass for `unhandled`: whether somebody works on their job is seen later.
    """
    if type is not None and type not in KINDS:
        raise UnknownJobTypeError(type, KINDS)
    if status is not None and status not in STATUSES:
        issue = Issue(loc="status", msg=f"give one of {', '.join(STATUSES)}", type="status")
        raise ValidationError(f"status {status!r}", [issue])
    texts = {"name": name, "id_prefix": id_prefix, "error": error, "after": after}
    for what, text in texts.items():
        if text is not None:
            check_text(text, what)
    due_before_us = None if due_before is None else moment_us(due_before, "due_before")
    if status == "unhandled":
        due_before_us = min(due_before_us or now_us + 1, now_us + 1)
    return Listing(
        kind=type,
        name=name,
        status=None if status == "unhandled" else status,
        id_prefix=id_prefix,
        due_before_us=due_before_us,
        updated_after_us=(
            None if updated_after is None else moment_us(updated_after, "updated_after")
        ),
        error_type=error,
        after=after,
    )


def job_counts(
    counted: Sequence[StatusCount], known: Collection[str], status: str | None
) -> list[JobCount]:
    """For each job, how many instances stand how; `known` are the jobs that a living worker has."""
    statuses: dict[tuple[str, str], Counter[str]] = {}
    running: Counter[tuple[str, str]] = Counter()
    for group in counted:
        is_unhandled = group.overdue and f"{group.kind}:{group.name}" not in known
        word = status_word(group.status, is_unhandled)
        if status in (None, word):
            job = group.kind, group.name
            statuses.setdefault(job, Counter())[word] += group.number
            running[job] += group.number if group.executing else 0
    return [
        JobCount(
            type=kind,
            name=name,
            total=words.total(),
            running=running[kind, name],
            statuses=dict(sorted(words.items())),
        )
        for (kind, name), words in sorted(statuses.items())
    ]


def team(store: Store, now_us: int) -> list[WorkerStatus]:
    """The workers that live, and those that do not but still hold something; what runs where.

    Blocks. A lease that ends between the two reads may be missing, or its worker may.
    """
    work: dict[str, list[Work]] = {}
    for held in store.leases(now_us, MAX_HELD):
        work.setdefault(held.lease.owner, []).append(_work(held))
    rows = {row.worker: row for row in store.workers(0)}
    names = sorted({name for name, row in rows.items() if row.until_us > now_us} | set(work))
    return [_worker(name, rows.get(name), work.get(name, []), now_us) for name in names]


def _work(held: HeldLease) -> Work:
    began = decode(held.event) if held.lease.run and held.event is not None else None
    run = began.event if began is not None else None
    return Work(
        instance_id=held.stream,
        run=run.run if isinstance(run, RunStarted) else None,
        attempt=run.attempt if isinstance(run, RunStarted) else None,
        since=moment(began.at_us) if began is not None else None,
        lease_ends_at=as_datetime(held.lease.until_us),
    )


def _worker(name: str, row: WorkerRow | None, work: list[Work], now_us: int) -> WorkerStatus:
    if row is None:
        return WorkerStatus(name=name, alive=False, work=tuple(work))
    return WorkerStatus(
        name=name,
        alive=row.until_us > now_us,
        host=row.host,
        pid=row.pid,
        jobs=row.jobs,
        concurrency=row.concurrency,
        started_at=as_datetime(row.started_us),
        seen_at=as_datetime(row.seen_us),
        work=tuple(work),
    )
