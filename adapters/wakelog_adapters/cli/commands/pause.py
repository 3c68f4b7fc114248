"""The operator's commands: pause, resume, retry, holds."""

from __future__ import annotations

from typing import Annotated

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli import selection as selecting
from wakelog_adapters.cli.app import app, tell
from wakelog_adapters.cli.bulk import confirmed, do_to_all, not_one
from wakelog_adapters.cli.exit_codes import JOB_FAILED, REFUSED

__all__ = ["holds", "pause", "resume", "retry"]

Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why, for the record in the history."),
]


@app.command()
def pause(
    job: selecting.JobOrNone = None,
    id: options.Id = None,
    jobs: options.Jobs = None,
    url: options.Url = None,
    reason: Reason = None,
    status: options.Status = None,
    error: options.Error = None,
    prefix: options.Prefix = None,
    due_before: options.DueBefore = None,
    all: selecting.All = False,
    limit: selecting.Limit = None,
    dry_run: selecting.DryRun = False,
    yes: selecting.Yes = False,
    key: options.RequestKey = None,
    actor: options.Actor = None,
    correlation_id: options.Correlation = None,
    json: options.Json = False,
) -> None:
    """Hold an instance, a whole job, or all that match: nothing of it is started.

    Alarms wait, events are deferred, an open run may end. A job's name alone stands for the
    whole job, with the instances to come. Exits with 1 where something was not paused by this.
    """
    from wakelog_adapters.cli import asking_many
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import bulk as show_many

    where = Where(url, jobs)
    which = selecting.choose(
        where,
        job,
        id,
        status=status,
        error=error,
        prefix=prefix,
        due_before=due_before,
        all=all,
        limit=limit,
        dry_run=dry_run,
    )
    record = {"reason": reason, "actor": actor, "correlation_id": correlation_id}
    if isinstance(which, selecting.Matching):
        do_to_all(where, "pause", which, yes=yes, json=json, **record)
    elif isinstance(which, str):
        confirmed(f"Pause the whole job {which}, with all instances to come?", yes)
        ask = lambda: asking_many.pause_job(where, which, reason=reason, actor=actor)  # noqa: E731
        tell(ask, show_many.held, json)
    else:
        result = tell(
            lambda: asking.pause(
                asking.target(where, which, "pause"), idempotency_key=key, **record
            ),
            show_many.paused,
            json,
        )
        _exit_unless(result.paused)


@app.command()
def resume(
    job: selecting.JobOrNone = None,
    id: options.Id = None,
    jobs: options.Jobs = None,
    url: options.Url = None,
    reason: Reason = None,
    status: options.Status = None,
    error: options.Error = None,
    prefix: options.Prefix = None,
    due_before: options.DueBefore = None,
    all: selecting.All = False,
    limit: selecting.Limit = None,
    dry_run: selecting.DryRun = False,
    yes: selecting.Yes = False,
    key: options.RequestKey = None,
    actor: options.Actor = None,
    correlation_id: options.Correlation = None,
    json: options.Json = False,
) -> None:
    """Let an instance, a whole job, or all that match go on after a pause.

    What is due by now is started at once. Exits with 1 where something was not paused.
    """
    from wakelog_adapters.cli import asking_many
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import bulk as show_many

    where = Where(url, jobs)
    which = selecting.choose(
        where,
        job,
        id,
        status=status,
        error=error,
        prefix=prefix,
        due_before=due_before,
        all=all,
        limit=limit,
        dry_run=dry_run,
    )
    record = {"reason": reason, "actor": actor, "correlation_id": correlation_id}
    if isinstance(which, selecting.Matching):
        do_to_all(where, "resume", which, yes=yes, json=json, **record)
    elif isinstance(which, str):
        unheld = tell(lambda: asking_many.resume_job(where, which), show_many.unheld, json)
        _exit_unless(unheld.resumed)
    else:
        result = tell(
            lambda: asking.resume(
                asking.target(where, which, "resume"), idempotency_key=key, **record
            ),
            show_many.resumed,
            json,
        )
        _exit_unless(result.resumed)


@app.command()
def retry(
    job: selecting.JobOrNone = None,
    id: options.Id = None,
    jobs: options.Jobs = None,
    url: options.Url = None,
    status: options.Status = None,
    error: options.Error = None,
    prefix: options.Prefix = None,
    due_before: options.DueBefore = None,
    all: selecting.All = False,
    limit: selecting.Limit = None,
    dry_run: selecting.DryRun = False,
    yes: selecting.Yes = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait until a worker has run it.")
    ] = False,
    timeout: options.Timeout = None,
    key: options.RequestKey = None,
    actor: options.Actor = None,
    correlation_id: options.Correlation = None,
    json: options.Json = False,
) -> None:
    """Start the failed run of an instance, or of all that match, again from attempt 1.

    Of one instance it waits for the outcome. Exits with 4 where that run failed again, with 1
    where there was nothing to start.
    """
    from wakelog_adapters.cli import parsing as arguments
    from wakelog_adapters.cli import target as asking
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import bulk as show_many

    where = Where(url, jobs)
    which = selecting.choose(
        where,
        job,
        id,
        status=status,
        error=error,
        prefix=prefix,
        due_before=due_before,
        all=all,
        limit=limit,
        dry_run=dry_run,
    )
    record = {"actor": actor, "correlation_id": correlation_id}
    if isinstance(which, selecting.Matching):
        do_to_all(where, "retry", which, yes=yes, json=json, **record)
        return
    if isinstance(which, str):
        raise not_one(which)
    longest = arguments.duration(timeout, "--timeout")
    result = tell(
        lambda: asking.retry(
            asking.target(where, which, "retry"),
            wait=not no_wait,
            timeout=longest,
            idempotency_key=key,
            **record,
        ),
        show_many.retried,
        json,
    )
    if result.failed:
        raise typer.Exit(JOB_FAILED)
    _exit_unless(result.retried)


@app.command()
def holds(url: options.Url = None, json: options.Json = False) -> None:
    """List the jobs that are paused as a whole: since when, by whom and why."""
    from wakelog_adapters.cli import asking_many
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.render import bulk as show_many

    tell(lambda: asking_many.job_pauses(Where(url)), show_many.holds, json)


# -- inside ----------------------------------------------------------------------------------------


def _exit_unless(is_done: bool) -> None:
    if not is_done:
        raise typer.Exit(REFUSED)
