"""The parts that answers for people are made of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from wakelog_adapters.cli.exit_codes import printable

if TYPE_CHECKING:
    from wakelog.client.status import LastError

__all__ = [
    "STATUS_STYLES",
    "card",
    "count_of",
    "error_line",
    "next_run",
    "sentence",
    "status_word",
    "time_of",
    "title_of",
]

STATUS_STYLES = {
    "active": "green",
    "debouncing": "green",
    "failed": "bold red",
    "flushing": "cyan",
    "idle": "dim",
    "not_found": "dim",
    "retrying": "yellow",
    "unhandled": "bold yellow",
}


def status_word(status: str, *, running: bool) -> Text:
    """How an instance stands, in its colour."""
    word = Text(status, STATUS_STYLES.get(status, ""))
    return word.append(", a run is going on", "cyan") if running else word


def sentence(instance_id: str, said: str, more: str) -> Text:
    text = Text(printable(instance_id), "bold")
    text.append(f"  {printable(said)}", "not bold")
    if more:
        text.append(f"; {printable(more)}", "not bold")
    return text


def card(instance_id: str, rows: Iterable[tuple[str, object]]) -> Group:
    """One line for each thing that is known."""
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


def title_of(instance_id: str, more: str) -> Text:
    title = Text(printable(instance_id), "bold")
    return title.append(f"  {more}", "not bold dim") if more else title


def error_line(error: LastError | None) -> Text | None:
    if error is None:
        return None
    said = f"{error.handler}: {error.type}: {error.message} (at {time_of(error.at)})"
    return Text(printable(said), "red")


def next_run(moment: datetime | None) -> str:
    return "" if moment is None else f"next run at {time_of(moment)}"


def time_of(moment: datetime | None, zone: str = " UTC") -> str:
    """To the millisecond, which is what a person can use."""
    if moment is None:
        return "never"
    said = moment.astimezone(UTC).replace(tzinfo=None)
    return said.isoformat(sep=" ", timespec="milliseconds") + zone


def count_of(number: int, one: str, many: str | None = None) -> str:
    """As in `1 event`, `2 events`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
