"""The open app: typed handles on its jobs, and what can be asked of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar, cast, overload

from wakelog.application import Application
from wakelog.bounds import at_least
from wakelog.client import TaskClient
from wakelog.core.schedule import Duration, duration_us, moment_us
from wakelog.debounce import Debounce
from wakelog.debounce_client import DebounceClient
from wakelog.definition import Task
from wakelog.door import Door, refuse_in_handler
from wakelog.errors import Issue, UnknownJobTypeError, ValidationError
from wakelog.history import HistoryEntry, PastState, history, state_at
from wakelog.ids import KINDS, InstanceId, check_text
from wakelog.ports import AlarmClock, Desk, Listing
from wakelog.results import InstanceRow, TaskStatus, instance_row, task_status
from wakelog.worker import Worker, WorkerSettings

__all__ = ["App"]

S = TypeVar("S")
E = TypeVar("E")

MAX_LIST = 1_000
"""Instances in one page of a list."""
STATUSES = (
    "active",
    "debouncing",
    "failed",
    "flushing",
    "idle",
    "paused",
    "retrying",
    "stopped",
    "unhandled",
)
"""How a living instance may stand."""
SEEN_BY_READERS = ("active", "idle", "unhandled")
"""Statuses that the store cannot tell apart: whether a worker lives is seen when reading."""


class App:
    """An open app, async. Get one from `jobs.open(url)`; use it on the loop that opened it."""

    def __init__(self, application: Application, *, handlers: bool) -> None:
        self._application = application
        self._door = Door(application, handlers=handlers)
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
            client = TaskClient(self._door, cast("Task[Any, Any]", definition))
            self._tasks[definition.name] = client
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
        definition = self._application.registry.find(job, "debounce")
        client = self._debounces.get(definition.name)
        if client is None:
            client = DebounceClient(self._door, cast("Debounce[Any, Any]", definition))
            self._debounces[definition.name] = client
        return client

    def __contains__(self, name: object) -> bool:
        return name in self._application.registry

    def names(self, kind: str | None = None) -> tuple[str, ...]:
        """The registered names, of one type of job or of all. Raises `UnknownJobTypeError`."""
        return self._application.registry.names(kind)

    async def status_of(self, instance_id: str) -> TaskStatus:
        """How an instance stands, by its whole id; no definition of its job is needed.

        Raises `InvalidIdError` and `UnknownJobTypeError`.
        """
        id = InstanceId.parse(instance_id)
        row = await self._door.row(id)
        [unhandled] = await self._door.unhandled([row])
        return task_status(str(id), row, unhandled=unhandled)

    async def history(self, instance_id: str) -> list[HistoryEntry]:
        """Every event of every life of an instance, in order, in plain words and as data.

        Raises `InvalidIdError`, `InstanceNotFoundError` for one that never was, and
        `UnreadableEventError` or `IntegrityError` where the log does not add up.
        """
        self._door.check()
        id = InstanceId.parse(instance_id)
        return await self._application.browse(history, self._application.store, id)

    async def state_at(
        self, instance_id: str, *, version: int | None = None, at: datetime | None = None
    ) -> PastState:
        """How an instance stood at a version, or at a moment (aware): give one of the two."""
        self._door.check()
        id = InstanceId.parse(instance_id)
        at_us = None if at is None else moment_us(at, "at")
        store = self._application.store
        return await self._application.browse(state_at, store, id, version=version, at_us=at_us)

    async def list(
        self,
        *,
        type: str | None = None,
        name: str | None = None,
        status: str | None = None,
        id_prefix: str | None = None,
        due_before: datetime | None = None,
        error: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[InstanceRow]:
        """Living instances that match all that is given, by id, at most `limit`.

        `after` goes on behind the last instance id of the page before; `error` is the type of the
        last error. Raises `ValidationError` and `UnknownJobTypeError`.
        """
        self._door.check()
        if type is not None and type not in KINDS:
            raise UnknownJobTypeError(type, KINDS)
        if status is not None and status not in STATUSES:
            issue = Issue(loc="status", msg=f"give one of {', '.join(STATUSES)}", type="status")
            raise ValidationError(f"status {status!r}", [issue])
        at_least(1, "limit", limit)
        if limit > MAX_LIST:
            issue = Issue(loc="limit", msg=f"it must be 1 to {MAX_LIST}", type="bound")
            raise ValidationError(f"limit {limit}", [issue])
        texts = {"name": name, "id_prefix": id_prefix, "error": error, "after": after}
        for what, text in texts.items():
            if text is not None:
                check_text(text, what)
        listing = Listing(
            kind=type,
            name=name,
            status=None if status in SEEN_BY_READERS else status,
            id_prefix=id_prefix,
            due_before_us=None if due_before is None else moment_us(due_before, "due_before"),
            error_type=error,
            limit=MAX_LIST if status in SEEN_BY_READERS else limit,
            after=after,
        )
        found: list[InstanceRow] = []
        while True:
            rows = await self._application.browse(self._application.store.list, listing)
            unhandled = await self._door.unhandled(rows)
            for row, is_unhandled in zip(rows, unhandled, strict=True):
                shown = instance_row(row, unhandled=is_unhandled)
                if status in (None, shown.status):
                    found.append(shown)
            if len(found) >= limit or len(rows) < listing.limit:
                return found[:limit]
            listing = replace(listing, after=rows[-1].stream)

    # -- life of the app

    async def start_worker(
        self, settings: WorkerSettings, make_clock: Callable[[Desk], AlarmClock]
    ) -> None:
        """Work here too: called by `jobs.open(url, worker=…)`."""
        self._worker = Worker(self._application, settings, make_clock)
        await self._worker.start()

    @property
    def is_closed(self) -> bool:
        """Whether the app has ended: it takes nothing any more."""
        return self._door.closed

    @property
    def is_idle(self) -> bool:
        """Whether no run is going on in this process."""
        return self._worker is None or self._worker.running == 0

    async def close(self, *, grace: Duration | None = None) -> None:
        """End: take nothing new, let runs end within `grace`, give the others back, let go.

        Every acknowledged request stays recorded. Safe to call again: there is one end, which
        goes on though a caller stops waiting for it.
        """
        refuse_in_handler()
        if self._closing is None:
            grace_us = None if grace is None else duration_us(grace, "grace")
            self._closing = asyncio.create_task(self._close(grace_us))
        await asyncio.shield(self._closing)

    async def _close(self, grace_us: int | None) -> None:
        if self._worker is not None:
            await self._worker.close(grace_us)
        self._door.closed = True
        await self._application.drained()
        self._application.close()
