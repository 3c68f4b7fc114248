"""Results of running and ending instances, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType

from wakelog_adapters.cli.render.parts import (
    count_of,
    failure,
    retry_at,
    sentence,
    time_of,
    why_not,
)

if TYPE_CHECKING:
    from wakelog.client.results import ClearResult, RetryResult, TriggerResult

__all__ = ["clear_cancelled", "cleared", "retried", "triggered"]


def triggered(result: TriggerResult) -> RenderableType:
    """The result of a trigger."""
    if result.triggered:
        return _run(result, _outcome(result, "triggered"))
    return _run(result, f"not triggered: {why_not(result.reason)}")


def retried(result: RetryResult) -> RenderableType:
    """The result of a retry."""
    if not result.retried:
        return _run(result, f"not tried again: {why_not(result.reason)}")
    if result.reason == "parked":
        return _run(result, "it is read again; no run was due")
    return _run(result, _outcome(result, "tried again"))


def cleared(result: ClearResult) -> RenderableType:
    """The result of a clear."""
    if result.clear_at is not None:
        text = f"its life ends at {time_of(result.clear_at)}"
    elif result.cleared:
        text = f"cleared (version {result.version}); its history is kept"
    else:
        text = "not cleared: there is no living instance with this id"
    lost = f"{count_of(result.discarded, 'event')} discarded" if result.discarded else ""
    return sentence(result.instance_id, text, lost)


def clear_cancelled(result: ClearResult) -> RenderableType:
    """The result of cancelling a scheduled clear."""
    if result.cancelled:
        text = f"scheduled clear cancelled (version {result.version})"
    else:
        text = f"no scheduled clear (version {result.version}): nothing to cancel"
    return sentence(result.instance_id, text)


def _run(result: TriggerResult | RetryResult, text: str) -> RenderableType:
    more = retry_at(result.retry_at)
    return sentence(result.instance_id, f"{text} (version {result.version})", more)


def _outcome(result: TriggerResult | RetryResult, success: str) -> str:
    """How the run ended; `success` is also for one that was not waited for."""
    if result.failed:
        return f"the run failed{failure(result.error)}"
    return "the run ended its life" if result.cleared else success
