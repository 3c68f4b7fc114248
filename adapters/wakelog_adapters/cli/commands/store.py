"""The commands on a store itself: migrate, doctor."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import command, print_result
from wakelog_adapters.cli.context import Where, without_secrets
from wakelog_adapters.cli.exit_codes import UsageError, exit_unless
from wakelog_adapters.cli.reports import HealthReport, SchemaReport, ScriptReport

if TYPE_CHECKING:
    from wakelog_adapters.sql.admin import StoreAdmin

__all__ = ["doctor", "migrate"]

_LOG = logging.getLogger("wakelog.cli")

GivenUrl = Annotated[
    str | None,
    typer.Argument(metavar="URL", help="The store (or --url, or WAKELOG_URL).", show_default=False),
]


@command
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
    from wakelog_adapters.cli.render import store as render

    if check and show_sql:
        raise UsageError("--check and --print do not go together")
    with _admin(given or url) as (store, admin):
        if show_sql:
            print_result(lambda: _script(store, admin), render.script, json)
        elif check:
            schema = print_result(lambda: _schema(store, admin), render.schema, json)
            exit_unless(schema.up_to_date)
        else:
            print_result(lambda: _migrated(store, admin), render.schema, json)


@command
def doctor(
    given: GivenUrl = None,
    url: options.Url = None,
    json: options.Json = False,
) -> None:
    """Examine a store: its server or file, its schema, its workers, and what is stuck.

    Nothing is changed. Exits with 1 if there is a problem; warnings alone exit with 0.
    """
    from wakelog_adapters.cli.render import store as render

    with _admin(given or url) as (store, admin):
        health = print_result(lambda: _health(store, admin), render.health, json)
    exit_unless(health.healthy)


@contextmanager
def _admin(url: str | None) -> Generator[tuple[str, StoreAdmin]]:
    """The store's URL as it may be shown, and its admin.

    Raises `StoreUnavailableError`, and `UsageError` if no store is named or its URL is invalid.
    """
    from wakelog.errors import ValidationError
    from wakelog_adapters.sql.admin import store_admin

    store = Where(url=url).store_url()
    try:
        yield without_secrets(store), store_admin(store)
    except ValidationError as error:
        raise UsageError(str(error)) from None


def _schema(store: str, admin: StoreAdmin, applied: list[str] | None = None) -> SchemaReport:
    """Raises `StoreUnavailableError`, also for a schema that this wakelog cannot work on."""
    version = admin.schema_version()
    version.check()
    return SchemaReport(
        store=store,
        migration=version.number,
        known=version.newest,
        up_to_date=not version.missing,
        missing=[str(each) for each in version.missing],
        applied=applied or [],
    )


def _migrated(store: str, admin: StoreAdmin) -> SchemaReport:
    return _schema(store, admin, [str(each) for each in admin.migrate()])


def _script(store: str, admin: StoreAdmin) -> ScriptReport:
    """What is missing, or all migrations if the store cannot be reached."""
    from wakelog.errors import StoreUnavailableError

    try:
        version = admin.schema_version()
        version.check()
        missing = version.missing
    except StoreUnavailableError as error:
        if error.reason != "unreachable":
            raise
        _LOG.warning("the store cannot be reached, so all migrations are printed: %s", error.detail)
        missing = admin.migrations
    sql = admin.script(missing) if missing else "-- nothing is missing\n"
    return ScriptReport(store=store, missing=[str(each) for each in missing], sql=sql)


def _health(store: str, admin: StoreAdmin) -> HealthReport:
    """Raises `StoreUnavailableError` if nothing can be examined."""
    from wakelog.clock import SystemClock

    findings = list(admin.check_health(SystemClock()))
    healthy = all(finding.level != "problem" for finding in findings)
    return HealthReport(store=store, healthy=healthy, findings=findings)
