"""Results about WorkerPools, for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from wakelog_adapters.cli.exit_codes import printable
from wakelog_adapters.cli.render.parts import (
    STATUS_STYLES,
    card,
    count_of,
    data,
    failure,
    gap,
    sentence,
    table,
    time_of,
)

if TYPE_CHECKING:
    from wakelog.client.pool.results import (
        CancelResult,
        EnqueueResult,
        ItemsResult,
        PoolControl,
        PoolEvent,
        PoolStatus,
        RebuildResult,
        Why,
    )
    from wakelog_adapters.cli.reports import PoolDeadReport, PoolsReport

__all__ = [
    "cancelled", "controlled", "dead_letters", "enqueued", "event", "items", "pools", "rebuilt",
    "status", "why",
]  # fmt: skip

MAX_SHOWN = 20
"""How many events are named one by one."""

_COUNTS = (
    *("pending", "delayed", "retrying", "processing", "processed", "dead", "cancelled"),
    *("discarded", "waiting_for_code"),
)
_ALWAYS = ("pending", "processing", "processed")
"""Counts that are shown also if they are 0."""
_STYLES = {
    **STATUS_STYLES,
    "completed": "green",
    "damaged": "bold red",
    "dead": "bold red",
    "not_found": "bold yellow",
    "paused": "yellow",
    "processing": "cyan",
}
_CONTROLLED = {
    "pause": ("paused", "it was paused before"),
    "resume": ("resumed", "it was neither paused nor drained by itself; see wakelog pauses"),
    "drain": ("accepts nothing new, and finishes what is there", "it drains already"),
}
_NOT_CANCELLED = {
    "not_found": "there is no such event",
    "already_processing": "a partition is working on it",
    "already_completed": "it is over, or a dead letter",
}
_SKIPPED = {
    "not_found": "there is no such event here",
    "already_processing": "a partition is working on it",
    "dead": "it is a dead letter",
    "unchanged": "there is nothing to change",
}


# -- the pool --------------------------------------------------------------------------------------


def status(status: PoolStatus) -> RenderableType:
    """A pool in numbers, and its partitions."""
    age = status.oldest_pending_age
    rows: list[tuple[str, object]] = [
        ("status", Text(_word(status), _STYLES.get(_word(status), ""))),
        ("because", status.reason),
    ]
    for name in _COUNTS:
        number = getattr(status, name)
        style = "bold red" if name == "dead" else ""
        if number or name in _ALWAYS:
            rows.append((name.replace("_", " "), Text(str(number), style)))
    if age is not None:
        rows.append(("oldest pending", f"for {gap(age).removeprefix('+') or '0 s'}"))
    active = f"{status.active_partitions} of {len(status.partitions)} partitions are working"
    return Group(card(status.name, [*rows, ("active", active)]), _partitions(status))


def _word(status: PoolStatus) -> str:
    if status.damaged is not None:
        return "damaged"
    words = [name for name in ("paused", "draining") if getattr(status, name)]
    return ", ".join(words) or ("processing" if status.processing else "idle")


def _partitions(status: PoolStatus) -> RenderableType:
    rows = table()
    rows.add_column("partition", justify="right", no_wrap=True)
    rows.add_column("status", no_wrap=True)
    rows.add_column("event", overflow="fold")
    rows.add_column("worker", overflow="fold")
    for each in status.partitions:
        word = "no worker" if each.status == "not_found" else each.status
        rows.add_row(
            str(each.partition),
            Text(word, _STYLES.get(each.status, "")),
            printable(each.current_event_id or ""),
            printable(each.worker or ""),
        )
    return rows


def pools(report: PoolsReport) -> RenderableType:
    """All pools of a store, one on each line."""
    if not report.pools:
        return Text("the store has no pool", "dim")
    shown = [
        name
        for name in _COUNTS
        if name in _ALWAYS or any(getattr(pool, name) for pool in report.pools)
    ]
    rows = table()
    rows.add_column("pool", overflow="fold")
    rows.add_column("status", no_wrap=True)
    for name in shown:
        rows.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    damaged = [pool for pool in report.pools if pool.damaged is not None]
    for pool in report.pools:
        word = _word(pool)
        counts = ["?" if pool in damaged else str(getattr(pool, name)) for name in shown]
        rows.add_row(printable(pool.name), Text(word, _STYLES.get(word, "")), *counts)
    found = [Text(printable(f"{each.name}: {each.damaged}"), "red") for each in damaged]
    return Group(rows, *found) if found else rows


def controlled(subject: str, verb: str, result: PoolControl) -> RenderableType:
    """The result of a pause, a resume or a drain."""
    done, why_not = _CONTROLLED[verb]
    if result.done:
        return sentence(subject, done, result.reason or "")
    return sentence(subject, f"nothing was done: {why_not}")


def rebuilt(pool: str, result: RebuildResult) -> RenderableType:
    """What a rebuild has found."""
    number = len(result.differences)
    read = count_of(result.events, "event")
    if not number:
        return sentence(pool, f"as the log has it ({read})")
    done = "not as the log has it" if result.dry_run else "made anew from the log"
    lines = [sentence(pool, f"{done} ({read}); {count_of(number, 'difference')}")]
    lines += [Text(f"  {printable(each)}", "yellow") for each in result.differences[:MAX_SHOWN]]
    if number > MAX_SHOWN:
        lines.append(Text(f"  and {number - MAX_SHOWN} more", "dim"))
    return Group(*lines)


# -- events ----------------------------------------------------------------------------------------


def enqueued(pool: str, result: EnqueueResult) -> RenderableType:
    """The result of an enqueue."""
    subject = f"{pool} {result.event_id}"
    if result.duplicate:
        return sentence(subject, "the id was used before: nothing new was accepted")
    where = "" if result.partition is None else f" for partition {result.partition}"
    pending = count_of(result.position, "event")
    return sentence(subject, f"accepted{where}; {pending} pending before it")


def event(pool: str, event: PoolEvent) -> RenderableType:
    """One event."""
    error = event.error
    word = Text(event.status, _STYLES.get(event.status, ""))
    rows: list[tuple[str, object]] = [
        ("status", word),
        ("attempts", event.attempts),
        ("accepted", event.accepted_at),
        ("due", event.due_at),
        ("partition key", event.partition_key),
        ("result", None if event.result is None else data(event.result)),
        ("error", None if error is None else Text(printable(failure(error)[2:]), "red")),
        ("payload", data(event.payload)),
    ]
    return card(f"{pool} {event.event_id}", rows)


def why(pool: str, why: Why) -> RenderableType:
    """What an event waits for."""
    status = "" if why.cause == "over" else f"{why.status.replace('_', ' ')}: "
    return sentence(f"{pool} {why.event_id}", f"{status}{why.text}")


def cancelled(pool: str, result: CancelResult) -> RenderableType:
    """The result of cancelling an event."""
    subject = f"{pool} {result.event_id}"
    if result.cancelled:
        return sentence(subject, "cancelled")
    return sentence(subject, f"not cancelled: {_NOT_CANCELLED[result.status]}")


def items(pool: str, done: str, result: ItemsResult) -> RenderableType:
    """What was, or would be, done to events; those that were skipped, with the reason."""
    would = "would be " if result.dry_run else ""
    number = count_of(len(result.events), "event")
    lines = [sentence(pool, f"{number} {would}{done}" if result.events else "no event matches")]
    if result.dry_run:
        lines += [Text(f"  {printable(id)}") for id in result.events[:MAX_SHOWN]]
        if len(result.events) > MAX_SHOWN:
            lines.append(Text(f"  and {len(result.events) - MAX_SHOWN} more", "dim"))
    for id, word in [*result.skipped.items()][:MAX_SHOWN]:
        lines.append(Text(f"  {printable(id)} skipped: {_SKIPPED.get(word, word)}", "yellow"))
    return Group(*lines)


def dead_letters(report: PoolDeadReport) -> RenderableType:
    """The events that have no attempt left, one on each line."""
    if not report.dead_letters:
        return Text(f"{printable(report.name)} has no such dead letters", "dim")
    rows = table()
    rows.add_column("event", overflow="fold")
    rows.add_column("given up (UTC)", no_wrap=True)
    rows.add_column("attempts", justify="right", no_wrap=True)
    rows.add_column("because", overflow="fold")
    rows.add_column("error", overflow="fold")
    rows.add_column("payload", overflow="fold")
    for each in report.dead_letters:
        error = f"{each.error_type}: {each.error_message}" if each.error_message else ""
        rows.add_row(
            printable(each.event_id),
            time_of(each.given_up_at, ""),
            str(each.attempts),
            printable(each.reason.replace("_", " ")),
            Text(printable(error or each.error_type), "red"),
            printable(json.dumps(each.payload, ensure_ascii=False)),
        )
    more = Text(f"there are more: --after {report.next}", "dim")
    return Group(rows, more) if report.next else rows
