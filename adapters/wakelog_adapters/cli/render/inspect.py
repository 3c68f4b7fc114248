"""Answers for people: tables, timelines and sentences."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from wakelog_adapters.cli.exit_codes import printable
from wakelog_adapters.cli.render.parts import (
    STATUS_STYLES,
    card,
    count_of,
    error_line,
    next_run,
    sentence,
    status_word,
    time_of,
    title_of,
)

if TYPE_CHECKING:
    from wakelog.client.results import (
        ClearResult,
        InstanceRow,
        RetryResult,
        SendResult,
        TriggerResult,
    )
    from wakelog.client.status import TaskStatus
    from wakelog.history.past import PastState
    from wakelog.history.timeline import HistoryEntry
    from wakelog_adapters.cli.reports import (
        CountReport,
        HistoryReport,
        PageReport,
        StateReport,
        WorkersReport,
    )

__all__ = [
    "cancelled",
    "cleared",
    "console",
    "history",
    "instances",
    "outcome",
    "past",
    "sent",
    "sentence",
    "state",
    "status",
    "timeline",
    "totals",
    "triggered",
    "workers",
]

WIDE = 10_000
"""Columns where no terminal limits them: nothing is cut off or wrapped in a pipe."""

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
    return sentence(
        result.instance_id,
        f"{said} {life}version {result.version}, {count_of(result.event_count, 'event')}",
        next_run(result.scheduled_at),
    )


def triggered(result: TriggerResult) -> RenderableType:
    """What became of a run."""
    if not result.triggered:
        reason = {"not_found": "there is no such instance", "running": "a run is going on"}
        said = f"not triggered: {reason.get(result.reason or '', result.reason)}"
    else:
        said = outcome(result, "triggered")
    retry = f"tried again at {time_of(result.retry_at)}" if result.retry_at else ""
    return sentence(result.instance_id, f"{said} (version {result.version})", retry)


def outcome(result: TriggerResult | RetryResult, well: str) -> str:
    """How a run that was asked for ended; `well` stands for the best."""
    if result.failed:
        error = f": {result.error.type}: {result.error.message}" if result.error else ""
        return f"the run failed{error}"
    return "the run ended its life" if result.cleared else well


def cleared(result: ClearResult) -> RenderableType:
    """What became of a life."""
    if result.clear_at is not None:
        said = f"its life ends at {time_of(result.clear_at)}"
    elif result.cleared:
        said = f"cleared (version {result.version}); its history stays"
    else:
        said = "there was nothing to clear: nothing lives under this id"
    lost = f"{count_of(result.discarded, 'event')} discarded" if result.discarded else ""
    return sentence(result.instance_id, said, lost)


def cancelled(result: ClearResult) -> RenderableType:
    """What became of the end of a life."""
    had = "" if result.cancelled else ": there was none to take back"
    return sentence(result.instance_id, f"no end is to come (version {result.version}){had}", "")


# -- questions -------------------------------------------------------------------------------------


def status(found: TaskStatus) -> RenderableType:
    """How a Task's instance stands."""
    rows: list[tuple[str, object]] = [
        ("status", status_word(found.status, running=found.executing)),
        ("because", found.reason),
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
            ("last error", error_line(found.last_error)),
        ]
    return card(found.instance_id, rows)


def state(found: StateReport) -> RenderableType:
    """The newest state."""
    if found.state is None:
        stands = _STANDS.get(found.status, "has no state")
        return Text(f"{printable(found.instance_id)} {stands}", "dim")
    return _json(found.state)


