"""What the commands of care ask of a store's caretaker, and its answers as values to print."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from wakelog.clock import SystemClock
from wakelog.errors import StoreUnavailableError
from wakelog_adapters.cli.context import Where, without_secrets
from wakelog_adapters.sql.admin import Finding, StoreAdmin, store_admin

__all__ = [
    "AdminTarget",
    "HealthReport",
    "SchemaReport",
    "ScriptReport",
    "examine",
    "migrate",
    "script",
    "standing",
    "store",
]

_LOG = logging.getLogger("wakelog.cli")


@dataclass(frozen=True, slots=True)
class AdminTarget:
    """A store, and who takes care of it."""

    url: str
    """As it may be shown."""
    store_admin: StoreAdmin


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaReport:
    """How a schema stands, and what was just applied to it."""

    store: str
    migration: int
    """The newest that was applied; 0: there is no schema."""
    known: int
    """The newest that this wakelog knows."""
    up_to_date: bool
    """Whether nothing is missing. It may be newer than this wakelog, as long as that can work."""
    missing: list[str]
    applied: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptReport:
    """What is missing, as SQL."""

    store: str
    missing: list[str]
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """What an examination has found."""

    store: str
    healthy: bool
    """Whether nothing is a problem."""
    findings: list[Finding]


def store(url: str | None) -> AdminTarget:
    """The store that is meant. Raises `UsageError`, `ValidationError`, `StoreUnavailableError`."""
    named = Where(url).store_url()
    return AdminTarget(without_secrets(named), store_admin(named))


def standing(at: AdminTarget, applied: list[str] | None = None) -> SchemaReport:
    """How its schema stands. Raises `StoreUnavailableError`, for one that is too new as well."""
    stands = at.store_admin.schema_version()
    stands.check()
    return SchemaReport(
        store=at.url,
        migration=stands.number,
        known=stands.newest,
        up_to_date=not stands.missing,
        missing=[str(each) for each in stands.missing],
        applied=applied or [],
    )


def migrate(at: AdminTarget) -> SchemaReport:
    """Apply what is missing."""
    return standing(at, [str(each) for each in at.store_admin.migrate()])


def script(at: AdminTarget) -> ScriptReport:
    """What is missing as SQL, or everything where no store can be asked."""
    try:
        stands = at.store_admin.schema_version()
        stands.check()
        missing = stands.missing
    except StoreUnavailableError as error:
        if error.reason != "unreachable":
            raise
        _LOG.warning("printing all there is, for the store cannot be asked: %s", error.detail)
        missing = at.store_admin.migrations
    sql = at.store_admin.script(missing) if missing else "-- nothing is missing\n"
    return ScriptReport(store=at.url, missing=[str(each) for each in missing], sql=sql)


def examine(at: AdminTarget) -> HealthReport:
    """Look at everything. Raises `StoreUnavailableError` where nothing can be looked at."""
    findings = list(at.store_admin.check_health(SystemClock()))
    healthy = all(finding.level != "problem" for finding in findings)
    return HealthReport(store=at.url, healthy=healthy, findings=findings)
