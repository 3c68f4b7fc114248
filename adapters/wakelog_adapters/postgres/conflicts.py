"""The careful way: when a group was refused as a whole, find who is to blame.

One call reads what the units are judged by, then those that can be right go together. If they still
are refused, either the facts have changed meanwhile: then all begins again. Or the server does not
take a value: then each unit is tried out alone, and undone, so that the rest can go together.
However it goes, it ends in one append and one commit: so nobody who has the ordering lock waits for
anything, and one hot instance does not turn a group into as many commits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from wakelog.errors import StoreUnavailableError
from wakelog.ports.units import KeyTaken, LeaseGone, Unit, VersionConflict
from wakelog_adapters.postgres.connections import Connection, rows_of
from wakelog_adapters.postgres.errors import DUPLICATE, is_conflict, is_refusal, server_message
from wakelog_adapters.postgres.reads import can_be_stored

__all__ = ["Way", "append_carefully"]

ROUNDS = 5
"""How often to begin again; then who could not be judged is told to look at its stream again."""


class Way(NamedTuple):
    """How the careful way is gone."""

    connection: Connection
    facts_sql: bytes
    write: Callable[[Sequence[Unit], Sequence[Exception | None]], None]
    """Writes units, all or none; what is to be said of each of the group is given with them."""
    try_out: Callable[[Sequence[Unit]], None]
    """As if to write them, but it is undone."""


def append_carefully(way: Way, units: Sequence[Unit]) -> None:
    """Append those of `units` that can be, and say for each of the others why not.

    Raises psycopg's errors where nothing can be written.
    """
    faults: dict[int, Exception] = {}
    for _ in range(ROUNDS):
        judged = _Facts.read(way.connection, way.facts_sql, units).judge(units, faults)
        good = [unit for unit, error in zip(units, judged, strict=True) if error is None]
        try:
            way.write(good, judged)
            return
        except Exception as error:
            if not is_refusal(error):
                raise
            if not is_conflict(error):
                faults |= _tried_out(way, units, judged)
    way.write([], [faults.get(i) or _restless(unit) for i, unit in enumerate(units)])


def _tried_out(
    way: Way, units: Sequence[Unit], judged: Sequence[Exception | None]
) -> Mapping[int, Exception]:
    """Which of the units that were judged to be right the server does not take, and why."""
    faults: dict[int, Exception] = {}
    before: dict[str, list[Unit]] = {}
    for index, unit in enumerate(units):
        earlier = before.setdefault(unit.stream, [])
        if judged[index] is not None:
            continue
        earlier.append(unit)
        try:
            way.try_out(earlier)
        except Exception as error:
            if not is_refusal(error):
                raise
            earlier.pop()
            if not is_conflict(error):
                faults[index] = _refusal(unit, error)
    return faults


def _refusal(unit: Unit, error: Exception) -> Exception:
    if getattr(error, "sqlstate", None) == DUPLICATE:
        # The status row agreed, the log does not: it is the log that counts.
        return VersionConflict(f"{unit.stream} has events after {unit.base_version}")
    return StoreUnavailableError("refused", f"{unit.stream}: {server_message(error)}")


def _restless(unit: Unit) -> VersionConflict:
    return VersionConflict(f"others kept changing what {unit.stream} was judged by")


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
    def read(cls, connection: Connection, sql: bytes, units: Sequence[Unit]) -> _Facts:
        known = [unit for unit in units if can_be_stored(unit.stream)]
        keyed = [
            (u.stream, u.kept_reply.key)
            for u in known
            if u.kept_reply and can_be_stored(u.kept_reply.key)
        ]
        asked = (
            sorted({unit.stream for unit in known}),
            *([key[part] for key in keyed] for part in range(2)),
        )
        versions, tokens, answers = rows_of(connection, sql, asked)[0][0]
        return cls(
            dict(versions),
            dict(tokens),
            {(stream, key): until for stream, key, until in answers},
        )

    def judge(
        self, units: Sequence[Unit], faults: Mapping[int, Exception]
    ) -> list[Exception | None]:
        """For each unit, in order: None, or why it cannot be appended; `faults` are known."""
        refused: set[str] = set()
        errors: list[Exception | None] = []
        for index, unit in enumerate(units):
            error: Exception | None
            error = _follows_refused(unit) if unit.stream in refused else self._fault(unit)
            error = error or faults.get(index)
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
