"""The door: a whole append as one statement.

A view of the connection's own with a trigger on it: inserting one row of JSON into it writes
events, status, alarms, leases, answers and snapshots, each table set-wise, and raises (so that
all of it is undone) where a version, a lease or a key is not as the units expect. Outside a
transaction the statement is one by itself and ends with the commit. Why one statement: see
`connections`; beside a thread that computes, groups of 256 units pass at 15,000 units/s, and with
one multi-row statement for each table at 5,000.

JSON carries what is short. States, events and other long or binary values travel in one blob,
`bulk`, and the JSON says where in it they lie.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import cast

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, replace

from wakelog.ports.rows import StatusRow
from wakelog.ports.units import Lease, Unit
from wakelog_projections.inline import alarms, status

__all__ = ["AppendStatement", "dumps"]

dumps = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
"""Compact JSON. A lone surrogate stays one, so that binding it fails instead of storing it."""

_Row = tuple[object, ...]


class AppendStatement:
    """The one way in for units, on the connection that writes."""

    def __init__(self, connection: sqlite3.Connection, prefix: str) -> None:
        self._connection = connection
        for statement in _statements(prefix):
            connection.execute(statement)
        self._insert = f"INSERT INTO {prefix}door VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

    def write(self, units: Sequence[Unit]) -> int | None:
        """Write `units`, all or none; answer the earliest alarm among them.

        Raises one of `failures.REFUSALS` where one of them (it does not say which) cannot be
        written, other errors of SQLite's where nothing can. In both cases nothing was written.
        """
        parcel = AppendRows()
        for unit in units:
            parcel.add(unit)
        self._connection.execute(self._insert, parcel.packed())
        return parcel.next_due_us


class _LeaseMove(Struct, frozen=True):
    """What the units of one stream together do to its lease."""

    needs: int | None
    """The token that must be there before them."""
    known: bool
    """Whether they decide what is there after them; if not, it stays as it is."""
    lease: Lease | None
    job: str


class AppendRows:
    """The units of one append, as rows; view rows and leases only as they are at the end."""

    def __init__(self) -> None:
        self._bulk: list[bytes] = []
        self._at = 1
        self._events: list[_Row] = []
        self._bases: dict[str, int] = {}
        self._last: dict[str, Unit] = {}
        self._leases: dict[str, _LeaseMove] = {}
        self._answers: dict[tuple[str, str], _Row] = {}
        self._snapshots: list[_Row] = []
        self.next_due_us: int | None = None

    def add(self, unit: Unit) -> None:
        """Raises `ValueError` if the unit does not fit onto those before it."""
        stream, base, events = unit.stream, unit.base_version, unit.events
        version = base + len(events)
        if unit.after.version != version or (events and events[-1].version != version):
            raise ValueError(f"the versions of a unit of {stream} have a gap")
        before = self._last.get(stream)
        if before is None:
            self._bases[stream] = base
        elif before.after.version != base:
            raise ValueError(f"two units of {stream} do not follow each other")
        self._last[stream] = unit
        for event in events:
            at, length = self._put(event.state)
            self._events.append((stream, event.version, event.topic, at, length))
        if unit.lease_token is not None or unit.take is not None or unit.ends_lease:
            self._move_lease(unit)
        if unit.kept_reply is not None:
            self._add_answer(unit)
        if unit.snapshot is not None:
            at, length = self._put(unit.snapshot.state)
            self._snapshots.append((stream, unit.snapshot.version, at, length))

    def _put(self, data: bytes) -> tuple[int, int]:
        at, length = self._at, len(data)
        self._bulk.append(data)
        self._at = at + length
        return at, length

    def _put_text(self, text: str | None) -> tuple[int | None, int | None]:
        return (None, None) if text is None else self._put(text.encode())

    def _move_lease(self, unit: Unit) -> None:
        stream, job = unit.stream, unit.after.id.job
        move = self._leases.get(stream) or _LeaseMove(None, False, None, job)
        if unit.lease_token is not None:
            if not move.known and move.needs in (None, unit.lease_token):
                move = replace(move, needs=unit.lease_token)
            elif not move.known or move.lease is None or move.lease.token != unit.lease_token:
                raise ValueError(f"two units of {stream} cannot hold the same lease")
        if unit.take is not None:
            move = replace(move, known=True, lease=unit.take)
        elif unit.ends_lease:
            move = replace(move, known=True, lease=None)
        self._leases[stream] = move

    def _add_answer(self, unit: Unit) -> None:
        answer = unit.kept_reply
        assert answer is not None
        where = (unit.stream, answer.key)
        if where in self._answers:
            raise ValueError(f"two units of {unit.stream} have the same key")
        self._answers[where] = (
            *where,
            answer.action,
            answer.fingerprint,
            *self._put(answer.body.encode()),
            answer.expires_us,
            unit.after.recorded_us,
        )

    def packed(self) -> tuple[str | bytes | None, ...]:
        """The parameters of the door's statement."""
        heads: list[_Row] = []
        rows: list[_Row] = []
        for stream, unit in self._last.items():
            if unit.after.version:  # else only an answer is kept, of what never was
                row = status.row(unit.after, unit.hash)
                texts = (*self._put_text(row.last_error), *self._put_text(row.state))
                rows.append((*astuple(row)[:-2], *texts))
            alarm = alarms.row(unit.after)
            if alarm is None:
                heads.append((stream, self._bases[stream], None, None, None))
                continue
            heads.append((stream, self._bases[stream], alarm.job, alarm.due_us, alarm.action))
            if self.next_due_us is None or alarm.due_us < self.next_due_us:
                self.next_due_us = alarm.due_us
        holds = [(s, m.needs) for s, m in self._leases.items() if m.needs is not None]
        taken = [
            (s, m.job, m.lease.owner, m.lease.until_us, m.lease.token, m.lease.run)
            for s, m in self._leases.items()
            if m.lease is not None
        ]
        dropped = [s for s, m in self._leases.items() if m.known and m.lease is None]
        lists = (
            *(self._events, heads, rows, holds, taken, dropped),
            *(list(self._answers.values()), self._snapshots),
        )
        return (*[_json(rows) for rows in lists], b"".join(self._bulk))


