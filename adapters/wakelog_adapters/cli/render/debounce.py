"""Answers about debounces, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType

from wakelog_adapters.cli.render.parts import (
    card,
    count_of,
    error_line,
    sentence,
    status_word,
    time_of,
)

if TYPE_CHECKING:
    from wakelog.client.results import AddResult, FlushResult
    from wakelog.client.status import DebounceStatus

__all__ = ["added", "flushed", "status"]

_NO_FLUSH = {
    "empty": "nothing was added",
    "cleared": "the life was ended first",
}


def added(result: AddResult) -> RenderableType:
    """What became of an event that was added to a window."""
    if result.duplicate:
        said = "the key was used before, nothing new was recorded; answered then:"
    elif result.deferred:
        said = "event accepted, to be reduced by a worker;"
    else:
        said = "event added;"
    window = "a new window, " if result.created else ""
    flush = "" if result.will_flush_at is None else f"flush at {time_of(result.will_flush_at)}"
    return sentence(
        result.instance_id,
        f"{said} {window}version {result.version}, {count_of(result.event_count, 'event')}",
        "the window is full, it is flushed now" if result.flush_started else flush,
    )


def flushed(result: FlushResult) -> RenderableType:
    """What became of a flush."""
    events = count_of(result.event_count, "event")
    if result.failed:
        error = f": {result.error.type}: {result.error.message}" if result.error else ""
        said = f"the flush failed{error}"
    elif result.flushed:
        said = f"flushed {events} ({result.reason})"
    elif result.reason in ("empty", "paused", "parked", "cleared"):
        said = f"not flushed: {_NO_FLUSH.get(result.reason, result.reason)}"
    else:
        said = f"asked for a flush of {events}"
    retry = f"tried again at {time_of(result.retry_at)}" if result.retry_at else ""
    return sentence(result.instance_id, f"{said} (version {result.version})", retry)


def status(found: DebounceStatus) -> RenderableType:
    """How an instance stands."""
    rows: list[tuple[str, object]] = [
        ("status", status_word(found.status, running=False)),
        ("version", found.version or None),
        ("window opened", found.started_at),
        ("flush", found.will_flush_at),
        ("retry", found.retry_at),
        ("clear", found.clear_at),
        ("created", found.created_at),
        ("updated", found.updated_at),
    ]
    if found.status != "not_found":
        rows += [
            ("events", found.event_count),
            ("windows", found.window_count),
            ("waiting", found.deferred_count or None),
            ("flushes", found.execute_count),
            ("failures", found.failure_count),
            ("last error", error_line(found.last_error)),
        ]
    return card(found.instance_id, rows)
