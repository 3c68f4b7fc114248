"""How the parameters of a statement are given to Python's `sqlite3`."""

from __future__ import annotations

import sqlite3

__all__ = ["executed"]

_NAMES = tuple(map(str, range(1, 10)))


def executed(connection: sqlite3.Connection, sql: str, *params: object) -> sqlite3.Cursor:
    """Execute a statement with `?`, or with at most nine parameters `?1`, `?2` … in any order.

    The latter are given by name: of a sequence Python 3.12.0 to 3.12.3 warn (CPython gh-117995).
    """
    if "?1" in sql:
        return connection.execute(sql, dict(zip(_NAMES, params, strict=False)))
    return connection.execute(sql, params)