def past(found: PastState) -> RenderableType:
    """How an instance stood."""
    rows: list[tuple[str, object]] = [
        ("status", Text(found.status, STATUS_STYLES.get(found.status, ""))),
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
    return card(found.instance_id, rows)


def history(found: HistoryReport) -> RenderableType:
    """What happened to an instance."""
    lives = f", {found.lives} lives" if found.lives > 1 else ""
    shown = count_of(len(found.entries), "entry", "entries")
    title = title_of(found.instance_id, f"{shown}{lives}")
    if not found.left_out:
        return Group(title, timeline(found.entries))
    older = Text(f"({count_of(found.left_out, 'older entry', 'older entries')} not shown)", "dim")
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
        table.add_row(str(entry.version), time_of(entry.at, zone=""), gap, what)
        before = entry
    return table


def instances(page: PageReport) -> RenderableType:
    """A page of instances."""
    if not page.instances:
        return Text("no living instance matches", "dim")
    errors = any(row.last_error for row in page.instances)
    reasons = any(row.reason for row in page.instances)
    table = _table()
    table.add_column("instance", overflow="fold")
    table.add_column("status", no_wrap=True)
    for name in ("events", "runs", "failures", "waiting"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("next run (UTC)", no_wrap=True)
    if reasons:
        table.add_column("because", overflow="fold")
    if errors:
        table.add_column("last error", overflow="fold")
    for row in page.instances:
        reason = printable(row.reason or "")
        error = Text(printable(row.last_error.type), "red") if row.last_error else ""
        table.add_row(*_cells(row), *([reason] if reasons else []), *([error] if errors else []))
    return table


def totals(found: CountReport) -> RenderableType:
    """How many instances there are."""
    if not found.jobs:
        return Text("no living instance matches", "dim")
    words = sorted({word for job in found.jobs for word in job.statuses})
    table = _table()
    table.add_column("job", overflow="fold")
    for word in ("total", "running", *words):
        table.add_column(Text(word, STATUS_STYLES.get(word, "")), justify="right", no_wrap=True)
    for job in found.jobs:
        counts = [job.total, job.running, *(job.statuses.get(word, 0) for word in words)]
        table.add_row(printable(f"{job.type}:{job.name}"), *(str(n) if n else "" for n in counts))
    return table


def workers(team: WorkersReport) -> RenderableType:
    """Who lives, then what runs where."""
    if not team.workers:
        return Text("no worker lives", "dim")
    table, work = _table(), _table()
    for name in ("worker", "lives", "heard of", "since (UTC)", "busy", "jobs"):
        table.add_column(name, overflow="fold" if name in ("worker", "jobs") else "ellipsis")
    for name in ("instance", "run", "since (UTC)", "lease ends (UTC)", "worker"):
        work.add_column(name, overflow="fold" if name in ("instance", "worker") else "ellipsis")
    for worker in team.workers:
        name = printable(worker.name)
        table.add_row(
            name,
            Text("yes", "green") if worker.alive else Text("no", "bold red"),
            f"{_ago(team.now, worker.seen_at)}",
            time_of(worker.started_at, "") if worker.started_at else "",
            f"{len(worker.work)} of {worker.concurrency or '?'}",
            printable(", ".join(worker.jobs or ())),
        )
        for each in worker.work:
            run = "waiting events" if each.run is None else f"{each.run}, attempt {each.attempt}"
            since = time_of(each.since, "") if each.since else ""
            ends = time_of(each.lease_ends_at, "")
            work.add_row(printable(each.instance_id), run, since, ends, name)
    return Group(table, "", work) if work.row_count else table


# -- parts -----------------------------------------------------------------------------------------

_STANDS = {
    "not_found": "is not found: nothing lives under this id",
}


def _cells(row: InstanceRow) -> list[str | Text]:
    word = f"{row.status} (running)" if row.executing else row.status
    due = row.retry_at or row.scheduled_at  # the schedule waits for the retry
    return [
        printable(row.instance_id),
        Text(word, "cyan" if row.executing else STATUS_STYLES.get(row.status, "")),
        str(row.event_count),
        str(row.execute_count),
        str(row.failure_count),
        str(row.deferred_count),
        f"{due.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if due else "",
    ]


def _table() -> Table:
    """A plain table, two spaces between its columns."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def _json(value: Any) -> Text:
    return Text(printable(json.dumps(value, indent=2, ensure_ascii=False)))


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


def _ago(now: datetime, moment: datetime | None) -> str:
    if moment is None:
        return "not for a day"
    return f"{_gap(max(now - moment, timedelta())).removeprefix('+') or '0 s'} ago"
