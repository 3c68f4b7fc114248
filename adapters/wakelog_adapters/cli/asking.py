"""What the commands ask of the jobs: one function for each, from words to the engine's answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import pydantic

from wakelog.app import STATUSES, App
from wakelog.client import JobClient, TaskClient
from wakelog.clock import SystemClock
from wakelog.core.schedule import Duration
from wakelog.debounce import Debounce
from wakelog.debounce_client import DebounceClient
from wakelog.errors import ValidationError
from wakelog.history import HistoryEntry, PastState
from wakelog.ids import KINDS, InstanceId
from wakelog.jobs import Jobs
from wakelog.results import (
    AddResult,
    ClearResult,
    FlushResult,
    InstanceRow,
    SendResult,
    TaskStatus,
    TriggerResult,
)
from wakelog.schema import issues_of
from wakelog_adapters.cli.arguments import Named, moment_or_duration
from wakelog_adapters.cli.failures import UsageError
from wakelog_adapters.cli.surroundings import Where, load_jobs, opened

__all__ = [
    "History",
    "Page",
    "Shown",
    "Target",
    "add",
    "clear",
    "flush",
    "history",
    "instances",
    "send",
    "state",
    "state_then",
    "status",
    "target",
    "trigger",
]

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The state of an instance, as JSON data, with how the instance stands."""

    instance_id: str
    version: int
    status: str
    state: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The entries of an instance's history that were asked for, of those there are."""

    instance_id: str
    lives: int
    left_out: int
    """How many entries of the lives asked for are older than those shown."""
    entries: list[HistoryEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of instances; `next` is what `--after` goes on with, None on the last page."""

    instances: list[InstanceRow]
    next: str | None


@dataclass(frozen=True, slots=True)
class Target:
    """An instance of a registered job, and the store where it lives."""

    jobs: Jobs
    url: str
    id: InstanceId

    def run(self, ask: Callable[[TaskClient[Any, Any]], Awaitable[R]], **options: Any) -> R:
        """Open the store, put one request to the instance's task, and close again."""
        return self._run(lambda app: ask(app.task(self.id.name)), **options)

    def run_job(self, ask: Callable[[JobClient[Any]], Awaitable[R]]) -> R:
        """The same for what can be asked of any job."""
        return self._run(lambda app: ask(_client(app, self.jobs, self.id)))

    def run_debounce(
        self, ask: Callable[[DebounceClient[Any, Any]], Awaitable[R]], **options: Any
    ) -> R:
        """The same for a debounce."""
        return self._run(lambda app: ask(app.debounce(self.id.name)), **options)

    def _run(self, ask: Callable[[App], Awaitable[R]], **options: Any) -> R:
        async def asking() -> R:
            async with opened(self.jobs, self.url, **options) as app:
                return await ask(app)

        return asyncio.run(asking())

    def event(self, payload: str) -> Any:
        """The event with this JSON text. Raises `ValidationError` with each issue where it is no
        event of the job."""
        definition = self.jobs.registry.of(self.id)
        try:
            return definition.event.load(payload)
        except pydantic.ValidationError as error:
            raise ValidationError(f"event of {definition.name!r}", issues_of(error)) from None


def target(where: Where, who: Named) -> Target:
    """The instance meant, of jobs that are needed. Raises `UsageError` and `UnknownJobError`."""
    url = where.store_url()
    jobs = where.needed_jobs()
    return Target(jobs, url, _registered(jobs, who))


# -- requests --------------------------------------------------------------------------------------


def send(
    at: Target,
    payload: str,
    *,
    defer: bool,
    key: str | None,
    delay: Duration | None,
    moment: datetime | None,
    wait: bool,
    timeout: Duration | None,
    actor: str | None,
    correlation_id: str | None,
) -> SendResult:
    """Send the event with this JSON text; `defer` leaves it to a worker's `on_event`.

    Raises `ValidationError` with each issue where it is no event of the job.
    """
    event = at.event(payload)
    return at.run(
        lambda client: client.send(
            at.id.id,
            event,
            event_id=key,
            delay=delay,
            at=moment,
            wait=wait,
            timeout=timeout,
            actor=actor,
            correlation_id=correlation_id,
        ),
        create=True,
        handlers=not defer,
    )


def add(at: Target, payload: str, *, defer: bool, key: str | None, **options: Any) -> AddResult:
    """Add the event with this JSON text; `defer` leaves it to a worker's `on_event`."""
    event = at.event(payload)
    return at.run_debounce(
        lambda client: client.add(at.id.id, event, event_id=key, **options),
        create=True,
        handlers=not defer,
    )


def flush(at: Target, **options: Any) -> FlushResult:
    """Have a worker flush the instance now."""
    return at.run_debounce(lambda client: client.flush(at.id.id, **options))


def trigger(at: Target, **options: Any) -> TriggerResult:
    """Have a worker run the instance now."""
    return at.run_job(lambda client: client.trigger(at.id.id, **options))


def clear(at: Target, *, cancel: bool, after: Duration | None, **options: Any) -> ClearResult:
    """End the instance's life; or, with `cancel`, take back an end that is still to come."""
    if cancel:
        options.pop("reason")
        return at.run_job(lambda client: client.cancel_clear(at.id.id, **options))
    return at.run_job(lambda client: client.clear(at.id.id, after=after, **options))


# -- questions -------------------------------------------------------------------------------------


def status(where: Where, who: Named) -> TaskStatus:
    """How the instance stands."""

    async def ask(app: App, id: InstanceId) -> TaskStatus:
        return await app.status_of(str(id))

    return _asked(where, who, ask)


def state(where: Where, who: Named, *, raw: bool) -> Shown:
    """The newest state: as `on_client_get_state` shows it where the jobs are named, else, or
    with `raw`, as it is recorded."""
    reference = None if raw else where.reference()
    jobs = load_jobs(reference) if reference else None

    async def ask(app: App, id: InstanceId) -> Shown:
        stands = await app.status_of(str(id))
        value: Any = None
        if stands.status == "not_found":
            pass
        elif jobs is not None:
            value = await _shown(app, jobs, id)
        else:
            value = (await app.state_at(str(id), version=stands.version)).state
        return Shown(instance_id=str(id), version=stands.version, status=stands.status, state=value)

    return _asked(where, who, ask, jobs)


def state_then(
    where: Where, who: Named, *, version: int | None, moment: datetime | None
) -> PastState:
    """How the instance stood at a version, or at a moment."""

    async def ask(app: App, id: InstanceId) -> PastState:
        return await app.state_at(str(id), version=version, at=moment)

    return _asked(where, who, ask)


def history(where: Where, who: Named, *, life: int | None, limit: int | None) -> History:
    """What happened to the instance: in all its lives or in one, the newest `limit` entries."""

    async def ask(app: App, id: InstanceId) -> History:
        found = await app.history(str(id))
        lives = found[-1].life
        if life is not None and life > lives:
            raise UsageError(f"--life {life}: the newest life of {id} is {lives}")
        kept = [entry for entry in found if life in (None, entry.life)]
        newest = kept[-limit:] if limit else kept
        left_out = len(kept) - len(newest)
        return History(instance_id=str(id), lives=lives, left_out=left_out, entries=newest)

    return _asked(where, who, ask)


def instances(
    where: Where,
    *,
    limit: int,
    after: str | None,
    status: str | None,
    name: str | None,
    due_before: str | None,
    **filters: Any,
) -> Page:
    """Living instances that match, by id."""
    if status is not None and status not in STATUSES:
        raise UsageError(f"--status {status!r} is none of {', '.join(STATUSES)}")
    if where.jobs is not None and name is not None:
        load_jobs(where.jobs).registry.job_of(name)
    due = moment_or_duration(due_before, SystemClock().now_us(), "--due-before")

    async def ask() -> Page:
        asked: dict[str, Any] = {"status": status, "name": name, "due_before": due, **filters}
        async with opened(Jobs(), where.store_url()) as app:
            shown = await app.list(limit=limit, after=after, **asked)
            last = shown[-1].instance_id if len(shown) == limit else None
            more = await app.list(limit=1, after=last, **asked) if last else []
        return Page(instances=shown, next=last if more else None)

    return asyncio.run(ask())


# -- inside ----------------------------------------------------------------------------------------


def _asked(
    where: Where,
    who: Named,
    ask: Callable[[App, InstanceId], Awaitable[R]],
    jobs: Jobs | None = None,
) -> R:
    """Ask about one instance. Its job's kind is looked up where only its name was given: in the
    jobs, if they are named, else in the store."""
    url = where.store_url()
    if jobs is None and where.jobs is not None:
        jobs = load_jobs(where.jobs)
    known = None if jobs is None else _registered(jobs, who)

    async def asking() -> R:
        async with opened(jobs or Jobs(), url) as app:
            return await ask(app, known or who.full or await _found(app, who))

    return asyncio.run(asking())


def _registered(jobs: Jobs, who: Named) -> InstanceId:
    if who.full is None:
        return InstanceId.parse(f"{jobs.registry.job_of(who.name)}:{who.id}")
    jobs.registry.of(who.full)
    return who.full


async def _found(app: App, who: Named) -> InstanceId:
    """The whole id of an instance whose kind was not given: of the kind that has one."""
    ids = [InstanceId.parse(f"{kind}:{who.name}:{who.id}") for kind in KINDS]
    there = [id for id in ids if (await app.status_of(str(id))).version > 0]
    if len(there) > 1:
        raise UsageError(f"{who} may be any of {', '.join(map(str, there))}: give the whole id")
    return there[0] if there else ids[0]


def _client(app: App, jobs: Jobs, id: InstanceId) -> JobClient[Any]:
    is_debounce = isinstance(jobs.registry.of(id), Debounce)
    return app.debounce(id.name) if is_debounce else app.task(id.name)


async def _shown(app: App, jobs: Jobs, id: InstanceId) -> Any:
    """What an outside caller sees of the state, as JSON data."""
    value = await _client(app, jobs, id).get_state(id.id)
    if value is None:
        return None
    return json.loads(jobs.registry.of(id).state.shown(value, id.name))
