"""The commands that only read: status, state, history, ls, count, workers."""

from __future__ import annotations

import json as json_text
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import command, print_result
from wakelog_adapters.cli.context import Where, WhereToLook, with_app
from wakelog_adapters.cli.exit_codes import UsageError
from wakelog_adapters.cli.reports import (
    CountReport,
    HistoryReport,
    PageReport,
    StateReport,
    WorkersReport,
)
from wakelog_adapters.cli.selection import FilterOptions

if TYPE_CHECKING:
    from wakelog.app import App
    from wakelog.client.listing import Filters
    from wakelog.history.past import PastState
    from wakelog.ids import InstanceId
    from wakelog.jobs import Jobs
    from wakelog_adapters.cli.parsing import InstanceRef

__all__ = ["count", "history", "ls", "state", "status", "workers"]

MAX_LIMIT = 1_000
"""Instances on one page."""


# -- one instance ----------------------------------------------------------------------------------


@command
def status(
    *,
    job: options.Job,
    id: options.Id = None,
    where: WhereToLook,
    json: options.Json = False,
) -> None:
    """Show the status of an instance."""
    from wakelog_adapters.cli.job_types import render_status, status_of
    from wakelog_adapters.cli.parsing import instance
    from wakelog_adapters.cli.target import look_up

    ref = instance(job, id)
    print_result(lambda: look_up(where, ref, status_of), render_status, json)


@command
def state(
    *,
    job: options.Job,
    id: options.Id = None,
    where: Where,
    raw: Annotated[
        bool, typer.Option("--raw", help="As recorded, even if the jobs are known.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show the state of an instance.

    With the jobs (--jobs or WAKELOG_JOBS) as their on_client_get_state shows it to callers,
    without them as it is recorded.
    """
    from wakelog_adapters.cli.parsing import instance
    from wakelog_adapters.cli.render import inspect as render

    ref = instance(job, id)
    print_result(lambda: _state(where, ref, raw=raw), render.state, json)


@command
def history(
    *,
    job: options.Job,
    id: options.Id = None,
    where: WhereToLook,
    life: Annotated[
        int | None, typer.Option("--life", min=1, help="Only this life of the id, from 1.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the newest, this many at most.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Show the status and state at this time."),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option("--version", min=0, help="Show the status and state at this version."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Show all that happened to an instance, or its status and state in the past."""
    from wakelog_adapters.cli import parsing
    from wakelog_adapters.cli.job_types import check_instances
    from wakelog_adapters.cli.render import inspect as render
    from wakelog_adapters.cli.target import look_up

    ref, moment = parsing.instance(job, id), parsing.moment(at, "--at")
    if version is None and moment is None:
        print_result(lambda: _history(where, ref, life, limit), render.history, json)
        return
    if None not in (version, moment) or life or limit:
        raise UsageError("--at and --version go with no other of --at, --version, --life, --limit")

    async def query(app: App, id: InstanceId) -> PastState:
        check_instances(id, "have a state")
        return await app.state_at(str(id), version=version, at=moment)

    print_result(lambda: look_up(where, ref, query), render.past, json)


def _state(where: Where, ref: InstanceRef, *, raw: bool) -> StateReport:
    from wakelog_adapters.cli.environment import load_jobs
    from wakelog_adapters.cli.job_types import check_instances
    from wakelog_adapters.cli.target import look_up

    reference = None if raw else where.reference()
    jobs = load_jobs(reference) if reference else None

    async def query(app: App, id: InstanceId) -> StateReport:
        check_instances(id, "have a state")
        status = await app.status_of(str(id))
        value: Any = None
        if status.status == "not_found":
            pass
        elif jobs is not None:
            value = await _shown(app, jobs, id)
        else:
            value = (await app.state_at(str(id), version=status.version)).state
        return StateReport(
            instance_id=str(id), version=status.version, status=status.status, state=value
        )

    return look_up(where, ref, query, jobs)


async def _shown(app: App, jobs: Jobs, id: InstanceId) -> Any:
    """The state as outside callers see it, as JSON data."""
    from wakelog_adapters.cli.job_types import client_of

    value = await client_of(app, id).get_state(id.id)
    if value is None:
        return None
    return json_text.loads(jobs.registry.of(id).state.shown(value, id.name))


def _history(where: Where, ref: InstanceRef, life: int | None, limit: int | None) -> HistoryReport:
    from wakelog_adapters.cli.target import look_up

    async def query(app: App, id: InstanceId) -> HistoryReport:
        entries = await app.history(str(id))
        lives = entries[-1].life
        if life is not None and life > lives:
            raise UsageError(f"--life {life}: the newest life of {id} is {lives}")
        matching = [entry for entry in entries if life in (None, entry.life)]
        newest = matching[-limit:] if limit else matching
        left_out = len(matching) - len(newest)
        return HistoryReport(instance_id=str(id), lives=lives, left_out=left_out, entries=newest)

    return look_up(where, ref, query)


# -- all instances ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions(FilterOptions):
    """The filters of the commands that list and count."""

    name: Annotated[str | None, typer.Option("--name", metavar="JOB", help="Of this job.")] = None
    type: Annotated[
        str | None,
        typer.Option("--type", metavar="TYPE", help="Of this type of job, such as task."),
    ] = None
    updated_after: Annotated[
        str | None,
        typer.Option(
            "--updated-after",
            metavar="TIME",
            help="With something recorded since then: 2026-01-31T09:00:00Z.",
        ),
    ] = None

    @property
    def is_of_instances(self) -> bool:
        """Whether a filter is given that pools do not have."""
        given = (self.status, self.error, self.prefix, self.due_before, self.updated_after)
        return any(each is not None for each in (*given, self.type))

    def checked(self, where: Where) -> Filters:
        """As the engine takes them. Raises `UsageError`, and `UnknownJobError` with `--jobs`."""
        from wakelog_adapters.cli.parsing import moment

        filters = self.filters()
        jobs = where.option_jobs()
        if jobs is not None and self.name is not None:
            jobs.registry.job_of(self.name)
        filters["name"] = self.name
        filters["type"] = self.type
        filters["updated_after"] = moment(self.updated_after, "--updated-after")
        return filters


@command
def ls(
    *,
    where: WhereToLook,
    filters: ListOptions,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="How many to show at most.")
    ] = 100,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="ID", help="Only those after this whole id."),
    ] = None,
    json: options.Json = False,
) -> None:
    """List living instances that match all that is given, by id."""
    from wakelog_adapters.cli.render import inspect as render

    page = print_result(lambda: _page(where, filters, limit, after), render.instances, json)
    if page.next and not json:
        print(f"there are more: --after {page.next}", file=sys.stderr)
    if page.pools and not json:
        print(f"worker pools are no instances: see wakelog pool status ({page.pools})",
              file=sys.stderr)  # fmt: skip


