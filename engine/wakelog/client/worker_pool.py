"""The async client of a WorkerPool: what can be requested of it, and what there is to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from wakelog.arguments import check_key, check_priority, check_type, reason_of, timeout_us
from wakelog.bounds import at_least
from wakelog.client.gateway import RequestGateway
from wakelog.client.pool.accepting import NewEvent, PoolAccepts
from wakelog.client.pool.arguments import check_choice, check_list, not_both
from wakelog.client.pool.histories import event_history
from wakelog.client.pool.operating import Operator
from wakelog.client.pool.reading import dead_letters, locate, pool_event, pool_status
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
from wakelog.client.pool.waiting import wait_until_over
from wakelog.client.pool.waiting_events import WaitingFilter
from wakelog.client.pool.why import why
from wakelog.core.time import Duration
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.errors import Issue, ValidationError, quoted
from wakelog.history.timeline import HistoryEntry
from wakelog.pools.takes import PoolRules

__all__ = ["NewEvent", "WorkerPoolClient"]

E = TypeVar("E")

MAX_MANY = 100_000
"""Events of one `enqueue_many`."""


class WorkerPoolClient(PoolAccepts[E]):
    """What can be requested of one WorkerPool. All times are aware datetimes in UTC.

    Every call may raise `StoreUnavailableError`. A crash before a call returns leaves all of it or
    nothing.
    """

    def __init__(self, gateway: RequestGateway, definition: WorkerPool[E]) -> None:
        super().__init__(gateway, definition)
        self._operator = Operator(gateway.app, definition.job)

    @property
    def name(self) -> str:
        """The name under which the definition is registered."""
        return self._definition.name

    # -- reading

    async def status(self) -> PoolStatus:
        """The pool in numbers; costs the same at 10 and at 1,000,000 pending events."""
        self._gateway.check()
        return await pool_status(
            self._gateway.app, self._definition.job, self._definition.concurrency
        )

    async def get(self, event_id: str) -> PoolEvent:
        """One event: where it is, its attempts, its result. Raises `InstanceNotFoundError`."""
        self._gateway.check()
        app, job = self._gateway.app, self._definition.job
        return await pool_event(app, job, await locate(app, job, event_id))

    async def wait(self, event_id: str, timeout: Duration | None = None) -> PoolEvent:
        """Wait until an event is over: completed, dead, cancelled or discarded. Raises
        `WaitTimeoutError` and `InstanceNotFoundError`."""
        self._gateway.check()
        app, job = self._gateway.app, self._definition.job
        located = await locate(app, job, event_id)
        return await wait_until_over(app, job, located, timeout_us(timeout))

    async def history(self, event_id: str) -> list[HistoryEntry]:
        """Everything that was recorded about an event, in order, in plain words and as data.
        Raises `InstanceNotFoundError`."""
        self._gateway.check()
        app, job = self._gateway.app, self._definition.job
        return await event_history(app, job, await locate(app, job, event_id))

    async def why(self, event_id: str) -> Why:
        """Why an event is where it is, and what it waits for. Raises `InstanceNotFoundError`."""
        self._gateway.check()
        app, job = self._gateway.app, self._definition.job
        return await why(self._gateway, self._definition, await locate(app, job, event_id))

    async def dead_letters(
        self, *, limit: int = 100, after: str | None = None, error: str | None = None
    ) -> list[PoolDeadLetter]:
        """The events that have no attempt left, up to `limit` (1 to 1,000); of this error type, if
        given. `after`: the `item` of the last one of the page before."""
        self._gateway.check()
        at_least(1, "limit", limit)
        app, job = self._gateway.app, self._definition.job
        return await dead_letters(app, job, limit=min(limit, 1_000), after=after, error=error)

    # -- operating

    async def pause(
        self,
        partition: int | None = None,
        *,
        reason: str | None = None,
        actor: str | None = None,
    ) -> PoolControl:
        """Take nothing more, in the whole pool or in one partition. What has begun ends; what has
        been taken and has not begun is given back, as soon as its worker knows of the pause: at its
        next call, when it is notified, or after 500 ms at the latest."""
        self._gateway.check()
        return await self._operator.pause(self._partition(partition), reason_of(reason), actor)

    async def resume(
        self, partition: int | None = None, *, actor: str | None = None
    ) -> PoolControl:
        """Take again; the whole pool accepts again after a `drain`."""
        self._gateway.check()
        return await self._operator.resume(self._partition(partition), actor)

    async def drain(self, *, reason: str | None = None, actor: str | None = None) -> PoolControl:
        """Accept nothing new, and finish what is there; until `resume`."""
        self._gateway.check()
        return await self._operator.drain(reason_of(reason), actor)

    async def cancel_event(
        self, event_id: str, *, reason: str | None = None, actor: str | None = None
    ) -> CancelResult:
        """Remove an event that has not begun. One that is taken is given back by its worker and
        cancelled, unless it has begun; that is waited for up to 2 seconds, then it is let go
        (`already_processing`). Killed meanwhile, it may be cancelled or not."""
        self._gateway.check()
        return await self._operator.cancel(event_id, reason_of(reason), actor)

    async def set_priority(
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
        self._gateway.check()
        check_type(bool, "dry_run", dry_run)
        check_priority(priority)
        if from_priority is not None:
            check_priority(from_priority)
        key = None if partition_key is None else check_key(partition_key)
        which: Sequence[str] | WaitingFilter = WaitingFilter(key, from_priority)
        if event_ids is not None:
            check_list("event_ids", event_ids)
            if which != WaitingFilter():
                raise not_both("pending events", "event_ids or filters")
            which = event_ids
        return await self._operator.prioritize(priority, which, actor, dry_run=dry_run)

    async def requeue(
        self,
        event_ids: Sequence[str] | None = None,
        *,
        error: str | None = None,
        actor: str | None = None,
        dry_run: bool = False,
    ) -> ItemsResult:
        """Let dead events wait again: these, or all, or all with this error type. They keep their
        ids and histories. With `dry_run` it says what it would do."""
        self._gateway.check()
        check_type(bool, "dry_run", dry_run)
        check_choice(event_ids, error)
        return await self._operator.dead("requeue", event_ids, error, None, actor, dry_run=dry_run)

    async def discard(
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
        self._gateway.check()
        check_type(bool, "dry_run", dry_run)
        said = reason_of(reason)
        check_choice(event_ids, error)
        return await self._operator.dead("discard", event_ids, error, said, actor, dry_run=dry_run)

    async def dead_letter(
        self,
        event_ids: Sequence[str] | None = None,
        *,
        actor: str | None = None,
        dry_run: bool = False,
    ) -> ItemsResult:
        """Make dead letters of events that wait for code that can read them: these, or all, so that
        what is behind them goes on. `on_dead_letter` is not called: there is no code that can read
        its event. With `dry_run` it says what it would do."""
        self._gateway.check()
        check_type(bool, "dry_run", dry_run)
        if event_ids is not None:
            check_list("event_ids", event_ids)
        return await self._operator.give_up_unread(event_ids, actor, dry_run=dry_run)

    async def rebuild(self, *, dry_run: bool = False) -> RebuildResult:
        """Make everything that is kept of the pool beside its log anew from that, while workers
        run; with `dry_run` only compare. The answer says what was not as the log has it.

        Other writers wait while it is put in place, 1 s (SQLite) to 4 s (PostgreSQL) for 50,000
        rows. Raises `IntegrityError` or `UnreadableEventError` if the log itself is damaged: then
        nothing is changed.
        """
        self._gateway.check()
        check_type(bool, "dry_run", dry_run)
        rules = PoolRules.of(self._definition, self._gateway.app.settings.max_lost)
        return await self._operator.rebuild(rules, dry_run=dry_run)

    def _partition(self, partition: int | None) -> int | None:
        if partition is None:
            return None
        at_least(0, "partition", partition)
        if partition >= self._definition.concurrency:
            last = self._definition.concurrency - 1
            issue = Issue(loc="partition", msg=f"must be 0 to {last}", type="bound")
            raise ValidationError(f"partition {quoted(partition)} of {self.name!r}", [issue])
        return partition
