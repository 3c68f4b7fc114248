"""The open app: typed handles on its jobs, and what can be asked of all of them."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar, Unpack, cast, overload

from msgspec.structs import replace

from wakelog.application import Application
from wakelog.arguments import at_least
from wakelog.client.bulk import BulkAction, BulkResult, bulk
from wakelog.client.continuous import ContinuousClient, continuous_status_of
from wakelog.client.debounce import DebounceClient, debounce_status_of
from wakelog.client.gateway import RequestGateway, origin_of, refuse_in_handler
from wakelog.client.job_pause import JobPause, job_pauses, pause_job, resume_job
from wakelog.client.listing import SEEN_BY_READERS, Filters, job_counts, listing_of, team
from wakelog.client.results import InstanceRow, JobCount, WorkerStatus, instance_row
from wakelog.client.status import Status
from wakelog.client.task import TaskClient, task_status_of
from wakelog.core.time import Duration, duration_us, moment_us
from wakelog.definitions.continuous import Continuous
from wakelog.definitions.debounce import Debounce
from wakelog.definitions.definition import Definition
from wakelog.definitions.task import Task
from wakelog.errors import Issue, ValidationError
from wakelog.history.past import PastState, state_at
from wakelog.history.timeline import HistoryEntry, history
from wakelog.ids import InstanceId, Kind
from wakelog.ports.alarm_clock import AlarmClock, Claimant
from wakelog.ports.rows import StatusRow
from wakelog.runtime.job_pauses import shown_count
from wakelog.settings import WorkerSettings
from wakelog.worker.worker import Worker

__all__ = ["App"]

S = TypeVar("S")
E = TypeVar("E")

MAX_LIST = 1_000
"""Instances in one page of a list."""

_STANDINGS: dict[Kind, Callable[..., Awaitable[Status]]] = {
    Task.kind: task_status_of,
    Continuous.kind: continuous_status_of,
    Debounce.kind: debounce_status_of,
}
"""How an instance is looked at, by the type of its job."""


class App:
    """An open app, async. Get one from `jobs.open(url)`; use it on the loop that opened it."""

    def __init__(self, application: Application, *, handlers: bool) -> None:
        self._application = application
        self._gateway = RequestGateway(application, handlers=handlers)
        self._worker: Worker | None = None
        self._closing: asyncio.Task[None] | None = None
        self._tasks: dict[str, TaskClient[Any, Any]] = {}
        self._debounces: dict[str, DebounceClient[Any, Any]] = {}

    @overload
    def task(self, job: Task[S, E]) -> TaskClient[S, E]: ...
    @overload
    def task(self, job: str) -> TaskClient[Any, Any]: ...
    def task(self, job: Task[S, E] | str) -> TaskClient[S, E] | TaskClient[Any, Any]:
        """The instances of a Task, given by its definition (fully typed) or by its name.

        Raises `UnknownJobError`.
        """
        definition = self._application.registry.find(job, "task")
        client = self._tasks.get(definition.name)
        if client is None:
            client = TaskClient(self._gateway, cast("Task[Any, Any]", definition))
            self._tasks[definition.name] = client
        return client

    @overload
    def continuous(self, job: Continuous[S]) -> ContinuousClient[S]: ...
    @overload
    def continuous(self, job: str) -> ContinuousClient[Any]: ...
    def continuous(self, job: Continuous[S] | str) -> ContinuousClient[S] | ContinuousClient[Any]:
        """The instances of a Continuous job, given by its definition (fully typed) or its name.

        Raises `UnknownJobError`.
        """
        definition = self._application.registry.find(job, "continuous")
        return ContinuousClient(self._gateway, cast("Continuous[Any]", definition))

    @overload
    def debounce(self, job: Debounce[S, E]) -> DebounceClient[S, E]: ...
    @overload
    def debounce(self, job: str) -> DebounceClient[Any, Any]: ...
    def debounce(
        self, job: Debounce[S, E] | str
    ) -> DebounceClient[S, E] | DebounceClient[Any, Any]:
        """The instances of a Debounce, given by its definition (fully typed) or by its name.

        Raises `UnknownJobError`.
        """
        definition = self._application.registry.find(job, "debounce")
        client = self._debounces.get(definition.name)
        if client is None:
            client = DebounceClient(self._gateway, cast("Debounce[Any, Any]", definition))
            self._debounces[definition.name] = client
        return client

    def __contains__(self, name: object) -> bool:
        return name in self._application.registry

    def names(self, kind: str | None = None) -> tuple[str, ...]:
        """The registered names, of one type of job or of all. Raises `UnknownJobTypeError`."""
        return self._application.registry.names(kind)

    async def status_of(self, instance_id: str) -> Status:
        """How an instance stands, by its whole id; no definition of its job is needed.

        Raises `InvalidIdError` and `UnknownJobTypeError`.
        """
        id = InstanceId.parse(instance_id)
        return await _STANDINGS.get(id.kind, task_status_of)(self._gateway, id)

    async def history(self, instance_id: str) -> list[HistoryEntry]:
        """Every event of every life of an instance, in order, in plain words and as data.

        Raises `InvalidIdError`, `InstanceNotFoundError` for one that never was, and
        `UnreadableEventError` or `IntegrityError` where the log does not add up.
        """
        self._gateway.check()
        id = InstanceId.parse(instance_id)
        return await self._application.browse(history, self._application.store, id)

    async def state_at(
        self, instance_id: str, *, version: int | None = None, at: datetime | None = None
    ) -> PastState:
        """How an instance stood at a version, or at a moment (aware): give one of the two."""
        self._gateway.check()
        id = InstanceId.parse(instance_id)
        at_us = None if at is None else moment_us(at, "at")
        store = self._application.store
        return await self._application.browse(state_at, store, id, version=version, at_us=at_us)

    async def list(
        self, *, limit: int = 100, after: str | None = None, **filters: Unpack[Filters]
    ) -> list[InstanceRow]:
        """Living instances that match all that is given, by id, at most `limit`.

        `after` goes on behind the last instance id of the page before: one that lives all the while
        is on one page, whatever others do. Raises `ValidationError` and `UnknownJobTypeError`.
        """
        self._gateway.check()
        at_least(1, "limit", limit)
        if limit > MAX_LIST:
            issue = Issue(loc="limit", msg=f"it must be 1 to {MAX_LIST}", type="bound")
            raise ValidationError(f"limit {limit}", [issue])
        status = filters.get("status")
        holds = await self._application.job_pauses.now()
        by_reader = status in SEEN_BY_READERS or (status == "paused" and bool(holds))
        listing = listing_of(self._application.clock.now_us(), **filters, after=after)
        listing = replace(listing, limit=MAX_LIST if by_reader else limit)
        if status == "paused" and holds:
            listing = replace(listing, status=None)
        found: list[InstanceRow] = []
        while True:
            rows = await self._application.browse(self._application.store.list, listing)
            unhandled = await self._gateway.unhandled(rows)
            standing = await self._application.job_pauses.shown(rows)
            for row, is_unhandled in zip(standing, unhandled, strict=True):
                shown = instance_row(cast(StatusRow, row), unhandled=is_unhandled)
                if status in (None, shown.status):
                    found.append(shown)
            if len(found) >= limit or len(rows) < listing.limit:
                return found[:limit]
            listing = replace(listing, after=rows[-1].stream)

    def metrics(self) -> dict[str, int]:
        """What happened since this app was opened, as counters by name.

        `appends` and the `units` of work in them, for requests and outcomes; `conflicts`, the
        units that were redone since another process was faster. On PostgreSQL also `store_waits`,
        calls that found no connection and waited; `store_retries`, calls that were sent again;
        `store_lost_answers`, appends whose answer was lost and then looked up.
        """
        app = self._application
        appends, units = app.appends
        counts = {"appends": appends, "units": units, "conflicts": app.conflicts}
        return {**counts, **app.store.counters}

    async def count(self, **filters: Unpack[Filters]) -> int:
        """How many living instances match. Raises what `list` raises."""
        return sum(job.total for job in await self.counts(**filters))

    async def counts(self, **filters: Unpack[Filters]) -> builtins.list[JobCount]:
        """For each job that has living instances that match: how many, and how they stand.

        One question to the store, which looks at each of them. Raises what `list` raises.
        """
        self._gateway.check()
        store, now_us = self._application.store, self._application.clock.now_us()
        listing = listing_of(now_us, **filters)
        holds = await self._application.job_pauses.now()
        if filters.get("status") == "paused" and holds:
            listing = replace(listing, status=None)
        counted = await self._application.browse(store.count, listing, now_us)
        counted = [shown_count(group, holds) for group in counted]
        known = (
            await self._gateway.known_jobs() if any(group.overdue for group in counted) else None
        )
        if known is None:
            counted = [group._replace(overdue=False) for group in counted]
        return job_counts(counted, known or (), filters.get("status"))

    async def workers(self) -> builtins.list[WorkerStatus]:
        """Who lives, by name, and what runs where.

        A worker that is silent is in it as long as it holds something that nobody has taken over.
        """
        self._gateway.check()
        store, now_us = self._application.store, self._application.clock.now_us()
        return await self._application.browse(team, store, now_us)

    # -- operating

    async def pause(
        self, job: Definition | str, *, reason: str | None = None, actor: str | None = None
    ) -> JobPause:
        """Hold a whole job, with all its instances, those to come too: alarms wait, sends are
        deferred, open runs end. Answers the hold there is: an earlier one, if it was held before.

        Once this has answered, no worker begins anything of the job; other processes defer their
        sends within a second. A crash before leaves all of it or nothing. Raises
        `UnknownJobError` and `ValidationError`.
        """
        return await pause_job(self._gateway, job, reason, actor)

    async def resume(self, job: Definition | str) -> JobPause | None:
        """Let a held job go on: what is due by now is due at once. Answers the hold that has
        ended, None where there was none; instances that were paused on their own stay so."""
        return await resume_job(self._gateway, job)

    async def job_pauses(self) -> builtins.list[JobPause]:
        """The jobs that are held as a whole, by name."""
        return await job_pauses(self._gateway)

    async def bulk(
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
        """Pause, resume, retry or clear all instances that match, with the filters of `list`.

            await app.bulk("retry", name="order", status="failed", error="TimeoutError")

        At most `limit` of them, by id; with `dry_run` none, the answer says which. Each is a unit
        of its own: one that cannot be done is named with its reason, and the others go on. A
        retry is asked for and not waited for. Raises `ValidationError` before anything is done,
        and `StoreUnavailableError`, after which asking again does the rest.
        """
        return await bulk(
            self._gateway,
            self.list,
            action,
            limit=limit,
            dry_run=dry_run,
            reason=reason,
            origin=origin_of(actor, correlation_id),
            filters=filters,
        )

    # -- life of the app

    def own(self, task: asyncio.Task[Any]) -> None:
        """Take the task of a blocking caller's request for the engine's: a handler that cancels
        the task it runs in has failed, and ends neither the request nor the caller's loop."""
        self._application.caller.own(task)

    async def start_worker(
        self, settings: WorkerSettings, make_clock: Callable[[Claimant], AlarmClock]
    ) -> None:
        """Work here too: called by `jobs.open(url, worker=…)`."""
        self._worker = Worker(self._application, settings, make_clock)
        await self._worker.start()

    @property
    def is_closed(self) -> bool:
        """Whether the app has ended."""
        return self._closing is not None and self._closing.done()

    @property
    def is_idle(self) -> bool:
        """Whether no run is going on in this process."""
        return self._worker is None or self._worker.running == 0

    async def close(self, *, grace: Duration | None = None) -> None:
        """End: take nothing new, let runs and requests end within `grace`, give the other runs
        back, let go. Without `grace` it is as the app was opened.

        Every acknowledged request stays recorded. Safe to call again: there is one end, which
        goes on though a caller stops waiting for it.
        """
        refuse_in_handler()
        if self._closing is None:
            grace_us = (
                self._application.settings.grace_us
                if grace is None
                else duration_us(grace, "grace")
            )
            self._closing = asyncio.create_task(self._close(grace_us))
        await asyncio.shield(self._closing)

    async def _close(self, grace_us: int) -> None:
        closing = [self._gateway.close(grace_us)]
        if self._worker is not None:
            closing.append(self._worker.close(grace_us))
        await asyncio.gather(*closing)
        await self._application.drained()
        self._application.close()
