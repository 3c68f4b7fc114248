"""Rows of views and tables, and which of them are meant."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from wakelog.ports.records import StoredEvent
from wakelog.ports.units import Lease

__all__ = ["Due", "HeldLease", "JobPauseRow", "Listing", "StatusCount", "StatusRow", "WorkerRow"]


class Due(Struct, frozen=True):
    """An instance that somebody must work on: its alarm is due, or its lease has ended."""

    stream: str
    due_us: int
    version: int
    """The version that the instance's views show."""
    expired: Lease | None
    """The lease that ended, where that is why."""


class HeldLease(Struct, frozen=True):
    """A lease as it lies there, live or ended."""

    stream: str
    lease: Lease
    event: StoredEvent | None
    """The event whose version is the lease's token: of a run, its `RunStarted`."""


class StatusRow(Struct, frozen=True):
    """The status view's row of one instance."""

    stream: str
    kind: str
    name: str
    id: str
    version: int
    hash: str
    status: str
    executing: bool
    due_us: int | None
    retry_us: int | None
    clear_us: int | None
    wake_us: int | None
    """When it must be woken next, for whatever reason; what `unhandled` is judged by."""
    created_us: int | None
    updated_us: int
    event_count: int
    run_count: int
    failure_count: int
    deferred_count: int
    reason: str | None
    """Why it is held: what was said at its pause or stop."""
    last_error: str | None
    """The last failure as JSON: handler, error_type, message, traceback, at_us."""
    state: str | None


class WorkerRow(NamedTuple):
    """A worker process that was alive until `until_us` at least."""

    worker: str
    jobs: tuple[str, ...]
    """The jobs it can run, as in `task:order`."""
    concurrency: int
    host: str
    pid: int
    started_us: int
    seen_us: int
    """When it last said so."""
    until_us: int


class JobPauseRow(NamedTuple):
    """A job that is held as a whole: nothing of it is claimed."""

    job: str
    """As in `task:order`."""
    reason: str | None
    actor: str | None
    since_us: int


class StatusCount(NamedTuple):
    """How many instances of one job stand alike."""

    kind: str
    name: str
    status: str
    executing: bool
    overdue: bool
    """Their alarm is due, and no run is open."""
    number: int


class Listing(Struct, frozen=True):
    """Which instances to list: all that match every field that is set."""

    kind: str | None = None
    name: str | None = None
    status: str | None = None
    id_prefix: str | None = None
    due_before_us: int | None = None
    error_type: str | None = None
    updated_after_us: int | None = None
    waking: bool = False
    """Instead of the living: all that must be woken, also for events that open the next life."""
    limit: int = 100
    after: str | None = None
    """The stream id that the page before ended with."""
