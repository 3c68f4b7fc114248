"""The commands of `wakelog pool` that change something: events that wait or are dead, and pools."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import print_result, subcommand
from wakelog_adapters.cli.commands.worker_pool import Event, Pool, pool
from wakelog_adapters.cli.context import Where
from wakelog_adapters.cli.exit_codes import exit_unless
from wakelog_adapters.cli.selection import EventIds, Events, WaitingEvents, chosen

if TYPE_CHECKING:
    from wakelog.client.pool.results import ItemsResult

__all__ = [
    "cancel", "dead_letter", "discard", "drain", "pause", "priority", "rebuild", "requeue",
    "resume",
]  # fmt: skip

Partition = Annotated[
    int | None,
    typer.Option("--partition", metavar="NUMBER", min=0, help="Only this partition, from 0."),
]


# -- events ---------------------------------------------------------------------------


@subcommand(pool)
def requeue(
    *,
    job: Pool,
    where: Where,
    events: Events,
    actor: options.Actor = None,
    json: options.Json = False,
) -> None:
    """Let dead events wait again: those named, all of an --error, or --all.

    They keep their ids and histories. Exits with 1 if one was skipped.
    """
    _act("requeue", where, job, events, {"actor": actor}, json)


@subcommand(pool)
def discard(
    *,
    job: Pool,
    where: Where,
    events: Events,
    reason: options.Reason = None,
    actor: options.Actor = None,
    json: options.Json = False,
) -> None:
    """Drop dead events for good: those named, all of an --error, or --all.

    Of those named also events that wait for code that can read them. Asks first if stdin is a
    terminal. Exits with 1 if one was skipped.
    """
    _act("discard", where, job, events, {"actor": actor, "reason": reason}, json)


@subcommand(pool)
def dead_letter(
    *,
    job: Pool,
    where: Where,
    event: EventIds = None,
    all: Annotated[bool, typer.Option("--all", help="All that wait for code.")] = False,
    dry_run: options.DryRun = False,
    actor: options.Actor = None,
    json: options.Json = False,
) -> None:
    """Make dead letters of events that wait for code to read them: those named, or --all.

    What is behind them goes on. Exits with 1 if one was skipped.
    """
    from wakelog_adapters.cli.pool_target import find_pool
    from wakelog_adapters.cli.render import worker_pool as render

    ids = chosen(event, is_bulk=all)
    target = find_pool(where, job)
    result = print_result(
        lambda: target.run("dead_letter", ids, actor=actor, dry_run=dry_run),
        lambda result: render.items(target.name, "given up", result),
        json,
    )
    exit_unless(not result.skipped)


@subcommand(pool)
def cancel(
    *,
    job: Pool,
    event: Event,
    where: Where,
    reason: options.Reason = None,
    actor: options.Actor = None,
    json: options.Json = False,
) -> None:
    """Remove an event that has not begun. Exits with 1 if it has, or there is none."""
    from wakelog_adapters.cli.pool_target import find_pool
    from wakelog_adapters.cli.render import worker_pool as render

    target = find_pool(where, job)
    result = print_result(
        lambda: target.run("cancel_event", event, reason=reason, actor=actor),
        lambda result: render.cancelled(target.name, result),
        json,
    )
    exit_unless(result.cancelled)


@subcommand(pool)
def priority(
    *,
    job: Pool,
    where: Where,
    to: Annotated[int, typer.Option("--to", metavar="NUMBER", help="Higher ones are taken first.")],
    events: WaitingEvents,
    actor: options.Actor = None,
    json: options.Json = False,
) -> None:
    """Move waiting events in their queue: those named, all of a --partition-key or --from a
    priority, or --all.

    Exits with 1 if one was skipped.
    """
    from wakelog_adapters.cli.pool_target import find_pool
    from wakelog_adapters.cli.render import worker_pool as render

    ids, filters = events.chosen(), events.filters()
    target = find_pool(where, job)

    act = functools.partial(target.run, "set_priority", to, ids, actor=actor, **filters)
    call: Callable[[], ItemsResult] = functools.partial(act, dry_run=events.dry_run)
    if not events.dry_run and ids is None and not events.yes:
        call = _confirmed(f"Move {{}} to priority {to}?", "waiting event", act)
    result = print_result(
        call,
        lambda result: render.items(target.name, f"moved to priority {to}", result),
        json,
    )
    exit_unless(not result.skipped)


# -- pools -------------------------------------------------------------------------


@subcommand(pool)
def pause(
    *,
    job: Pool,
    where: Where,
    partition: Partition = None,
    reason: options.Reason = None,
    actor: options.Actor = None,
    json: options.Json = False,
) -> None:
    """Take nothing more, in the whole pool or in one partition; events are accepted all the same.

    What is being worked on ends. Exits with 1 if it was paused before.
    """
    arguments = {"partition": partition, "reason": reason, "actor": actor}
    _control(where, job, "pause", arguments, json)


@subcommand(pool)
def resume(
    *,
    job: Pool,
    where: Where,
    partition: Partition = None,
    actor: options.Actor = None,
    json: options.Json = False,
) -> None:
    """Take again; the whole pool accepts again after a drain.

    Exits with 1 if it was not paused or drained.
    """
    _control(where, job, "resume", {"partition": partition, "actor": actor}, json)


@subcommand(pool)
def drain(
    *,
    job: Pool,
    where: Where,
    reason: options.Reason = None,
    actor: options.Actor = None,
    json: options.Json = False,
) -> None:
    """Accept nothing new, and finish what is there, until resume.

    Exits with 1 if it was so before.
    """
    _control(where, job, "drain", {"reason": reason, "actor": actor}, json)


@subcommand(pool)
def rebuild(
    *,
    job: Pool,
    where: Where,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Make what the store keeps of a pool beside its log anew from that, while workers run.

    With --dry-run it is only compared: exits with 1 if something is not as the log has it.
    """
    from wakelog_adapters.cli.pool_target import find_pool
    from wakelog_adapters.cli.render import worker_pool as render

    target = find_pool(where, job)
    result = print_result(
        lambda: target.run("rebuild", dry_run=dry_run),
        lambda result: render.rebuilt(target.name, result),
        json,
    )
    exit_unless(not (dry_run and result.differences))


