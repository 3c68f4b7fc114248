"""What the commands ask of the jobs: one function for each, from words to the engine's answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, cast

import pydantic

from wakelog.app import App
from wakelog.client.listing import STATUSES, Filters
from wakelog.client.results import (
    ClearResult,
    PauseResult,
    ResumeResult,
    RetryResult,
    SendResult,
    StartResult,
    StopResult,
    TerminateResult,
    TriggerResult,
)
from wakelog.client.status import Status
from wakelog.clock import SystemClock
from wakelog.core.time import Duration, as_datetime
from wakelog.definitions.schema import TypeSchema, issues_of
from wakelog.errors import ValidationError
from wakelog.history.past import PastState
from wakelog.ids import KINDS, InstanceId
from wakelog.jobs import Jobs
from wakelog_adapters.cli.context import Where, load_jobs, opened
from wakelog_adapters.cli.exit_codes import UsageError
from wakelog_adapters.cli.job_types import check_verb, client_of
from wakelog_adapters.cli.parsing import Named, moment, moment_or_duration
from wakelog_adapters.cli.reports import (
    CountReport,
    Given,
    HistoryReport,
    PageReport,
    StateReport,
    WorkersReport,
)

__all__ = [
    "Target",
    "clear",
    "count",
    "history",
    "instances",
    "pause",
    "resume",
    "retry",
    "send",
    "start",
    "state",
    "state_then",
    "status",
    "stop",
    "target",
    "terminate",
    "trigger",
    "workers",
]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Target:
    """An instance of a registered job, and the store where it lives."""

    jobs: Jobs
    url: str
    id: InstanceId

    def run(self, answer: type[R], ask: Callable[[Any], Awaitable[Any]], **options: Any) -> R:
        """Open the store, put one request to the instance's job, and close again."""

        async def asking() -> R:
            async with opened(self.jobs, self.url, **options) as app:
                return cast(R, await ask(client_of(app, self.id)))

        return asyncio.run(asking())

    def event(self, payload: str) -> Any:
        """The event with this JSON text. Raises `ValidationError` with each issue where it is no
        event of the job."""
        definition = self.jobs.registry.of(self.id)
        return _loaded(definition.event, payload, f"event of {definition.name!r}")


def target(where: Where, who: Named, verb: str) -> Target:
    """The instance meant, of jobs that are needed and that know `verb`.

    Raises `UsageError`, `UnknownJobError` and `UnknownActionError`.
    """
    url = where.store_url()
    jobs = where.needed_jobs()
    id = _registered(jobs, who)
    check_verb(id, verb)
    return Target(jobs, url, id)


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
        SendResult,
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


def start(at: Target, payload: str, **options: Any) -> StartResult:
    """Begin recurring work with this JSON text as its input. Raises as `send` does."""
    definition = at.jobs.registry.of(at.id)
    input = _loaded(definition.state, payload, f"input of {definition.name!r}")
    return at.run(StartResult, lambda client: client.start(at.id.id, input, **options), create=True)


def stop(at: Target, **options: Any) -> StopResult:
    """End recurring work, and keep its state."""
    return at.run(StopResult, lambda client: client.stop(at.id.id, **options))


def terminate(at: Target, **options: Any) -> TerminateResult:
    """End the life of recurring work."""
    return at.run(TerminateResult, lambda client: client.terminate(at.id.id, **options))


def trigger(at: Target, **options: Any) -> TriggerResult:
    """Have a worker run the instance now."""
    return at.run(TriggerResult, lambda client: client.trigger(at.id.id, **options))


def retry(at: Target, **options: Any) -> RetryResult:
    """Have a worker start the failed run of the instance again."""
    return at.run(RetryResult, lambda client: client.retry(at.id.id, **options))


def pause(at: Target, **options: Any) -> PauseResult:
    """Hold the instance."""
    return at.run(PauseResult, lambda client: client.pause(at.id.id, **options))


def resume(at: Target, **options: Any) -> ResumeResult:
    """Let the instance go on."""
    return at.run(ResumeResult, lambda client: client.resume(at.id.id, **options))


def clear(at: Target, *, cancel: bool, after: Duration | None, **options: Any) -> ClearResult:
    """End the instance's life; or, with `cancel`, take back an end that is still to come."""
    if cancel:
        options.pop("reason")
        return at.run(ClearResult, lambda client: client.cancel_clear(at.id.id, **options))
    return at.run(ClearResult, lambda client: client.clear(at.id.id, after=after, **options))


