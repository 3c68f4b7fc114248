"""Listing and counting: which living instances match, and how many have which status (A6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict, Unpack, cast

from msgspec.structs import replace

from wakelog.bounds import at_least
from wakelog.client.gateway import RequestGateway
from wakelog.client.status import LESS_THAN_UNHANDLED, InstanceStatus, common_fields, status_word
from wakelog.core.time import moment, moment_us
from wakelog.errors import Issue, UnknownJobTypeError, ValidationError, quoted
from wakelog.ids import KINDS, check_text
from wakelog.ports.rows import Listing, StatusCount, StatusRow
from wakelog.runtime.job_pauses import shown_count

__all__ = [
    "MAX_LIST",
    "STATUSES",
    "Filters",
    "InstanceRow",
    "JobCount",
    "check_filters",
    "count_jobs",
    "list_instances",
]

MAX_LIST = 1_000
"""Instances in one page of a list."""
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
    "waiting_for_code",
)
"""The statuses of living instances."""
DECIDED_BY_READERS = (*LESS_THAN_UNHANDLED, "unhandled")
"""Statuses that the store cannot tell apart: they depend on which workers are alive."""


class Filters(TypedDict, total=False):
    """Which living instances are meant: those that match everything that is given."""

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
    dead_letters: bool
    """Only those with dead letters, and those that have any though their life has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow(InstanceStatus):
    """One line of a list of instances."""

    executing: bool
    """A run is open."""
    scheduled_at: datetime | None
    event_count: int
    execute_count: int
    deferred_count: int
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCount:
    """How many living instances of one job there are, by status."""

    type: str
    name: str
    total: int
    running: int
    """How many of them have a run open."""
    statuses: dict[str, int]
    """How many for each status that occurs; together they are the total."""
    dead_letters: int = 0
    """How many dead letters its instances have, those included whose life has ended."""


def check_filters(filters: Filters) -> None:
    """Raise `ValidationError` for a name that is that of no filter."""
    known = Filters.__annotations__
    for what in filters:
        if what not in known:
            issue = Issue(loc=what, msg=f"give one of {', '.join(known)}", type="filter")
            raise ValidationError(f"filter {quoted(what)}", [issue])


async def list_instances(
    gateway: RequestGateway, *, limit: int, after: str | None, **filters: Unpack[Filters]
) -> list[InstanceRow]:
    """A page of living instances, by id. Raises `ValidationError` and `UnknownJobTypeError`."""
    gateway.check()
    at_least(1, "limit", limit, most=MAX_LIST)
    check_filters(filters)
    app, status = gateway.app, filters.get("status")
    pauses = await app.job_pauses.now()
    listing = _listing(app.clock.now_us(), after=after, **filters)
    is_paused_wanted = status == "paused" and bool(pauses)
    if is_paused_wanted:  # also those whose whole job is paused
        listing = replace(listing, status=None)
    by_reader = status in DECIDED_BY_READERS or is_paused_wanted
    listing = replace(listing, limit=MAX_LIST if by_reader else limit)
    page: list[InstanceRow] = []
    while True:
        rows = await app.threads.browse(app.store.list, listing)
        rows = await app.instances.sound(rows)
        unhandled = await gateway.unhandled(rows)
        shown = await app.job_pauses.shown(rows)
        for row, is_unhandled in zip(shown, unhandled, strict=True):
            instance = _instance_row(cast(StatusRow, row), unhandled=is_unhandled)
            if status in (None, instance.status):
                page.append(instance)
        if len(page) >= limit or len(rows) < listing.limit:
            return page[:limit]
        listing = replace(listing, after=rows[-1].stream)


async def count_jobs(gateway: RequestGateway, **filters: Unpack[Filters]) -> list[JobCount]:
    """How many living instances match, by job and status. One question to the store, which looks
    at each of them. Raises what `list_instances` raises."""
    gateway.check()
    check_filters(filters)
    app, status = gateway.app, filters.get("status")
    now_us = app.clock.now_us()
    listing = _listing(now_us, **filters)
    pauses = await app.job_pauses.now()
    if status == "paused" and pauses:
        listing = replace(listing, status=None)
    groups = await app.threads.browse(app.store.count, listing, now_us)
    dead = await app.threads.browse(app.store.count, replace(listing, dead=True), now_us)
    groups = [shown_count(group, pauses) for group in groups]
    known = await gateway.known_jobs() if any(group.overdue for group in groups) else None
    if known is None:
        groups = [group._replace(overdue=False) for group in groups]
    return _job_counts(groups, dead, known or (), status)


def _listing(
    now_us: int,
    *,
    type: str | None = None,
    name: str | None = None,
    status: str | None = None,
    id_prefix: str | None = None,
    due_before: datetime | None = None,
    updated_after: datetime | None = None,
    error: str | None = None,
    dead_letters: bool = False,
    after: str | None = None,
) -> Listing:
    """The filters as stores take them. Raises `ValidationError` and `UnknownJobTypeError`.

    For `unhandled` they let through what is due: whether a worker knows the job is seen later.
    """
    if type is not None and type not in KINDS:
        raise UnknownJobTypeError(type, KINDS)
    if status is not None and status not in STATUSES:
        issue = Issue(loc="status", msg=f"give one of {', '.join(STATUSES)}", type="status")
        raise ValidationError(f"status {quoted(status)}", [issue])
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
        dead=dead_letters,
        after=after,
    )


def _instance_row(row: StatusRow, *, unhandled: bool) -> InstanceRow:
    return InstanceRow(
        **common_fields(row),
        status=status_word(row.status, unhandled),
        executing=row.executing,
        scheduled_at=moment(row.due_us),
        event_count=row.event_count,
        execute_count=row.run_count,
        deferred_count=row.deferred_count,
        reason=row.reason,
    )


def _job_counts(
    groups: Sequence[StatusCount],
    dead: Sequence[StatusCount],
    known: Collection[str],
    status: str | None,
) -> list[JobCount]:
    """The groups by job; `dead` are those with dead letters, and `known` the jobs that a living
    worker knows."""
    statuses: dict[tuple[str, str], Counter[str]] = {}
    running: Counter[tuple[str, str]] = Counter()
    letters: Counter[tuple[str, str]] = Counter()
    for group in dead:
        letters[group.kind, group.name] += group.dead_letters
        statuses.setdefault((group.kind, group.name), Counter())
    for group in groups:
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
            dead_letters=letters[kind, name],
        )
        for (kind, name), words in sorted(statuses.items())
    ]
