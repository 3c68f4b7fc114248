"""The commands of Continuous jobs: start, stop, terminate."""

from __future__ import annotations

from typing import Annotated

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import command, print_result
from wakelog_adapters.cli.context import Where
from wakelog_adapters.cli.exit_codes import JOB_FAILED, exit_unless
from wakelog_adapters.cli.options import ReasonedRecord, Record, Waiting

__all__ = ["start", "stop", "terminate"]


@command
def start(
    *,
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
    where: Where,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give this state also to one that was stopped.")
    ] = False,
    waiting: Waiting,
    record: Record,
    json: options.Json = False,
) -> None:
    """Begin recurring work, or go on with what was stopped, and wait for its first run.

    Nothing happens if it is going on already. Exits with 4 if the first run failed.
    """
    from wakelog_adapters.cli import parsing
    from wakelog_adapters.cli.render import continuous as render
    from wakelog_adapters.cli.target import find_target

    ref, text = parsing.instance_and_payload(job, id, input)
    arguments = {"replace": replace, **waiting.arguments(), **record.arguments()}
    target = find_target(where, ref, "start", create=True)
    result = print_result(
        lambda: target.run("start", target.input(text), **arguments), render.started, json
    )
    exit_unless(not result.failed, JOB_FAILED)


@command
def stop(
    *,
    job: options.Job,
    id: options.Id = None,
    where: Where,
    record: ReasonedRecord,
    json: options.Json = False,
) -> None:
    """End recurring work and keep its state: start goes on with it.

    Exits with 1 if there is nothing to stop.
    """
    from wakelog_adapters.cli import parsing
    from wakelog_adapters.cli.render import continuous as render
    from wakelog_adapters.cli.target import find_target

    target = find_target(where, parsing.instance(job, id), "stop")
    result = print_result(lambda: target.run("stop", **record.arguments()), render.stopped, json)
    exit_unless(result.stopped)


@command
def terminate(
    *,
    job: options.Job,
    id: options.Id = None,
    where: Where,
    yes: options.Yes = False,
    record: ReasonedRecord,
    json: options.Json = False,
) -> None:
    """End the life of recurring work, an open run with it. Its history stays.

    Asks first if stdin is a terminal. Exits with 1 if there is no living instance with this id.
    """
    from wakelog_adapters.cli import parsing
    from wakelog_adapters.cli.confirmation import ask_or_proceed
    from wakelog_adapters.cli.render import continuous as render
    from wakelog_adapters.cli.target import find_target

    target = find_target(where, parsing.instance(job, id), "terminate")
    ask_or_proceed(f"End the life of {target.id}?", yes=yes)
    result = print_result(
        lambda: target.run("terminate", **record.arguments()), render.terminated, json
    )
    exit_unless(result.terminated)
