"""Act on what a command has selected; many instances are counted, confirmed, then changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from wakelog.client.bulk import BulkAction, BulkResult
from wakelog_adapters.cli.app import print_result, stdout_to_stderr
from wakelog_adapters.cli.confirmation import ask_or_refuse
from wakelog_adapters.cli.context import Where, with_app
from wakelog_adapters.cli.exit_codes import UsageError, exit_unless
from wakelog_adapters.cli.options import Record
from wakelog_adapters.cli.render import bulk as render
from wakelog_adapters.cli.render.parts import count_of
from wakelog_adapters.cli.selection import Matching, Selection
from wakelog_adapters.cli.target import Target, find_target

__all__ = ["act"]


def act(
    action: BulkAction,
    where: Where,
    selection: Selection,
    record: Record,
    json: bool,
    *,
    one: Callable[[Target], None],
    job: Callable[[str], None] | None = None,
) -> None:
    """Call `one` with the instance, or `job` with the job's name, or change all that match.

    Raises `UsageError` for a job's name alone without `job`, and what those that it calls raise.
    """
    with stdout_to_stderr():
        selected = selection.resolve(where)
    match selected:
        case Matching():
            _change_all(action, where, selected, selection, record, json)
        case str() if job is not None:
            job(selected)
        case str():
            raise UsageError(
                f"{selected!r} names no instance: write 'order o-17' or the whole id "
                f"'task:order:o-17'; for many give a filter, or --all for all of its instances"
            )
        case _:
            one(find_target(where, selected, action))


def _change_all(
    action: BulkAction,
    where: Where,
    matching: Matching,
    selection: Selection,
    record: Record,
    json: bool,
) -> None:
    """Exits with 1 if an instance could not be changed."""

    def preview() -> BulkResult:
        return _call(action, where, matching, dry_run=True)

    if selection.dry_run:
        print_result(preview, render.result, json)
        return
    if not selection.yes:
        with stdout_to_stderr():
            found = preview()
        if not found.matched:  # there is nothing to ask about, and nothing to do
            print_result(lambda: replace(found, dry_run=False), render.result, json)
            return
        matched = count_of(found.matched, "instance")
        ask_or_refuse(f"{action.capitalize()} {matched}?", yes=False)
    result = print_result(
        lambda: _call(action, where, matching, **record.origin()), render.result, json
    )
    exit_unless(not result.not_done)


def _call(action: BulkAction, where: Where, matching: Matching, **options: Any) -> BulkResult:
    return with_app(
        where.store_url(),
        where.needed_jobs(),
        lambda app: app.bulk(action, limit=matching.limit, **matching.filters, **options),
    )
