"""The port to a store: one small protocol for each role, and `Store`, which is all of them.

A store is one transaction wide: `append` writes the events of many units of work together with
every view that must agree with them, or nothing. Times are microseconds since 1970 in UTC and
always given: a store reads no clock, except that a database with a clock of its own judges leases
by it.

All calls block; the engine decides on which thread they run. Each raises `StoreUnavailableError`
when the store cannot answer; then nothing was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from wakelog.ports.inbox import InboxTable
from wakelog.ports.messages import Messages
from wakelog.ports.pools import PoolTables
from wakelog.ports.positions import Positions
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
from wakelog.ports.units import Appended, ClaimRequest, KeptReply, NothingDue, Unit

LOG = "log"
"""What a store names to `on_pool` of `watch_alarms` in place of a pool: another process has
recorded messages."""

__all__ = [
    "LOG",
    "ClaimQueue",
    "EventLog",
    "JobPauseTable",
    "KeptReplies",
    "StartedAppend",
    "StartsAppends",
    "Store",
    "Views",
    "WorkerRegistry",
]


class EventLog(Protocol):
    """The log: units of work are appended to it, and instances are rebuilt from it."""

    def append(self, units: Sequence[Unit]) -> Appended:
        """Write all units in one transaction, in their order, with one commit.

        A unit is refused alone, with its error in `errors`: `VersionConflict` if its stream is
        at another version than its base, or its status row has another hash there;
        `IntegrityError` if the log has events that the row does not show; `KeyTaken` if its key is
        in use, `LeaseGone` if its lease is gone, `AlreadyReceived` if its message was delivered,
        `JobPaused` if it starts a run of a job that is paused, `StoreUnavailableError` ("refused")
        if the database does not take one of its values, `StreamLocked` if another session keeps its
        stream locked: that is waited for only a moment, since the others would wait too. After a
        refused unit the later units of its stream are refused too. A unit without events only sets
        the view rows and the lease.
        """
        ...

    def load(self, stream: str, after_version: int | None = None) -> Loaded:
        """The newest snapshot, its event and those after it, and what the status row says the
        newest one is, all as of one moment; or only the events after `after_version`."""
        ...

    def load_all(self, streams: Sequence[str]) -> Sequence[Loaded]:
        """`load` for each of these streams, in as few reads as possible."""
        ...

    def events(
        self, stream: str, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> Sequence[StoredEvent]:
        """Events of one stream in order: versions `after + 1` to `upto`, at most `limit`."""
        ...

    def snapshot_before(self, stream: str, version: int) -> StoredSnapshot | None:
        """The newest snapshot at or before `version`."""
        ...


class ClaimQueue(Protocol):
    """Alarms and leases: what is due, and which worker works on it."""

    @property
    def poll_us(self) -> int | None:
        """How often to look for alarms that other processes have set, as of now; None: there are
        no other processes."""
        ...

    def watch_alarms(
        self, on_alarm: Callable[[int], None], on_pool: Callable[[str, int], None] | None = None
    ) -> Callable[[], None]:
        """Call `on_alarm`, on any thread, with the due time of each alarm set by other processes;
        and `on_pool`, if it is given, with each pool that has got work for now, and the number of
        the document that shows it (`PoolSeen.number`); 0: of one that another process is about to
        write (`PoolLook.brings_work`), which whoever waits for the lock of the log will see. `LOG`
        in place of a pool: there are new messages; `INBOX`: rows may have come into the inbox.

        A hint, which may come late or never: look every `poll_us` too. A due time of 0 means:
        look now, an alarm may have been missed. Returns the function that ends it.
        """
        ...

    def next_due_us(
        self, jobs: Sequence[str], now_us: int, limits: Mapping[str, int] = {}
    ) -> int | None:
        """When something of `jobs` can be claimed next.

        That is no run of a job that is at its limit (see `claim`), and nothing of a paused job.
        """
        ...

    def claim(self, request: ClaimRequest) -> Sequence[Due] | NothingDue:
        """Take leases on up to `limit` due instances, oldest first, for `lease_us` from now on.

        Not those under a live lease, and none of a paused job. In one transaction: two workers
        never take the same instance. Nothing else is written: the run itself begins with the unit
        that records it, under this lease. If an answer is lost the leases are released, or end;
        killed here: nothing was claimed, or the leases end by themselves.

        A store that looks before it takes locks returns what it saw (`NothingDue`), so that the
        caller need not look again.
        """
        ...

    def renew(self, owner: str, until_us: int, now_us: int) -> Sequence[tuple[str, int]]:
        """Prolong all leases of `owner`; return the streams and tokens that it still holds."""
        ...

    def lease_tokens(self, streams: Sequence[str]) -> Sequence[int | None]:
        """The tokens of the leases on these streams, of ended ones too; None if there is none."""
        ...

    def release(self, owner: str, leases: Sequence[tuple[str, int]]) -> None:
        """Drop these leases (streams and tokens) of `owner` at once, without any event."""
        ...

    def leases(self, now_us: int, limit: int) -> Sequence[HeldLease]:
        """Up to `limit` leases by stream, live or ended; their ends by the clock of `now_us`."""
        ...

    def stranded(self, before_us: int, limit: int) -> Sequence[str]:
        """Streams last written before `before_us` that have work but no alarm and no lease."""
        ...


class Views(Protocol):
    """The status view: one row for each instance, as of its newest event."""

    def status(self, streams: Sequence[str]) -> Sequence[StatusRow | None]:
        """The status rows of these streams; None for one that never was an instance."""
        ...

    def list(self, listing: Listing) -> Sequence[StatusRow]:
        """The rows of living instances (or of `waking` ones) that match, by stream id."""
        ...

    def count(self, listing: Listing, now_us: int) -> Sequence[StatusCount]:
        """How many living instances match, in groups, regardless of `limit` and `after`."""
        ...


class KeptReplies(Protocol):
    """The replies to requests with an idempotency key. They are written by `append`."""

    def kept_replies(self, keys: Sequence[tuple[str, str]]) -> Sequence[KeptReply | None]:
        """The replies under these (stream, key) pairs."""
        ...

    def forget_key(self, stream: str, key: str) -> bool:
        """Free an idempotency key; return whether it was in use."""
        ...

    def purge_kept_replies(self, now_us: int, limit: int) -> int:
        """Delete up to `limit` expired replies; return how many were deleted."""
        ...


class WorkerRegistry(Protocol):
    """The workers that are alive, and the jobs that they can run."""

    def put_worker(self, row: WorkerRow) -> None:
        """Record that this worker is alive, in place of what it has recorded before."""
        ...

    def remove_worker(self, worker: str) -> None:
        """Record that this worker has ended."""
        ...

    def workers(self, now_us: int) -> Sequence[WorkerRow]:
        """The workers that are alive at `now_us`, by name."""
        ...


class JobPauseTable(Protocol):
    """The jobs that are paused as a whole."""

    def pause_job(self, row: JobPauseRow) -> JobPauseRow:
        """Pause a job, unless it is paused; return the pause that is in effect.

        After this has returned no claim takes an instance of the job, and no unit that starts a
        run of it is appended: it waits for those that are under way.
        """
        ...

    def resume_job(self, job: str) -> JobPauseRow | None:
        """End the pause of a job; return it, or None if the job was not paused."""
        ...

    def job_pauses(self) -> Sequence[JobPauseRow]:
        """The jobs that are paused."""
        ...


class Store(
    EventLog,
    ClaimQueue,
    Views,
    KeptReplies,
    WorkerRegistry,
    JobPauseTable,
    Messages,
    Positions,
    PoolTables,
    InboxTable,
    Protocol,
):
    """Everything the engine keeps, in one place."""

    @property
    def blocking(self) -> bool:
        """Whether calls wait for a disk or a network, and so must stay off an event loop."""
        ...

    @property
    def counters(self) -> Mapping[str, int]:
        """How often calls had to wait or were repeated so far, by name; see `App.metrics`."""
        ...

    def hurry(self) -> None:
        """This process is closing: from now on wait for a server, or for what another process
        writes, for a moment only; once that was in vain, wait no more. Never blocks; any thread may
        call."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...


class StartedAppend(Protocol):
    """An append that has been sent and is not over. Used by one thread at a time."""

    @property
    def socket(self) -> int:
        """Becomes readable when `look` has something to do. It is closed if the connection has
        broken."""
        ...

    @property
    def is_sending(self) -> bool:
        """Whether a part of it still has to be sent, as soon as the socket is writable."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether it has ended; it may be over from the beginning."""
        ...

    @property
    def is_silent(self) -> bool:
        """Whether the answer has been waited for long enough: then call `give_up`."""
        ...

    def look(self) -> None:
        """Send and receive what is possible without waiting."""
        ...

    def give_up(self) -> None:
        """End it without an answer; `settle` finds out, soon, what became of it."""
        ...

    def result(self) -> Appended | None:
        """Once, after its end: the result if all units were appended. None: call `settle`."""
        ...

    def settle(self) -> Appended:
        """Blocks: finish it, with what `Store.append` would return or raise."""
        ...


@runtime_checkable
class StartsAppends(Protocol):
    """A store that can append without blocking."""

    def start_append(self, units: Sequence[Unit]) -> StartedAppend | None:
        """Send what `Store.append` would write. None if that would wait or raise: nothing was
        sent."""
        ...
