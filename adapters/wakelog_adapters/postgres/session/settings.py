"""What is set in each session, whatever the server, the database, the role or the URL has set.

A pooler that gives each transaction another session keeps no setting, and would hand it to other
clients: there nothing is set, and what our statements cannot do without is checked.
"""

from __future__ import annotations

from wakelog.errors import StoreUnavailableError
from wakelog_adapters.postgres.session.connection import Connection, rows_of
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["IDLE_TIMEOUT", "MIGRATING", "check_settings", "set_up"]

IDLE_TIMEOUT = "20s"
"""How long a transaction may be idle before the server rolls it back and releases its locks: its
process has stalled, or its connection was cut without the server noticing."""

_ISOLATION = "default_transaction_isolation", "read committed"
_SETTINGS = (
    # what a statement means, and what it returns
    _ISOLATION,
    ("default_transaction_deferrable", "off"),
    ("search_path", "pg_catalog, pg_temp"),
    ("array_nulls", "on"),
    ("quote_all_identifiers", "off"),
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    ("bytea_output", "hex"),
    ("datestyle", "ISO, YMD"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "1"),
    # when the server ends a session
    ("exit_on_error", "off"),
    ("idle_in_transaction_session_timeout", IDLE_TIMEOUT),
    ("jit", "off"),  # our statements are short
    ("synchronous_commit", "on"),
)
_SET = b"""SELECT pg_catalog.set_config(name, value, false)
    FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) s (name, value)
    WHERE pg_catalog.current_setting(name, true) <> value
    AND (name <> 'synchronous_commit' OR pg_catalog.current_setting(name) = 'off')"""
"""(names, values); those that this server does not know are left out. A weaker `synchronous_commit`
than `on` is a choice about standbys; only `off` loses what was acknowledged."""
MIGRATING = """SELECT pg_catalog.set_config(name, value, true)
    FROM (VALUES ('standard_conforming_strings', 'on'), ('lock_timeout', '0'),
        ('statement_timeout', '0'), ('transaction_timeout', '0'),
        ('idle_in_transaction_session_timeout', '0')) AS s (name, value)
    WHERE pg_catalog.current_setting(name, true) IS NOT NULL"""
"""For the transaction of a migration, which may take long, and wait for that of another process."""


def set_up(connection: Connection, location: StoreLocation) -> None:
    """Set what a new session needs, but behind a transaction pooler. Raises psycopg's errors."""
    if not location.pooled:
        wait = "lock_timeout", f"{round(location.timeout_s * 1000)}ms"
        names, values = zip(*_SETTINGS, wait, strict=True)
        rows_of(connection, _SET, ([*names], [*values]))


def check_settings(connection: Connection, location: StoreLocation) -> None:
    """Raise `StoreUnavailableError` ("wrong_settings") for a setting that cannot be made there."""
    name, wanted = _ISOLATION
    [(value,)] = rows_of(connection, b"SELECT pg_catalog.current_setting(%s)", (name,))
    if value != wanted:
        detail = f"{location.label}: {name} is {value}, and must be '{wanted}' behind a pooler"
        raise StoreUnavailableError("wrong_settings", detail)
