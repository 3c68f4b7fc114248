"""The options that several commands share, each declared once."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "Actor",
    "Correlation",
    "DueBefore",
    "Error",
    "Id",
    "Job",
    "Jobs",
    "Json",
    "KnownJobs",
    "Limit",
    "Name",
    "Prefix",
    "Reason",
    "RequestKey",
    "Status",
    "Timeout",
    "Type",
    "UpdatedAfter",
    "Url",
    "Yes",
]

MAX_LIMIT = 1_000

Job = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="The job's name, as in 'order o-17'; or, alone, the whole id 'task:order:o-17'.",
        show_default=False,
    ),
]
Id = Annotated[
    str | None,
    typer.Argument(metavar="ID", help="The instance's own id.", show_default=False),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="The store, as in sqlite:///orders.db (or WAKELOG_URL)."
    ),
]
Jobs = Annotated[
    str | None,
    typer.Option(
        "--jobs", metavar="MODULE:NAME", help="The jobs, as in orders:jobs (or WAKELOG_JOBS)."
    ),
]
KnownJobs = Annotated[
    str | None,
    typer.Option(
        "--jobs",
        metavar="MODULE:NAME",
        help="Check the job's name against these jobs; nothing else here needs them.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")
]
RequestKey = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="KEY", help="Idempotency key: the same one again is answered as before."
    ),
]
Actor = Annotated[
    str | None,
    typer.Option("--actor", metavar="WHO", help="Who asks, for the record in the history."),
]
Correlation = Annotated[
    str | None,
    typer.Option("--correlation-id", metavar="ID", help="What this belongs to, for the record."),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        help="Wait no longer than this, as in 30s.",
    ),
]
Name = Annotated[str | None, typer.Option("--name", metavar="JOB", help="Of this job.")]
Status = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="Standing so: active, failed, idle, unhandled and so on.",
    ),
]
Type = Annotated[
    str | None,
    typer.Option("--type", metavar="TYPE", help="Of this type of job, such as task."),
]
Prefix = Annotated[
    str | None,
    typer.Option("--prefix", metavar="TEXT", help="With an id that begins like this."),
]
DueBefore = Annotated[
    str | None,
    typer.Option(
        "--due-before", metavar="TIME", help="Due before then: 1h, or 2026-01-31T09:00:00Z."
    ),
]
UpdatedAfter = Annotated[
    str | None,
    typer.Option(
        "--updated-after",
        metavar="TIME",
        help="With something recorded since then: 2026-01-31T09:00:00Z.",
    ),
]
Error = Annotated[
    str | None,
    typer.Option("--error", metavar="TYPE", help="Whose last error was of this type."),
]
Limit = Annotated[
    int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="How many to show at most.")
]
Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why, for the record in the history."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
