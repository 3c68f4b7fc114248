"""The schema: numbered SQL files, applied at open in one transaction, under a lock.

A process that is killed while it migrates leaves the database as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from wakelog.errors import StoreUnavailableError
from wakelog_adapters.postgres.connections import Connection, rows_of
from wakelog_adapters.postgres.url import StoreLocation
from wakelog_adapters.sql.migrations import Migration, SchemaVersion, read

__all__ = ["migrate", "migrations", "prepare", "schema_version", "script"]

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('wakelog migrations'), hashtext('{schema}'))"
_TABLE = """CREATE TABLE IF NOT EXISTS {schema}.migrations (
    number bigint PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    compatible_since bigint
)"""
_ENCODING = "UTF8"


def migrations() -> Sequence[Migration]:
    """All known steps, in order."""
    return read("wakelog_adapters.postgres")


def schema_version(
    connection: Connection, place: StoreLocation, known: Sequence[Migration] | None = None
) -> SchemaVersion:
    """How the schema stands to `known`, the package's own unless given. Changes nothing.

    Raises `StoreUnavailableError` ("not_a_database") where no such schema can be, and psycopg's
    own errors.
    """
    asked = b"SELECT current_setting('server_encoding'), quote_ident(%s)"
    [(encoding, quoted)] = rows_of(connection, asked, (place.schema,))
    if encoding != _ENCODING:
        detail = f"{place.label} is encoded in {encoding}: create a database in {_ENCODING}"
        raise StoreUnavailableError("not_a_database", detail)
    if quoted != place.schema:
        detail = f"schema={place.schema} is a word of SQL's own: choose another name"
        raise StoreUnavailableError("not_a_database", f"{place.label}: {detail}")
    number, compatible_since = _applied(connection, place)
    label = f"{place.label} ({place.schema})"
    return SchemaVersion(label, number, compatible_since, known or migrations())


def prepare(connection: Connection, place: StoreLocation) -> None:
    """What opening does: bring the schema up to date, unless the URL says not to.

    Takes the lock only if there is something to do. Raises `StoreUnavailableError`
    ("wrong_version") for a schema that this package cannot work on, and psycopg's own errors.
    """
    stands = schema_version(connection, place)
    stands.check()
    if stands.missing and not place.migrate:
        raise stands.refuse()
    if stands.missing:
        migrate(connection, place)


def migrate(
    connection: Connection, place: StoreLocation, known: Sequence[Migration] | None = None
) -> Sequence[Migration]:
    """Apply what is missing, in one transaction under the lock; answer what that was."""
    with connection.transaction():
        connection.execute(_in_schema(_LOCK, place))
        stands = schema_version(connection, place, known)
        stands.check()
        if stands.number == 0:
            exists = b"SELECT FROM pg_namespace WHERE nspname = %s"
            if not rows_of(connection, exists, (place.schema,)):
                # Not "IF NOT EXISTS": that wants the right to create one, even where it exists.
                connection.execute(_in_schema("CREATE SCHEMA {schema}", place))
            connection.execute(_in_schema(_TABLE, place))
        for migration in stands.missing:
            connection.execute(_in_schema(_step(migration), place))
    return stands.missing


def script(place: StoreLocation, missing: Sequence[Migration]) -> str:
    """`missing` as SQL to run by hand, as one transaction; for `psql` or any other tool."""
    begin = ["BEGIN", _LOCK]
    if missing and missing[0] == migrations()[0]:
        begin += ["CREATE SCHEMA IF NOT EXISTS {schema}", _TABLE]
    steps = [f"-- {each}\n\n{_step(each)}" for each in missing]
    text = "".join(f"{part};\n\n" for part in [*begin, *steps]) + "COMMIT;\n"
    return text.replace("{schema}", place.schema)


def _step(migration: Migration) -> str:
    """One migration and the record of it."""
    number, name, compatible_since, sql = migration
    return (
        f"{sql.rstrip()}\n\nINSERT INTO {{schema}}.migrations (number, name, compatible_since)"
        f" VALUES ({number}, '{name}', {compatible_since})"
    )


def _in_schema(sql: str, place: StoreLocation) -> bytes:
    return sql.replace("{schema}", place.schema).encode()


def _applied(connection: Connection, place: StoreLocation) -> tuple[int, int]:
    """The newest migration there is, and what a package must know: itself, if that is not said.

    Not by to_regclass: it may answer from before the lock, out of the session's own cache.
    """
    exists = b"SELECT FROM pg_tables WHERE schemaname = %s AND tablename = 'migrations'"
    if not rows_of(connection, exists, (place.schema,)):
        return 0, 0
    newest = (
        "SELECT coalesce(max(number), 0), coalesce(max(coalesce(compatible_since, number)), 0)"
        " FROM {schema}.migrations"
    )
    number, compatible_since = rows_of(connection, _in_schema(newest, place))[0]
    return number, compatible_since
