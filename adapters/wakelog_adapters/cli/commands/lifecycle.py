"""The commands that change something: send, trigger, clear."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wakelog_adapters.cli import bulk as many
from wakelog_adapters.cli import options
from wakelog_adapters.cli import selection as selecting
from wakelog_adapters.cli.app import app, prints_on_stderr, tell
from wakelog_adapters.cli.exit_codes import JOB_FAILED, REFUSED, UsageError, complain

if TYPE_CHECKING:
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.parsing import Named

__all__ = ["clear", "confirmed", "send", "trigger"]


@app.command()
def send(
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
    delay: Annotated[
        str | None,
        typer.Option("--delay", metavar="DURATION", help="Have it handled after this, as in 5m."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Have it handled then: 2026-01-31T09:00:00Z."),
    ] = None,
    defer: Annotated[
        bool, typer.Option("--defer", help="Leave on_event to a worker, do not call it here.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until a worker has handled a deferred event.")
    ] = False,
    timeout: options.Timeout = None,
    actor: options.Actor = None,
    correlation_id: options.Correlation = None,
    json: options.Json = False,
) -> None:
    """Send an event; the first one begins an instance's life."""
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import inspect as show

    who, rest = arguments.named([job, id, payload], more=1)
    event = arguments.payload(rest[0] if rest else None)
    moment, after = arguments.moment(at, "--at"), arguments.duration(delay, "--delay")
    longest = arguments.duration(timeout, "--timeout")

    tell(
        lambda: asking.send(
            asking.target(Where(url, jobs), who, "send"),
            event,
            defer=defer,
            key=key,
            delay=after,
            moment=moment,
            wait=wait,
            timeout=longest,
            actor=actor,
            correlation_id=correlation_id,
        ),
        show.sent,
        json,
    )


@app.command()
def trigger(
    job: options.Job,
    id: options.Id = None,
    jobs: options.Jobs = None,
    url: options.Url = None,
    key: options.RequestKey = None,
    consume_alarm: Annotated[
        bool, typer.Option("--consume-alarm", help="Let this run take the scheduled one's place.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait until a worker has run it.")
    ] = False,
    timeout: options.Timeout = None,
    actor: options.Actor = None,
    correlation_id: options.Correlation = None,
    json: options.Json = False,
) -> None:
    """Have a worker run an instance now, and wait for the outcome.

    Exits with 4 where the run failed, with 1 where there is nothing to run, or a run going on.
    """
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import inspect as show

    who, _ = arguments.named([job, id])
    longest = arguments.duration(timeout, "--timeout")
    result = tell(
        lambda: asking.trigger(
            asking.target(Where(url, jobs), who, "trigger"),
            consume_alarm=consume_alarm,
            wait=not no_wait,
            timeout=longest,
            idempotency_key=key,
            actor=actor,
            correlation_id=correlation_id,
        ),
        show.triggered,
        json,
    )
    if result.failed:
        raise typer.Exit(JOB_FAILED)
    if not result.triggered:
        raise typer.Exit(REFUSED)


@app.command()
def clear(
    job: selecting.JobOrNone = None,
    id: options.Id = None,
    jobs: options.Jobs = None,
    url: options.Url = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="DURATION", help="Not now, but after this.")
    ] = None,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Take back an end that is still to come.")
    ] = False,
    reason: options.Reason = None,
    status: options.Status = None,
    error: options.Error = None,
    prefix: options.Prefix = None,
    due_before: options.DueBefore = None,
    all: selecting.All = False,
    limit: selecting.Limit = None,
    dry_run: selecting.DryRun = False,
    yes: options.Yes = False,
    key: options.RequestKey = None,
    actor: options.Actor = None,
    correlation_id: options.Correlation = None,
    json: options.Json = False,
) -> None:
    """End the life of an instance, or of all that match. Their history stays, their ids may be
    used again.

    Asks first where stdin is a terminal; for many it needs an answer, or --yes. Exits with 1
    where nothing lives under this id.
    """
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli.context import Where

    later = arguments.duration(after, "--after")
    if cancel and after is not None:
        raise UsageError("--after and --cancel do not go together: give one of them")
    who = selecting.choose(
        Where(url, jobs),
        job,
        id,
        status=status,
        error=error,
        prefix=prefix,
        due_before=due_before,
        all=all,
        limit=limit,
        dry_run=dry_run,
    )
    if isinstance(who, str):
        raise many.not_one(who)
    record = {"reason": reason, "actor": actor, "correlation_id": correlation_id}
    if isinstance(who, selecting.Matching):
        if cancel or after is not None:
            raise UsageError("--after and --cancel are for one instance")
        many.do_to_all(Where(url, jobs), "clear", who, yes=yes, json=json, **record)
        return
    record = {**record, "idempotency_key": key}
    _clear_one(Where(url, jobs), who, cancel=cancel, after=later, yes=yes, json=json, **record)


def _clear_one(
    where: Where, who: Named, *, cancel: bool, after: Any, yes: bool, json: bool, **record: Any
) -> None:
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.render import inspect as show

    with prints_on_stderr():
        at = asking.target(where, who, "clear")
    if not (yes or cancel) and not confirmed(f"End the life of {at.id}?"):
        complain(["nothing was cleared"])
        raise typer.Exit(REFUSED)
    result = tell(
        lambda: asking.clear(at, cancel=cancel, after=after, **record),
        show.cancelled if cancel else show.cleared,
        json,
    )
    if not (result.cancelled if cancel else result.cleared or result.clear_at):
        raise typer.Exit(REFUSED)


def confirmed(question: str) -> bool:
    """Ask on the terminal; where nobody is there to answer, the command itself was the answer."""
    if not sys.stdin.isatty():
        return True
    with prints_on_stderr():
        return typer.confirm(question)
