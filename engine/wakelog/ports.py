"""The small protocols that the adapters fill, and the plain values that pass through them.

A store is one transaction wide: `append` writes the events of many units of work together with
every view that must agree with them, or nothing. Times are microseconds since 1970 in UTC and
always given: a store reads no clock, except that a database's own judges leases where it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from wakelog.core.instance import Instance

__all__ = [
    "Answer",
    "Appended",
    "Counted",
    "Due",
    "Held",
    "HoldRow",
    "KeyTaken",
    "Lease",
    "LeaseGone",
    "Listing",
    "Loaded",
    "Refused",
    "StatusRow",
    "Store",
    "StoredEvent",
    "StoredSnapshot",
    "Unit",
    "VersionConflict",
    "WorkerRow",
]


class StoredEvent(Struct, frozen=True):
    """An event as it lies in the log: `state` is the record that `wakelog.log` writes and reads."""

    stream: str
    version: int
    topic: str
    state: bytes


class StoredSnapshot(Struct, frozen=True):
    """A folded instance at one version, as bytes of `wakelog.log`."""

    version: int
    state: bytes


class Loaded(NamedTuple):
    """What it takes to rebuild an instance: the newest snapshot, and the events after it."""

    snapshot: StoredSnapshot | None
    tail: Sequence[StoredEvent]


class Answer(Struct, frozen=True):
    """What a request with a key was answered, kept until `expires_us`."""

    key: str
    action: str
    fingerprint: str
    """A digest of what was asked, to tell a repetition from a clash."""
    body: str
    """The answer as JSON."""
    expires_us: int | None


class Lease(Struct, frozen=True):
    """The right to work on one instance until `until_us`."""

    owner: str
    until_us: int
    token: int
    """The version at which it was taken: an older holder's token never matches again."""
    run: bool
    """Whether a run is open under it (else waiting events are being handled)."""


class Unit(Struct, frozen=True):
    """One unit of work, ready to be appended: all of it becomes visible, or nothing.

    A store writes the events with versions `base_version + 1 …` only if the stream stands at
    `base_version`, sets the instance's view rows from `after`, and takes or drops the lease.
    """

    stream: str
    base_version: int
    events: Sequence[StoredEvent]
    after: Instance
    hash: str
    """The hash of the newest event."""
    commit: str
    """The commit id, the same in each of the unit's events."""
    answer: Answer | None = None
    snapshot: StoredSnapshot | None = None
    take: Lease | None = None
    """A lease to take with it, in the place of whatever lease there is."""
    holds: int | None = None
    """The token of the lease that this unit works under: refused unless it is still there."""
    ends_lease: bool = False
    """Drop the lease (the one held; or, with `holds` None, whatever lease there is)."""


class Appended(NamedTuple):
    """What became of a group of units: for each, None or the error that refused it alone."""

    errors: Sequence[Exception | None]
    next_due_us: int | None
    """The earliest alarm among those written, for waking the alarm clock."""


class Due(Struct, frozen=True):
    """An instance that somebody must work on: its alarm is due, or its lease has ended."""

    stream: str
    due_us: int
    version: int
    """The version that the instance's views show."""
    expired: Lease | None
    """The lease that ended, where that is why."""


class Held(Struct, frozen=True):
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
    waiting_count: int
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


class HoldRow(NamedTuple):
    """A job that is held as a whole: nothing of it is claimed."""

    job: str
    """As in `task:order`."""
    reason: str | None
    actor: str | None
    since_us: int


class Counted(NamedTuple):
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