# -- questions -------------------------------------------------------------------------------------


def status(where: Where, who: Named) -> Status:
    """How the instance stands."""

    async def ask(app: App, id: InstanceId) -> Status:
        return await app.status_of(str(id))

    return _asked(where, who, ask)


def state(where: Where, who: Named, *, raw: bool) -> StateReport:
    """The newest state: as `on_client_get_state` shows it where the jobs are named, else, or
    with `raw`, as it is recorded."""
    reference = None if raw else where.reference()
    jobs = load_jobs(reference) if reference else None

    async def ask(app: App, id: InstanceId) -> StateReport:
        stands = await app.status_of(str(id))
        value: Any = None
        if stands.status == "not_found":
            pass
        elif jobs is not None:
            value = await _shown(app, jobs, id)
        else:
            value = (await app.state_at(str(id), version=stands.version)).state
        return StateReport(
            instance_id=str(id), version=stands.version, status=stands.status, state=value
        )

    return _asked(where, who, ask, jobs)


def state_then(
    where: Where, who: Named, *, version: int | None, moment: datetime | None
) -> PastState:
    """How the instance stood at a version, or at a moment."""

    async def ask(app: App, id: InstanceId) -> PastState:
        return await app.state_at(str(id), version=version, at=moment)

    return _asked(where, who, ask)


def history(where: Where, who: Named, *, life: int | None, limit: int | None) -> HistoryReport:
    """What happened to the instance: in all its lives or in one, the newest `limit` entries."""

    async def ask(app: App, id: InstanceId) -> HistoryReport:
        found = await app.history(str(id))
        lives = found[-1].life
        if life is not None and life > lives:
            raise UsageError(f"--life {life}: the newest life of {id} is {lives}")
        kept = [entry for entry in found if life in (None, entry.life)]
        newest = kept[-limit:] if limit else kept
        left_out = len(kept) - len(newest)
        return HistoryReport(instance_id=str(id), lives=lives, left_out=left_out, entries=newest)

    return _asked(where, who, ask)


def instances(where: Where, given: Given, *, limit: int, after: str | None) -> PageReport:
    """Living instances that match, by id."""
    filters = _filters(where, given)

    async def ask() -> PageReport:
        async with opened(Jobs(), where.store_url()) as app:
            shown = await app.list(limit=limit, after=after, **filters)
            last = shown[-1].instance_id if len(shown) == limit else None
            more = await app.list(limit=1, after=last, **filters) if last else []
        return PageReport(instances=shown, next=last if more else None)

    return asyncio.run(ask())


def count(where: Where, given: Given) -> CountReport:
    """How many living instances match."""
    filters = _filters(where, given)

    async def ask() -> CountReport:
        async with opened(Jobs(), where.store_url()) as app:
            jobs = await app.counts(**filters)
        total, running = sum(job.total for job in jobs), sum(job.running for job in jobs)
        return CountReport(total=total, running=running, jobs=jobs)

    return asyncio.run(ask())


def workers(where: Where) -> WorkersReport:
    """Who lives, and what runs where."""

    async def ask() -> WorkersReport:
        async with opened(Jobs(), where.store_url()) as app:
            found = await app.workers()
        return WorkersReport(now=as_datetime(SystemClock().now_us()), workers=found)

    return asyncio.run(ask())


def _filters(where: Where, given: Given) -> Filters:
    """Raises `UsageError` for what can be none, and `UnknownJobError` where the jobs are named."""
    if given.status is not None and given.status not in STATUSES:
        raise UsageError(f"--status {given.status!r} is none of {', '.join(STATUSES)}")
    if where.jobs is not None and given.name is not None:
        load_jobs(where.jobs).registry.job_of(given.name)
    now_us = SystemClock().now_us()
    return Filters(
        type=given.type,
        name=given.name,
        status=given.status,
        id_prefix=given.prefix,
        due_before=moment_or_duration(given.due_before, now_us, "--due-before"),
        updated_after=moment(given.updated_after, "--updated-after"),
        error=given.error,
    )


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


def _loaded(schema: TypeSchema[Any], text: str, what: str) -> Any:
    try:
        return schema.load(text)
    except pydantic.ValidationError as error:
        raise ValidationError(what, issues_of(error)) from None


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


async def _shown(app: App, jobs: Jobs, id: InstanceId) -> Any:
    """What an outside caller sees of the state, as JSON data."""
    value = await client_of(app, id).get_state(id.id)
    if value is None:
        return None
    return json.loads(jobs.registry.of(id).state.shown(value, id.name))
