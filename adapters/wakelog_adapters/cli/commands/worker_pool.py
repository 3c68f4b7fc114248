"""The commands of WorkerPools: enqueue, and those of `wakelog pool`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import command, group, print_result, subcommand
from wakelog_adapters.cli.context import Where, WhereToLook
from wakelog_adapters.cli.exit_codes import JOB_FAILED, exit_unless

__all__ = ["Event", "Pool", "dead", "enqueue", "get", "history", "pool", "status", "wait", "why"]

Pool = Annotated[
    str, typer.Argument(metavar="JOB", help="The pool's name, as in emails.", show_default=False)
]
Event = Annotated[
    str,
    typer.Argument(
        metavar="EVENT",
        help="The id it was given, or its place, as in '#3.17'.",
        show_default=False,
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many at most.")]

pool = group("pool", "Look at worker pools and their events, and operate them.")


# -- accepting -------------------------------------------------------------------------------------


@command
def enqueue(
    *,
    job: Pool,
    payload: Annotated[
        str,
        typer.Argument(
            metavar="JSON", help="The event: JSON, @FILE, or - for stdin.", show_default=False
        ),
    ],
    where: Where,
    id: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", help="Names it for ever: the same again is a duplicate."
        ),
    ] = None,
    partition_key: Annotated[
        str | None,
        typer.Option(
            "--partition-key", metavar="KEY", help="Those of one key are worked on in order."
        ),
    ] = None,
    priority: Annotated[int, typer.Option("--priority", help="Higher ones are taken first.")] = 0,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="DURATION", help="Not before this, as in 5m.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Not before then: 2026-01-31T09:00:00Z."),
    ] = None,
    actor: options.Actor = None,
    correlation_id: options.Correlation = None,
    json: options.Json = False,
) -> None:
    """Put an event into a worker pool: a worker takes it when a partition is free."""
    from wakelog_adapters.cli import parsing
    from wakelog_adapters.cli.pool_target import find_pool
    from wakelog_adapters.cli.render import worker_pool as render

    arguments = {
        "id": id,
        "partition_key": partition_key,
        "priority": priority,
        "delay": parsing.duration(delay, "--delay"),
        "at": parsing.moment(at, "--at"),
        "actor": actor,
        "correlation_id": correlation_id,
    }
    text = parsing.payload(payload)
    target = find_pool(where, job, create=True)
    print_result(
        lambda: target.run("enqueue", target.event(text), **arguments),
        lambda result: render.enqueued(target.name, result),
        json,
    )


# -- looking ---------------------------------------------------------------------------------------


@subcommand(pool)
def status(
    *,
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]", help="The pool's name; all without it.", show_default=False
        ),
    ] = None,
    where: WhereToLook,
    json: options.Json = False,
) -> None:
    """Show a pool in numbers, with its partitions; without a name all pools of the store."""
    from wakelog_adapters.cli.pool_target import all_pools, pool_status
    from wakelog_adapters.cli.render import worker_pool as render

    if job is None:
        print_result(lambda: all_pools(where), render.pools, json)
    else:
        print_result(lambda: pool_status(where, job), render.status, json)


@subcommand(pool)
def get(*, job: Pool, event: Event, where: Where, json: options.Json = False) -> None:
    """Show one event: where it is, its attempts, its result or error."""
    _look(where, job, "get", event, json)


@subcommand(pool)
def why(*, job: Pool, event: Event, where: Where, json: options.Json = False) -> None:
    """Say what an event waits for."""
    _look(where, job, "why", event, json)


@subcommand(pool)
def wait(
    *,
    job: Pool,
    event: Event,
    where: Where,
    timeout: options.Timeout = None,
    json: options.Json = False,
) -> None:
    """Wait until an event is over, and show it.

    Exits with 4 if it is a dead letter, with 1 if it was cancelled or discarded, or the --timeout
    is over.
    """
    from wakelog_adapters.cli.parsing import duration

    result = _look(where, job, "wait", event, json, timeout=duration(timeout, "--timeout"))
    exit_unless(result.status != "dead", JOB_FAILED)
    exit_unless(result.status == "completed")


@subcommand(pool)
def history(*, job: Pool, event: Event, where: Where, json: options.Json = False) -> None:
    """Show all that happened to an event.

    For the stream of a partition or of the pool: wakelog history workerPool:JOB:0, or :shared.
    """
    from wakelog_adapters.cli.pool_target import find_pool
    from wakelog_adapters.cli.render import inspect as render
    from wakelog_adapters.cli.reports import HistoryReport

    target = find_pool(where, job)

    def report() -> HistoryReport:
        entries = target.run("history", event)
        return HistoryReport(
            instance_id=f"{target.name} {event}", lives=1, left_out=0, entries=entries
        )

    print_result(report, render.history, json)


@subcommand(pool)
def dead(
    *,
    job: Pool,
    where: Where,
    error: options.Error = None,
    limit: Limit = 100,
    after: Annotated[
        str | None,
        typer.Option(
            "--after", metavar="PLACE", help="Only those after this place, as in '#3.17'."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """List the events that have no attempt left, with their errors."""
    from wakelog_adapters.cli.pool_target import find_pool
    from wakelog_adapters.cli.render import worker_pool as render
    from wakelog_adapters.cli.reports import PoolDeadReport

    target = find_pool(where, job)

    def report() -> PoolDeadReport:
        letters = target.run("dead_letters", limit=limit, after=after, error=error)
        last = letters[-1].item if len(letters) == limit else None
        return PoolDeadReport(name=target.name, dead_letters=letters, next=last)

    print_result(report, render.dead_letters, json)


def _look(where: Where, job: str, verb: str, event: str, json: bool, **options: Any) -> Any:
    from wakelog_adapters.cli.pool_target import find_pool
    from wakelog_adapters.cli.render import worker_pool as render

    target = find_pool(where, job)
    shown: Callable[[str, Any], Any] = render.why if verb == "why" else render.event
    return print_result(
        lambda: target.run(verb, event, **options), lambda found: shown(target.name, found), json
    )
