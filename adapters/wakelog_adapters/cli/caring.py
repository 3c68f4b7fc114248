"""What the commands of care ask of a store's caretaker, and its answers as values to print."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from wakelog.clock import SystemClock
from wakelog.errors import StoreUnavailableError
from wakelog_adapters.care import Caretaker, Finding, caretaker
from wakelog_adapters.cli.surroundings import Where, without_secrets

__all__ = [
    "Cared",
    "Examined",
    "Schema",
    "Script",
    "examine",
    "migrate",
    "script",
    "standing",
    "store",
]

_LOG = logging.getLogger("wakelog.cli")


@dataclass(frozen=True, slots=True)
class Cared:
    """A store, and who takes care of it."""

    url: str
    """As it may be shown."""
    caretaker: Caretaker


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
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
class Script:
    """What is missing, as SQL."""

    store: str
    missing: list[str]
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What an examination has found."""

    store: str
    healthy: bool
    """Whether nothing is a problem."""
    findings: list[Finding]


def store(url: str | None) -> Cared:
    """The store that is meant. Raises `UsageError`, `ValidationError`, `StoreUnavailableError`."""
    named = Where(url).store_url()
    return Cared(without_secrets(named), caretaker(named))


def standing(at: Cared, applied: list[str] | None = None) -> Schema:
    """How its schema stands. Raises `StoreUnavailableError`, for one that is too new as well."""
    stands = at.caretaker.standing()
    stands.check()
    return Schema(
        store=at.url,
        migration=stands.number,
        known=stands.newest,
        up_to_date=not stands.missing,
        missing=[str(each) for each in stands.missing],
        applied=applied or [],
    )


def migrate(at: Cared) -> Schema:
    """Apply what is missing."""
    return standing(at, [str(each) for each in at.caretaker.migrate()])


def script(at: Cared) -> Script:
    """What is missing as SQL, or everything where no store can be asked."""
    try:
        stands = at.caretaker.standing()
        stands.check()
        missing = stands.missing
    except StoreUnavailableError as error:
        if error.reason != "unreachable":
            raise
        _LOG.warning("printing all there is, for the store cannot be asked: %s", error.detail)
        missing = at.caretaker.migrations
    sql = at.caretaker.script(missing) if missing else "-- nothing is missing\n"
    return Script(store=at.url, missing=[str(each) for each in missing], sql=sql)


def examine(at: Cared) -> Examined:
    """Look at everything. Raises `StoreUnavailableError` where nothing can be looked at."""
    findings = list(at.caretaker.examine(SystemClock()))
    healthy = all(finding.level != "problem" for finding in findings)
    return Examined(store=at.url, healthy=healthy, findings=findings)
