"""What is read: states, histories, lists, counts and workers, for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from wakelog_adapters.cli.exit_codes import printable
from wakelog_adapters.cli.render.parts import (
    STATUS_STYLES,
    card,
    count_of,
    data,
    gap,
    table,
    time_of,
    title_of,
)
from wakelog_adapters.cli.render.worker_pool import pools
from wakelog_adapters.cli.reports import PoolsReport

if TYPE_CHECKING:
    from wakelog.client.listing import InstanceRow
    from wakelog.history.past import PastState
    from wakelog.history.timeline import HistoryEntry
    from wakelog_adapters.cli.reports import (
        CountReport,
        HistoryReport,
        PageReport,
        StateReport,
        WorkersReport,
    )

__all__ = ["history", "instances", "past", "state", "timeline", "totals", "workers"]

_EVENT_STYLES = {
    "Cleared": "bold",
    "DeadLettered": "red",
    "Executed": "green",
    "ExecutionFailed": "red",
    "ExecutionLost": "bold red",
    "Flushed": "green",
    "Returned": "yellow",
    "RunStarted": "cyan",
    "Started": "bold",
}


# -- one instance ----------------------------------------------------------------------------------


def state(report: StateReport) -> RenderableType:
    """The newest state."""
    if report.state is not None:
        return data(report.state)
    is_missing = report.status == "not_found"
    text = (
        "is not found: there is no living instance with this id" if is_missing else "has no state"
    )
    return Text(f"{printable(report.instance_id)} {text}", "dim")


def past(past: PastState) -> RenderableType:
    """An instance as it was at a version or a time."""
    rows: list[tuple[str, object]] = [
        ("status", Text(past.status, STATUS_STYLES.get(past.status, ""))),
        ("version", past.version),
        ("recorded", past.at),
        ("next run", past.scheduled_at),
        ("run going on", "yes" if past.executing else None),
        ("events", past.event_count),
        ("runs", past.execute_count),
        ("failures", past.failure_count),
        ("deferred", past.deferred_count or None),
        ("state", "none" if past.state is None else data(past.state)),
    ]
    return card(past.instance_id, rows)


def history(report: HistoryReport) -> RenderableType:
    """What happened to an instance."""
    lives = f", {report.lives} lives" if report.lives > 1 else ""
    shown = count_of(len(report.entries), "entry", "entries")
    title = title_of(report.instance_id, f"{shown}{lives}")
    if not report.left_out:
        return Group(title, timeline(report.entries))
    older = Text(f"({count_of(report.left_out, 'older entry', 'older entries')} not shown)", "dim")
    return Group(title, older, timeline(report.entries))


def timeline(entries: Iterable[HistoryEntry]) -> Table:
    """Version, time, time since the entry before, and what happened; a gap between two lives."""
    rows = table()
    rows.add_column("version", justify="right", style="dim", no_wrap=True)
    rows.add_column("time (UTC)", no_wrap=True)
    rows.add_column("after", justify="right", style="dim", no_wrap=True)
    rows.add_column("what happened", overflow="fold")
    before: HistoryEntry | None = None
    for entry in entries:
        if before is not None and before.life != entry.life:
            rows.add_row()
        what = Text(printable(entry.description), _EVENT_STYLES.get(entry.event, ""))
        if entry.actor:
            what.append(f" (by {printable(entry.actor)})", "dim")
        after = "" if before is None else gap(entry.at - before.at)
        rows.add_row(str(entry.version), time_of(entry.at, zone=""), after, what)
        before = entry
    return rows


# -- all instances ---------------------------------------------------------------------------------


def instances(page: PageReport) -> RenderableType:
    """A page of instances."""
    if not page.instances:
        return Text("no living instance matches", "dim")
    errors = any(row.last_error for row in page.instances)
    reasons = any(row.reason for row in page.instances)
    rows = table()
    rows.add_column("instance", overflow="fold")
    rows.add_column("status", no_wrap=True)
    for name in ("events", "runs", "failures", "deferred"):
        rows.add_column(name, justify="right", no_wrap=True)
    rows.add_column("next run (UTC)", no_wrap=True)
    if reasons:
        rows.add_column("because", overflow="fold")
    if errors:
        rows.add_column("last error", overflow="fold")
    for row in page.instances:
        reason = printable(row.reason or "")
        error = Text(printable(row.last_error.type), "red") if row.last_error else ""
        rows.add_row(*_cells(row), *([reason] if reasons else []), *([error] if errors else []))
    return rows


def totals(report: CountReport) -> RenderableType:
    """How many instances there are, by job and status."""
    if report.pools:
        return Group(_instance_totals(report), Text(), pools(PoolsReport(pools=report.pools)))
    return _instance_totals(report)


def _instance_totals(report: CountReport) -> RenderableType:
    if not report.jobs:
        return Text("no living instance matches", "dim")
    words = sorted({word for job in report.jobs for word in job.statuses})
    rows = table()
    rows.add_column("job", overflow="fold")
    has_dead = any(job.dead_letters for job in report.jobs)
    for word in ("total", "running", *words, *(["dead letters"] if has_dead else [])):
        rows.add_column(Text(word, STATUS_STYLES.get(word, "")), justify="right", no_wrap=True)
    for job in report.jobs:
        counts = [job.total, job.running, *(job.statuses.get(word, 0) for word in words)]
        counts += [job.dead_letters] if has_dead else []
        rows.add_row(printable(f"{job.type}:{job.name}"), *(str(n) if n else "" for n in counts))
    return rows


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


# -- workers ---------------------------------------------------------------------------------------


def workers(report: WorkersReport) -> RenderableType:
    """The workers, then their runs."""
    if not report.workers:
        return Text("no worker is running", "dim")
    team, runs = table(), table()
    for name in ("worker", "alive", "heartbeat", "since (UTC)", "busy", "jobs"):
        team.add_column(name, overflow="fold" if name in ("worker", "jobs") else "ellipsis")
    for name in ("instance", "run", "since (UTC)", "lease ends (UTC)", "worker"):
        runs.add_column(name, overflow="fold" if name in ("instance", "worker") else "ellipsis")
    for worker in report.workers:
        name = printable(worker.name)
        team.add_row(
            name,
            Text("yes", "green") if worker.alive else Text("no", "bold red"),
            _ago(report.now, worker.seen_at),
            time_of(worker.started_at, "") if worker.started_at else "",
            f"{sum(not w.is_partition for w in worker.work)} of {worker.concurrency or '?'}",
            printable(", ".join(worker.jobs or ())),
        )
        for work in worker.work:
            taken = "a partition" if work.is_partition else "deferred events"
            run = taken if work.run is None else f"{work.run}, attempt {work.attempt}"
            since = time_of(work.since, "") if work.since else ""
            ends = time_of(work.lease_ends_at, "")
            runs.add_row(printable(work.instance_id), run, since, ends, name)
    return Group(team, "", runs) if runs.row_count else team


def _ago(now: datetime, moment: datetime | None) -> str:
    if moment is None:
        return "none for a day"
    return f"{gap(max(now - moment, timedelta())).removeprefix('+') or '0 s'} ago"
