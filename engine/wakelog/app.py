"""The open app: typed clients of its jobs, and what can be asked of all of them."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from wakelog.application import Application
from wakelog.client.base import JobClient
from wakelog.client.bulk import BulkAction, BulkResult, bulk
from wakelog.client.continuous import ContinuousClient
from wakelog.client.dead_letters import DeadLetter, list_dead_letters
from wakelog.client.debounce import DebounceClient
from wakelog.client.gateway import RequestGateway, origin_of, refuse_in_handler
from wakelog.client.inbox.delivery import InboxDelivery
from wakelog.client.job_pause import JobPause, list_job_pauses, pause_job, resume_job
from wakelog.client.job_types import CLIENTS, Status, check_instances, make_status
from wakelog.client.listing import Filters, InstanceRow, JobCount, count_jobs, list_instances
from wakelog.client.pool.reading import list_pools
from wakelog.client.pool.results import PoolStatus
from wakelog.client.task import TaskClient
from wakelog.client.worker_pool import WorkerPoolClient
from wakelog.client.workers import WorkerStatus, list_workers
from wakelog.closing import all_ended, ended_within, release_all
from wakelog.core.time import Duration, duration_us, moment_us
from wakelog.definitions.continuous import Continuous
from wakelog.definitions.debounce import Debounce
from wakelog.definitions.definition import Definition
from wakelog.definitions.task import Task
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.errors import InvalidStateError
from wakelog.follow.calls import FollowerCalls
from wakelog.follow.followers import Followers
from wakelog.follow.others import OtherProcesses
from wakelog.history.deliveries import with_deliveries
from wakelog.history.past import PastState, state_at
from wakelog.history.timeline import HistoryEntry
from wakelog.ids import InstanceId, Kind
from wakelog.messages.deliveries import Deliveries
from wakelog.ports.alarm_clock import AlarmClock, Claimant
from wakelog.settings import WorkerSettings
from wakelog.worker.worker import Worker

if TYPE_CHECKING:  # made over this class; `jobs` joins the two
    from wakelog.blocking import BlockingApp

__all__ = ["App"]

S = TypeVar("S")
E = TypeVar("E")


class App(FollowerCalls):
    """An open app, async. Get one from `jobs.open(url)`; use it on the event loop that opened
    it."""

    def __init__(
        self,
        application: Application,
        *,
        handlers: bool,
        make_blocking: Callable[[App], BlockingApp] | None = None,
    ) -> None:
        """`make_blocking`: what makes `blocking`, where there is one."""
        self.application = application
        """The engine behind it, for tests and tools; not part of the stable interface."""
        self.worker: Worker | None = None
        """The worker of this process, if it is one; not part of the stable interface."""
        self._gateway = RequestGateway(application, handlers=handlers)
        self._blocking = None if make_blocking is None else make_blocking(self)
        self.deliveries = Deliveries(application, self._gateway)
        """Delivers messages between jobs; not part of the stable interface."""
        self.others = OtherProcesses(application)
        self.followers = Followers(application, self.others.start)
        """Wakes the jobs that follow other applications; not part of the stable interface."""
        application.deliver = InboxDelivery(application)
        self._closing: asyncio.Task[None] | None = None
        self._clients: dict[str, JobClient[Any, Any] | WorkerPoolClient[Any]] = {}

    # -- clients, one for each type of job

    @overload
    def task(self, job: Task[S, E]) -> TaskClient[S, E]: ...
    @overload
    def task(self, job: str) -> TaskClient[Any, Any]: ...
    def task(self, job: Task[S, E] | str) -> TaskClient[S, E] | TaskClient[Any, Any]:
        """The instances of a Task, given by its definition (fully typed) or by its name.

        Raises `UnknownJobError`.
        """
        client: TaskClient[Any, Any] = self._client(job, Task.kind)
        return client

    @overload
    def continuous(self, job: Continuous[S]) -> ContinuousClient[S]: ...
    @overload
    def continuous(self, job: str) -> ContinuousClient[Any]: ...
    def continuous(self, job: Continuous[S] | str) -> ContinuousClient[S] | ContinuousClient[Any]:
        """The instances of a Continuous job, given by its definition (fully typed) or its name.

        Raises `UnknownJobError`.
        """
        client: ContinuousClient[Any] = self._client(job, Continuous.kind)
        return client

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
        client: DebounceClient[Any, Any] = self._client(job, Debounce.kind)
        return client

    @overload
    def worker_pool(self, job: WorkerPool[E]) -> WorkerPoolClient[E]: ...
    @overload
    def worker_pool(self, job: str) -> WorkerPoolClient[Any]: ...
    def worker_pool(self, job: WorkerPool[E] | str) -> WorkerPoolClient[E] | WorkerPoolClient[Any]:
        """A WorkerPool, given by its definition (fully typed) or by its name.

        Raises `UnknownJobError`.
        """
        client: WorkerPoolClient[Any] = self._client(job, WorkerPool.kind)
        return client

    def _client(self, job: Definition | str, kind: Kind) -> Any:
        definition = self.application.registry.find(job, kind)
        client = self._clients.get(definition.name)
        if client is None:
            client = CLIENTS[kind].client(self._gateway, definition)
            self._clients[definition.name] = client
        return client

    @property
    def blocking(self) -> BlockingApp:
        """The same app for `def` code in other threads, as a framework has them.

        Its calls are made on the app's event loop, while their thread waits, and end with the app.
        On that loop they raise `InvalidStateError`, since it would wait for itself. There is none
        in a simulation, which is blocking as it is.
        """
        if self._blocking is None:
            raise InvalidStateError("a simulation is blocking itself: call it, not its app")
        return self._blocking

    # -- what there is

    def __contains__(self, name: object) -> bool:
        return name in self.application.registry

    def names(self, kind: str | None = None) -> tuple[str, ...]:
        """The registered names, of one type of job or of all. Raises `UnknownJobTypeError`."""
        return self.application.registry.names(kind)

    async def status_of(self, instance_id: str) -> Status:
        """The status of an instance, by its whole id; no definition of its job is needed.

        Raises `InvalidIdError` and `UnknownJobTypeError`.
        """
        id = InstanceId.parse(instance_id)
        row = await self._gateway.shown_row(id)
        [unhandled] = await self._gateway.unhandled([row])
        return make_status(str(id), id.kind, row, unhandled=unhandled)

    async def history(self, instance_id: str) -> list[HistoryEntry]:
        """Every event of every life of an instance, in order, in plain words and as data.

        Of a pool: the stream of a partition (`workerPool:emails:0`) or of the pool
        (`workerPool:emails:shared`), or all about one of its events (`workerPool:emails:#3.17`).
        Raises `InvalidIdError`, `InstanceNotFoundError` for one that never was, and
        `UnreadableEventError` or `IntegrityError` if the log is damaged.
        """
        self._gateway.check()
        id = InstanceId.parse(instance_id)
        entries = await CLIENTS[id.kind].history(self.application, id)
        if id.id.startswith("#") or not any(each.data.get("to") for each in entries):
            return entries
        browse, store = self.application.threads.browse, self.application.store
        return await browse(with_deliveries, store, str(id), entries)

    async def state_at(
        self, instance_id: str, *, version: int | None = None, at: datetime | None = None
    ) -> PastState:
        """The state and status of an instance at a version, or at a moment (aware): give one of
        the two. Raises `UnknownActionError` for a pool, which has no instances."""
        self._gateway.check()
        id, app = InstanceId.parse(instance_id), self.application
        check_instances(str(id), id.kind)
        at_us = None if at is None else moment_us(at, "at")
        return await app.threads.browse(state_at, app.store, id, version=version, at_us=at_us)

    async def list(
        self, *, limit: int = 100, after: str | None = None, **filters: Unpack[Filters]
    ) -> list[InstanceRow]:
        """Living instances that match all that is given, by id, at most `limit`.

        `after` continues behind the last instance id of the page before: an instance that lives
        all the while is on exactly one page. Raises `ValidationError` and `UnknownJobTypeError`.
        """
        return await list_instances(self._gateway, limit=limit, after=after, **filters)

    async def dead_letters(
        self, *, limit: int = 100, after: str | None = None, **filters: Unpack[Filters]
    ) -> builtins.list[DeadLetter]:
        """The dead letters of instances that match all that is given, at most `limit` instances, by
        id; also of those whose life has ended. `after` continues behind an instance id.

        Raises what `list` raises.
        """
        return await list_dead_letters(self._gateway, limit=limit, after=after, **filters)

    async def count(self, **filters: Unpack[Filters]) -> int:
        """How many living instances match. Raises what `list` raises."""
        return sum(job.total for job in await self.counts(**filters))

    async def counts(self, **filters: Unpack[Filters]) -> builtins.list[JobCount]:
        """For each job that has living instances that match: how many, by status.

        One question to the store, which looks at each of them. Raises what `list` raises.
        """
        return await count_jobs(self._gateway, **filters)

    async def pools(self) -> builtins.list[PoolStatus]:
        """The pools of which something was recorded, by name, in numbers; no definition of them is
        needed. Costs the same at 10 and at 1,000,000 pending events."""
        self._gateway.check()
        return await list_pools(self.application)

    async def workers(self) -> builtins.list[WorkerStatus]:
        """The workers, by name, and what each has taken.

        A worker that is silent is in the list as long as it has leases that no other has taken
        over.
        """
        self._gateway.check()
        app = self.application
        return await app.threads.browse(list_workers, app.store, app.clock.now_us())

    def metrics(self) -> dict[str, int]:
        """What happened since this app was opened, as counters by name.

        `appends` and the `units` of work in them, for requests and outcomes; `conflicts`, the
        units that were redone since another process was faster. On PostgreSQL also `store_waits`,
        calls that found no connection and waited; `store_retries`, calls that were sent again;
        `store_lost_answers`, appends whose answer was lost and then looked up. Raises
        `InvalidStateError` in a forked process.
        """
        app = self.application
        app.affinity.check_process()
        counts = {"appends": app.commits.appends, "units": app.commits.units}
        return {**counts, "conflicts": app.units.conflicts, **app.store.counters}

    # -- operating

    async def pause(
        self, job: Definition | str, *, reason: str | None = None, actor: str | None = None
    ) -> JobPause:
        """Pause a whole job, with all its instances, those to come too: alarms wait, sends are
        deferred, open runs end. Answers the pause in force: an earlier one, if it was paused.

        Once this has answered, no worker begins anything of the job, except for deferred events of
        an instance that it is at (for 20 ms); other processes defer their sends within a second.
        A crash before leaves all of it or nothing. Raises `UnknownJobError` and `ValidationError`.
        """
        return await pause_job(self._gateway, job, reason, actor)

    async def resume(self, job: Definition | str) -> JobPause | None:
        """Resume a whole job: what is due by now is due at once. Answers the pause that has
        ended, None if there was none; instances that were paused by themselves stay paused."""
        return await resume_job(self._gateway, job)

    async def job_pauses(self) -> builtins.list[JobPause]:
        """The jobs that are paused as a whole, by name."""
        return await list_job_pauses(self._gateway)

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
        """Pause, resume, retry or clear all instances that match, or requeue or discard their dead
        letters, with the filters of `list`.

            await app.bulk("retry", name="order", status="failed", error="TimeoutError")

        At most `limit` of them, by id; with `dry_run` none, the result says which. Each is a unit
        of its own: one that cannot be done is named with its reason, and the others go on. A
        retry is requested and not waited for. Raises `ValidationError` before anything is done,
        and `StoreUnavailableError`, after which asking again does the rest.
        """
        return await bulk(
            self._gateway,
            action,
            limit=limit,
            dry_run=dry_run,
            reason=reason,
            origin=origin_of(actor, correlation_id),
            filters=filters,
        )

    # -- life of the app

    def own(self, task: asyncio.Task[Any]) -> None:
        """Mark the task of a blocking caller's request as engine-owned: a handler that cancels
        the task it runs in has failed, and ends neither the request nor the caller's loop."""
        self.application.handler_runner.own(task)

    async def start_worker(
        self, settings: WorkerSettings, make_clock: Callable[[Claimant], AlarmClock]
    ) -> None:
        """Work here too: called by `jobs.open(url, worker=…)`."""
        self.worker = Worker(self.application, settings, make_clock)
        await self.worker.start()
        self.deliveries.poll()
        self.followers.poll(self.application.registry.chosen(settings.only))

    @property
    def is_closed(self) -> bool:
        """Whether the app has ended."""
        return self._closing is not None and self._closing.done()

    @property
    def is_idle(self) -> bool:
        """Whether no run is open in this process."""
        return self.worker is None or self.worker.running == 0

    async def close(self, *, grace: Duration | None = None) -> None:
        """End: take nothing new, let runs and requests end within `grace`, give the other runs
        back, close the store. Without `grace`, the one given to `jobs.open`.

        Every acknowledged request stays recorded. Safe to call again: there is one end, which
        goes on if a caller stops waiting for it (K2). Whatever fails, no thread and no connection
        is left, `END_S` after the grace at the latest; what could not be recorded is logged, such
        as runs that could not be given back to a store that is away.

        In a forked process nothing happens: there the app does not belong to it. Raises
        `InvalidStateError` in a handler and on another event loop than the app's, unless that one
        has ended: then the runs are left until their leases end.
        """
        affinity = self.application.affinity
        if affinity.is_inherited:
            return
        refuse_in_handler()
        if affinity.loop.is_closed():
            self._release()
            return
        affinity.check()
        if self._closing is None:
            grace_us = (
                self.application.settings.grace_us if grace is None else duration_us(grace, "grace")
            )
            self._closing = asyncio.create_task(self._close(grace_us))
        await asyncio.shield(self._closing)

    async def _close(self, grace_us: int) -> None:
        try:
            await ended_within(grace_us, self.application.store.hurry, self._end(grace_us))
        finally:
            self._release()

    async def _end(self, grace_us: int) -> None:
        """Let everything end that can."""
        self.followers.stop()
        await self.others.close()
        closing = [self._gateway.close(grace_us), self.deliveries.close(grace_us)]
        if self.worker is not None:
            closing.append(self.worker.close(grace_us))
        await all_ended(*closing)
        self.application.store.hurry()
        await self.application.commits.drained()
        await self.application.pools.drained()

    def _release(self) -> None:
        """End all threads and close the store, whatever they are at. Blocks for a moment."""
        worker = [] if self.worker is None else [self.worker.release]
        release_all(self.application.close, *worker)
