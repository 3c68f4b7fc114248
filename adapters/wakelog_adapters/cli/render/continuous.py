"""Answers about recurring work, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType

from wakelog_adapters.cli.render.parts import (
    card,
    error_line,
    next_run,
    sentence,
    status_word,
    time_of,
)

if TYPE_CHECKING:
    from wakelog.client.results import StartResult, StopResult, TerminateResult
    from wakelog.client.status import ContinuousStatus

__all__ = ["started", "status", "stopped", "terminated"]


def started(result: StartResult) -> RenderableType:
    """What became of a start."""
    said = f"was started before, and is {result.status}"
    if result.created or result.resumed:
        said = "started" if result.created else "goes on again"
    if result.duplicate:
        said = f"the key was used before, nothing new was recorded; answered then: {said}"
    if result.error is not None:
        said += f"; its first run failed: {result.error.type}: {result.error.message}"
    more = next_run(result.next_run_at)
    if result.retry_at is not None:
        more = f"tried again at {time_of(result.retry_at)}"
    if result.cleared:
        more = "the first run ended its life"
    return sentence(result.instance_id, f"{said} (version {result.version})", more)


def stopped(result: StopResult) -> RenderableType:
    """What became of a stop."""
    if result.stopped:
        return sentence(
            result.instance_id, f"stopped (version {result.version})", "its state stays"
        )
    why = {"not_found": "there is no such instance", "stopped": "it was stopped before"}
    said = f"nothing was stopped: {why.get(result.reason or '', result.reason)}"
    return sentence(result.instance_id, said, "")


def terminated(result: TerminateResult) -> RenderableType:
    """What became of a life."""
    if result.terminated:
        said = f"terminated (version {result.version}); its history stays"
    else:
        said = "there was nothing to terminate: nothing lives under this id"
    return sentence(result.instance_id, said, "")


def status(found: ContinuousStatus) -> RenderableType:
    """How an instance stands."""
    rows: list[tuple[str, object]] = [
        ("status", status_word(found.status, running=found.running)),
        ("because of", found.stop_reason),
        ("version", found.version or None),
        ("next run", found.next_run_at),
        ("retry", found.retry_at),
        ("last run", found.last_executed_at),
        ("created", found.created_at),
        ("updated", found.updated_at),
    ]
    if found.status != "not_found":
        rows += [
            ("runs", found.run_count),
            ("failures", found.failure_count),
            ("last error", error_line(found.last_error)),
        ]
    return card(found.instance_id, rows)
