"""Results that only the command line has: frozen values, for JSON and for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from wakelog.client.dead_letters import DeadLetter
    from wakelog.client.job_pause import JobPause
    from wakelog.client.listing import InstanceRow, JobCount
    from wakelog.client.pool.results import PoolDeadLetter, PoolStatus
    from wakelog.client.workers import WorkerStatus
    from wakelog.history.timeline import HistoryEntry
    from wakelog.ports.inbox import InboxRow
    from wakelog_adapters.sql.findings import Finding

__all__ = [
    "CountReport",
    "DeadLettersReport",
    "HealthReport",
    "HistoryReport",
    "InboxActReport",
    "InboxReport",
    "InboxRowReport",
    "JobPausesReport",
    "JobResumeReport",
    "PageReport",
    "PoolDeadReport",
    "PoolsReport",
    "SchemaReport",
    "ScriptReport",
    "StateReport",
    "WorkersReport",
]

# -- instances -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReport:
    """The state of an instance as JSON data, with its version and status."""

    instance_id: str
    version: int
    status: str
    state: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryReport:
    """The newest entries of an instance's history, of all its lives or of one."""

    instance_id: str
    lives: int
    left_out: int
    """How many older entries the `--limit` has left out."""
    entries: list[HistoryEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageReport:
    """A page of instances; `next` is what `--after` takes for the next page, None on the last."""

    instances: list[InstanceRow]
    next: str | None
    pools: int
    """How many worker pools there are beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountReport:
    """How many living instances match, job by job."""

    total: int
    running: int
    jobs: list[JobCount]
    pools: list[PoolStatus]
    """The pools, whose events are no instances; none if a filter is for instances."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLettersReport:
    """What was given up, by instance."""

    dead_letters: list[DeadLetter]
    pools: dict[str, int]
    """The pools that have dead events too, and how many: see `wakelog pool dead`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersReport:
    """The workers, and the time at which they were read."""

    now: datetime
    workers: list[WorkerStatus]


# -- pools -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolsReport:
    """The pools of a store, in numbers."""

    pools: list[PoolStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDeadReport:
    """A page of the dead events of a pool; `next` is what `--after` takes for the next page, None
    on the last."""

    name: str
    dead_letters: list[PoolDeadLetter]
    next: str | None


# -- jobs ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPausesReport:
    """The jobs that are paused as a whole."""

    pauses: list[JobPause]


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxRowReport:
    """An event that was sent in a transaction, and is not taken up yet."""

    number: int
    inbox_id: str
    target: str
    sent_at: datetime
    status: Literal["waiting", "held back", "refused"]
    error: str | None
    """Why it is, or was last, held back or refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxReport:
    """Rows of the inbox, by number."""

    rows: list[InboxRowReport]

    @classmethod
    def of(cls, rows: Sequence[InboxRow]) -> InboxReport:
        """These rows."""
        from wakelog.client.results import stored_moment

        return cls(
            rows=[
                InboxRowReport(
                    number=row.n,
                    inbox_id=row.id,
                    target=row.stream,
                    sent_at=stored_moment(row.at_us, f"row {row.n} of the inbox"),
                    status="refused" if row.refused else "held back" if row.retry_us else "waiting",
                    error=row.error,
                )
                for row in rows
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxActReport:
    """What was done with a row of the inbox."""

    number: int
    action: Literal["retry", "drop"]
    done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResumeReport:
    """The result of resuming a whole job."""

    job: str
    resumed: bool
    pause: JobPause | None
    """The job pause that has ended; None if there was none."""


# -- the store -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaReport:
    """The version of a schema, and what was just applied to it."""

    store: str
    migration: int
    """The newest that was applied; 0: there is no schema."""
    known: int
    """The newest that this wakelog knows."""
    up_to_date: bool
    """Whether nothing is missing. It may be newer than this wakelog, as long as that can work."""
    missing: list[str]
    applied: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptReport:
    """The missing migrations as SQL."""

    store: str
    missing: list[str]
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """What the doctor has found."""

    store: str
    healthy: bool
    """Whether nothing is a problem; there may be warnings."""
    findings: list[Finding]
