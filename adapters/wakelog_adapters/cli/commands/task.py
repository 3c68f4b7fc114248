"""The command of Tasks: send."""

from __future__ import annotations

from typing import Annotated

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import command, print_result
from wakelog_adapters.cli.context import Where
from wakelog_adapters.cli.options import Record

__all__ = ["send"]


@command
def send(
    *,
    job: options.Job,
    id: options.Id = None,
    payload: options.Payload = None,
    where: Where,
    delay: Annotated[
        str | None,
        typer.Option("--delay", metavar="DURATION", help="Have it handled after this, as in 5m."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Have it handled then: 2026-01-31T09:00:00Z."),
    ] = None,
    defer: options.Defer = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until a worker has handled a deferred event.")
    ] = False,
    timeout: options.Timeout = None,
    record: Record,
    json: options.Json = False,
) -> None:
    """Send an event; the first one begins an instance's life."""
    from wakelog_adapters.cli import parsing
    from wakelog_adapters.cli.render import task as render
    from wakelog_adapters.cli.target import find_target

    ref, text = parsing.instance_and_payload(job, id, payload)
    arguments = {
        "at": parsing.moment(at, "--at"),
        "delay": parsing.duration(delay, "--delay"),
        "wait": wait,
        "timeout": parsing.duration(timeout, "--timeout"),
        "event_id": record.key,
        **record.origin(),
    }
    target = find_target(where, ref, "send", create=True, handlers=not defer)
    print_result(lambda: target.run("send", target.event(text), **arguments), render.sent, json)
