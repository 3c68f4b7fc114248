"""Results about Debounces, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType

from wakelog_adapters.cli.render.parts import (
    DUPLICATE,
    card,
    count_of,
    error_line,
    failure,
    kept_lines,
    retry_at,
    sentence,
    status_word,
    time_of,
    why_not,
)

if TYPE_CHECKING:
    from wakelog.client.debounce import AddResult, DebounceStatus
    from wakelog.client.wait_flush import FlushResult

__all__ = ["added", "flushed", "status"]


def added(result: AddResult) -> RenderableType:
    """The result of an add."""
    if result.duplicate:
        text = DUPLICATE
    elif result.deferred:
        text = "event accepted, to be reduced by a worker;"
    else:
        text = "event added;"
    window = "a new window, " if result.created else ""
    flush = "" if result.will_flush_at is None else f"flush at {time_of(result.will_flush_at)}"
    return sentence(
        result.instance_id,
        f"{text} {window}version {result.version}, {count_of(result.event_count, 'event')}",
        "the window is full, it is flushed now" if result.flush_started else flush,
    )


def flushed(result: FlushResult) -> RenderableType:
    """The result of a flush."""
    events = count_of(result.event_count, "event")
    if result.failed:
        text = f"the flush failed{failure(result.error)}"
    elif result.flushed:
        text = f"flushed {events} ({result.reason})"
    elif result.reason in ("empty", "paused", "parked", "cleared"):
        text = f"not flushed: {why_not(result.reason)}"
    else:
        text = f"a flush of {events} was requested"
    more = retry_at(result.retry_at)
    return sentence(result.instance_id, f"{text} (version {result.version})", more)


def status(status: DebounceStatus) -> RenderableType:
    """The status of an instance."""
    rows: list[tuple[str, object]] = [
        ("status", status_word(status.status, running=False)),
        ("version", status.version or None),
        ("window opened", status.started_at),
        ("flush", status.will_flush_at),
        ("retry", status.retry_at),
        ("clear", status.clear_at),
        ("created", status.created_at),
        ("updated", status.updated_at),
    ]
    if status.status != "not_found":
        rows += [
            ("events", status.event_count),
            ("windows", status.window_count),
            ("deferred", status.deferred_count or None),
            ("flushes", status.execute_count),
            ("failures", status.failure_count),
            *kept_lines(status),
            ("last error", error_line(status.last_error)),
        ]
    return card(status.instance_id, rows)
