"""The blocking client of a WorkerPool.

Made from wakelog.client.worker_pool by `make blocking`: change that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from wakelog.blocking.pool_accepting import BlockingPoolAccepts
from wakelog.blocking.portal import Portal
from wakelog.client.pool.results import (
    CancelResult,
    ItemsResult,
    PoolControl,
    PoolDeadLetter,
    PoolEvent,
    PoolStatus,
    RebuildResult,
    Why,
)
from wakelog.client.worker_pool import WorkerPoolClient
from wakelog.core.time import Duration
from wakelog.history.timeline import HistoryEntry

__all__ = ["BlockingWorkerPoolClient"]

E = TypeVar("E")


class BlockingWorkerPoolClient(BlockingPoolAccepts[E]):
    """What can be requested of one WorkerPool. All times are aware datetimes in UTC.

    Every call may raise `StoreUnavailableError`. A crash before a call returns leaves all of it or
    nothing.
    """

    def __init__(self, client: WorkerPoolClient[E], portal: Portal) -> None:
        super().__init__(client, portal)
        self._worker_pool_client = client

    @property
    def name(self) -> str:
        """The name under which the definition is registered."""
        return self._worker_pool_client.name

    def status(self) -> PoolStatus:
        """The pool in numbers; costs the same at 10 and at 1,000,000 pending events."""
        return self._portal.call(lambda: self._worker_pool_client.status())

    def get(self, event_id: str) -> PoolEvent:
        """One event: where it is, its attempts, its result. Raises `InstanceNotFoundError`."""
        return self._portal.call(lambda: self._worker_pool_client.get(event_id))

    def wait(self, event_id: str, timeout: Duration | None = None) -> PoolEvent:
        """Wait until an event is over: completed, dead, cancelled or discarded. Raises
        `WaitTimeoutError` and `InstanceNotFoundError`."""
        return self._portal.call(lambda: self._worker_pool_client.wait(event_id, timeout))

    def history(self, event_id: str) -> list[HistoryEntry]:
        """Everything that was recorded about an event, in order, in plain words and as data.
        Raises `InstanceNotFoundError`."""
        return self._portal.call(lambda: self._worker_pool_client.history(event_id))

    def why(self, event_id: str) -> Why:
        """Why an event is where it is, and what it waits for. Raises `InstanceNotFoundError`."""
        return self._portal.call(lambda: self._worker_pool_client.why(event_id))

    def dead_letters(
        self, *, limit: int = 100, after: str | None = None, error: str | None = None
    ) -> list[PoolDeadLetter]:
        """The events that have no attempt left, up to `limit` (1 to 1,000); of this error type, if
        given. `after`: the `item` of the last one of the page before."""
        return self._portal.call(
            lambda: self._worker_pool_client.dead_letters(limit=limit, after=after, error=error)
        )

    def pause(
        self,
        partition: int | None = None,
        *,
        reason: str | None = None,
        actor: str | None = None,
    ) -> PoolControl:
        """Take nothing more, in the whole pool or in one partition. What has begun ends; what has
        been taken and has not begun is given back, as soon as its worker knows of the pause: at its
        next call, when it is notified, or after 500 ms at the latest."""
        return self._portal.call(
            lambda: self._worker_pool_client.pause(partition, reason=reason, actor=actor)
        )

    def resume(self, partition: int | None = None, *, actor: str | None = None) -> PoolControl:
        """Take again; the whole pool accepts again after a `drain`."""
        return self._portal.call(lambda: self._worker_pool_client.resume(partition, actor=actor))

    def drain(self, *, reason: str | None = None, actor: str | None = None) -> PoolControl:
        """Accept nothing new, and finish what is there; until `resume`."""
        return self._portal.call(lambda: self._worker_pool_client.drain(reason=reason, actor=actor))

    def cancel_event(
        self, event_id: str, *, reason: str | None = None, actor: str | None = None
    ) -> CancelResult:
        """Remove an event that has not begun. One that is taken is given back by its worker and
        cancelled, unless it has begun; that is waited for up to 2 seconds, then it is let go
        (`already_processing`). Killed meanwhile, it may be cancelled or not."""
        return self._portal.call(
            lambda: self._worker_pool_client.cancel_event(event_id, reason=reason, actor=actor)
        )

    def set_priority(
        self,
        priority: int,
        event_ids: Sequence[str] | None = None,
        *,
        partition_key: str | None = None,
        from_priority: int | None = None,
        actor: str | None = None,
        dry_run: bool = False,
    ) -> ItemsResult:
        """Move pending events in their queue: these, or all, or all with this partition key, or
        that have this priority now, or both. With `dry_run` it says what it would do.

        All are those that wait when it is called; 1,000 are moved in one transaction, so a crash
        may leave some of them moved and others not: then call it again.
        """
        return self._portal.call(
            lambda: self._worker_pool_client.set_priority(
                priority,
                event_ids,
                partition_key=partition_key,
                from_priority=from_priority,
                actor=actor,
                dry_run=dry_run,
            )
        )

    def requeue(
        self,
        event_ids: Sequence[str] | None = None,
        *,
        error: str | None = None,
        actor: str | None = None,
        dry_run: bool = False,
    ) -> ItemsResult:
        """Let dead events wait again: these, or all, or all with this error type. They keep their
        ids and histories. With `dry_run` it says what it would do."""
        return self._portal.call(
            lambda: self._worker_pool_client.requeue(
                event_ids, error=error, actor=actor, dry_run=dry_run
            )
        )

    def discard(
        self,
        event_ids: Sequence[str] | None = None,
        *,
        error: str | None = None,
        reason: str | None = None,
        actor: str | None = None,
        dry_run: bool = False,
    ) -> ItemsResult:
        """Drop dead events for good, and those that wait for code that can read them: these, or all
        dead ones, or all with this error type. With `dry_run` it says what it would do."""
        return self._portal.call(
            lambda: self._worker_pool_client.discard(
                event_ids, error=error, reason=reason, actor=actor, dry_run=dry_run
            )
        )

    def dead_letter(
        self,
        event_ids: Sequence[str] | None = None,
        *,
        actor: str | None = None,
        dry_run: bool = False,
    ) -> ItemsResult:
        """Make dead letters of events that wait for code that can read them: these, or all, so that
        what is behind them goes on. `on_dead_letter` is not called: there is no code that can read
        its event. With `dry_run` it says what it would do."""
        return self._portal.call(
            lambda: self._worker_pool_client.dead_letter(event_ids, actor=actor, dry_run=dry_run)
        )

    def rebuild(self, *, dry_run: bool = False) -> RebuildResult:
        """Make everything that is kept of the pool beside its log anew from that, while workers
        run; with `dry_run` only compare. The answer says what was not as the log has it.

        Other writers wait while it is put in place, 1 s (SQLite) to 4 s (PostgreSQL) for 50,000
        rows. Raises `IntegrityError` or `UnreadableEventError` if the log itself is damaged: then
        nothing is changed.
        """
        return self._portal.call(lambda: self._worker_pool_client.rebuild(dry_run=dry_run))
