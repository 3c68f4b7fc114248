"""What is done to many at once: it is said how many, confirmed, done, and shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from wakelog_adapters.cli.app import prints_on_stderr, tell
from wakelog_adapters.cli.exit_codes import REFUSED, UsageError, complain

if TYPE_CHECKING:
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.selection import Matching

__all__ = ["confirmed", "do_to_all", "not_one"]


def do_to_all(
    where: Where, action: str, which: Matching, *, yes: bool, json: bool, **record: Any
) -> None:
    """Do it to all that match, once that is confirmed. Exits with 1 where one was left out."""
    from wakelog_adapters.cli import asking_many
    from wakelog_adapters.cli.render import bulk as show_many

    if which.dry_run:
        tell(lambda: asking_many.look(where, action, which), show_many.bulk, json)
        return
    if not yes:
        with prints_on_stderr():
            found = asking_many.look(where, action, which)
        number = f"{found.matched} instance{'' if found.matched == 1 else 's'}"
        confirmed(f"{action.capitalize()} {number}?", yes)
    result = tell(lambda: asking_many.bulk(where, action, which, **record), show_many.bulk, json)
    if result.not_done:
        raise typer.Exit(REFUSED)


def confirmed(question: str, yes: bool) -> None:
    """Ask on the terminal, unless `yes`; where nobody is there to answer, do nothing."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody is here to answer: give --yes, or --dry-run to look")
    with prints_on_stderr():
        if typer.confirm(question):
            return
    complain(["nothing was done"])
    raise typer.Exit(REFUSED)


def not_one(job: str) -> UsageError:
    """A job's name alone, where that would be too much."""
    return UsageError(
        f"{job!r} names no instance: write 'order o-17' or the whole id 'task:order:o-17'; "
        f"for many give a filter, or --all for all of its instances"
    )
