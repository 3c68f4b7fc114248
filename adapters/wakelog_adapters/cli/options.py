"""The options that several commands share, each declared once, and groups of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

__all__ = [
    "Actor",
    "All",
    "BulkLimit",
    "Correlation",
    "Defer",
    "DryRun",
    "DueBefore",
    "Error",
    "Id",
    "Job",
    "JobOrNone",
    "Jobs",
    "Json",
    "Key",
    "KnownJobs",
    "NoWait",
    "Payload",
    "Prefix",
    "Reason",
    "ReasonedRecord",
    "Record",
    "Status",
    "Timeout",
    "Url",
    "Waiting",
    "Yes",
]

# -- the instance ----------------------------------------------------------------------------------

Job = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="The job's name, as in 'order o-17'; or, alone, the whole id 'task:order:o-17'.",
        show_default=False,
    ),
]
JobOrNone = Annotated[
    str | None,
    typer.Argument(
        metavar="[JOB]",
        help="The job's name; 'order o-17' or the whole id 'task:order:o-17' for one instance.",
        show_default=False,
    ),
]
Id = Annotated[
    str | None,
    typer.Argument(metavar="ID", help="The instance's own id.", show_default=False),
]
Payload = Annotated[
    str | None,
    typer.Argument(
        metavar="PAYLOAD",
        help="The event: JSON, @FILE, or - for stdin; without one it is null.",
        show_default=False,
    ),
]

# -- store and jobs --------------------------------------------------------------------------------

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

# -- many instances --------------------------------------------------------------------------------

Status = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="With this status: active, failed, idle, unhandled and so on.",
    ),
]
Error = Annotated[
    str | None,
    typer.Option("--error", metavar="TYPE", help="With a last error of this type."),
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
All = Annotated[bool, typer.Option("--all", help="All instances of the job, or of all jobs.")]
BulkLimit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Of those that match, this many at most.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do nothing: say which match.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

# -- the request -----------------------------------------------------------------------------------

Defer = Annotated[
    bool, typer.Option("--defer", help="Leave on_event to a worker, do not call it here.")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the outcome.")]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="DURATION", help="Wait no longer than this, as in 30s."),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="KEY", help="Idempotency key: the same one again gets the same result."
    ),
]
Actor = Annotated[
    str | None,
    typer.Option("--actor", metavar="NAME", help="Who makes the request, for the history."),
]
Correlation = Annotated[
    str | None,
    typer.Option("--correlation-id", metavar="ID", help="What this belongs to, for the history."),
]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is recorded with a request."""

    key: Key = None
    actor: Actor = None
    correlation_id: Correlation = None

    def origin(self) -> dict[str, Any]:
        """All but the key, as arguments of `app.bulk` and of a client's methods."""
        return {"actor": self.actor, "correlation_id": self.correlation_id}

    def arguments(self) -> dict[str, Any]:
        """As arguments of a client's methods; `send` and `add` call the key `event_id`."""
        return {"idempotency_key": self.key, **self.origin()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonedRecord(Record):
    """What is recorded with a request that has a reason."""

    reason: Reason = None

    def origin(self) -> dict[str, Any]:
        """As of every record, with the reason."""
        return {"reason": self.reason, **Record.origin(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Whether a request waits for its outcome, and for how long."""

    no_wait: NoWait = False
    timeout: Timeout = None

    def arguments(self) -> dict[str, Any]:
        """As arguments of a client's methods. Raises `UsageError`."""
        from wakelog_adapters.cli.parsing import duration

        return {"wait": not self.no_wait, "timeout": duration(self.timeout, "--timeout")}
