"""All pools of one worker: which the alarm clock presents, and how partitions are shared."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

from wakelog.application import Application
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.errors import StoreUnavailableError
from wakelog.threads import log_failure
from wakelog.worker.leases import HeldLeases, LeaseKey
from wakelog.worker.pool.pool_worker import PoolWorker

__all__ = ["DuePool", "Pools"]

_LOG = logging.getLogger("wakelog.worker")


POLL_US = 1_000_000
"""How often pools are looked at, at least."""


class DuePool(str):
    """A pool that has something to take, as the alarm clock presents it: its job."""

    __slots__ = ()


class Pools:
    """The pools that one worker works on. Made and closed on the event loop."""

    def __init__(
        self,
        app: Application,
        jobs: Sequence[str],
        worker: str,
        leases: HeldLeases,
        may_take_over: Callable[[], bool],
        lease_us: int | None = None,
    ) -> None:
        self._app = app
        self._living: dict[str, int] = {}
        self._lock = threading.Lock()
        self._next_us: dict[str, int | None] = {}
        self._looked_us = 0
        self._noticed: set[str] = set()
        """Pools in which something has changed since the last look."""
        definitions = [d for d in app.registry if not d.has_instances and d.job in jobs]
        self._workers = {
            each.job: PoolWorker(
                app,
                cast("WorkerPool[Any]", each),
                worker,
                leases,
                self._share_of(each.job),
                may_take_over,
                lease_us or app.settings.lease_us,
            )
            for each in definitions
        }

    def _share_of(self, job: str) -> Callable[[int], int]:
        """Of so many partitions, how many one of the living workers may hold (P2)."""

        def share(n: int) -> int:
            return -(-n // max(1, self._living.get(job, 1)))

        return share

    # -- on any thread

    def count_workers(self) -> None:
        """Look how many workers live that have each pool. Blocks."""
        if not self._workers:
            return
        rows = self._app.store.workers(self._app.clock.now_us())
        self._living = {job: sum(job in row.jobs for row in rows) for job in self._workers}

    def claim(self, now_us: int) -> list[DuePool]:
        """The pools that have something for this worker now. Blocks."""
        due: list[DuePool] = []
        with self._lock:
            noticed, self._noticed = self._noticed, set()
        is_time = now_us >= self._looked_us + self._poll_us
        if is_time:
            self._looked_us = now_us
        for job, pool in self._workers.items():
            next_us = self._next_us.get(job)
            if not (is_time or job in noticed or (next_us is not None and next_us <= now_us)):
                continue
            at_us = pool.due_us(now_us)
            with self._lock:
                self._next_us[job] = at_us
            if at_us is not None and at_us <= now_us:
                due.append(DuePool(job))
        return due

    @property
    def jobs(self) -> Sequence[str]:
        """The pools, as in `workerPool:emails`."""
        return tuple(self._workers)

    def due(self) -> dict[str, int]:
        """When each of them has something next, as far as the last look has seen."""
        with self._lock:
            return {job: at_us for job, at_us in self._next_us.items() if at_us is not None}

    def held_back(self, now_us: int) -> set[str]:
        """The pools with nothing to take now, in which all waits for code, or behind an event that
        does. Blocks."""
        later = (job for job, at_us in self.due().items() if at_us > now_us)
        return {job for job in later if self._workers[job].unread.hold_back_all()}

    @property
    def _poll_us(self) -> int:
        """How often to look for what other processes have changed."""
        return min(self._app.store.poll_us or POLL_US, POLL_US)

    def next_look_us(self) -> int | None:
        """When to look again: when one of them has something next, as far as the last look has
        seen, or for what other processes have changed."""
        if not self._workers:
            return None
        with self._lock:
            looks = [at_us for at_us in self._next_us.values() if at_us is not None]
        if self._app.store.poll_us is not None:
            looks.append(self._looked_us + self._poll_us)
        return min(looks, default=None)

    def notice(self, job: str | None = None) -> bool:
        """Something may have changed in a pool, or in any of them; whether there are any."""
        with self._lock:
            self._noticed |= set(self._workers) if job is None else {job}
        return bool(self._workers)

    def has_seen(self, job: str, number: int) -> bool:
        """Whether a document of a pool, or a later one, was seen by this worker; never 0, which is
        about to be written."""
        pool = self._workers.get(job)
        return pool is None or (number > 0 and pool.has_seen(number))

    # -- on the event loop

    async def reread(self) -> int:
        """Look for events that wait for code, and that this worker's code can read; answers how
        many it has found. Raises `StoreUnavailableError`."""
        count = 0
        for job, pool in self._workers.items():
            found = await pool.unread.find()
            if found:
                self._app.pools.on_change(job, self._app.clock.now_us())
            count += found
        return count

    @property
    def running(self) -> int:
        """How many items are being worked on."""
        return sum(pool.running for pool in self._workers.values())

    @property
    def worked(self) -> int:
        """How many items were worked on so far."""
        return sum(pool.worked for pool in self._workers.values())

    def begin(self, jobs: Sequence[DuePool]) -> None:
        """Let these take what they have."""
        for job in jobs:
            self._workers[job].wake()

    def changed(self, job: str) -> bool:
        """Something was accepted into a pool by this process: let a partition that this worker
        holds take it at once. Returns whether one does."""
        pool = self._workers.get(job)
        if pool is None:
            return True  # other workers have it, and are notified
        self.notice(job)
        if pool.wake_idle():
            return True
        pool.watch_taken()
        return False

    def lost(self, key: LeaseKey) -> None:
        """The lease on a partition is lost."""
        for pool in self._workers.values():
            pool.lost(key)

    def beat(self) -> None:
        """Give up what others should have by now."""
        for pool in self._workers.values():
            pool.balance()

    async def idle(self) -> None:
        """Wait until nothing is being taken or worked on."""
        for pool in self._workers.values():
            await pool.idle()

    async def close(self, grace_s: float) -> None:
        """Give back what has not begun, let what has begun end within the grace."""
        await asyncio.gather(*(_closed(pool, grace_s) for pool in self._workers.values()))


async def _closed(pool: PoolWorker, grace_s: float) -> None:
    try:
        await pool.close(grace_s)
    except StoreUnavailableError as error:
        _LOG.warning("what %s had taken could not be given back: %s", pool.job, error)
    except Exception as error:
        log_failure(_LOG, "what %s had taken is not given back", pool.job, error=error)
