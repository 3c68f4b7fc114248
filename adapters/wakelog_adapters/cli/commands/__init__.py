"""The commands of `wakelog`, in the order in which its help lists them.

A command parses its words, has `asking` put them to the engine, and prints the answer for people
(`show`) or for programs (`documents`). What takes time to import is imported where it is used.
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import app, print_document

__all__ = ["app"]


@app.command()
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the folder with its store and logs, and say where.")
    ] = False,
    json: options.Json = False,
) -> None:
    """See it work: a real alarm, a killed worker, virtual time."""
    from wakelog_adapters.cli.demo import story
    from wakelog_adapters.cli.render import inspect as show

    out = show.console(sys.stderr if json else sys.stdout)
    summary = story.tell(out, keep=keep)
    if json:
        print_document(summary)


# -- working ---------------------------------------------------------------------------------------


@app.command()
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
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli.commands.worker import work
    from wakelog_adapters.cli.context import Where

    work(
        Where(url, jobs),
        concurrency=concurrency,
        only=only or [],
        lease=arguments.duration(lease, "--lease"),
        grace=arguments.duration(grace, "--grace"),
        log_level=log_level,
        json=json,
    )


# Each joins the app as it is imported, behind those above.
importlib.import_module("wakelog_adapters.cli.commands.lifecycle")
importlib.import_module("wakelog_adapters.cli.commands.continuous")
importlib.import_module("wakelog_adapters.cli.commands.pause")
importlib.import_module("wakelog_adapters.cli.commands.debounce")
importlib.import_module("wakelog_adapters.cli.commands.inspect")
importlib.import_module("wakelog_adapters.cli.commands.store")
