"""The careful way: when a group did not pass the door as a whole, find who is to blame.

Two statements more whatever the group's size: one reads what the units are judged by, then those
that can be right pass the door together. Only if they still do not (a value that SQLite does not
take) they pass one by one. All in the caller's transaction, so nobody gets in between.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from wakelog.errors import StoreUnavailableError
from wakelog.ports.units import Appended, KeyTaken, LeaseGone, Unit, VersionConflict
from wakelog_adapters.sqlite.append import AppendStatement, dumps
from wakelog_adapters.sqlite.errors import REFUSALS

__all__ = ["append_carefully"]


def append_carefully(
    connection: sqlite3.Connection, door: AppendStatement, units: Sequence[Unit], prefix: str
) -> Appended:
    """Append those of `units` that can be, and say for each of the others why not.

    To be called in a write transaction. Raises SQLite's errors where nothing can be written.
    """
    errors = _Facts.read(connection, units, prefix).judge(units)
    good = [unit for unit, error in zip(units, errors, strict=True) if error is None]
    try:
        return Appended(errors, door.write(good) if good else None)
    except REFUSALS:
        return _one_by_one(door, units, errors)


def _one_by_one(
    door: AppendStatement, units: Sequence[Unit], errors: Sequence[Exception | None]
) -> Appended:
    """Each statement stands or falls by itself, so one that fails leaves nothing behind."""
    refused: set[str] = set()
    results: list[Exception | None] = []
    dues: dict[str, int | None] = {}
    for unit, judged in zip(units, errors, strict=True):
        error = judged
        if error is None and unit.stream in refused:
            error = _follows_refused(unit)
        if error is None:
            error = _alone(door, unit, dues)
        if error is not None:
            refused.add(unit.stream)
        results.append(error)
    return Appended(results, min((at for at in dues.values() if at is not None), default=None))


def _alone(door: AppendStatement, unit: Unit, dues: dict[str, int | None]) -> Exception | None:
    try:
        dues[unit.stream] = door.write([unit])
    except REFUSALS as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
            # The status row agreed, the log does not: it is the log that counts.
            return VersionConflict(f"{unit.stream} has events after {unit.base_version}")
        return StoreUnavailableError("refused", f"{unit.stream}: {error}")
    return None


def _follows_refused(unit: Unit) -> VersionConflict:
    return VersionConflict(f"a unit of {unit.stream} before this one was refused")


class _Facts(NamedTuple):
    """What units are judged by; it moves on with those that pass."""

    versions: dict[str, int]
    """Where the streams stand; one that is missing stands at 0."""
    tokens: dict[str, int]
    """The tokens of the leases there are."""
    keys: dict[tuple[str, str], int | None]
    """When the recorded answers expire."""

    @classmethod
    def read(cls, connection: sqlite3.Connection, units: Sequence[Unit], prefix: str) -> _Facts:
        streams = [unit.stream for unit in units]
        keys = [(unit.stream, unit.kept_reply.key) for unit in units if unit.kept_reply is not None]
        row: tuple[str, str, str] = connection.execute(
            f"""SELECT
            (SELECT json_group_array(json_array(stream, version)) FROM {prefix}status
                WHERE stream IN (SELECT value FROM json_each(?1))),
            (SELECT json_group_array(json_array(stream, token)) FROM {prefix}leases
                WHERE stream IN (SELECT value FROM json_each(?1))),
            (SELECT json_group_array(json_array(a.stream, a.key, a.expires_us))
                FROM json_each(?2) j JOIN {prefix}kept_replies a
                ON a.stream = json_extract(j.value, '$[0]')
                AND a.key = json_extract(j.value, '$[1]'))""",
            (_readable(streams), _readable(keys)),
        ).fetchone()
        versions, tokens, answers = (json.loads(text) for text in row)
        return cls(dict(versions), dict(tokens), {(s, k): until for s, k, until in answers})

    def judge(self, units: Sequence[Unit]) -> Sequence[Exception | None]:
        """For each unit, in order: None, or why it cannot be appended."""
        refused: set[str] = set()
        errors: list[Exception | None] = []
        for unit in units:
            error: Exception | None
            error = _follows_refused(unit) if unit.stream in refused else self._fault(unit)
            if error is None:
                self._move_on(unit)
            else:
                refused.add(unit.stream)
            errors.append(error)
        return errors

    def _fault(self, unit: Unit) -> Exception | None:
        """The most final fault first: a lost lease, then a used key, then another version."""
        stream = unit.stream
        if unit.lease_token is not None and self.tokens.get(stream) != unit.lease_token:
            return LeaseGone(f"the lease {unit.lease_token} of {stream} is not held any more")
        if unit.kept_reply is not None:
            where = (stream, unit.kept_reply.key)
            if where in self.keys:
                expires_us = self.keys[where]
                if expires_us is None or expires_us > unit.after.recorded_us:
                    return KeyTaken(f"key {unit.kept_reply.key!r} of {stream} has been used")
        stands = self.versions.get(stream, 0)
        if stands != unit.base_version:
            return VersionConflict(f"{stream} stands at {stands}, not at {unit.base_version}")
        return None

    def _move_on(self, unit: Unit) -> None:
        self.versions[unit.stream] = unit.after.version
        if unit.take is not None:
            self.tokens[unit.stream] = unit.take.token
        elif unit.ends_lease:
            self.tokens.pop(unit.stream, None)
        if unit.kept_reply is not None:
            self.keys[unit.stream, unit.kept_reply.key] = unit.kept_reply.expires_us


def _readable(values: object) -> str:
    """JSON text that can always be bound: what could not be stored matches nothing anyway."""
    return dumps(values).encode(errors="replace").decode()