def _json(rows: Sequence[object]) -> str | None:
    """JSON text for SQLite, which cuts a string at an escaped NUL: refuse it (`ValueError`), as
    msgspec does a lone surrogate."""
    if not rows:
        return None
    text = msgspec.json.encode(rows).decode()
    if "\\u0000" in text and _has_nul(rows):
        raise ValueError("a text holds a NUL character")
    return text


def _has_nul(value: object) -> bool:
    """Whether a NUL is in it: the JSON of a backslash before `u0000` looks like one."""
    if isinstance(value, list | tuple):
        return any(_has_nul(part) for part in cast(Sequence[object], value))
    return isinstance(value, str) and "\0" in value


def _field(index: int) -> str:
    return f"json_extract(j.value, '$[{index}]')"


def _fields(first: int, end: int) -> str:
    return ", ".join(_field(index) for index in range(first, end))


def _blob(index: int) -> str:
    return f"substr(NEW.bulk, {_field(index)}, {_field(index + 1)})"


def _text(index: int) -> str:
    return f"CAST({_blob(index)} AS TEXT)"


def _statements(prefix: str) -> Sequence[str]:
    """The view and its trigger, of this connection alone: they match this code, not the file."""
    columns = StatusRow.__struct_fields__
    assert columns[-2:] == ("last_error", "state")
    short = len(columns) - 2
    constant = ("stream", "kind", "name", "id")
    sets = ", ".join(f"{c} = excluded.{c}" for c in columns if c not in constant)
    view = f"""CREATE TEMP VIEW {prefix}door
        (events, heads, rows, holds, taken, dropped, answers, snapshots, bulk)
        AS SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL"""
    trigger = f"""CREATE TEMP TRIGGER {prefix}door_opens INSTEAD OF INSERT ON {prefix}door
    BEGIN
        SELECT RAISE(ABORT, 'version')
            FROM json_each(NEW.heads) j LEFT JOIN {prefix}status s ON s.stream = {_field(0)}
            WHERE ifnull(s.version, 0) <> {_field(1)};
        SELECT RAISE(ABORT, 'lease')
            FROM json_each(NEW.holds) j LEFT JOIN {prefix}leases l ON l.stream = {_field(0)}
            WHERE l.token IS NOT {_field(1)};
        SELECT RAISE(ABORT, 'key')
            FROM json_each(NEW.answers) j JOIN {prefix}kept_replies a
            ON a.stream = {_field(0)} AND a.key = {_field(1)}
            WHERE a.expires_us IS NULL OR a.expires_us > {_field(7)};
        INSERT INTO {prefix}stored_events
            SELECT {_fields(0, 3)}, {_blob(3)} FROM json_each(NEW.events) j;
        INSERT INTO {prefix}status ({", ".join(columns)})
            SELECT {_fields(0, short)}, {_text(short)}, {_text(short + 2)}
            FROM json_each(NEW.rows) j WHERE true
            ON CONFLICT (stream) DO UPDATE SET {sets};
        INSERT INTO {prefix}alarms (stream, job, due_us, action)
            SELECT {_field(0)}, {_fields(2, 5)}
            FROM json_each(NEW.heads) j WHERE {_field(3)} IS NOT NULL
            ON CONFLICT (stream) DO UPDATE SET due_us = excluded.due_us, action = excluded.action
            WHERE due_us <> excluded.due_us OR action <> excluded.action;
        DELETE FROM {prefix}alarms WHERE stream IN (
            SELECT {_field(0)} FROM json_each(NEW.heads) j WHERE {_field(3)} IS NULL);
        INSERT INTO {prefix}leases (stream, job, owner, until_us, token, run)
            SELECT {_fields(0, 6)} FROM json_each(NEW.taken) j WHERE true
            ON CONFLICT (stream) DO UPDATE SET owner = excluded.owner,
                until_us = excluded.until_us, token = excluded.token, run = excluded.run;
        DELETE FROM {prefix}leases
            WHERE stream IN (SELECT j.value FROM json_each(NEW.dropped) j);
        INSERT INTO {prefix}kept_replies (stream, key, action, fingerprint, body, expires_us)
            SELECT {_fields(0, 4)}, {_text(4)}, {_field(6)} FROM json_each(NEW.answers) j WHERE true
            ON CONFLICT (stream, key) DO UPDATE SET action = excluded.action,
                fingerprint = excluded.fingerprint, body = excluded.body,
                expires_us = excluded.expires_us;
        INSERT INTO {prefix}snapshots (stream, version, state)
            SELECT {_fields(0, 2)}, {_blob(2)} FROM json_each(NEW.snapshots) j WHERE true
            ON CONFLICT (stream, version) DO UPDATE SET state = excluded.state;
    END"""
    return (view, trigger)
