"""Which units of a refused group are to blame.

One call reads the facts that the units are judged by, then those without a conflict are written
together. If they are refused again, either the facts have changed meanwhile: then all begins again.
Or the server does not take a value: then each unit is tried alone and undone, so that the rest can
be written together. Or another session has locked a row: then its unit is set aside. In every case
there is exactly one append and one commit: no transaction that has the ordering lock waits for
anything, and one hot instance does not turn a group into as many commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wakelog.errors import StoreUnavailableError
from wakelog.ports.conflicts import RecordedFacts, find_conflicts, unseen_events
from wakelog.ports.records import Newest
from wakelog.ports.units import Unit, VersionConflict
from wakelog_adapters.postgres.append_run import AppendRun
from wakelog_adapters.postgres.connections import Connection, rows_of
from wakelog_adapters.postgres.errors import (
    DUPLICATE,
    is_conflict,
    is_locked,
    is_refusal,
    server_message,
)
from wakelog_adapters.sql.rows import can_be_stored

__all__ = ["append_without_refused"]

ROUNDS = 5
"""How often to begin again; then the units that could not be judged are refused."""


def append_without_refused(run: AppendRun, units: Sequence[Unit], error: Exception) -> None:
    """Append those of `units` that can be, after all of them were refused with `error`; for each of
    the others say why not.

    Raises psycopg's errors if nothing can be written.
    """
    faults: dict[int, Exception] = {}
    unexplained = 0
    if is_locked(error):
        faults |= _locked(run, units, [None] * len(units))
        unexplained += not faults
    for _ in range(ROUNDS):
        facts = _facts(run.connection, run.queries.facts, units)
        errors = find_conflicts(units, facts, faults)
        good = [unit for unit, error in zip(units, errors, strict=True) if error is None]
        try:
            run.write(good, errors, is_patient=unexplained > 1)
            return
        except Exception as again:
            if run.met_a_locked_row(again):
                found = _locked(run, units, errors)
                faults |= found
                unexplained += not found
            elif not is_refusal(again):
                raise
            elif not is_conflict(again):
                faults |= _tried_alone(run, units, errors)
    run.write([], [faults.get(i) or _kept_changing(unit) for i, unit in enumerate(units)])


def _locked(
    run: AppendRun, units: Sequence[Unit], errors: Sequence[Exception | None]
) -> Mapping[int, Exception]:
    """By index, the units without a conflict that another session has locked. None if it has locked
    whole tables: those are waited for."""
    good = [unit for unit, error in zip(units, errors, strict=True) if error is None]
    try:
        streams = run.locked_streams(good)
    except Exception as error:
        if not is_locked(error):
            raise
        return {}
    if not streams:  # perhaps a row that is about to be made
        return _tried_alone(run, units, errors, only_rows=True)
    paired = enumerate(zip(units, errors, strict=True))
    return {
        index: run.locked(unit)
        for index, (unit, error) in paired
        if error is None and unit.stream in streams
    }


def _tried_alone(
    run: AppendRun,
    units: Sequence[Unit],
    errors: Sequence[Exception | None],
    *,
    only_rows: bool = False,
) -> Mapping[int, Exception]:
    """By index, the units without a conflict that the server does not take, and why."""
    faults: dict[int, Exception] = {}
    before: dict[str, list[Unit]] = {}
    locked: set[str] = set()
    for index, unit in enumerate(units):
        earlier = before.setdefault(unit.stream, [])
        if errors[index] is not None or unit.stream in locked:
            continue
        earlier.append(unit)
        try:
            run.try_out(earlier, only_rows=only_rows)
        except Exception as error:
            earlier.pop()
            if run.met_a_locked_row(error):
                faults[index] = run.locked(unit)
                locked.add(unit.stream)
            elif not is_refusal(error):
                raise
            elif not is_conflict(error):
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
        sorted({unit.after.id.job for unit in known if unit.unless_paused}),
        [unit.stream for unit in known if unit.received is not None],
        [unit.received.sender for unit in known if unit.received is not None],
        [n for unit in known for n in unit.inbox],
    )
    heads, tokens, replies, paused, taken, inbox = rows_of(connection, sql, params)[0][0]
    newest = {stream: Newest(version, hash) for stream, version, hash in heads}
    expiries = {(stream, key): expires_us for stream, key, expires_us in replies}
    received = {(target, sender): version for target, sender, version in taken}
    paused_jobs, there = frozenset(paused), frozenset(inbox)
    return RecordedFacts(newest, dict(tokens), expiries, paused_jobs, received, there)
