"""Answers for people: tables, timelines and sentences."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from wakelog_adapters.cli.failures import printable

if TYPE_CHECKING:
    from wakelog.history import HistoryEntry, PastState
    from wakelog.results import (
        AddResult,
        ClearResult,
        FlushResult,
        InstanceRow,
        LastError,
        SendResult,
        TaskStatus,
        TriggerResult,
    )
    from wakelog_adapters.cli.asking import History, Page, Shown

__all__ = [
    "added",
    "cancelled",
    "cleared",
    "console",
    "flushed",
    "history",
    "instances",
    "past",
    "sent",
    "state",
    "status",
    "timeline",
    "triggered",
]

WIDE = 10_000
"""Columns where no terminal limits them: nothing is cut off or wrapped in a pipe."""

_STATUS_STYLES = {
    "active": "green",
    "debouncing": "green",
    "failed": "bold red",
    "flushing": "cyan",
    "idle": "dim",
    "not_found": "dim",
    "retrying": "yellow",
    "unhandled": "bold yellow",
}
_EVENT_STYLES = {
    "Cleared": "bold",
    "DeadLettered": "red",
    "Executed": "green",
    "ExecutionFailed": "red",
    "ExecutionLost": "bold red",
    "Flushed": "green",
    "RunStarted": "cyan",
    "Started": "bold",
}


def console(file: TextIO) -> Console:
    """A console on `file` that takes no text of a user's for markup."""
    width = None if file.isatty() else WIDE
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False)


# -- requests --------------------------------------------------------------------------------------


def sent(result: SendResult) -> RenderableType:
    """What became of an event."""
    if result.duplicate:
        said = "the key was used before, nothing new was recorded; answered then:"
    elif result.deferred:
        said = "event accepted, to be handled by a worker;"
    else:
        said = "event handled;"
    life = "a new life, " if result.created else ""
    return _sentence(
        result.instance_id,
        f"{said} {life}version {result.version}, {_count(result.event_count, 'event')}",
        _next(result.scheduled_at),
    )


def added(result: AddResult) -> RenderableType:
    """What became of an event that was added to a window."""
    if result.duplicate:
        said = "the key was used before, nothing new was recorded; answered then:"
    elif result.deferred:
        said = "event accepted, to be reduced by a worker;"
    else:
        said = "event added;"
    window = "a new window, " if result.created else ""
    flush = "" if result.will_flush_at is None else f"flush at {_time(result.will_flush_at)}"
    return _sentence(
        result.instance_id,
        f"{said} {window}version {result.version}, {_count(result.event_count, 'event')}",
        "the window is full, it is flushed now" if result.flush_started else flush,
    )


def flushed(result: FlushResult) -> RenderableType:
    """What became of a flush."""
    events = _count(result.event_count, "event")
    if result.failed:
        error = f": {result.error.type}: {result.error.message}" if result.error else ""
        said = f"the flush failed{error}"
    elif result.flushed:
        said = f"flushed {events} ({result.reason})"
    elif result.reason in ("empty", "paused", "parked", "cleared"):
        said = f"not flushed: {_NO_FLUSH.get(result.reason, result.reason)}"
    else:
        said = f"asked for a flush of {events}"
    retry = f"tried again at {_time(result.retry_at)}" if result.retry_at else ""
    return _sentence(result.instance_id, f"{said} (version {result.version})", retry)


def triggered(result: TriggerResult) -> RenderableType:
    """What became of a run."""
    if not result.triggered:
        reason = {"not_found": "there is no such instance", "running": "a run is going on"}
        said = f"not triggered: {reason.get(result.reason or '', result.reason)}"
    elif result.failed:
        error = f": {result.error.type}: {result.error.message}" if result.error else ""
        said = f"the run failed{error}"
    else:
        said = "the run ended its life" if result.cleared else "triggered"
    retry = f"tried again at {_time(result.retry_at)}" if result.retry_at else ""
    return _sentence(result.instance_id, f"{said} (version {result.version})", retry)


def cleared(result: ClearResult) -> RenderableType:
    """What became of a life."""
    if result.clear_at is not None:
        said = f"its life ends at {_time(result.clear_at)}"
    elif result.cleared:
        said = f"cleared (version {result.version}); its history stays"
    else:
        said = "there was nothing to clear: nothing lives under this id"
    lost = f"{_count(result.discarded, 'waiting event')} discarded" if result.discarded else ""
    return _sentence(result.instance_id, said, lost)


def cancelled(result: ClearResult) -> RenderableType:
    """What became of the end of a life."""
    return _sentence(result.instance_id, f"no end is to come (version {result.version})", "")


# -- questions -------------------------------------------------------------------------------------


def status(found: TaskStatus) -> RenderableType:
    """How an instance stands."""
    word = Text(found.status, _STATUS_STYLES.get(found.status, ""))
    if found.executing:
        word.append(", a run is going on", "cyan")
    rows: list[tuple[str, object]] = [
        ("status", word),
        ("version", found.version or None),
        ("next run", found.scheduled_at),
        ("retry", found.retry_at),
        ("life ends", found.clear_at),
        ("created", found.created_at),
        ("updated", found.updated_at),
    ]
    if found.status != "not_found":
        rows += [
            ("events", found.event_count),
            ("runs", found.execute_count),
            ("failures", found.failure_count),
            ("waiting", found.deferred_count or None),
            ("last error", _error(found.last_error)),
        ]
    return _card(found.instance_id, rows)


