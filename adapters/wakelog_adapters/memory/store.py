"""The memory store: dictionaries under one lock, for tests, simulations and trying things out."""

from __future__ import annotations

import heapq
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from msgspec.structs import replace

from wakelog.core.instance import Instance, next_wake
from wakelog.errors import StoreUnavailableError
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
from wakelog.ports.units import (
    Appended,
    KeptReply,
    KeyTaken,
    Lease,
    LeaseGone,
    Unit,
    VersionConflict,
)
from wakelog_adapters.memory.due_queue import DueQueue, queue_of
from wakelog_adapters.memory.event_log import MemoryLog, version_of
from wakelog_adapters.memory.filters import matches
from wakelog_projections.inline import alarms, status

__all__ = ["MemoryStore"]

_POLL_US = 20_000


class MemoryStore(MemoryLog):
    """Everything a store promises, for as long as the process lives.

    The views are kept as the instances they are made from, and made when somebody asks.
    """

    def __init__(self, *, is_shared: bool = False) -> None:
        """`is_shared`: several applications of this process may have it open."""
        super().__init__()
        self._is_shared = is_shared
        self._heads: dict[str, tuple[Instance, str]] = {}
        self._snapshots: dict[str, list[StoredSnapshot]] = {}
        self._alarms: dict[str, DueQueue] = {}
        self._leases: dict[str, Lease] = {}
        self._lease_ends: dict[str, DueQueue] = {}
        self._answers: dict[tuple[str, str], KeptReply] = {}
        self._holds: dict[str, JobPauseRow] = {}
        self._workers: dict[str, WorkerRow] = {}

    @property
    def blocking(self) -> bool:
        return False

    @property
    def poll_us(self) -> int | None:
        return _POLL_US if self._is_shared else None

    @property
    def counters(self) -> Mapping[str, int]:
        return {}  # a call answers or fails: nothing is asked twice

    def watch_alarms(self, heard: Callable[[int], None]) -> Callable[[], None]:
        """Nothing is told here: who waits for others' alarms looks every `poll_us`."""
        return lambda: None

    # -- writing

    def append(self, units: Sequence[Unit]) -> Appended:
        """Each unit is judged in full before anything of it is applied."""
        if not units:
            return Appended((), None)
        refused: set[str] = set()
        errors: list[Exception | None] = []
        dues: dict[str, int] = {}
        with self._database_lock:
            for unit in units:
                error = self._fault(unit, refused)
                errors.append(error)
                if error is not None:
                    refused.add(unit.stream)
                elif (due_us := self._apply(unit)) is not None:
                    dues[unit.stream] = due_us
                else:
                    dues.pop(unit.stream, None)
        if self._listeners:
            self._notify_listeners()
        return Appended(errors, min(dues.values(), default=None))

    def _fault(self, unit: Unit, refused: set[str]) -> Exception | None:
        """The most final fault first: a lost lease, then a used key, then another version."""
        stream = unit.stream
        if stream in refused:
            return VersionConflict(f"a unit of {stream} before this one was refused")
        if unit.lease_token is not None:
            lease = self._leases.get(stream)
            if lease is None or lease.token != unit.lease_token:
                return LeaseGone(f"the lease {unit.lease_token} of {stream} is not held any more")
        if unit.kept_reply is not None:
            used = self._answers.get((stream, unit.kept_reply.key))
            if used is not None and not _expired(used, unit.after.recorded_us):
                return KeyTaken(f"key {unit.kept_reply.key!r} of {stream} has been used")
        head = self._heads.get(stream)
        stands = 0 if head is None else head[0].version
        if stands != unit.base_version:
            return VersionConflict(f"{stream} stands at {stands}, not at {unit.base_version}")
        events = self._streams.get(stream)
        if unit.events and events and events[-1].version > stands:
            return VersionConflict(f"{stream} has events after {stands}")
        version = stands + len(unit.events)
        if unit.after.version != version or (unit.events and unit.events[-1].version != version):
            detail = f"{stream}: the versions of the unit have a gap"
            return StoreUnavailableError("refused", detail)
        return None

    def _apply(self, unit: Unit) -> int | None:
        """Answer the unit's alarm."""
        stream, after = unit.stream, unit.after
        if unit.events:
            self._log += unit.events
            self._streams.setdefault(stream, []).extend(unit.events)
        if after.version:  # else only an answer is kept, of what never was
            self._heads[stream] = (after, unit.hash)
        if unit.kept_reply is not None:
            self._answers[stream, unit.kept_reply.key] = unit.kept_reply
        if unit.snapshot is not None:
            self._keep_snapshot(stream, unit.snapshot)
        job = after.id.job
        if unit.take is not None:
            self._set_lease(job, stream, unit.take)
        elif unit.ends_lease:
            self._drop_lease(job, stream)
        wake = next_wake(after)
        if wake is None:
            if job in self._alarms:
                self._alarms[job].drop(stream)
            return None
        queue_of(self._alarms, job).put(stream, wake.due_us)
        return wake.due_us

    def _keep_snapshot(self, stream: str, snapshot: StoredSnapshot) -> None:
        kept = self._snapshots.setdefault(stream, [])
        index = bisect_right(kept, snapshot.version, key=version_of)
        if index and kept[index - 1].version == snapshot.version:
            kept[index - 1] = snapshot
        else:
            kept.insert(index, snapshot)

    def _set_lease(self, job: str, stream: str, lease: Lease) -> None:
        self._leases[stream] = lease
        queue_of(self._lease_ends, job).put(stream, lease.until_us)

    def _drop_lease(self, job: str, stream: str) -> None:
        if self._leases.pop(stream, None) is not None:
            self._lease_ends[job].drop(stream)

    def _job(self, stream: str) -> str:
        return self._heads[stream][0].id.job

    def claim(
        self,
        *,
        now_us: int,
        jobs: Sequence[str],
        limit: int,
        begin: Callable[[Sequence[Due]], Sequence[Unit]],
        limits: Mapping[str, int] = {},
    ) -> Appended:
        """`begin` is called under the lock, from the same thread: it may read and append."""
        if limit <= 0:
            return Appended((), None)
        with self._database_lock:
            dues = self._due(now_us, jobs, limit, limits)
            return self.append(begin(dues)) if dues else Appended((), None)

    def _due(
        self, now_us: int, jobs: Sequence[str], limit: int, limits: Mapping[str, int]
    ) -> Sequence[Due]:
        leased = self._leased(now_us)
        found: list[tuple[int, str]] = []
        for job in jobs:
            if job in self._holds:
                continue
            if job in self._alarms:
                queue, free = self._alarms[job], self._free(job, limits)
                if free >= limit:
                    found += queue.upto(now_us, limit, leased)
                else:
                    found += queue.upto(now_us, free, _either(leased, self._begins_none))
                    found += queue.upto(now_us, limit, _either(leased, self._begins_run))
            if job in self._lease_ends:
                found += self._lease_ends[job].upto(now_us, limit, self._begins_run)
        oldest: dict[str, int] = {}
        for due_us, stream in sorted(found):
            oldest.setdefault(stream, due_us)
        return [
            Due(stream, due_us, self._heads[stream][0].version, self._leases.get(stream))
            for stream, due_us in islice(oldest.items(), limit)
        ]

    def _free(self, job: str, limits: Mapping[str, int]) -> int:
        """How many runs of a job may be begun."""
        if job not in limits:
            return sys.maxsize
        held = (self._leases[stream] for stream in self._lease_ends.get(job, ()))
        return max(0, limits[job] - sum(lease.run for lease in held))

    def _begins_run(self, stream: str) -> bool:
        """Whether its alarm is for a run (while one is open there is none)."""
        wake = next_wake(self._heads[stream][0])
        return wake is not None and wake.action not in alarms.NO_RUN

    def _begins_none(self, stream: str) -> bool:
        return not self._begins_run(stream)

    def _leased(self, now_us: int) -> Callable[[str], bool]:
        """Whether a stream is under a lease that has not ended at `now_us`."""
        leases = self._leases

        def leased(stream: str) -> bool:
            lease = leases.get(stream)
            return lease is not None and lease.until_us > now_us

        return leased

    def renew(self, owner: str, until_us: int, now_us: int) -> Sequence[tuple[str, int]]:
        """Leases that have ended are prolonged too, as long as nobody has taken them."""
        with self._database_lock:
            held = [(s, lease) for s, lease in self._leases.items() if lease.owner == owner]
            for stream, lease in held:
                self._set_lease(self._job(stream), stream, replace(lease, until_us=until_us))
            return [(stream, lease.token) for stream, lease in held]

    def release(self, owner: str, held: Sequence[tuple[str, int]]) -> None:
        with self._database_lock:
            for stream, token in held:
                lease = self._leases.get(stream)
                if lease is not None and (lease.owner, lease.token) == (owner, token):
                    self._drop_lease(self._job(stream), stream)

    def forget_key(self, stream: str, key: str) -> bool:
        with self._database_lock:
            return self._answers.pop((stream, key), None) is not None

    def purge_kept_replies(self, now_us: int, limit: int) -> int:
        with self._database_lock:
            expired = (where for where, answer in self._answers.items() if _expired(answer, now_us))
            purged = list(islice(expired, limit))
            for where in purged:
                del self._answers[where]
            return len(purged)

    def put_worker(self, row: WorkerRow) -> None:
        with self._database_lock:
            self._workers[row.worker] = row

    def remove_worker(self, worker: str) -> None:
        with self._database_lock:
            self._workers.pop(worker, None)

    def pause_job(self, row: JobPauseRow) -> JobPauseRow:
        with self._database_lock:
            return self._holds.setdefault(row.job, row)

    def resume_job(self, job: str) -> JobPauseRow | None:
        with self._database_lock:
            return self._holds.pop(job, None)

    # -- reading

    def job_pauses(self) -> Sequence[JobPauseRow]:
        with self._database_lock:
            return [*self._holds.values()]

    def load(self, stream: str, after_version: int | None = None) -> Loaded:
        with self._database_lock:
            if after_version is not None:
                return Loaded(None, self._between(stream, after_version, None))
            kept = self._snapshots.get(stream)
            snapshot = kept[-1] if kept else None
            after = 0 if snapshot is None else snapshot.version
            return Loaded(snapshot, self._between(stream, after, None))

    def load_all(self, streams: Sequence[str]) -> Sequence[Loaded]:
        return [self.load(stream) for stream in streams]

    def events(
        self, stream: str, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> Sequence[StoredEvent]:
        with self._database_lock:
            return self._between(stream, after, upto)[:limit]

    def snapshot_before(self, stream: str, version: int) -> StoredSnapshot | None:
        with self._database_lock:
            kept = self._snapshots.get(stream, [])
            index = bisect_right(kept, version, key=version_of)
            return kept[index - 1] if index else None

    def status(self, streams: Sequence[str]) -> Sequence[StatusRow | None]:
        with self._database_lock:
            heads = [self._heads.get(stream) for stream in streams]
        return [None if head is None else status.row(*head) for head in heads]

    def kept_replies(self, keys: Sequence[tuple[str, str]]) -> Sequence[KeptReply | None]:
        with self._database_lock:
            return [self._answers.get(key) for key in keys]

    def row(self, instance: Instance, hash: str) -> StatusRow:
        return status.row(instance, hash)

    def list(self, listing: Listing) -> Sequence[StatusRow]:
        with self._database_lock:
            found = heapq.nsmallest(listing.limit, self._matching(listing))
            return [status.row(*self._heads[stream]) for stream in found]

    def _matching(self, listing: Listing) -> Iterator[str]:
        for stream, (instance, _) in self._heads.items():
            is_after = listing.after is None or stream > listing.after
            is_there = next_wake(instance) is not None if listing.waking else instance.exists
            if is_after and is_there and matches(instance, listing):
                yield stream

    def count(self, listing: Listing, now_us: int) -> Sequence[StatusCount]:
        groups: Counter[tuple[str, str, str, bool, bool]] = Counter()
        with self._database_lock:
            for stream in self._matching(replace(listing, after=None)):
                instance = self._heads[stream][0]
                id, wake, executing = instance.id, next_wake(instance), instance.run is not None
                overdue = wake is not None and wake.due_us <= now_us and not executing
                groups[id.kind, id.name, status.word(instance), executing, overdue] += 1
        return [StatusCount(*group, number) for group, number in groups.items()]

    def leases(self, now_us: int, limit: int) -> Sequence[HeldLease]:
        with self._database_lock:
            return [
                HeldLease(stream, lease, next(iter(self._between(stream, token - 1, token)), None))
                for stream, lease in heapq.nsmallest(limit, self._leases.items())
                for token in [lease.token]
            ]

    def next_due_us(
        self, jobs: Sequence[str], now_us: int, limits: Mapping[str, int] = {}
    ) -> int | None:
        with self._database_lock:
            leased = self._leased(now_us)
            firsts: list[int | None] = []
            for job in jobs:
                if job in self._holds:
                    continue
                if job in self._alarms:
                    skip = leased if self._free(job, limits) else _either(leased, self._begins_run)
                    firsts.append(self._alarms[job].first_us(skip))
                if job in self._lease_ends:
                    firsts.append(self._lease_ends[job].first_us())
        return min((first for first in firsts if first is not None), default=None)

    def stranded(self, before_us: int, limit: int) -> Sequence[str]:
        with self._database_lock:
            found = (
                stream
                for stream, (instance, _) in self._heads.items()
                if instance.recorded_us < before_us
                and stream not in self._leases
                and (instance.run is not None or self._lacks_alarm(stream, instance))
            )
            return list(islice(found, limit))

    def _lacks_alarm(self, stream: str, instance: Instance) -> bool:
        if next_wake(instance) is None:
            return False
        queue = self._alarms.get(instance.id.job)
        return queue is None or stream not in queue

    def workers(self, now_us: int) -> Sequence[WorkerRow]:
        with self._database_lock:
            return sorted(row for row in self._workers.values() if row.until_us > now_us)

    def close(self) -> None:
        """Nothing to let go of: who opens the same name again finds all as it was."""


def _expired(answer: KeptReply, now_us: int) -> bool:
    return answer.expires_us is not None and answer.expires_us <= now_us


def _either(one: Callable[[str], bool], other: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda stream: one(stream) or other(stream)
