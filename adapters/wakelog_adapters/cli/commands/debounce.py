"""The commands for debounces: add, flush."""

from __future__ import annotations

from typing import Annotated

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import app, tell
from wakelog_adapters.cli.exit_codes import JOB_FAILED, REFUSED

__all__ = ["add", "flush"]


@app.command()
def add(
    job: options.Job,
    id: options.Id = None,
    payload: Annotated[
        str | None,
        typer.Argument(
            metavar="PAYLOAD",
            help="The event: JSON, @FILE, or - for stdin; without one it is null.",
            show_default=False,
        ),
    ] = None,
    jobs: options.Jobs = None,
    url: options.Url = None,
    key: options.RequestKey = None,
    defer: Annotated[
        bool, typer.Option("--defer", help="Leave on_event to a worker, do not call it here.")
    ] = False,
    actor: options.Actor = None,
    correlation_id: options.Correlation = None,
    json: options.Json = False,
) -> None:
    """Add an event to the open window of a debounce; the first one opens it."""
    from wakelog_adapters.cli import asking_batches
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import debounce as show_batches

    who, rest = arguments.named([job, id, payload], more=1)
    event = arguments.payload(rest[0] if rest else None)
    tell(
        lambda: asking_batches.add(
            asking.target(Where(url, jobs), who, "add"),
            event,
            defer=defer,
            key=key,
            actor=actor,
            correlation_id=correlation_id,
        ),
        show_batches.added,
        json,
    )


@app.command()
def flush(
    job: options.Job,
    id: options.Id = None,
    jobs: options.Jobs = None,
    url: options.Url = None,
    key: options.RequestKey = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait until a worker has flushed it.")
    ] = False,
    timeout: options.Timeout = None,
    actor: options.Actor = None,
    correlation_id: options.Correlation = None,
    json: options.Json = False,
) -> None:
    """Have a worker flush what was added to a debounce, and wait for the outcome.

    Exits with 4 where the flush failed, with 1 where there is nothing to flush.
    """
    from wakelog_adapters.cli import asking_batches
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import debounce as show_batches

    who, _ = arguments.named([job, id])
    longest = arguments.duration(timeout, "--timeout")
    result = tell(
        lambda: asking_batches.flush(
            asking.target(Where(url, jobs), who, "flush"),
            wait=not no_wait,
            timeout=longest,
            idempotency_key=key,
            actor=actor,
            correlation_id=correlation_id,
        ),
        show_batches.flushed,
        json,
    )
    if result.failed:
        raise typer.Exit(JOB_FAILED)
    if not (result.flushed or no_wait) or result.reason in ("empty", "paused", "parked"):
        raise typer.Exit(REFUSED)
