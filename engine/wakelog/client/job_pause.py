"""Pausing a whole job, with all its instances, those to come too (A5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from wakelog.client.gateway import RequestGateway
from wakelog.client.results import stored_moment
from wakelog.definitions.definition import Definition
from wakelog.errors import Issue, ValidationError, quoted
from wakelog.ids import check_text
from wakelog.ports.rows import JobPauseRow

__all__ = ["JobPause", "list_job_pauses", "pause_job", "resume_job"]


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
    """Pause a job; the pause that is in force then: an earlier one, if it was paused before."""
    gateway.check()
    for what, text in (("reason", reason), ("actor", actor)):
        if text is not None and "\0" in check_text(text, what):
            issue = Issue(loc="", msg="it must not hold NUL characters", type="text")
            raise ValidationError(f"{what} {quoted(text)}", [issue])
    app = gateway.app
    row = JobPauseRow(_name_of(gateway, job), reason, actor, app.clock.now_us())
    try:
        paused = _job_pause(await app.threads.write(app.store.pause_job, row))
    finally:
        app.job_pauses.forget()
    app.pools.on_change(row.job, row.since_us)
    return paused


async def resume_job(gateway: RequestGateway, job: Definition | str) -> JobPause | None:
    """Resume a job; the pause that has ended, None if there was none."""
    gateway.check()
    app = gateway.app
    name = _name_of(gateway, job)
    try:
        ended = await app.threads.write(app.store.resume_job, name)
    finally:
        app.job_pauses.forget()
    app.on_wake(app.clock.now_us())
    app.pools.on_change(name, app.clock.now_us())
    return None if ended is None else _job_pause(ended)


async def list_job_pauses(gateway: RequestGateway) -> list[JobPause]:
    """The jobs that are paused as a whole, by name."""
    gateway.check()
    pauses = await gateway.app.job_pauses.now()
    return [_job_pause(pauses[job]) for job in sorted(pauses)]


def _name_of(gateway: RequestGateway, job: Definition | str) -> str:
    return gateway.app.registry.job_of(job)


def _job_pause(row: JobPauseRow) -> JobPause:
    since = stored_moment(row.since_us, f"the pause of {row.job}")
    return JobPause(job=row.job, reason=row.reason, actor=row.actor, since=since)
