"""Results about Tasks, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType

from wakelog_adapters.cli.render.parts import (
    DUPLICATE,
    card,
    count_of,
    error_line,
    kept_lines,
    next_run,
    sentence,
    status_word,
)

if TYPE_CHECKING:
    from wakelog.client.task import SendResult, TaskStatus

__all__ = ["sent", "status"]


def sent(result: SendResult) -> RenderableType:
    """The result of a send."""
    if result.duplicate:
        text = DUPLICATE
    elif result.deferred:
        text = "event accepted, to be handled by a worker;"
    else:
        text = "event handled;"
    life = "a new life, " if result.created else ""
    return sentence(
        result.instance_id,
        f"{text} {life}version {result.version}, {count_of(result.event_count, 'event')}",
        next_run(result.scheduled_at),
    )


def status(status: TaskStatus) -> RenderableType:
    """The status of an instance."""
    rows: list[tuple[str, object]] = [
        ("status", status_word(status.status, running=status.executing)),
        ("because", status.reason),
        ("version", status.version or None),
        ("next run", status.scheduled_at),
        ("retry", status.retry_at),
        ("life ends", status.clear_at),
        ("created", status.created_at),
        ("updated", status.updated_at),
    ]
    if status.status != "not_found":
        rows += [
            ("events", status.event_count),
            ("runs", status.execute_count),
            ("failures", status.failure_count),
            ("deferred", status.deferred_count or None),
            *kept_lines(status),
            ("last error", error_line(status.last_error)),
        ]
    return card(status.instance_id, rows)
