"""Results about dead letters, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from wakelog_adapters.cli.exit_codes import printable
from wakelog_adapters.cli.render.parts import count_of, sentence, table, time_of

if TYPE_CHECKING:
    from wakelog.client.dead_letters import DeadLetterResult
    from wakelog_adapters.cli.reports import DeadLettersReport

__all__ = ["discarded", "letters", "made_dead_letter", "requeued"]


def letters(report: DeadLettersReport) -> RenderableType:
    """The dead letters, one on each line."""
    of_pools = [
        Text(f"{printable(name)}: {count_of(count, 'dead event')}, see wakelog pool dead {name}")
        for name, count in report.pools.items()
    ]
    if not report.dead_letters:
        return Group(*of_pools) if of_pools else Text("there are no dead letters", "dim")
    rows = table()
    rows.add_column("instance", overflow="fold")
    rows.add_column("event", justify="right", no_wrap=True)
    rows.add_column("events", justify="right", no_wrap=True)
    rows.add_column("given up (UTC)", no_wrap=True)
    rows.add_column("attempts", justify="right", no_wrap=True)
    rows.add_column("because", overflow="fold")
    rows.add_column("error", overflow="fold")
    for each in report.dead_letters:
        error = f"{each.error_type}: {each.error_message}" if each.error_message else ""
        rows.add_row(
            printable(each.instance_id),
            str(each.event),
            str(len(each.events)),
            time_of(each.given_up_at, ""),
            str(each.attempts),
            printable(each.reason.replace("_", " ")),
            Text(printable(error or each.error_type), "red"),
        )
    return Group(rows, *of_pools)


def requeued(result: DeadLetterResult) -> RenderableType:
    """The result of a requeue."""
    return _changed(result, "to be handled again", "there is no such dead letter")


def discarded(result: DeadLetterResult) -> RenderableType:
    """The result of a discard."""
    return _changed(result, "dropped for good", "there is no such dead letter")


def made_dead_letter(result: DeadLetterResult) -> RenderableType:
    """The result of giving up what waits for code."""
    return _changed(result, "kept as such", "no such event waits for code")


def _changed(result: DeadLetterResult, done: str, none: str) -> RenderableType:
    number = len(result.events)
    text = f"{count_of(number, 'dead letter')} {done}" if number else none
    return sentence(result.instance_id, f"{text} (version {result.version})")
