"""The commands that hold work back and let it go on: pause, resume, pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import command, print_result
from wakelog_adapters.cli.context import Where, with_app
from wakelog_adapters.cli.exit_codes import exit_unless
from wakelog_adapters.cli.options import ReasonedRecord
from wakelog_adapters.cli.reports import JobPausesReport, JobResumeReport
from wakelog_adapters.cli.selection import Selection

if TYPE_CHECKING:
    from wakelog.app import App
    from wakelog.client.job_pause import JobPause
    from wakelog_adapters.cli.target import Target

__all__ = ["pause", "pauses", "resume"]


@command
def pause(
    *,
    where: Where,
    selection: Selection,
    record: ReasonedRecord,
    json: options.Json = False,
) -> None:
    """Pause an instance, a whole job, or all that match: nothing of it is started.

    Alarms wait, events are deferred, an open run may end. A job's name alone means the whole job,
    with the instances to come. Exits with 1 if something was not paused by this.
    """
    from wakelog_adapters.cli.bulk import act
    from wakelog_adapters.cli.confirmation import ask_or_refuse
    from wakelog_adapters.cli.render import pause as render

    def pause_one(target: Target) -> None:
        arguments = record.arguments()
        result = print_result(lambda: target.run("pause", **arguments), render.paused, json)
        exit_unless(result.paused)

    def pause_job(job: str) -> None:
        question = f"Pause the whole job {job}, with all instances to come?"
        ask_or_refuse(question, yes=selection.yes)
        print_result(lambda: _pause_job(where, job, record), render.job_paused, json)

    act("pause", where, selection, record, json, one=pause_one, job=pause_job)


@command
def resume(
    *,
    where: Where,
    selection: Selection,
    record: ReasonedRecord,
    json: options.Json = False,
) -> None:
    """Let an instance, a whole job, or all that match go on after a pause.

    What is due by now is started at once. Exits with 1 if something was not paused.
    """
    from wakelog_adapters.cli.bulk import act
    from wakelog_adapters.cli.render import pause as render

    def resume_one(target: Target) -> None:
        arguments = record.arguments()
        result = print_result(lambda: target.run("resume", **arguments), render.resumed, json)
        exit_unless(result.resumed)

    def resume_job(job: str) -> None:
        result = print_result(lambda: _resume_job(where, job), render.job_resumed, json)
        exit_unless(result.resumed)

    act("resume", where, selection, record, json, one=resume_one, job=resume_job)


@command
def pauses(*, url: options.Url = None, json: options.Json = False) -> None:
    """List the jobs that are paused as a whole: since when, by whom and why."""
    from wakelog_adapters.cli.render import pause as render

    async def report(app: App) -> JobPausesReport:
        return JobPausesReport(pauses=await app.job_pauses())

    where = Where(url=url)
    print_result(lambda: with_app(where.store_url(), None, report), render.job_pauses, json)


def _pause_job(where: Where, job: str, record: ReasonedRecord) -> JobPause:
    return with_app(
        where.store_url(),
        where.needed_jobs(),
        lambda app: app.pause(job, reason=record.reason, actor=record.actor),
    )


def _resume_job(where: Where, job: str) -> JobResumeReport:
    async def call(app: App) -> JobResumeReport:
        ended = await app.resume(job)
        return JobResumeReport(job=job, resumed=ended is not None, pause=ended)

    return with_app(where.store_url(), where.needed_jobs(), call)