class Store(Protocol):
    """A place where logs lie. All calls block; the engine decides on which thread they run.

    Each raises `StoreUnavailableError` when the store cannot answer; then nothing was written.
    """

    @property
    def blocking(self) -> bool:
        """Whether calls wait for a disk or a network, and so must stay off an event loop."""
        ...

    @property
    def poll_us(self) -> int | None:
        """How often to look, at this time, for the alarms that others set; None: there are none."""
        ...

    def hear(self, heard: Callable[[int], None]) -> Callable[[], None]:
        """Have `heard` called, on any thread, with the moment of an alarm that others have set.

        A hint, which may come late or never: so look every `poll_us` too. A moment of 0: look
        now, something may have been missed. Answers what to call for an end of it.
        """
        ...

    @property
    def troubles(self) -> Mapping[str, int]:
        """What had to be waited for or done again so far, counted by name; see `App.metrics`."""
        ...

    # -- writing

    def append(self, units: Sequence[Unit]) -> Appended:
        """Write all units in one transaction, in their order, with one commit.

        A unit that meets another version than its base is refused alone with `VersionConflict`
        in `errors`, one that meets a used key with `KeyTaken`, one whose lease is gone with
        `LeaseGone`, one that the database itself will not take with `StoreUnavailableError`
        ("refused"); later units of a refused unit's stream are refused with it. A unit without
        events only sets the view rows and the lease.
        """
        ...

    def claim(
        self,
        *,
        now_us: int,
        jobs: Sequence[str],
        limit: int,
        begin: Callable[[Sequence[Due]], Sequence[Unit]],
        limits: Mapping[str, int] = {},
    ) -> Appended:
        """Take up to `limit` due instances of `jobs`, oldest first, and append what `begin` says.

        Not those under a live lease, and none of a job that is held. All in one transaction: two
        workers never take the same.
        `limits` says of some jobs how many runs there may be at a time, over all workers: as many
        as it has leases with a run, those included that have ended and that nobody has taken yet.
        To take such a one over is no further run; to clear or to handle what waits is none at all.
        """
        ...

    def renew(self, owner: str, until_us: int, now_us: int) -> Sequence[tuple[str, int]]:
        """Prolong all live leases of `owner`; answer the streams and tokens it still holds."""
        ...

    def release(self, owner: str, held: Sequence[tuple[str, int]]) -> None:
        """Give up these leases (streams and tokens) of `owner` at once, without any event."""
        ...

    def forget_key(self, stream: str, key: str) -> bool:
        """Free an idempotency key; answer whether it was there."""
        ...

    def purge_answers(self, now_us: int, limit: int) -> int:
        """Delete up to `limit` expired idempotency answers; answer how many."""
        ...

    def put_worker(self, row: WorkerRow) -> None:
        """Say that this worker lives."""
        ...

    def remove_worker(self, worker: str) -> None:
        """Say that this worker has ended."""
        ...

    def hold(self, row: HoldRow) -> HoldRow:
        """Hold a job, unless it is held; answer the hold there is now.

        A claim that begins after this has returned takes nothing of it.
        """
        ...

    def unhold(self, job: str) -> HoldRow | None:
        """End the hold of a job; answer it, None where there was none."""
        ...

    # -- reading

    def load(self, stream: str, after_version: int | None = None) -> Loaded:
        """The newest snapshot and the events after it; or the events after `after_version`."""
        ...

    def load_all(self, streams: Sequence[str]) -> Sequence[Loaded]:
        """`load` for each of these streams, in as few reads as it takes."""
        ...

    def events(
        self, stream: str, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> Sequence[StoredEvent]:
        """Events of one stream in order: versions `after + 1` to `upto`, at most `limit`."""
        ...

    def snapshot_before(self, stream: str, version: int) -> StoredSnapshot | None:
        """The newest snapshot at or before `version`."""
        ...

    def status(self, streams: Sequence[str]) -> Sequence[StatusRow | None]:
        """The status rows of these streams, None where there never was an instance."""
        ...

    def answers(self, keys: Sequence[tuple[str, str]]) -> Sequence[Answer | None]:
        """What was answered to these (stream, key) pairs."""
        ...

    def row(self, instance: Instance, hash: str) -> StatusRow:
        """The status row that the view shows for this instance, which need not be recorded."""
        ...

    def list(self, listing: Listing) -> Sequence[StatusRow]:
        """The rows of living instances (or of `waking` ones) that match, by stream id."""
        ...

    def count(self, listing: Listing, now_us: int) -> Sequence[Counted]:
        """How many living instances match, in groups, whatever `limit` and `after` say."""
        ...

    def held(self, now_us: int, limit: int) -> Sequence[Held]:
        """Up to `limit` leases by stream, live or not; their ends by the clock of `now_us`."""
        ...

    def next_due_us(
        self, jobs: Sequence[str], now_us: int, limits: Mapping[str, int] = {}
    ) -> int | None:
        """When something of `jobs` can be claimed next: no run of a job that is at its limit, and
        nothing of a job that is held."""
        ...

    def stranded(self, before_us: int, limit: int) -> Sequence[str]:
        """Streams last written before `before_us` that have work but no alarm and no lease."""
        ...

    def holds(self) -> Sequence[HoldRow]:
        """The jobs that are held."""
        ...

    def workers(self, now_us: int) -> Sequence[WorkerRow]:
        """The workers that are alive."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class Refused(Exception):
    """A unit was not appended, alone: the world has moved on since it was decided."""


class VersionConflict(Refused):
    """The stream does not stand at the unit's base version any more."""


class KeyTaken(Refused):
    """The unit's idempotency key has been recorded by another unit."""


class LeaseGone(Refused):
    """The lease that the unit works under is not held any more."""
