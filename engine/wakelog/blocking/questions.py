"""What can be asked of all jobs of an app, and done to them, blocking.

Made from wakelog.app by `make blocking`: change that one.
"""

from __future__ import annotations

import builtins
from datetime import datetime
from typing import Unpack

from wakelog.app import App
from wakelog.blocking.follower_calls import BlockingFollowerCalls
from wakelog.blocking.portal import Portal
from wakelog.client.bulk import BulkAction, BulkResult
from wakelog.client.dead_letters import DeadLetter
from wakelog.client.job_pause import JobPause
from wakelog.client.job_types import Status
from wakelog.client.listing import Filters, InstanceRow, JobCount
from wakelog.client.pool.results import PoolStatus
from wakelog.client.workers import WorkerStatus
from wakelog.definitions.definition import Definition
from wakelog.history.past import PastState
from wakelog.history.timeline import HistoryEntry

__all__ = ["BlockingQuestions"]


class BlockingQuestions(BlockingFollowerCalls):
    """What can be asked of all jobs of an app, and done to them, blocking."""

    def __init__(self, app: App, portal: Portal) -> None:
        super().__init__(app, portal)
        self.app = app
        """The async app; not part of the stable interface."""

    def names(self, kind: str | None = None) -> tuple[str, ...]:
        """The registered names, of one type of job or of all. Raises `UnknownJobTypeError`."""
        return self.app.names(kind)

    def status_of(self, instance_id: str) -> Status:
        """The status of an instance, by its whole id; no definition of its job is needed.

        Raises `InvalidIdError` and `UnknownJobTypeError`.
        """
        return self._portal.call(lambda: self.app.status_of(instance_id))

    def history(self, instance_id: str) -> list[HistoryEntry]:
        """Every event of every life of an instance, in order, in plain words and as data.

        Of a pool: the stream of a partition (`workerPool:emails:0`) or of the pool
        (`workerPool:emails:shared`), or all about one of its events (`workerPool:emails:#3.17`).
        Raises `InvalidIdError`, `InstanceNotFoundError` for one that never was, and
        `UnreadableEventError` or `IntegrityError` if the log is damaged.
        """
        return self._portal.call(lambda: self.app.history(instance_id))

    def state_at(
        self, instance_id: str, *, version: int | None = None, at: datetime | None = None
    ) -> PastState:
        """The state and status of an instance at a version, or at a moment (aware): give one of
        the two. Raises `UnknownActionError` for a pool, which has no instances."""
        return self._portal.call(lambda: self.app.state_at(instance_id, version=version, at=at))

    def list(
        self, *, limit: int = 100, after: str | None = None, **filters: Unpack[Filters]
    ) -> list[InstanceRow]:
        """Living instances that match all that is given, by id, at most `limit`.

        `after` continues behind the last instance id of the page before: an instance that lives
        all the while is on exactly one page. Raises `ValidationError` and `UnknownJobTypeError`.
        """
        return self._portal.call(lambda: self.app.list(limit=limit, after=after, **filters))

    def dead_letters(
        self, *, limit: int = 100, after: str | None = None, **filters: Unpack[Filters]
    ) -> builtins.list[DeadLetter]:
        """The dead letters of instances that match all that is given, at most `limit` instances, by
        id; also of those whose life has ended. `after` continues behind an instance id.

        Raises what `list` raises.
        """
        return self._portal.call(lambda: self.app.dead_letters(limit=limit, after=after, **filters))

    def count(self, **filters: Unpack[Filters]) -> int:
        """How many living instances match. Raises what `list` raises."""
        return self._portal.call(lambda: self.app.count(**filters))

    def counts(self, **filters: Unpack[Filters]) -> builtins.list[JobCount]:
        """For each job that has living instances that match: how many, by status.

        One question to the store, which looks at each of them. Raises what `list` raises.
        """
        return self._portal.call(lambda: self.app.counts(**filters))

    def pools(self) -> builtins.list[PoolStatus]:
        """The pools of which something was recorded, by name, in numbers; no definition of them is
        needed. Costs the same at 10 and at 1,000,000 pending events."""
        return self._portal.call(lambda: self.app.pools())

    def workers(self) -> builtins.list[WorkerStatus]:
        """The workers, by name, and what each has taken.

        A worker that is silent is in the list as long as it has leases that no other has taken
        over.
        """
        return self._portal.call(lambda: self.app.workers())

    def metrics(self) -> dict[str, int]:
        """What happened since this app was opened, as counters by name.

        `appends` and the `units` of work in them, for requests and outcomes; `conflicts`, the
        units that were redone since another process was faster. On PostgreSQL also `store_waits`,
        calls that found no connection and waited; `store_retries`, calls that were sent again;
        `store_lost_answers`, appends whose answer was lost and then looked up. Raises
        `InvalidStateError` in a forked process.
        """
        return self.app.metrics()

    def pause(
        self, job: Definition | str, *, reason: str | None = None, actor: str | None = None
    ) -> JobPause:
        """Pause a whole job, with all its instances, those to come too: alarms wait, sends are
        deferred, open runs end. Answers the pause in force: an earlier one, if it was paused.

        Once this has answered, no worker begins anything of the job, except for deferred events of
        an instance that it is at (for 20 ms); other processes defer their sends within a second.
        A crash before leaves all of it or nothing. Raises `UnknownJobError` and `ValidationError`.
        """
        return self._portal.call(lambda: self.app.pause(job, reason=reason, actor=actor))

    def resume(self, job: Definition | str) -> JobPause | None:
        """Resume a whole job: what is due by now is due at once. Answers the pause that has
        ended, None if there was none; instances that were paused by themselves stay paused."""
        return self._portal.call(lambda: self.app.resume(job))

    def job_pauses(self) -> builtins.list[JobPause]:
        """The jobs that are paused as a whole, by name."""
        return self._portal.call(lambda: self.app.job_pauses())

    def bulk(
        self,
        action: BulkAction,
        *,
        limit: int | None = None,
        dry_run: bool = False,
        reason: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        **filters: Unpack[Filters],
    ) -> BulkResult:
        """Pause, resume, retry or clear all instances that match, or requeue or discard their dead
        letters, with the filters of `list`.

            app.bulk("retry", name="order", status="failed", error="TimeoutError")

        At most `limit` of them, by id; with `dry_run` none, the result says which. Each is a unit
        of its own: one that cannot be done is named with its reason, and the others go on. A
        retry is requested and not waited for. Raises `ValidationError` before anything is done,
        and `StoreUnavailableError`, after which asking again does the rest.
        """
        return self._portal.call(
            lambda: self.app.bulk(
                action,
                limit=limit,
                dry_run=dry_run,
                reason=reason,
                actor=actor,
                correlation_id=correlation_id,
                **filters,
            )
        )
