"""What the results for people are made of: sentences, cards, tables, times."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from wakelog_adapters.cli.exit_codes import printable

if TYPE_CHECKING:
    from wakelog.client.results import ErrorInfo
    from wakelog.client.status import InstanceStatus, LastError

__all__ = [
    "DUPLICATE",
    "STATUS_STYLES",
    "card",
    "console",
    "count_of",
    "data",
    "error_line",
    "failure",
    "gap",
    "kept_lines",
    "next_run",
    "retry_at",
    "sentence",
    "status_word",
    "table",
    "time_of",
    "title_of",
    "why_not",
]

WIDE = 10_000
"""Columns if there is no terminal: in a pipe nothing is cut off or wrapped."""

STATUS_STYLES = {
    "active": "green",
    "debouncing": "green",
    "failed": "bold red",
    "flushing": "cyan",
    "idle": "dim",
    "not_found": "dim",
    "retrying": "yellow",
    "unhandled": "bold yellow",
    "waiting_for_code": "bold yellow",
}

DUPLICATE = "the key was used before, nothing new was recorded; the result then was:"

_WHY_NOT = {
    "empty": "nothing was added",
    "cleared": "its life was ended first",
    "not_failed": "no run of it has failed",
    "not_found": "there is no such instance",
    "not_paused": "it was not paused",
    "paused": "it is paused",
    "no_dead_letters": "it has no dead letters",
    "running": "a run is going on",
    "waiting_for_code": "it waits for code that can read what it holds",
}


def console(file: TextIO) -> Console:
    """A console on `file` that takes no text of a user's for markup."""
    width = None if file.isatty() else WIDE
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False)


# -- lines -----------------------------------------------------------------------------------------


def sentence(subject: str, text: str, more: str = "") -> Text:
    """What happened to an instance or a job."""
    line = Text(printable(subject), "bold")
    line.append(f"  {printable(text)}", "not bold")
    if more:
        line.append(f"; {printable(more)}", "not bold")
    return line


def title_of(instance_id: str, more: str) -> Text:
    title = Text(printable(instance_id), "bold")
    return title.append(f"  {more}", "not bold dim") if more else title


def why_not(reason: str | None, **instead: str) -> str:
    """Why nothing was done, by the word in the result; `instead` has other words for some."""
    return {**_WHY_NOT, **instead}.get(reason or "", reason or "")


def failure(error: ErrorInfo | None) -> str:
    """As in `: ValueError: too heavy`."""
    return "" if error is None else f": {error.type}: {error.message}"


def error_line(error: LastError | None) -> Text | None:
    if error is None:
        return None
    where = f"{error.where}, " if error.where else ""
    line = f"{error.handler}: {error.type}: {error.message} ({where}at {time_of(error.at)})"
    return Text(printable(line), "red")


def kept_lines(status: InstanceStatus) -> list[tuple[str, object]]:
    """What an operator may have to act on: dead letters, and what waits for code."""
    waits = status.waits_for_code
    what = None
    if waits is not None:
        event = "the state" if waits.event_version is None else f"event {waits.event_version}"
        since = time_of(waits.since)
        what = Text(printable(f"{event}: {waits.type}: {waits.message} (since {since})"), "yellow")
    return [("dead letters", status.dead_letter_count or None), ("waits for code", what)]


def status_word(status: str, *, running: bool) -> Text:
    """The status of an instance, in its colour."""
    word = Text(status, STATUS_STYLES.get(status, ""))
    return word.append(", a run is going on", "cyan") if running else word


def count_of(number: int, one: str, many: str | None = None) -> str:
    """As in `1 event`, `2 events`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


# -- tables ----------------------------------------------------------------------------------------


def card(instance_id: str, rows: Iterable[tuple[str, object]]) -> Group:
    """One line for each value that is not None."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        if isinstance(value, datetime):
            grid.add_row(name, time_of(value))
        elif isinstance(value, Text):
            grid.add_row(name, value)
        elif value is not None:
            grid.add_row(name, printable(str(value)))
    return Group(title_of(instance_id, ""), grid)


def table(*, header: bool = True) -> Table:
    """A plain table, two spaces between its columns."""
    return Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=header
    )


def data(value: Any) -> Text:
    """JSON data, indented."""
    return Text(printable(json.dumps(value, indent=2, ensure_ascii=False)))


# -- times -----------------------------------------------------------------------------------------


def next_run(moment: datetime | None) -> str:
    return "" if moment is None else f"next run at {time_of(moment)}"


def retry_at(moment: datetime | None) -> str:
    return "" if moment is None else f"tried again at {time_of(moment)}"


def time_of(moment: datetime | None, zone: str = " UTC") -> str:
    """To the millisecond, which is what a person can use."""
    if moment is None:
        return "never"
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat(sep=" ", timespec="milliseconds") + zone


def gap(length: timedelta) -> str:
    """As in `+1.500 s`, `+2 h 5 min`; empty for less than a millisecond."""
    seconds = length.total_seconds()
    if seconds < 0.001:
        return ""
    if seconds < 60:
        return f"+{seconds:.3f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"+{days} d {hours} h"
    return f"+{hours} h {minutes} min" if hours else f"+{minutes} min {seconds} s"
