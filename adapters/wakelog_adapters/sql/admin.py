"""The admin of a store: it brings the schema up to date and checks the store's health.

`wakelog migrate` and `wakelog doctor` call it. It is found like the store itself, by the scheme of
the URL: an entry point in the group `wakelog.store_admins` that takes the URL. Every admin passes
`wakelog_adapters.conformance.store_admin.StoreAdminExam`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from typing import Any, Generic, Protocol

from wakelog.clock import Clock
from wakelog.jobs import loaded, unknown_scheme
from wakelog_adapters.sql.findings import Finding, problem, schema_finding
from wakelog_adapters.sql.health import HealthQueries, check_jobs
from wakelog_adapters.sql.migrations import Migration, SchemaVersion
from wakelog_adapters.sql.rows import damaged
from wakelog_adapters.sql.schema import ConnectionT, SqlSchema

__all__ = ["Finding", "Migration", "SchemaVersion", "SqlStoreAdmin", "StoreAdmin", "store_admin"]

ADMINS = "wakelog.store_admins"


class StoreAdmin(Protocol):
    """Administers the store at one URL. Only `migrate` changes anything.

    All calls block, and raise `StoreUnavailableError`.
    """

    @property
    def migrations(self) -> Sequence[Migration]:
        """All migrations that this package knows, in order."""
        ...

    def schema_version(self) -> SchemaVersion:
        """Which migrations the store has; if there is no store yet, all are missing."""
        ...

    def script(self, steps: Sequence[Migration]) -> str:
        """Consecutive migrations as SQL to run by hand."""
        ...

    def migrate(self) -> Sequence[Migration]:
        """Apply what is missing; return what was applied. Killed here: nothing was applied."""
        ...

    def check_health(self, clock: Clock) -> Iterator[Finding]:
        """Run all checks; `clock` is this machine's."""
        ...


def store_admin(url: str) -> StoreAdmin:
    """The admin of the store at a URL.

    Raises `ValidationError` for an invalid URL, and `StoreUnavailableError` ("unknown_scheme") for
    that of a store without a schema.
    """
    scheme, colon, _ = url.partition("://")
    known = entry_points(group=ADMINS)
    if not colon or scheme not in known.names:
        raise unknown_scheme(url, known.names, " has no schema")
    make: Callable[[str], StoreAdmin] = loaded(known[scheme])
    return make(url)


class SqlStoreAdmin(ABC, Generic[ConnectionT]):
    """A `StoreAdmin` over SQL. It connects for each call."""

    def __init__(self, schema: SqlSchema[ConnectionT]) -> None:
        self._schema = schema

    @abstractmethod
    def connected(self, *, to_migrate: bool = False) -> AbstractContextManager[ConnectionT]:
        """A connection; `to_migrate`: the store may be made. Raises `StoreUnavailableError`, also
        in place of the driver's errors."""

    @abstractmethod
    def check_database(
        self, connection: ConnectionT, clock: Clock
    ) -> Generator[Finding, None, bool]:
        """The checks of this kind of database; return whether the tables can be read."""

    def lease_now_us(self, connection: ConnectionT, now_us: int) -> int:
        """The time by which leases expire: `now_us`, unless the database has a clock for them."""
        return now_us

    @property
    def migrations(self) -> Sequence[Migration]:
        return self._schema.known

    def schema_version(self) -> SchemaVersion:
        with self.connected() as connection:
            return self._schema.version(connection)

    def script(self, steps: Sequence[Migration]) -> str:
        return self._schema.script(steps)

    def migrate(self) -> Sequence[Migration]:
        version = self.schema_version()
        version.check()
        if not version.missing:
            return ()
        with self.connected(to_migrate=True) as connection:
            return self._schema.migrate(connection)

    def check_health(self, clock: Clock) -> Iterator[Finding]:
        with self.connected() as connection:
            is_readable = yield from self.check_database(connection, clock)
            if not is_readable:
                return
            version = self._schema.version(connection)
            yield schema_finding(version)
            if version.number and version.is_usable:
                yield from _told(check_jobs(self._queries(connection, clock.now_us())))

    def _queries(self, connection: ConnectionT, now_us: int) -> HealthQueries:
        def rows(sql: str) -> Sequence[Sequence[Any]]:
            return self._schema.rows(connection, sql)

        return HealthQueries(rows, now_us, self.lease_now_us(connection, now_us))


def _told(findings: Iterator[Finding]) -> Iterator[Finding]:
    """These findings; a row that cannot be read ends them, as one more."""
    try:
        yield from findings
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        advice = "stop all processes that use the store, and restore a copy"
        yield problem("rows", damaged(error).detail, advice)
