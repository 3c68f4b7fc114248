"""Which instances a command is about: one, a whole job, or all that match."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from wakelog_adapters.cli.exit_codes import UsageError

if TYPE_CHECKING:
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.parsing import Named

__all__ = ["Matching", "choose"]

JobOrNone = Annotated[
    str | None,
    typer.Argument(
        metavar="[JOB]",
        help="The job's name; 'order o-17' or the whole id 'task:order:o-17' for one instance.",
        show_default=False,
    ),
]
All = Annotated[bool, typer.Option("--all", help="All instances of the job, or of all jobs.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Of those that match, this many at most.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do nothing: say which instances match.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


class Matching(NamedTuple):
    """Instances that match all of this."""

    filters: dict[str, Any]
    limit: int | None
    dry_run: bool


def choose(
    where: Where,
    job: str | None,
    id: str | None,
    *,
    status: str | None,
    error: str | None,
    prefix: str | None,
    due_before: str | None,
    all: bool,
    limit: int | None,
    dry_run: bool,
) -> Named | str | Matching:
    """What the words and options name: one instance, a whole job, or all that match.

    Raises `UsageError`, `UnknownJobError`, and what an id that cannot be one raises.
    """
    from wakelog_adapters.cli.parsing import named

    filters = {"status": status, "error": error, "id_prefix": prefix, "due_before": due_before}
    given = {name: value for name, value in filters.items() if value is not None}
    is_one = id is not None or (job is not None and ":" in job)
    if is_one and (given or all or limit or dry_run):
        raise UsageError(f"{' '.join(filter(None, [job, id]))} is one instance: give no filters")
    if is_one:
        return named([job, id])[0]
    if given or all:
        if job is not None:
            where.needed_jobs().registry.job_of(job)
            given["name"] = job
        return Matching(_read(given), limit, dry_run)
    if limit or dry_run:
        raise UsageError("--limit and --dry-run need a filter, or --all")
    if job is None:
        raise UsageError(
            "nothing is named: write 'order o-17' for one instance, or give a filter such as "
            "--status failed"
        )
    return job


def _read(given: dict[str, Any]) -> dict[str, Any]:
    """Filters as the engine takes them."""
    from wakelog.client.listing import STATUSES
    from wakelog.clock import SystemClock
    from wakelog_adapters.cli.parsing import moment_or_duration

    status = given.get("status")
    if status is not None and status not in STATUSES:
        raise UsageError(f"--status {status!r} is none of {', '.join(STATUSES)}")
    if "due_before" in given:
        now_us = SystemClock().now_us()
        given["due_before"] = moment_or_duration(given["due_before"], now_us, "--due-before")
    return given
