"""Results about Continuous jobs, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType

from wakelog_adapters.cli.render.parts import (
    DUPLICATE,
    card,
    error_line,
    failure,
    kept_lines,
    next_run,
    retry_at,
    sentence,
    status_word,
    why_not,
)

if TYPE_CHECKING:
    from wakelog.client.continuous import ContinuousStatus, StartResult, StopResult, TerminateResult

__all__ = ["started", "status", "stopped", "terminated"]


def started(result: StartResult) -> RenderableType:
    """The result of a start."""
    text = f"was started before, and is {result.status}"
    if result.created or result.resumed:
        text = "started" if result.created else "goes on again"
    if result.duplicate:
        text = f"{DUPLICATE} {text}"
    if result.error is not None:
        text += f"; its first run failed{failure(result.error)}"
    more = retry_at(result.retry_at) or next_run(result.next_run_at)
    if result.cleared:
        more = "the first run ended its life"
    return sentence(result.instance_id, f"{text} (version {result.version})", more)


def stopped(result: StopResult) -> RenderableType:
    """The result of a stop."""
    if result.stopped:
        text = f"stopped (version {result.version})"
        return sentence(result.instance_id, text, "its state is kept")
    reason = why_not(result.reason, stopped="it was stopped before")
    return sentence(result.instance_id, f"not stopped: {reason}")


def terminated(result: TerminateResult) -> RenderableType:
    """The result of a terminate."""
    if result.terminated:
        text = f"terminated (version {result.version}); its history is kept"
    else:
        text = "not terminated: there is no living instance with this id"
    return sentence(result.instance_id, text)


def status(status: ContinuousStatus) -> RenderableType:
    """The status of an instance."""
    rows: list[tuple[str, object]] = [
        ("status", status_word(status.status, running=status.running)),
        ("because", status.stop_reason),
        ("version", status.version or None),
        ("next run", status.next_run_at),
        ("retry", status.retry_at),
        ("last run", status.last_executed_at),
        ("created", status.created_at),
        ("updated", status.updated_at),
    ]
    if status.status != "not_found":
        rows += [
            ("runs", status.run_count),
            ("failures", status.failure_count),
            *kept_lines(status),
            ("last error", error_line(status.last_error)),
        ]
    return card(status.instance_id, rows)