def state(found: Shown) -> RenderableType:
    """The newest state."""
    if found.state is None:
        stands = _STANDS.get(found.status, "has no state")
        return Text(f"{printable(found.instance_id)} {stands}", "dim")
    return _json(found.state)


def past(found: PastState) -> RenderableType:
    """How an instance stood."""
    rows: list[tuple[str, object]] = [
        ("status", Text(found.status, _STATUS_STYLES.get(found.status, ""))),
        ("version", found.version),
        ("recorded", found.at),
        ("next run", found.scheduled_at),
        ("run going on", "yes" if found.executing else None),
        ("events", found.event_count),
        ("runs", found.execute_count),
        ("failures", found.failure_count),
        ("waiting", found.deferred_count or None),
        ("state", "none" if found.state is None else _json(found.state)),
    ]
    return _card(found.instance_id, rows)


def history(found: History) -> RenderableType:
    """What happened to an instance."""
    lives = f", {found.lives} lives" if found.lives > 1 else ""
    shown = _count(len(found.entries), "entry", "entries")
    title = _title(found.instance_id, f"{shown}{lives}")
    if not found.left_out:
        return Group(title, timeline(found.entries))
    older = Text(f"({_count(found.left_out, 'older entry', 'older entries')} not shown)", "dim")
    return Group(title, older, timeline(found.entries))


def timeline(entries: Iterable[HistoryEntry]) -> Table:
    """Version, time, time since the entry before, and what happened; a gap between two lives."""
    table = _table()
    table.add_column("version", justify="right", style="dim", no_wrap=True)
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("after", justify="right", style="dim", no_wrap=True)
    table.add_column("what happened", overflow="fold")
    before: HistoryEntry | None = None
    for entry in entries:
        if before is not None and before.life != entry.life:
            table.add_row()
        what = Text(printable(entry.description), _EVENT_STYLES.get(entry.event, ""))
        if entry.actor:
            what.append(f" (by {printable(entry.actor)})", "dim")
        gap = "" if before is None else _gap(entry.at - before.at)
        table.add_row(str(entry.version), _time(entry.at, zone=""), gap, what)
        before = entry
    return table


def instances(page: Page) -> RenderableType:
    """A page of instances."""
    if not page.instances:
        return Text("no living instance matches", "dim")
    errors = any(row.last_error for row in page.instances)
    table = _table()
    table.add_column("instance", overflow="fold")
    table.add_column("status", no_wrap=True)
    for name in ("events", "runs", "failures", "waiting"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("next run (UTC)", no_wrap=True)
    if errors:
        table.add_column("last error", overflow="fold")
    for row in page.instances:
        error = Text(printable(row.last_error.type), "red") if row.last_error else ""
        table.add_row(*_cells(row), *([error] if errors else []))
    return table


# -- parts -----------------------------------------------------------------------------------------

_NO_FLUSH = {
    "empty": "nothing was added",
    "cleared": "the life was ended first",
}
_STANDS = {
    "not_found": "is not found: nothing lives under this id",
}


def _cells(row: InstanceRow) -> list[str | Text]:
    word = "running" if row.executing else row.status
    return [
        printable(row.instance_id),
        Text(word, "cyan" if row.executing else _STATUS_STYLES.get(row.status, "")),
        str(row.event_count),
        str(row.run_count),
        str(row.failure_count),
        str(row.deferred_count),
        f"{row.scheduled_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if row.scheduled_at else "",
    ]


def _table() -> Table:
    """A plain table, two spaces between its columns."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def _sentence(instance_id: str, said: str, more: str) -> Text:
    text = Text(printable(instance_id), "bold")
    text.append(f"  {printable(said)}", "not bold")
    if more:
        text.append(f"; {printable(more)}", "not bold")
    return text


def _card(instance_id: str, rows: Iterable[tuple[str, object]]) -> Group:
    """One line for each thing that is known."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        if isinstance(value, datetime):
            grid.add_row(name, _time(value))
        elif isinstance(value, Text):
            grid.add_row(name, value)
        elif value is not None:
            grid.add_row(name, printable(str(value)))
    return Group(_title(instance_id, ""), grid)


def _title(instance_id: str, more: str) -> Text:
    title = Text(printable(instance_id), "bold")
    return title.append(f"  {more}", "not bold dim") if more else title


def _json(value: Any) -> Text:
    return Text(printable(json.dumps(value, indent=2, ensure_ascii=False)))


def _error(error: LastError | None) -> Text | None:
    if error is None:
        return None
    said = f"{error.handler}: {error.type}: {error.message} (at {_time(error.at)})"
    return Text(printable(said), "red")


def _next(moment: datetime | None) -> str:
    return "" if moment is None else f"next run at {_time(moment)}"


def _time(moment: datetime | None, zone: str = " UTC") -> str:
    """To the millisecond, which is what a person can use."""
    if moment is None:
        return "never"
    said = moment.astimezone(UTC).replace(tzinfo=None)
    return said.isoformat(sep=" ", timespec="milliseconds") + zone


def _gap(length: timedelta) -> str:
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


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
