"""The small protocols that the adapters fill, and the plain values that pass through them.

A store is one transaction wide: `append` writes the events of many units of work together with
every view that must agree with them, or nothing. Times are microseconds since 1970 in UTC and
always given: a store reads no clock, except that a database's own judges leases where it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from wakelog.core.instance import Instance
from wakelog.ports.records import Loaded, StoredEvent, StoredSnapshot
from wakelog.ports.rows import (
    Due,
    HeldLease,
    JobPauseRow,
    Listing,
    StatusCount,
    StatusRow,
    WorkerRow,
)
from wakelog.ports.units import Appended, KeptReply, Unit

__all__ = ["StartedAppend", "StartsAppends", "Store"]


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

    def watch_alarms(self, heard: Callable[[int], None]) -> Callable[[], None]:
        """Have `heard` called, on any thread, with the moment of an alarm that others have set.

        A hint, which may come late or never: so look every `poll_us` too. A moment of 0: look
        now, something may have been missed. Answers what to call for an end of it.
        """
        ...

    @property
    def counters(self) -> Mapping[str, int]:
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

    def purge_kept_replies(self, now_us: int, limit: int) -> int:
        """Delete up to `limit` expired idempotency answers; answer how many."""
        ...

    def put_worker(self, row: WorkerRow) -> None:
        """Say that this worker lives."""
        ...

    def remove_worker(self, worker: str) -> None:
        """Say that this worker has ended."""
        ...

    def pause_job(self, row: JobPauseRow) -> JobPauseRow:
        """Hold a job, unless it is held; answer the hold there is now.

        A claim that begins after this has returned takes nothing of it.
        """
        ...

    def resume_job(self, job: str) -> JobPauseRow | None:
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

    def kept_replies(self, keys: Sequence[tuple[str, str]]) -> Sequence[KeptReply | None]:
        """What was answered to these (stream, key) pairs."""
        ...

    def row(self, instance: Instance, hash: str) -> StatusRow:
        """The status row that the view shows for this instance, which need not be recorded."""
        ...

    def list(self, listing: Listing) -> Sequence[StatusRow]:
        """The rows of living instances (or of `waking` ones) that match, by stream id."""
        ...

    def count(self, listing: Listing, now_us: int) -> Sequence[StatusCount]:
        """How many living instances match, in groups, whatever `limit` and `after` say."""
        ...

    def leases(self, now_us: int, limit: int) -> Sequence[HeldLease]:
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

    def job_pauses(self) -> Sequence[JobPauseRow]:
        """The jobs that are held."""
        ...

    def workers(self, now_us: int) -> Sequence[WorkerRow]:
        """The workers that are alive."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class StartedAppend(Protocol):
    """An append that is on its way. Used by one thread at a time."""

    @property
    def socket(self) -> int:
        """Becomes readable when there is something to `look` at. Closed where the end is that the
        connection broke."""
        ...

    @property
    def is_sending(self) -> bool:
        """Whether a part of it still has to be sent, as soon as there is room in the socket."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether there is an end of it; there may be from the beginning."""
        ...

    def look(self) -> None:
        """Send and receive what is possible without waiting."""
        ...

    def result(self) -> Appended | None:
        """After its end, once: what became of it, if all units were appended. None: `settle` it."""
        ...

    def settle(self) -> Appended:
        """Blocks: what `Store.append` would answer, or raise, from here on."""
        ...


@runtime_checkable
class StartsAppends(Protocol):
    """A store that need not block to append."""

    def start_append(self, units: Sequence[Unit]) -> StartedAppend | None:
        """Send what `Store.append` would. None where that would be to wait, or to raise: nothing
        was sent."""
        ...
