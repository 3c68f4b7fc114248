"""Pausing a whole job, with all its instances, those to come too (A5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from wakelog.client.gateway import RequestGateway
from wakelog.core.time import as_datetime
from wakelog.definitions.definition import Definition
from wakelog.errors import Issue, ValidationError
from wakelog.ids import check_text
from wakelog.ports.rows import JobPauseRow

__all__ = ["JobPause", "job_pauses", "pause_job", "resume_job"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPause:
    """A job that is paused as a whole."""

    job: str
    """As in `task:order`."""
    reason: str | None
    actor: str | None
    since: datetime


async def pause_job(
    gateway: RequestGateway, job: Definition | str, reason: str | None, actor: str | None
) -> JobPause:
    """Hold a job; answers the hold there is, which is an earlier one where it was held before."""
    gateway.check()
    for what, text in (("reason", reason), ("actor", actor)):
        if text is not None and "\0" in check_text(text, what):
            issue = Issue(loc="", msg="it must not hold NUL characters", type="text")
            raise ValidationError(f"{what} {text!r}", [issue])
    app = gateway.app
    row = JobPauseRow(_job(gateway, job), reason, actor, app.clock.now_us())
    try:
        return _hold(await app.write(app.store.pause_job, row))
    finally:
        app.job_pauses.forget()


async def resume_job(gateway: RequestGateway, job: Definition | str) -> JobPause | None:
    """Let a job go on; answers the hold that has ended, None where there was none."""
    gateway.check()
    app = gateway.app
    try:
        ended = await app.write(app.store.resume_job, _job(gateway, job))
    finally:
        app.job_pauses.forget()
    app.on_wake(app.clock.now_us())
    return None if ended is None else _hold(ended)


async def job_pauses(gateway: RequestGateway) -> list[JobPause]:
    """The jobs that are held, by name."""
    gateway.check()
    found = await gateway.app.job_pauses.now()
    return [_hold(found[job]) for job in sorted(found)]


def _job(gateway: RequestGateway, job: Definition | str) -> str:
    registry = gateway.app.registry
    if isinstance(job, str):
        return registry.job_of(job)
    found = registry.find(job, job.kind)
    return found.job


def _hold(row: JobPauseRow) -> JobPause:
    return JobPause(
        job=row.job, reason=row.reason, actor=row.actor, since=as_datetime(row.since_us)
    )