def _control(where: Where, job: str, verb: str, arguments: dict[str, Any], json: bool) -> None:
    from wakelog_adapters.cli.pool_target import find_pool
    from wakelog_adapters.cli.render import worker_pool as render

    target = find_pool(where, job)
    subject, partition = target.name, arguments.get("partition")
    if partition is not None:
        subject += f", partition {partition}"
    result = print_result(
        lambda: target.run(verb, **arguments),
        lambda result: render.controlled(subject, verb, result),
        json,
    )
    exit_unless(result.done)


def _act(
    action: str, where: Where, job: str, events: Events, origin: dict[str, Any], json: bool
) -> None:
    """Exits with 1 if something was skipped."""
    from wakelog_adapters.cli.confirmation import ask_or_proceed
    from wakelog_adapters.cli.pool_target import find_pool
    from wakelog_adapters.cli.render import worker_pool as render

    ids = events.chosen()
    target = find_pool(where, job)
    act = functools.partial(target.run, action, ids, error=events.error, **origin)
    call: Callable[[], ItemsResult] = functools.partial(act, dry_run=events.dry_run)
    if not events.dry_run and ids is None and not events.yes:
        call = _confirmed(f"{action.capitalize()} {{}}?", "dead event", act)
    elif not events.dry_run and action == "discard":
        ask_or_proceed(f"Drop dead events of {target.name} for good?", yes=events.yes)
    done = {"requeue": "to be worked on again", "discard": "dropped for good"}[action]
    result = print_result(call, lambda result: render.items(target.name, done, result), json)
    exit_unless(not result.skipped)


def _confirmed(
    question: str, what: str, act: Callable[..., ItemsResult]
) -> Callable[[], ItemsResult]:
    """The act, after a question with how many it would be done to; if there are none, without a
    question, only that."""
    from wakelog_adapters.cli.app import stdout_to_stderr
    from wakelog_adapters.cli.confirmation import ask_or_refuse
    from wakelog_adapters.cli.render.parts import count_of

    with stdout_to_stderr():
        would = act(dry_run=True)
    if not would.events:
        return lambda: replace(would, dry_run=False)
    ask_or_refuse(question.format(count_of(len(would.events), what)), yes=False)
    return functools.partial(act, dry_run=False)
