"""The schema of a SQL store: which migrations it has, and how the missing ones are applied."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Generic, TypeVar

from wakelog.errors import StoreUnavailableError
from wakelog_adapters.sql.migrations import Migration, SchemaVersion

__all__ = ["ConnectionT", "SqlSchema"]

ConnectionT = TypeVar("ConnectionT")

_APPLIED = """SELECT number, coalesce(compatible_since, number), name FROM {t}migrations
    ORDER BY number"""


class SqlSchema(ABC, Generic[ConnectionT]):
    """The schema of one store. Its methods raise the driver's errors, besides those they name.

    All missing migrations are applied in one transaction under a lock: a process that is killed
    while it migrates leaves the database as it was. In the SQL here and in the migrations `{t}`
    is what the names of all tables begin with, and `placeholder` is the store's own name.
    """

    placeholder: ClassVar[str]
    begin_sql: ClassVar[Sequence[str]]
    """Begin a transaction that no other migration is concurrent with; for scripts."""
    create_sql: ClassVar[Sequence[str]]
    """Make the table that records migrations, and what it needs, unless they are there."""
    has_table_sql: ClassVar[str]
    """A query that has a row if the table that records migrations exists."""
    now_sql: ClassVar[str]
    """The expression for the time at which a migration is applied."""

    def __init__(
        self, label: str, name: str, tables: str, known: Sequence[Migration], *, may_migrate: bool
    ) -> None:
        self.label = label
        """What errors call the store."""
        self.known = known
        """All migrations, in order."""
        self._name = name
        self._tables = tables
        self._may_migrate = may_migrate

    @abstractmethod
    def rows(self, connection: ConnectionT, sql: str) -> Sequence[Sequence[Any]]:
        """The rows of a query, with its names filled in."""

    @abstractmethod
    def execute(self, connection: ConnectionT, sql: str) -> None:
        """Execute a statement, with its names filled in."""

    @abstractmethod
    def transaction(self, connection: ConnectionT) -> AbstractContextManager[None]:
        """A transaction that no other migration of this store is concurrent with."""

    @abstractmethod
    def statements(self, sql: str) -> Sequence[str]:
        """The SQL of a migration, cut into what the driver executes at a time."""

    def create_table(self, connection: ConnectionT) -> None:
        """Make the table that records migrations."""
        for statement in self.create_sql:
            self.execute(connection, statement)

    def version(self, connection: ConnectionT) -> SchemaVersion:
        """The migrations that were applied, compared with the known ones. Changes nothing.

        Raises `StoreUnavailableError`: "not_a_database" if there can be no such schema, "damaged"
        if that cannot be told.
        """
        applied: Sequence[Sequence[Any]] = ()
        if self.rows(connection, self.has_table_sql):
            applied = self.rows(connection, _APPLIED)
        if not all(isinstance(each, int) for row in applied for each in row[:2]):
            detail = f"{self.label}: the table of migrations is not as it was written"
            raise StoreUnavailableError("damaged", detail)
        names = {row[0]: row[2] for row in applied}
        return SchemaVersion(
            self.label,
            number=max(names, default=0),
            compatible_since=max((row[1] for row in applied), default=0),
            known=self.known,
            changed=[m for m in self.known if names.get(m.number, m.recorded) != m.recorded],
        )

    def prepare(self, connection: ConnectionT) -> None:
        """What opening a store does: apply what is missing, unless the URL has migrate=off.

        Takes the lock only if something is missing. Raises `StoreUnavailableError`
        ("wrong_version") for a schema that this package cannot work on.
        """
        version = self.version(connection)
        version.check()
        if version.missing and not self._may_migrate:
            raise version.missing_error()
        if version.missing:
            self.migrate(connection)

    def migrate(self, connection: ConnectionT) -> Sequence[Migration]:
        """Apply what is missing, in one transaction under the lock; return what was applied.

        Raises `StoreUnavailableError` ("wrong_version") for a schema that this package
        cannot work on.
        """
        with self.transaction(connection):
            version = self.version(connection)  # under the lock, so that it is still true below
            version.check()
            if version.number == 0:
                self.create_table(connection)
            for migration in version.missing:
                for statement in self._steps(migration):
                    self.execute(connection, statement)
        return version.missing

    def script(self, migrations: Sequence[Migration]) -> str:
        """Consecutive migrations as SQL to run by hand, as one transaction under the same lock."""
        parts = list(self.begin_sql)
        if migrations and migrations[0].number == self.known[0].number:
            parts += self.create_sql
        parts += [f"-- {each}\n\n" + ";\n\n".join(self._steps(each)) for each in migrations]
        return self.filled_in("".join(f"{part};\n\n" for part in parts) + "COMMIT;\n")

    def filled_in(self, sql: str) -> str:
        """SQL with the names of this store."""
        return sql.replace("{t}", self._tables).replace(self.placeholder, self._name)

    def _steps(self, migration: Migration) -> Sequence[str]:
        """The statements of a migration and the one that records it."""
        number, _, compatible_since, sql = migration
        record = (
            "INSERT INTO {t}migrations (number, name, applied_at, compatible_since)"
            f" VALUES ({number}, '{migration.recorded}', {self.now_sql}, {compatible_since})"
        )
        return [*self.statements(sql), record]