@command
def count(*, where: WhereToLook, filters: ListOptions, json: options.Json = False) -> None:
    """Count living instances that match all that is given, by job and by status."""
    from wakelog_adapters.cli.render import inspect as render

    print_result(lambda: _count(where, filters), render.totals, json)


def _page(where: Where, options: ListOptions, limit: int, after: str | None) -> PageReport:
    filters = options.checked(where)

    async def call(app: App) -> PageReport:
        rows = await app.list(limit=limit, after=after, **filters)
        last = rows[-1].instance_id if len(rows) == limit else None
        more = await app.list(limit=1, after=last, **filters) if last else []
        pools = 0 if options.is_of_instances or after else len(await app.pools())
        return PageReport(instances=rows, next=last if more else None, pools=pools)

    return with_app(where.store_url(), None, call)


def _count(where: Where, options: ListOptions) -> CountReport:
    filters = options.checked(where)

    async def call(app: App) -> CountReport:
        jobs = await app.counts(**filters)
        total, running = sum(job.total for job in jobs), sum(job.running for job in jobs)
        pools = [] if options.is_of_instances else await app.pools()
        pools = [pool for pool in pools if options.name in (None, pool.name)]
        return CountReport(total=total, running=running, jobs=jobs, pools=pools)

    return with_app(where.store_url(), None, call)


# -- workers ---------------------------------------------------------------------------------------


@command
def workers(*, url: options.Url = None, json: options.Json = False) -> None:
    """Show the running workers and their runs."""
    from wakelog_adapters.cli.render import inspect as render

    where = Where(url=url)
    print_result(lambda: with_app(where.store_url(), None, _workers), render.workers, json)


async def _workers(app: App) -> WorkersReport:
    from wakelog.clock import SystemClock
    from wakelog.core.time import as_datetime

    found = await app.workers()
    return WorkersReport(now=as_datetime(SystemClock().now_us()), workers=found)
