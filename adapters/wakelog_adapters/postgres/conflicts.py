"""Which units of a refused group are to blame.

One call reads the facts that the units are judged by, then those without a conflict are written
together. If they are refused again, either the facts have changed meanwhile: then all begins again.
Or the server does not take a value: then each unit is tried alone and undone, so that the rest can
be written together. In every case there is exactly one append and one commit: no transaction that
has the ordering lock waits for anything, and one hot instance does not turn a group into as many
commits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from wakelog.errors import StoreUnavailableError
from wakelog.ports.conflicts import RecordedFacts, find_conflicts, unseen_events
from wakelog.ports.records import Newest
from wakelog.ports.units import Unit, VersionConflict
from wakelog_adapters.postgres.connections import Connection, rows_of
from wakelog_adapters.postgres.errors import DUPLICATE, is_conflict, is_refusal, server_message
from wakelog_adapters.postgres.reads import can_be_stored

__all__ = ["RefusedAppend", "append_without_refused"]

ROUNDS = 5
"""How often to begin again; then the units that could not be judged are refused."""


class RefusedAppend(NamedTuple):
    """How to go on with an append that was refused as a whole."""

    connection: Connection
    facts_sql: bytes
    write: Callable[[Sequence[Unit], Sequence[Exception | None]], None]
    """Writes units, all or none. The second argument is the outcome of each unit of the group."""
    try_out: Callable[[Sequence[Unit]], None]
    """Writes units and undoes that."""


def append_without_refused(refused: RefusedAppend, units: Sequence[Unit]) -> None:
    """Append those of `units` that can be; for each of the others say why not.

    Raises psycopg's errors if nothing can be written.
    """
    faults: dict[int, Exception] = {}
    for _ in range(ROUNDS):
        facts = _facts(refused.connection, refused.facts_sql, units)
        errors = find_conflicts(units, facts, faults)
        good = [unit for unit, error in zip(units, errors, strict=True) if error is None]
        try:
            refused.write(good, errors)
            return
        except Exception as error:
            if not is_refusal(error):
                raise
            if not is_conflict(error):
                faults |= _tried_alone(refused, units, errors)
    refused.write([], [faults.get(i) or _kept_changing(unit) for i, unit in enumerate(units)])


def _tried_alone(
    refused: RefusedAppend, units: Sequence[Unit], errors: Sequence[Exception | None]
) -> Mapping[int, Exception]:
    """By index, the units without a conflict that the server does not take, and why."""
    faults: dict[int, Exception] = {}
    before: dict[str, list[Unit]] = {}
    for index, unit in enumerate(units):
        earlier = before.setdefault(unit.stream, [])
        if errors[index] is not None:
            continue
        earlier.append(unit)
        try:
            refused.try_out(earlier)
        except Exception as error:
            if not is_refusal(error):
                raise
            earlier.pop()
            if not is_conflict(error):
                faults[index] = _fault(unit, error)
    return faults


def _fault(unit: Unit, error: Exception) -> Exception:
    if getattr(error, "sqlstate", None) == DUPLICATE:
        return unseen_events(unit)
    return StoreUnavailableError("refused", f"{unit.stream}: {server_message(error)}")


def _kept_changing(unit: Unit) -> VersionConflict:
    return VersionConflict(f"other processes kept changing {unit.stream}, its lease or its keys")


def _facts(connection: Connection, sql: bytes, units: Sequence[Unit]) -> RecordedFacts:
    known = [unit for unit in units if can_be_stored(unit.stream)]
    keys = [
        (unit.stream, unit.kept_reply.key)
        for unit in known
        if unit.kept_reply is not None and can_be_stored(unit.kept_reply.key)
    ]
    params = (
        sorted({unit.stream for unit in known}),
        [stream for stream, _ in keys],
        [key for _, key in keys],
    )
    heads, tokens, replies = rows_of(connection, sql, params)[0][0]
    newest = {stream: Newest(version, hash) for stream, version, hash in heads}
    expiries = {(stream, key): expires_us for stream, key, expires_us in replies}
    return RecordedFacts(newest, dict(tokens), expiries)
