"""The commands that only look: status, state, history, ls."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import app, tell
from wakelog_adapters.cli.exit_codes import UsageError

__all__ = ["history", "ls", "state", "status"]


@app.command()
def status(
    job: options.Job,
    id: options.Id = None,
    url: options.Url = None,
    jobs: options.KnownJobs = None,
    json: options.Json = False,
) -> None:
    """Say how an instance stands."""
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.job_types import shown_status

    who, _ = arguments.named([job, id])
    tell(lambda: asking.status(Where(url, jobs), who), shown_status, json)


@app.command()
def state(
    job: options.Job,
    id: options.Id = None,
    jobs: options.Jobs = None,
    url: options.Url = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="As recorded, even where the jobs are known.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show the state of an instance.

    With the jobs (--jobs or WAKELOG_JOBS) as their on_client_get_state shows it to callers,
    without them as it is recorded.
    """
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import inspect as show

    who, _ = arguments.named([job, id])
    tell(lambda: asking.state(Where(url, jobs), who, raw=raw), show.state, json)


@app.command()
def history(
    job: options.Job,
    id: options.Id = None,
    url: options.Url = None,
    jobs: options.KnownJobs = None,
    life: Annotated[
        int | None, typer.Option("--life", min=1, help="Only this life of the id, from 1.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only so many, the newest.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Show how it stood then, instead."),
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", min=0, help="Show how it stood at this version.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show all that happened to an instance, or how it stood once."""
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import inspect as show

    who, _ = arguments.named([job, id])
    where, moment = Where(url, jobs), arguments.moment(at, "--at")
    if version is None and moment is None:
        tell(lambda: asking.history(where, who, life=life, limit=limit), show.history, json)
        return
    if None not in (version, moment) or life or limit:
        raise UsageError("--at and --version go with no other of --at, --version, --life, --limit")
    tell(lambda: asking.state_then(where, who, version=version, moment=moment), show.past, json)


@app.command()
def ls(
    url: options.Url = None,
    name: options.Name = None,
    status: options.Status = None,
    type: options.Type = None,
    prefix: options.Prefix = None,
    due_before: options.DueBefore = None,
    updated_after: options.UpdatedAfter = None,
    error: options.Error = None,
    limit: options.Limit = 100,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="ID", help="Go on behind this whole id."),
    ] = None,
    jobs: options.KnownJobs = None,
    json: options.Json = False,
) -> None:
    """List living instances that match all that is given, by id."""
    from wakelog_adapters.cli import reports as answers
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import inspect as show

    given = answers.Given(
        name=name,
        status=status,
        type=type,
        prefix=prefix,
        due_before=due_before,
        updated_after=updated_after,
        error=error,
    )
    page = tell(
        lambda: asking.instances(Where(url, jobs), given, limit=limit, after=after),
        show.instances,
        json,
    )
    if page.next and not json:
        print(f"there are more: --after {page.next}", file=sys.stderr)


@app.command()
def count(
    url: options.Url = None,
    name: options.Name = None,
    status: options.Status = None,
    type: options.Type = None,
    prefix: options.Prefix = None,
    due_before: options.DueBefore = None,
    updated_after: options.UpdatedAfter = None,
    error: options.Error = None,
    jobs: options.KnownJobs = None,
    json: options.Json = False,
) -> None:
    """Count living instances that match all that is given, by job and by how they stand."""
    from wakelog_adapters.cli import reports as answers
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import inspect as show

    given = answers.Given(
        name=name,
        status=status,
        type=type,
        prefix=prefix,
        due_before=due_before,
        updated_after=updated_after,
        error=error,
    )
    tell(lambda: asking.count(Where(url, jobs), given), show.totals, json)


@app.command()
def workers(url: options.Url = None, json: options.Json = False) -> None:
    """Show who lives, and what runs where."""
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import inspect as show

    tell(lambda: asking.workers(Where(url, None)), show.workers, json)
