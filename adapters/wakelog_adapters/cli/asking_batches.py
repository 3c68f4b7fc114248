"""Puts what the commands for debounces ask to the engine."""

from __future__ import annotations

from typing import Any

from wakelog.client.results import AddResult, FlushResult
from wakelog_adapters.cli.target import Target

__all__ = ["add", "flush"]


def add(at: Target, payload: str, *, defer: bool, key: str | None, **options: Any) -> AddResult:
    """Add the event with this JSON text; `defer` leaves it to a worker's `on_event`.

    Raises `ValidationError` with each issue where it is no event of the job.
    """
    event = at.event(payload)
    return at.run(
        AddResult,
        lambda client: client.add(at.id.id, event, event_id=key, **options),
        create=True,
        handlers=not defer,
    )


def flush(at: Target, **options: Any) -> FlushResult:
    """Have a worker flush the instance now."""
    return at.run(FlushResult, lambda client: client.flush(at.id.id, **options))
