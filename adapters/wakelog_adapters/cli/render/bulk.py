"""Answers to the operator's commands, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from wakelog_adapters.cli.exit_codes import printable
from wakelog_adapters.cli.render.inspect import outcome
from wakelog_adapters.cli.render.parts import count_of, sentence, time_of

if TYPE_CHECKING:
    from wakelog.client.bulk import BulkResult
    from wakelog.client.job_pause import JobPause
    from wakelog.client.results import PauseResult, ResumeResult, RetryResult
    from wakelog_adapters.cli.asking_many import JobPausesReport, JobResumeReport

__all__ = ["bulk", "held", "holds", "paused", "resumed", "retried", "unheld"]

MAX_SHOWN = 20
"""Instances that are named; all of them are in the JSON document."""

_WHY_NOT = {
    "not_found": "there is no such instance",
    "not_failed": "no run of it has failed",
    "not_paused": "it was not paused",
    "paused": "it is paused",
    "running": "a run is going on",
}
_DONE = {"pause": "paused", "resume": "resumed", "retry": "asked for again", "clear": "cleared"}


def paused(result: PauseResult) -> RenderableType:
    """What became of a pause."""
    said = "paused" if result.paused else f"not paused: {_why(result.reason, 'it was before')}"
    return _with_reason(result.instance_id, said, result.version, result.paused, result.reason)


def resumed(result: ResumeResult) -> RenderableType:
    """What became of a resume."""
    said = "resumed" if result.resumed else f"not resumed: {_why(result.reason)}"
    return _with_reason(result.instance_id, said, result.version, result.resumed, result.reason)


def retried(result: RetryResult) -> RenderableType:
    """What became of a retry."""
    if not result.retried:
        said = f"not tried again: {_why(result.reason)}"
    elif result.reason == "parked":
        said = "it is read again; no run was owed"
    else:
        said = outcome(result, "tried again")
    retry = f"tried again at {time_of(result.retry_at)}" if result.retry_at else ""
    return sentence(result.instance_id, f"{said} (version {result.version})", retry)


def held(hold: JobPause) -> RenderableType:
    """A job that is held."""
    return sentence(hold.job, f"paused as a whole since {time_of(hold.since)}", _who(hold))


def unheld(result: JobResumeReport) -> RenderableType:
    """What became of the resume of a job."""
    if result.held is None:
        return sentence(result.job, "not resumed: it was not paused as a whole", "")
    return sentence(
        result.held.job, f"resumed; it was paused since {time_of(result.held.since)}", ""
    )


def holds(found: JobPausesReport) -> RenderableType:
    """The jobs that are held."""
    if not found.holds:
        return Text("no job is paused as a whole", "dim")
    return Group(*(held(each) for each in found.holds))


def bulk(result: BulkResult) -> RenderableType:
    """What became of many."""
    matching = f"{count_of(result.matched, 'instance')} match{'' if result.matched != 1 else 'es'}"
    if result.dry_run:
        shown = [Text(f"  {printable(id)}") for id in result.instance_ids[:MAX_SHOWN]]
        return Group(Text(matching), *shown, *_more(result.matched))
    lines = [Text(f"{matching}, {result.done} {_DONE[result.action]}")]
    for each in result.not_done[:MAX_SHOWN]:
        lines.append(sentence(f"  {each.instance_id}", f"left as it was: {_why(each.reason)}", ""))
    return Group(*lines, *_more(result.matched - result.done))


def _more(number: int) -> list[Text]:
    return [Text(f"  and {number - MAX_SHOWN} more", "dim")] if number > MAX_SHOWN else []


def _with_reason(
    instance_id: str, said: str, version: int, is_done: bool, reason: str | None
) -> RenderableType:
    return sentence(instance_id, f"{said} (version {version})", (reason or "") if is_done else "")


def _why(reason: str | None, if_paused: str = "it is paused") -> str:
    return if_paused if reason == "paused" else _WHY_NOT.get(reason or "", reason or "")


def _who(hold: JobPause) -> str:
    by = f"by {hold.actor}" if hold.actor else ""
    return ": ".join(part for part in (by, hold.reason) if part)
