"""The memory store: dictionaries under one lock, for tests, simulations and trying things out."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from msgspec.structs import replace

from wakelog.core.instance import Instance, next_wake
from wakelog.errors import StoreUnavailableError
from wakelog.log.status_row import status_of, status_row
from wakelog.ports.conflicts import (
    NO_EVENT,
    already_received,
    conflict_of,
    follows_refused,
    has_expired,
    has_gap,
    inbox_conflict,
    unseen_events,
)
from wakelog.ports.records import Loaded, Newest, StoredEvent, StoredSnapshot
from wakelog.ports.rows import (
    Due,
    HeldLease,
    JobPauseRow,
    Listing,
    StatusCount,
    StatusRow,
    WorkerRow,
)
from wakelog.ports.units import Appended, ClaimRequest, KeptReply, Lease, Takeover, Unit
from wakelog_adapters.memory.event_log import version_of
from wakelog_adapters.memory.filters import matches
from wakelog_adapters.memory.inbox import NoInbox
from wakelog_adapters.memory.pools import MemoryPools

__all__ = ["MemoryStore"]

_POLL_US = 20_000


class MemoryStore(MemoryPools, NoInbox):
    """All that a store promises, for as long as the process lives.

    The views are kept as the instances that they are made from, and made when they are read.
    """

    def __init__(self, *, is_shared: bool = False) -> None:
        """`is_shared`: several applications of this process may have it open."""
        super().__init__()
        self._is_shared = is_shared
        self._heads: dict[str, tuple[Instance, str]] = {}
        self._snapshots: dict[str, list[StoredSnapshot]] = {}
        self._kept_replies: dict[tuple[str, str], KeptReply] = {}
        self._workers: dict[str, WorkerRow] = {}

    @property
    def blocking(self) -> bool:
        return False

    @property
    def poll_us(self) -> int | None:
        return _POLL_US if self._is_shared else None

    @property
    def counters(self) -> Mapping[str, int]:
        return {}  # a call returns or fails: none is repeated

    def watch_alarms(
        self, on_alarm: Callable[[int], None], on_pool: Callable[[str, int], None] | None = None
    ) -> Callable[[], None]:
        """There are no notifications: alarms of other applications are found every `poll_us`."""
        return lambda: None

    # -- appending

    def append(self, units: Sequence[Unit]) -> Appended:
        """Each unit is checked in full before anything of it is applied."""
        if not units:
            return Appended((), None)
        refused: set[str] = set()
        errors: list[Exception | None] = []
        dues: dict[str, int] = {}
        with self._database_lock:
            for unit in units:
                is_after_refused = unit.stream in refused
                error = follows_refused(unit) if is_after_refused else self._error_of(unit)
                errors.append(error)
                if error is not None:
                    refused.add(unit.stream)
                elif (due_us := self._apply(unit)) is not None:
                    dues[unit.stream] = due_us
                else:
                    dues.pop(unit.stream, None)
        self._notify()
        return Appended(errors, min(dues.values(), default=None))

    def _error_of(self, unit: Unit) -> Exception | None:
        stream = unit.stream
        head = self._heads.get(stream)
        newest = NO_EVENT if head is None else Newest(head[0].version, head[1])
        lease = None if unit.lease_token is None else self._claims.lease_of(stream)
        token = None if lease is None else lease.token
        is_key_used = unit.kept_reply is not None and self._is_key_used(unit, unit.kept_reply)
        is_paused = unit.unless_paused and unit.after.id.job in self._job_pauses
        conflict = inbox_conflict(unit, ()) or conflict_of(
            unit, newest, token, is_key_used, is_paused
        )
        conflict = conflict or already_received(unit, self._received)
        if conflict is not None:
            return conflict
        events = self._streams.get(stream)
        if unit.events and events and events[-1].version > newest.version:
            return unseen_events(unit)
        if has_gap(unit):
            return StoreUnavailableError(
                "refused", f"the versions of a unit of {stream} have a gap"
            )
        return None

    def _is_key_used(self, unit: Unit, reply: KeptReply) -> bool:
        kept = self._kept_replies.get((unit.stream, reply.key))
        return kept is not None and not has_expired(kept.expires_us, unit.now_us)

    def _apply(self, unit: Unit) -> int | None:
        """Write a unit; return when its alarm is due."""
        stream, after = unit.stream, unit.after
        if unit.events:
            self._log += unit.events
            self._streams.setdefault(stream, []).extend(unit.events)
        if after.version:  # else only a reply is kept: there never was an instance
            self._heads[stream] = (after, unit.hash)
        if unit.kept_reply is not None:
            self._kept_replies[stream, unit.kept_reply.key] = unit.kept_reply
        if unit.snapshot is not None:
            self._keep_snapshot(stream, unit.snapshot)
        if unit.sent:
            self._send(stream, unit.sent, unit.now_us)
        if unit.received is not None:
            self._receive(unit, unit.received)
        job, wake = after.id.job, next_wake(after)
        if unit.take is not None:
            self._claims.take(job, stream, unit.take)
        elif unit.ends_lease:
            self._claims.drop(stream)
        self._claims.set_alarm(job, stream, wake)
        return None if wake is None else wake.due_us

    def _keep_snapshot(self, stream: str, snapshot: StoredSnapshot) -> None:
        kept = self._snapshots.setdefault(stream, [])
        index = bisect_right(kept, snapshot.version, key=version_of)
        if index and kept[index - 1].version == snapshot.version:
            kept[index - 1] = snapshot
        else:
            kept.insert(index, snapshot)

    # -- events and snapshots

    def load(self, stream: str, after_version: int | None = None) -> Loaded:
        with self._database_lock:
            if after_version is not None:
                return Loaded(None, self._between(stream, after_version, None))
            kept = self._snapshots.get(stream)
            snapshot = kept[-1] if kept else None
            after = 0 if snapshot is None else snapshot.version - 1
            head = self._heads.get(stream)
            newest = None if head is None else Newest(head[0].version, head[1])
            return Loaded(snapshot, self._between(stream, after, None), newest)

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

    # -- claims and leases

    def next_due_us(
        self, jobs: Sequence[str], now_us: int, limits: Mapping[str, int] = {}
    ) -> int | None:
        with self._database_lock:
            return self._claims.next_due_us(now_us, self._not_paused(jobs), limits)

    def claim(self, request: ClaimRequest) -> Sequence[Due]:
        now_us, owner, token = request.now_us, request.owner, request.token
        until_us = now_us + request.lease_us
        dues: list[Due] = []
        with self._database_lock:
            for stream, due_us in self._due(request):
                instance, hash = self._heads[stream]
                expired = self._claims.lease_of(stream)
                is_run = self._claims.begins_run(stream, now_us) or bool(expired and expired.run)
                lease = Lease(owner, until_us, token, is_run)
                self._claims.take(instance.id.job, stream, lease)
                version = instance.version
                dues.append(Due(stream, due_us, version, hash, expired, run=is_run))
        return dues

    def _due(self, request: ClaimRequest) -> Sequence[tuple[str, int]]:
        """What may be claimed, and since when."""
        request = request._replace(jobs=self._not_paused(request.jobs))
        is_left = self._is_left(request)
        due = self._claims.due(request, is_left)
        if not any(self._claims.lease_of(stream) for stream, _ in due) or request.may_take_over():
            return due
        return self._claims.due(request._replace(takeover=Takeover(allowed=False)), is_left)

    def _is_left(self, request: ClaimRequest) -> Callable[[str], bool]:
        left = frozenset(request.left)
        return lambda stream: (
            stream in left
            and abs(self._heads[stream][0].recorded_us - request.now_us) < request.left_us
        )

    def _not_paused(self, jobs: Sequence[str]) -> Sequence[str]:
        return [job for job in jobs if job not in self._job_pauses] if self._job_pauses else jobs

    def renew(self, owner: str, until_us: int, now_us: int) -> Sequence[tuple[str, int]]:
        """Leases that have ended are prolonged too, unless they have been taken over."""
        with self._database_lock:
            return self._claims.renew(owner, until_us)

    def lease_tokens(self, streams: Sequence[str]) -> Sequence[int | None]:
        with self._database_lock:
            leases = [self._claims.lease_of(stream) for stream in streams]
        return [None if lease is None else lease.token for lease in leases]

    def release(self, owner: str, leases: Sequence[tuple[str, int]]) -> None:
        with self._database_lock:
            self._claims.release(owner, leases)

    def leases(self, now_us: int, limit: int) -> Sequence[HeldLease]:
        with self._database_lock:
            return [
                HeldLease(stream, lease, next(iter(self._between(stream, token - 1, token)), None))
                for stream, lease in self._claims.first_leases(limit)
                for token in [lease.token]
            ]

    def stranded(self, before_us: int, limit: int) -> Sequence[str]:
        with self._database_lock:
            found = (
                stream
                for stream, (instance, _) in self._heads.items()
                if instance.recorded_us < before_us
                and self._claims.lease_of(stream) is None
                and (instance.run is not None or self._lacks_alarm(stream, instance))
            )
            return list(islice(found, limit))

    def _lacks_alarm(self, stream: str, instance: Instance) -> bool:
        return next_wake(instance) is not None and not self._claims.has_alarm(stream)

    # -- the status view

    def status(self, streams: Sequence[str]) -> Sequence[StatusRow | None]:
        with self._database_lock:
            heads = [self._heads.get(stream) for stream in streams]
        return [None if head is None else _row(*head) for head in heads]

    def list(self, listing: Listing) -> Sequence[StatusRow]:
        with self._database_lock:
            found = heapq.nsmallest(listing.limit, self._matching(listing))
            return [_row(*self._heads[stream]) for stream in found]

    def count(self, listing: Listing, now_us: int) -> Sequence[StatusCount]:
        groups: Counter[tuple[str, str, str, bool, bool]] = Counter()
        dead: Counter[tuple[str, str, str, bool, bool]] = Counter()
        with self._database_lock:
            for stream in self._matching(replace(listing, after=None)):
                instance = self._heads[stream][0]
                id, wake, executing = instance.id, next_wake(instance), instance.run is not None
                overdue = wake is not None and wake.due_us <= now_us and not executing
                group = id.kind, id.name, status_of(instance), executing, overdue
                groups[group] += 1
                dead[group] += len(instance.dead)
        return [StatusCount(*group, number, dead[group]) for group, number in groups.items()]

    def _matching(self, listing: Listing) -> Iterator[str]:
        for stream, (instance, _) in self._heads.items():
            is_after = listing.after is None or stream > listing.after
            if is_after and _is_shown(instance, listing) and matches(instance, listing):
                yield stream

    # -- kept replies

    def kept_replies(self, keys: Sequence[tuple[str, str]]) -> Sequence[KeptReply | None]:
        with self._database_lock:
            return [self._kept_replies.get(key) for key in keys]

    def forget_key(self, stream: str, key: str) -> bool:
        with self._database_lock:
            return self._kept_replies.pop((stream, key), None) is not None

    def purge_kept_replies(self, now_us: int, limit: int) -> int:
        with self._database_lock:
            kept = self._kept_replies.items()
            expired = (key for key, reply in kept if has_expired(reply.expires_us, now_us))
            purged = list(islice(expired, limit))
            for key in purged:
                del self._kept_replies[key]
            return len(purged)

    # -- workers and job pauses

    def put_worker(self, row: WorkerRow) -> None:
        with self._database_lock:
            self._workers[row.worker] = row

    def remove_worker(self, worker: str) -> None:
        with self._database_lock:
            self._workers.pop(worker, None)

    def workers(self, now_us: int) -> Sequence[WorkerRow]:
        with self._database_lock:
            return sorted(row for row in self._workers.values() if row.until_us > now_us)

    def pause_job(self, row: JobPauseRow) -> JobPauseRow:
        with self._database_lock:
            return self._job_pauses.setdefault(row.job, row)

    def resume_job(self, job: str) -> JobPauseRow | None:
        with self._database_lock:
            return self._job_pauses.pop(job, None)

    def job_pauses(self) -> Sequence[JobPauseRow]:
        with self._database_lock:
            return [*self._job_pauses.values()]

    def hurry(self) -> None:
        """There is no server."""

    def close(self) -> None:
        """There is nothing to close: opening the same name again finds everything as it was."""


def _row(instance: Instance, hash: str) -> StatusRow:
    return status_row(instance, hash, next_wake(instance))


def _is_shown(instance: Instance, listing: Listing) -> bool:
    if listing.dead:
        return bool(instance.dead)
    if listing.unread:
        return instance.unread is not None
    return next_wake(instance) is not None if listing.waking else instance.exists
