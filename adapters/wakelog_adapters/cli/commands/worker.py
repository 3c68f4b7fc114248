"""The process that runs what is due: worker."""

from __future__ import annotations

from typing import Annotated

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import command
from wakelog_adapters.cli.context import Where

__all__ = ["worker"]


@command
def worker(
    jobs: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:NAME",
            help="The jobs, as in orders:jobs (or WAKELOG_JOBS); the current folder is searched.",
            show_default=False,
        ),
    ] = None,
    url: options.Url = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, help="How many instances at a time.")
    ] = 100,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Work on this job only; may be repeated."),
    ] = None,
    lease: Annotated[
        str,
        typer.Option(
            "--lease",
            metavar="DURATION",
            help="How long it may be silent before its runs are taken over.",
        ),
    ] = "30s",
    grace: Annotated[
        str,
        typer.Option(
            "--grace", metavar="DURATION", help="How long runs may take to end when it is stopped."
        ),
    ] = "30s",
    log_level: Annotated[
        str,
        typer.Option(
            "--log-level", metavar="LEVEL", help="What to log: debug, info, warning or error."
        ),
    ] = "info",
    json: options.Json = False,
) -> None:
    """Run what is due, until stopped.

    An interrupt (Ctrl-C) or SIGTERM lets the open runs end within --grace, gives the others back
    and exits with 0; a second one ends at once.
    """
    from wakelog_adapters.cli.parsing import duration
    from wakelog_adapters.cli.worker_process import work

    work(
        Where(jobs=jobs, url=url),
        concurrency=concurrency,
        only=only or [],
        lease=duration(lease, "--lease"),
        grace=duration(grace, "--grace"),
        log_level=log_level,
        json=json,
    )
