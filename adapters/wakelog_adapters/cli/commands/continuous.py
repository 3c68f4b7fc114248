"""The commands for recurring work: start, stop, terminate."""

from __future__ import annotations

from typing import Annotated

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import app, prints_on_stderr, tell
from wakelog_adapters.cli.commands.lifecycle import confirmed
from wakelog_adapters.cli.exit_codes import JOB_FAILED, REFUSED, complain

__all__ = ["start", "stop", "terminate"]


@app.command()
def start(
    job: options.Job,
    id: options.Id = None,
    input: Annotated[
        str | None,
        typer.Argument(
            metavar="INPUT",
            help="Its first state: JSON, @FILE, or - for stdin; without one it is null.",
            show_default=False,
        ),
    ] = None,
    jobs: options.Jobs = None,
    url: options.Url = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give one that was stopped this state, too.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait until a worker has run it first.")
    ] = False,
    key: options.RequestKey = None,
    timeout: options.Timeout = None,
    actor: options.Actor = None,
    correlation_id: options.Correlation = None,
    json: options.Json = False,
) -> None:
    """Begin recurring work, or go on with what was stopped, and wait for its first run.

    Nothing happens where it goes on already. Exits with 4 where the first run failed.
    """
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import continuous as show_recurring

    who, rest = arguments.named([job, id, input], more=1)
    text = arguments.payload(rest[0] if rest else None)
    longest = arguments.duration(timeout, "--timeout")
    result = tell(
        lambda: asking.start(
            asking.target(Where(url, jobs), who, "start"),
            text,
            replace=replace,
            wait=not no_wait,
            timeout=longest,
            idempotency_key=key,
            actor=actor,
            correlation_id=correlation_id,
        ),
        show_recurring.started,
        json,
    )
    if result.failed:
        raise typer.Exit(JOB_FAILED)


@app.command()
def stop(
    job: options.Job,
    id: options.Id = None,
    jobs: options.Jobs = None,
    url: options.Url = None,
    reason: options.Reason = None,
    key: options.RequestKey = None,
    actor: options.Actor = None,
    correlation_id: options.Correlation = None,
    json: options.Json = False,
) -> None:
    """End recurring work and keep its state: start goes on with it.

    Exits with 1 where there is nothing to stop.
    """
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import continuous as show_recurring

    who, _ = arguments.named([job, id])
    result = tell(
        lambda: asking.stop(
            asking.target(Where(url, jobs), who, "stop"),
            reason=reason,
            idempotency_key=key,
            actor=actor,
            correlation_id=correlation_id,
        ),
        show_recurring.stopped,
        json,
    )
    if not result.stopped:
        raise typer.Exit(REFUSED)


@app.command()
def terminate(
    job: options.Job,
    id: options.Id = None,
    jobs: options.Jobs = None,
    url: options.Url = None,
    reason: options.Reason = None,
    yes: options.Yes = False,
    key: options.RequestKey = None,
    actor: options.Actor = None,
    correlation_id: options.Correlation = None,
    json: options.Json = False,
) -> None:
    """End the life of recurring work, an open run with it. Its history stays.

    Asks first where stdin is a terminal. Exits with 1 where nothing lives under this id.
    """
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import continuous as show_recurring

    who, _ = arguments.named([job, id])
    with prints_on_stderr():
        at = asking.target(Where(url, jobs), who, "terminate")
    if not yes and not confirmed(f"End the life of {at.id}?"):
        complain(["nothing was terminated"])
        raise typer.Exit(REFUSED)
    result = tell(
        lambda: asking.terminate(
            at,
            reason=reason,
            idempotency_key=key,
            actor=actor,
            correlation_id=correlation_id,
        ),
        show_recurring.terminated,
        json,
    )
    if not result.terminated:
        raise typer.Exit(REFUSED)
