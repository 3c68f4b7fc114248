"""Which units of a refused group are to blame.

Two more statements, whatever the group's size: one reads the facts that the units are judged by,
then those without a conflict are written together. Only if they are refused again (a value that
SQLite does not take) are they written one by one. All in the caller's transaction, so no other
writer comes in between.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from wakelog.errors import StoreUnavailableError
from wakelog.ports.conflicts import RecordedFacts, find_conflicts, follows_refused, unseen_events
from wakelog.ports.records import Newest
from wakelog.ports.units import Appended, Unit
from wakelog_adapters.sql.rows import readable
from wakelog_adapters.sqlite.append import AppendStatement, dumps
from wakelog_adapters.sqlite.errors import REFUSALS
from wakelog_adapters.sqlite.parameters import executed
from wakelog_adapters.sqlite.queries import Queries

__all__ = ["append_without_refused"]


def append_without_refused(
    connection: sqlite3.Connection,
    queries: Queries,
    statement: AppendStatement,
    units: Sequence[Unit],
) -> Appended:
    """Append those of `units` that can be; for each of the others say why not.

    To be called in a write transaction. Raises SQLite's errors if nothing can be written.
    """
    errors = find_conflicts(units, _facts(connection, queries, units))
    good = [unit for unit, error in zip(units, errors, strict=True) if error is None]
    try:
        return Appended(errors, statement.write(good) if good else None)
    except REFUSALS:
        return _one_by_one(statement, units, errors)


def _one_by_one(
    statement: AppendStatement, units: Sequence[Unit], errors: Sequence[Exception | None]
) -> Appended:
    """A statement that fails undoes what it has written, and nothing of those before it."""
    refused: set[str] = set()
    results: list[Exception | None] = []
    dues: dict[str, int | None] = {}
    for unit, conflict in zip(units, errors, strict=True):
        error = conflict
        if error is None and unit.stream in refused:
            error = follows_refused(unit)
        if error is None:
            error = _alone(statement, unit, dues)
        if error is not None:
            refused.add(unit.stream)
        results.append(error)
    return Appended(results, min((at for at in dues.values() if at is not None), default=None))


def _alone(statement: AppendStatement, unit: Unit, dues: dict[str, int | None]) -> Exception | None:
    try:
        dues[unit.stream] = statement.write([unit])
    except REFUSALS as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
            return unseen_events(unit)
        return StoreUnavailableError("refused", f"{unit.stream}: {error}")
    return None


@readable
def _facts(
    connection: sqlite3.Connection, queries: Queries, units: Sequence[Unit]
) -> RecordedFacts:
    streams = [unit.stream for unit in units]
    keys = [(unit.stream, unit.kept_reply.key) for unit in units if unit.kept_reply is not None]
    row: tuple[str, ...]
    pairs = [(unit.stream, unit.received.sender) for unit in units if unit.received is not None]
    rows = [n for unit in units for n in unit.inbox]
    params = (_bindable(each) for each in (streams, keys, pairs, rows))
    row = executed(connection, queries.facts, *params).fetchone()
    heads, tokens, replies, paused, taken, inbox = (json.loads(text) for text in row)
    newest = {stream: Newest(version, hash) for stream, version, hash in heads}
    expiries = {(stream, key): expires_us for stream, key, expires_us in replies}
    received = {(target, sender): version for target, sender, version in taken}
    paused_jobs, there = frozenset(paused), frozenset(inbox)
    return RecordedFacts(newest, dict(tokens), expiries, paused_jobs, received, there)


def _bindable(values: object) -> str:
    """JSON text that can always be bound: what cannot be stored matches nothing anyway."""
    return dumps(values).encode(errors="replace").decode()
