"""The commands about what was given up, or waits for code: dead-letters, requeue, discard,
dead-letter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import command, print_result
from wakelog_adapters.cli.commands.inspect import MAX_LIMIT, ListOptions
from wakelog_adapters.cli.context import Where, WhereToLook, with_app
from wakelog_adapters.cli.exit_codes import UsageError, exit_unless
from wakelog_adapters.cli.options import ReasonedRecord, Record
from wakelog_adapters.cli.reports import DeadLettersReport
from wakelog_adapters.cli.selection import Selection

if TYPE_CHECKING:
    from wakelog.app import App
    from wakelog_adapters.cli.target import Target

__all__ = ["dead_letter", "dead_letters", "discard", "requeue"]

Event = Annotated[
    int | None,
    typer.Option(
        "--event", metavar="NUMBER", min=1, help="Only this one, by its number in dead-letters."
    ),
]


@command
def dead_letters(
    *,
    where: WhereToLook,
    filters: ListOptions,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="Of how many instances at most.")
    ] = 100,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="ID", help="Only those of instances after this whole id."),
    ] = None,
    json: options.Json = False,
) -> None:
    """List the events and batches that were given up, with their errors, by instance."""
    from wakelog_adapters.cli.render import dead_letters as render

    def query() -> DeadLettersReport:
        matching = filters.checked(where)

        async def call(app: App) -> DeadLettersReport:
            found = await app.dead_letters(limit=limit, after=after, **matching)
            pools = {} if filters.is_of_instances else await _of_pools(app, filters.name)
            return DeadLettersReport(dead_letters=found, pools=pools)

        return with_app(where.store_url(), None, call)

    print_result(query, render.letters, json)


@command
def requeue(
    *,
    where: Where,
    selection: Selection,
    event: Event = None,
    record: Record,
    json: options.Json = False,
) -> None:
    """Let the dead letters of an instance, or of all that match, wait to be handled again.

    Exits with 1 if there are none.
    """
    _act("requeue", where, selection, event, record, json)


@command
def discard(
    *,
    where: Where,
    selection: Selection,
    event: Event = None,
    record: ReasonedRecord,
    json: options.Json = False,
) -> None:
    """Drop the dead letters of an instance, or of all that match, for good.

    With --event also an event that waits for code to read it. Asks first if stdin is a terminal;
    for many it needs a confirmation, or --yes. Exits with 1 if there are none.
    """
    _act("discard", where, selection, event, record, json)


@command
def dead_letter(
    *,
    job: options.Job,
    id: options.Id = None,
    where: Where,
    event: Event = None,
    record: Record,
    json: options.Json = False,
) -> None:
    """Make a dead letter of the event or batch of an instance that waits for code to read it.

    What is behind it goes on. Exits with 1 if none waits.
    """
    from wakelog_adapters.cli import parsing
    from wakelog_adapters.cli.render import dead_letters as render
    from wakelog_adapters.cli.target import find_target

    target = find_target(where, parsing.instance(job, id), "dead_letter")
    arguments = {"event": event, **record.arguments()}
    result = print_result(
        lambda: target.run("dead_letter", **arguments), render.made_dead_letter, json
    )
    exit_unless(result.done)


async def _of_pools(app: App, name: str | None) -> dict[str, int]:
    pools = [pool for pool in await app.pools() if pool.dead and name in (None, pool.name)]
    return {pool.name: pool.dead for pool in pools}


def _act(
    action: Literal["requeue", "discard"],
    where: Where,
    selection: Selection,
    event: int | None,
    record: Record,
    json: bool,
) -> None:
    from wakelog_adapters.cli.bulk import act
    from wakelog_adapters.cli.confirmation import ask_or_proceed
    from wakelog_adapters.cli.render import dead_letters as render

    if event is not None and selection.is_bulk:
        raise UsageError("--event is for one instance")

    def one(target: Target) -> None:
        if action == "discard":
            ask_or_proceed(f"Drop dead letters of {target.id} for good?", yes=selection.yes)
        arguments = {"event": event, **record.arguments()}
        shown = render.requeued if action == "requeue" else render.discarded
        result = print_result(lambda: target.run(action, **arguments), shown, json)
        exit_unless(result.done)

    act(action, where, selection, record, json, one=one)
