"""The commands of Debounces: add, flush."""

from __future__ import annotations

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import command, print_result
from wakelog_adapters.cli.context import Where
from wakelog_adapters.cli.exit_codes import JOB_FAILED, exit_unless
from wakelog_adapters.cli.options import Record, Waiting

__all__ = ["add", "flush"]


@command
def add(
    *,
    job: options.Job,
    id: options.Id = None,
    payload: options.Payload = None,
    where: Where,
    defer: options.Defer = False,
    record: Record,
    json: options.Json = False,
) -> None:
    """Add an event to the open window of a debounce; the first one opens it."""
    from wakelog_adapters.cli import parsing
    from wakelog_adapters.cli.render import debounce as render
    from wakelog_adapters.cli.target import find_target

    ref, text = parsing.instance_and_payload(job, id, payload)
    target = find_target(where, ref, "add", create=True, handlers=not defer)
    print_result(
        lambda: target.run("add", target.event(text), event_id=record.key, **record.origin()),
        render.added,
        json,
    )


@command
def flush(
    *,
    job: options.Job,
    id: options.Id = None,
    where: Where,
    waiting: Waiting,
    record: Record,
    json: options.Json = False,
) -> None:
    """Have a worker flush what was added to a debounce, and wait for the outcome.

    Exits with 4 if the flush failed, with 1 if there is nothing to flush.
    """
    from wakelog_adapters.cli import parsing
    from wakelog_adapters.cli.render import debounce as render
    from wakelog_adapters.cli.target import find_target

    ref = parsing.instance(job, id)
    arguments = {**waiting.arguments(), **record.arguments()}
    target = find_target(where, ref, "flush")
    result = print_result(lambda: target.run("flush", **arguments), render.flushed, json)
    exit_unless(not result.failed, JOB_FAILED)
    exit_unless(result.reason not in ("empty", "paused", "parked"))
    exit_unless(result.flushed or waiting.no_wait)
