"""The rows of views and tables that stores return, and the filter of a listing."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from wakelog.ports.records import StoredEvent
from wakelog.ports.units import Lease

__all__ = ["Due", "HeldLease", "JobPauseRow", "Listing", "StatusCount", "StatusRow", "WorkerRow"]


class Due(Struct, frozen=True, gc=False):
    """An instance that was claimed: its alarm is due, or its lease has ended."""

    stream: str
    due_us: int
    version: int
    """The version that the instance's views show."""
    hash: str
    """The hash of the newest event, as those views have it."""
    expired: Lease | None
    """The lease that had ended, and was taken over."""
    head: str | None = None
    """The head of its stream, if the status row keeps it: see `wakelog.log.rebuild.kept_head`."""
    newest: StoredEvent | None = None
    """The newest event, with such a head."""
    run: bool = False
    """Whether its lease counts as a run: see `ClaimRequest.limits`."""


class HeldLease(Struct, frozen=True):
    """A lease as stored, live or ended."""

    stream: str
    lease: Lease
    event: StoredEvent | None
    """The event whose version is the lease's token: of a run, its `RunStarted`."""


class StatusRow(Struct, frozen=True):
    """The status view's row of one instance: enough to make every public status from."""

    stream: str
    kind: str
    name: str
    id: str
    version: int
    hash: str
    """The hash of the newest event."""
    checksum: int
    """Of all other fields; made and compared by `wakelog.log.status_row`."""
    status: str
    executing: bool
    """Whether a run is open."""
    due_us: int | None
    retry_us: int | None
    clear_us: int | None
    wake_us: int | None
    """When it must be woken next, for whatever reason; decides whether it is `unhandled`."""
    created_us: int | None
    updated_us: int
    last_run_us: int | None
    """When the newest run of this life ended, well or not."""
    event_count: int
    run_count: int
    failure_count: int
    deferred_count: int
    reason: str | None
    """Why it is paused or stopped."""
    unfinished_count: int
    """How many accepted events are not done with: those in windows, or else the deferred ones."""
    window_count: int
    """How many windows there are now."""
    window_opened_us: int | None
    """When the first window was opened."""
    flush_due_us: int | None
    """When the first window is due that no run has taken."""
    dead_count: int
    """How many dead letters it has."""
    code_error: str | None
    """What waits for code that can read it, and why, as JSON: the fields of `Unread`."""
    error_type: str | None
    """The type of the last failure."""
    last_error: str | None
    """The last failure as JSON: handler, error_type, message, traceback, at_us, where."""
    state: str | None


class WorkerRow(NamedTuple):
    """A worker process, alive until `until_us` at least."""

    worker: str
    jobs: tuple[str, ...]
    """The jobs it can run, as in `task:order`."""
    concurrency: int
    host: str
    pid: int
    started_us: int
    seen_us: int
    """When it wrote this row."""
    until_us: int
    rules: str = "{}"
    """The fingerprints of the rules by which its jobs set schedules, as a JSON object: by them
    workers of two versions tell who decides."""


class JobPauseRow(NamedTuple):
    """A job that is paused as a whole: none of its instances is claimed."""

    job: str
    """As in `task:order`."""
    reason: str | None
    actor: str | None
    since_us: int


class StatusCount(NamedTuple):
    """How many instances of one job have the same status."""

    kind: str
    name: str
    status: str
    executing: bool
    overdue: bool
    """Their alarm is due, and no run is open."""
    number: int
    dead_letters: int
    """How many dead letters they have."""


class Listing(Struct, frozen=True):
    """Which instances to list: those that match every field that is set."""

    kind: str | None = None
    name: str | None = None
    status: str | None = None
    id_prefix: str | None = None
    due_before_us: int | None = None
    error_type: str | None = None
    updated_after_us: int | None = None
    waking: bool = False
    """List all instances that must be woken instead of the living ones: an ended life too, if
    deferred events are to open the next one."""
    dead: bool = False
    """List all instances with dead letters, also between two lives."""
    unread: bool = False
    """List all instances that wait for code, also between two lives."""
    limit: int = 100
    after: str | None = None
    """The last stream id of the page before."""
