"""The commands that take care of a store: migrate, doctor."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import app, tell
from wakelog_adapters.cli.exit_codes import REFUSED, UsageError

__all__ = ["doctor", "migrate"]

GivenUrl = Annotated[
    str | None,
    typer.Argument(metavar="URL", help="The store (or --url, or WAKELOG_URL).", show_default=False),
]


@app.command()
def migrate(
    given: GivenUrl = None,
    url: options.Url = None,
    show_sql: Annotated[
        bool,
        typer.Option(
            "--print",
            help="Print what is missing as SQL to run by hand; all of it, if there is no store.",
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only say whether something is missing: then exit with 1."),
    ] = False,
    json: options.Json = False,
) -> None:
    """Bring the schema of a store up to date.

    Opening a store does it too, unless its URL says migrate=off. With --print or --check nothing
    is changed.
    """
    from wakelog_adapters.cli import caring
    from wakelog_adapters.cli.render import store as show_care

    if check and show_sql:
        raise UsageError("--check and --print do not go together")
    with _urls_as_usage():
        store = caring.store(given or url)
        if show_sql:
            tell(lambda: caring.script(store), show_care.script, json)
        elif check:
            stands = tell(lambda: caring.standing(store), show_care.schema, json)
            if not stands.up_to_date:
                raise typer.Exit(REFUSED)
        else:
            tell(lambda: caring.migrate(store), show_care.schema, json)


@app.command()
def doctor(
    given: GivenUrl = None,
    url: options.Url = None,
    json: options.Json = False,
) -> None:
    """Examine a store: its server or file, its schema, its workers, and what is stuck.

    Nothing is changed. Exits with 1 where something is a problem, with 0 where nothing is, though
    there may be warnings.
    """
    from wakelog_adapters.cli import caring
    from wakelog_adapters.cli.render import store as show_care

    with _urls_as_usage():
        store = caring.store(given or url)
        found = tell(lambda: caring.examine(store), show_care.examined, json)
    if not found.healthy:
        raise typer.Exit(REFUSED)


@contextmanager
def _urls_as_usage() -> Generator[None]:
    """A URL that cannot be one is a mistake on the command line."""
    from wakelog.errors import ValidationError

    try:
        yield
    except ValidationError as error:
        raise UsageError(str(error)) from None
