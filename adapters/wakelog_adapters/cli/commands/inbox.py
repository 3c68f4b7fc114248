"""The commands of `wakelog inbox`: events sent in transactions that are not taken up yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import group, print_result, subcommand
from wakelog_adapters.cli.context import Where, with_app
from wakelog_adapters.cli.exit_codes import exit_unless
from wakelog_adapters.cli.reports import InboxActReport, InboxReport

if TYPE_CHECKING:
    from wakelog.app import App

__all__ = ["drop", "list_rows", "retry"]

inbox = group("inbox", "Events that were sent in transactions, and are not taken up yet.")

Number = Annotated[int, typer.Argument(metavar="NUMBER", help="As `wakelog inbox list` shows it.")]
Limit = Annotated[
    int, typer.Option("--limit", metavar="COUNT", min=1, max=10_000, help="At most so many rows.")
]
After = Annotated[
    int, typer.Option("--after", metavar="NUMBER", min=0, help="Rows with higher numbers.")
]


@subcommand(inbox, name="list")
def list_rows(
    *, url: options.Url = None, limit: Limit = 100, after: After = 0, json: options.Json = False
) -> None:
    """List the rows of the inbox: what waits, what is held back, and what was refused, and why."""
    from wakelog_adapters.cli.render import inbox as render

    async def report(app: App) -> InboxReport:
        store, threads = app.application.store, app.application.threads
        return InboxReport.of(await threads.browse(store.inbox_list, after, limit))

    store_url = Where(url=url).store_url()
    print_result(lambda: with_app(store_url, None, report), render.rows, json)


@subcommand(inbox)
def retry(*, number: Number, url: options.Url = None, json: options.Json = False) -> None:
    """Let a row be tried again at once, also one that was refused. Exits with 1 if there is no
    such row."""
    _act("retry", number, url, json)


@subcommand(inbox)
def drop(*, number: Number, url: options.Url = None, json: options.Json = False) -> None:
    """Delete a row for good: its event is never accepted. Exits with 1 if there is no such row."""
    _act("drop", number, url, json)


def _act(action: Literal["retry", "drop"], number: int, url: str | None, json: bool) -> None:
    from wakelog_adapters.cli.render import inbox as render

    async def call(app: App) -> InboxActReport:
        store = app.application.store
        act = store.inbox_retry if action == "retry" else store.inbox_drop
        done = await app.application.threads.write(act, number)
        return InboxActReport(number=number, action=action, done=done)

    store_url = Where(url=url).store_url()
    result = print_result(lambda: with_app(store_url, None, call), render.acted, json)
    exit_unless(result.done)
