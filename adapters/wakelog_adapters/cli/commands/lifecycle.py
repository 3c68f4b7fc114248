"""The commands that run or end instances of several types of jobs: trigger, retry, clear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import command, print_result
from wakelog_adapters.cli.context import Where
from wakelog_adapters.cli.exit_codes import JOB_FAILED, UsageError, exit_unless
from wakelog_adapters.cli.options import ReasonedRecord, Record, Waiting
from wakelog_adapters.cli.selection import Selection

if TYPE_CHECKING:
    from wakelog_adapters.cli.target import Target

__all__ = ["clear", "retry", "trigger"]


@command
def trigger(
    *,
    job: options.Job,
    id: options.Id = None,
    where: Where,
    consume_alarm: Annotated[
        bool, typer.Option("--consume-alarm", help="Let this run take the scheduled one's place.")
    ] = False,
    waiting: Waiting,
    record: Record,
    json: options.Json = False,
) -> None:
    """Have a worker run an instance now, and wait for the outcome.

    Exits with 4 if the run failed, with 1 if there is nothing to run, or a run going on.
    """
    from wakelog_adapters.cli import parsing
    from wakelog_adapters.cli.render import lifecycle as render
    from wakelog_adapters.cli.target import find_target

    ref = parsing.instance(job, id)
    arguments = {"consume_alarm": consume_alarm, **waiting.arguments(), **record.arguments()}
    target = find_target(where, ref, "trigger")
    result = print_result(lambda: target.run("trigger", **arguments), render.triggered, json)
    exit_unless(not result.failed, JOB_FAILED)
    exit_unless(result.triggered)


@command
def retry(
    *,
    where: Where,
    selection: Selection,
    waiting: Waiting,
    record: Record,
    json: options.Json = False,
) -> None:
    """Start the failed run of an instance, or of all that match, again from attempt 1.

    For one instance it waits for the outcome. Exits with 4 if that run failed again, with 1 if
    there was nothing to start.
    """
    from wakelog_adapters.cli.bulk import act
    from wakelog_adapters.cli.render import lifecycle as render

    def retry_one(target: Target) -> None:
        arguments = {**waiting.arguments(), **record.arguments()}
        result = print_result(lambda: target.run("retry", **arguments), render.retried, json)
        exit_unless(not result.failed, JOB_FAILED)
        exit_unless(result.retried)

    act("retry", where, selection, record, json, one=retry_one)


@command
def clear(
    *,
    where: Where,
    selection: Selection,
    after: Annotated[
        str | None, typer.Option("--after", metavar="DURATION", help="Not now, but after this.")
    ] = None,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel a clear that is scheduled (by --after).")
    ] = False,
    record: ReasonedRecord,
    json: options.Json = False,
) -> None:
    """End the life of an instance, or of all that match. Their history stays, their ids may be
    used again.

    Asks first if stdin is a terminal; for many it needs an answer, or --yes. Exits with 1 if
    there is no living instance with this id.
    """
    from wakelog_adapters.cli.bulk import act
    from wakelog_adapters.cli.confirmation import ask_or_proceed
    from wakelog_adapters.cli.parsing import duration
    from wakelog_adapters.cli.render import lifecycle as render

    delay = duration(after, "--after")
    if cancel and delay is not None:
        raise UsageError("--after and --cancel do not go together: give one of them")
    if (cancel or delay is not None) and selection.is_bulk:
        raise UsageError("--after and --cancel are for one instance")

    def clear_one(target: Target) -> None:
        ask_or_proceed(f"End the life of {target.id}?", yes=selection.yes)
        arguments = {"after": delay, **record.arguments()}
        result = print_result(lambda: target.run("clear", **arguments), render.cleared, json)
        exit_unless(result.cleared or result.clear_at is not None)

    def cancel_one(target: Target) -> None:
        arguments = {"idempotency_key": record.key, **Record.origin(record)}  # without the reason
        result = print_result(
            lambda: target.run("cancel_clear", **arguments), render.clear_cancelled, json
        )
        exit_unless(result.cancelled)

    act("clear", where, selection, record, json, one=cancel_one if cancel else clear_one)
