"""Results of pausing and resuming, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from wakelog_adapters.cli.render.parts import sentence, time_of, why_not

if TYPE_CHECKING:
    from wakelog.client.job_pause import JobPause
    from wakelog.client.results import PauseResult, ResumeResult
    from wakelog_adapters.cli.reports import JobPausesReport, JobResumeReport

__all__ = ["job_paused", "job_pauses", "job_resumed", "paused", "resumed"]


def paused(result: PauseResult) -> RenderableType:
    """The result of pausing an instance."""
    if result.paused:
        return sentence(result.instance_id, f"paused (version {result.version})", _reason(result))
    why = why_not(result.reason, paused="it was paused before")
    return sentence(result.instance_id, f"not paused: {why} (version {result.version})")


def resumed(result: ResumeResult) -> RenderableType:
    """The result of resuming an instance."""
    if result.resumed:
        return sentence(result.instance_id, f"resumed (version {result.version})", _reason(result))
    why = why_not(result.reason)
    return sentence(result.instance_id, f"not resumed: {why} (version {result.version})")


def job_paused(pause: JobPause) -> RenderableType:
    """A job that is paused as a whole: since when, by whom and why."""
    by = f"by {pause.actor}" if pause.actor else ""
    more = ": ".join(part for part in (by, pause.reason) if part)
    return sentence(pause.job, f"paused as a whole since {time_of(pause.since)}", more)


def job_resumed(result: JobResumeReport) -> RenderableType:
    """The result of resuming a whole job."""
    if result.pause is None:
        return sentence(result.job, "not resumed: it was not paused as a whole")
    since = time_of(result.pause.since)
    return sentence(result.pause.job, f"resumed; it was paused since {since}")


def job_pauses(report: JobPausesReport) -> RenderableType:
    """The jobs that are paused as a whole."""
    if not report.pauses:
        return Text("no job is paused as a whole", "dim")
    return Group(*(job_paused(each) for each in report.pauses))


def _reason(result: PauseResult | ResumeResult) -> str:
    return result.reason or ""
