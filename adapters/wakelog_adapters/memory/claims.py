"""The memory store's alarms and leases: what can be claimed, and when."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from msgspec.structs import replace

from wakelog.core.instance import Wake
from wakelog.ports.units import ANY_ENDED, ClaimRequest, Lease, Takeover
from wakelog_adapters.memory.due_queue import DueQueue, queue_of
from wakelog_projections.inline.alarms import NO_RUN

__all__ = ["MemoryClaims"]

_Skip = Callable[[str], bool]


class MemoryClaims:
    """One alarm and one lease at most for each stream. Not thread-safe."""

    def __init__(self) -> None:
        self._wakes: dict[str, Wake] = {}
        self._alarms: dict[str, DueQueue] = {}
        self._leases: dict[str, tuple[str, Lease]] = {}
        """With the job of each."""
        self._lease_ends: dict[str, DueQueue] = {}

    # -- alarms

    def set_alarm(self, job: str, stream: str, wake: Wake | None) -> None:
        """Set the alarm of a stream, whatever it was; None: it has none."""
        if wake is not None:
            self._wakes[stream] = wake
            queue_of(self._alarms, job).put(stream, wake.due_us)
        elif self._wakes.pop(stream, None) is not None:
            self._alarms[job].drop(stream)

    def has_alarm(self, stream: str) -> bool:
        return stream in self._wakes

    def begins_run(self, stream: str, now_us: int) -> bool:
        """Whether its alarm is due, and for a run."""
        return self._starts_run(stream) and self._wakes[stream].due_us <= now_us

    # -- leases

    def lease_of(self, stream: str) -> Lease | None:
        """The lease on a stream, live or ended."""
        found = self._leases.get(stream)
        return None if found is None else found[1]

    def take(self, job: str, stream: str, lease: Lease) -> None:
        """Set the lease on a stream, whatever it was."""
        self._leases[stream] = job, lease
        queue_of(self._lease_ends, job).put(stream, lease.until_us)

    def drop(self, stream: str) -> None:
        """Drop the lease on a stream, if there is one."""
        dropped = self._leases.pop(stream, None)
        if dropped is not None:
            self._lease_ends[dropped[0]].drop(stream)

    def renew(self, owner: str, until_us: int) -> Sequence[tuple[str, int]]:
        """Prolong all leases of `owner`; return their streams and tokens."""
        mine = [(s, job, lease) for s, (job, lease) in self._leases.items() if lease.owner == owner]
        for stream, job, lease in mine:
            self.take(job, stream, replace(lease, until_us=until_us))
        return [(stream, lease.token) for stream, _, lease in mine]

    def release(self, owner: str, leases: Sequence[tuple[str, int]]) -> None:
        """Drop those of these leases (streams and tokens) that `owner` still has."""
        for stream, token in leases:
            lease = self.lease_of(stream)
            if lease is not None and (lease.owner, lease.token) == (owner, token):
                self.drop(stream)

    def leases_of(self, job: str) -> Sequence[tuple[str, Lease]]:
        """All leases of a job."""
        return [(stream, self._leases[stream][1]) for stream in self._lease_ends.get(job, ())]

    def first_leases(self, limit: int) -> Sequence[tuple[str, Lease]]:
        """The first `limit` leases by stream."""
        return [(s, lease) for s, (_, lease) in heapq.nsmallest(limit, self._leases.items())]

    # -- what can be claimed

    def due(self, request: ClaimRequest, is_left: _Skip) -> Sequence[tuple[str, int]]:
        """Streams that can be claimed and since when, the oldest first, without those that are
        left to others; see `ClaimQueue.claim`."""
        now_us, limit = request.now_us, max(0, request.limit)
        leased = _either(self._leased(now_us, request.takeover), is_left)
        found: list[tuple[int, str]] = []
        for job in request.jobs:
            if job in self._alarms:
                queue, free = self._alarms[job], self._free_runs(job, request.limits)
                if free >= limit:
                    found += queue.upto(now_us, limit, leased)
                else:
                    found += queue.upto(now_us, free, _either(leased, self._adds_none))
                    found += queue.upto(now_us, limit, _either(leased, self._adds_run))
            if job in self._lease_ends:
                skip = _either(leased, self._adds_run)
                found += self._lease_ends[job].upto(now_us, limit, skip)
        oldest: dict[str, int] = {}
        for due_us, stream in sorted(found):
            oldest.setdefault(stream, due_us)
        return list(islice(oldest.items(), limit))

    def next_due_us(
        self, now_us: int, jobs: Sequence[str], limits: Mapping[str, int]
    ) -> int | None:
        """When something can be claimed next; see `ClaimQueue.next_due_us`."""
        leased = self._leased(now_us)
        firsts: list[int | None] = []
        for job in jobs:
            if job in self._alarms:
                is_free = self._free_runs(job, limits) > 0
                skip = leased if is_free else _either(leased, self._starts_run)
                firsts.append(self._alarms[job].first_us(skip))
            if job in self._lease_ends:
                firsts.append(self._lease_ends[job].first_us())
        return min((first for first in firsts if first is not None), default=None)

    def _free_runs(self, job: str, limits: Mapping[str, int]) -> int:
        """How many runs of a job may be started."""
        if job not in limits:
            return sys.maxsize
        runs = sum(self._leases[stream][1].run for stream in self._lease_ends.get(job, ()))
        return max(0, limits[job] - runs)

    def _starts_run(self, stream: str) -> bool:
        """Whether its alarm is for a run (there is none while a run is open)."""
        wake = self._wakes.get(stream)
        return wake is not None and wake.action not in NO_RUN

    def _adds_run(self, stream: str) -> bool:
        """Whether to claim it is one run more. A run that was claimed and never begun counts
        already."""
        lease = self.lease_of(stream)
        return self._starts_run(stream) and not (lease is not None and lease.run)

    def _adds_none(self, stream: str) -> bool:
        return not self._adds_run(stream)

    def _leased(self, now_us: int, takeover: Takeover = ANY_ENDED) -> _Skip:
        """Whether a stream is under a lease that has not ended at `now_us`, or that may not be
        taken over."""
        leases, (allowed, owner, _) = self._leases, takeover

        def leased(stream: str) -> bool:
            found = leases.get(stream)
            if found is None:
                return False
            lease = found[1]
            return lease.until_us > now_us or not allowed or lease.owner == owner

        return leased


def _either(one: _Skip, other: _Skip) -> _Skip:
    return lambda stream: one(stream) or other(stream)
