"""A whole append as one statement.

The connection has a view of its own with a trigger on it. One row of JSON lists inserted into it
writes events, status, alarms, leases, replies and snapshots, each table set-wise, and raises (so
that all of it is undone) if a version, a lease, a job or a key is not as the units expect. Outside
a transaction the statement is a transaction by itself. Why one statement: see `connections`. Beside
a thread that computes, groups of 256 units pass at 15,000 units/s; with one multi-row statement for
each table they pass at 5,000.

JSON carries what is short. States, events and other long or binary values travel in one blob, and
the JSON says where in it they are.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from operator import itemgetter

from msgspec.structs import astuple

from wakelog.ports.rows import StatusRow
from wakelog.ports.units import Unit
from wakelog_adapters.sql.blob import Blob
from wakelog_adapters.sqlite.json_rows import blob_at, field, fields, json_of, rows_of, text_at
from wakelog_projections.inline.append_rows import AppendRows, ReplyRow, TakenLease

__all__ = ["AppendStatement", "dumps", "packed"]

dumps = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
"""Compact JSON. A lone surrogate stays one, so that binding it fails instead of storing it."""

_Row = tuple[object, ...]
_NOWHERE = (None, None)
"""Where in the blob a null is."""


class AppendStatement:
    """Writes units, on the connection that writes."""

    def __init__(self, connection: sqlite3.Connection, prefix: str) -> None:
        self._connection = connection
        for template in (_VIEW, _TRIGGER):
            connection.execute(template.replace("{prefix}", prefix))
        self._insert = f"INSERT INTO {prefix}append VALUES ({', '.join('?' * COLUMNS)})"

    def write(self, units: Sequence[Unit]) -> int | None:
        """Write `units`, all or none; return the earliest alarm among them.

        Raises one of `errors.REFUSALS` if one of them (it does not say which) cannot be written,
        other errors of SQLite's if nothing can. In both cases nothing was written.
        """
        rows = AppendRows(units)
        self._connection.execute(self._insert, packed(rows))
        return rows.next_due_us


def packed(rows: AppendRows) -> tuple[str | bytes | None, ...]:
    """The parameters of the statement: a JSON list for each column of the view, and the blob."""
    blob = Blob()
    statuses = [astuple(row) for row in rows.status_rows]
    lists: tuple[Sequence[object], ...] = (
        [(stream, f"{version} {hash}") for stream, (version, hash) in rows.bases.items()],
        rows.required_leases,
        list(rows.started_jobs),
        [(e.stream, e.version, e.topic, *blob.put(e.state)) for e in rows.events],
        [
            (*_often(row), *_long(row[_STATE], blob), *_long(rows.heads.get(row[0]), blob))
            for row in statuses
        ],
        [
            (row[0], *rare[:-1], *_long(rare[-1], blob))
            for row in statuses
            if (rare := _rarely(row)) != _UNSET
        ],
        [astuple(row) for row in rows.alarm_rows],
        rows.unset_alarms,
        rows.taken_leases and [_taken(each) for each in rows.taken_leases],
        rows.dropped_leases,
        rows.kept_replies and [_reply(each, blob) for each in rows.kept_replies],
        rows.snapshots
        and [(stream, each.version, *blob.put(each.state)) for stream, each in rows.snapshots],
        rows.sent,
        rows.received and [(target, *received) for target, received in rows.received],
        rows.inbox,
    )
    return (*map(json_of, lists), blob.joined())


def _taken(row: TakenLease) -> _Row:
    lease = row.lease
    return row.stream, row.job, lease.owner, lease.until_us, lease.token, lease.run


def _reply(row: ReplyRow, blob: Blob) -> _Row:
    reply = row.reply
    return (
        *(row.stream, reply.key, reply.action, reply.fingerprint),
        *blob.put(reply.body.encode()),
        *(reply.expires_us, row.now_us),
    )


def _long(value: str | None, blob: Blob) -> tuple[int | None, int | None]:
    """Where in the blob it is."""
    return _NOWHERE if value is None else blob.put(value.encode())


# -- the view and its trigger. They belong to the connection, so they match this code, not the file.


_COLUMNS = StatusRow.__struct_fields__
_STATE = _COLUMNS.index("state")
"""This one, `last_error` and the head travel in the blob."""
_RARE = (
    *("retry_us", "clear_us", "failure_count", "deferred_count", "reason", "unfinished_count"),
    *("window_count", "window_opened_us", "flush_due_us", "dead_count", "code_error", "error_type"),
    "last_error",
)
"""Most rows have 0 or null in these, and the others are written once more: each value that is taken
out of JSON costs a group of 64 units 12 us."""
_UNSET = tuple(0 if column.endswith("_count") else None for column in _RARE)
_OFTEN = tuple(each for each in _COLUMNS if each not in (*_RARE, "state"))
_often = itemgetter(*map(_COLUMNS.index, _OFTEN))
_rarely = itemgetter(*map(_COLUMNS.index, _RARE))
_SET_RARE = ", ".join(f"{column} = {field(index)}" for index, column in enumerate(_RARE[:-1], 1))
_UNSET_RARE = ", ".join("NULL" if value is None else str(value) for value in _UNSET)
_SETS = ", ".join(
    f"{column} = excluded.{column}"
    for column in (*_COLUMNS, "head")
    if column not in ("stream", "kind", "name", "id")
)

COLUMNS = 16
_VIEW = f"""CREATE TEMP VIEW {{prefix}}append
    (bases, required, starts, events, status, rare, alarms, unset, taken, dropped, replies,
        snapshots, sent, received, inbox, blob)
    AS SELECT {", ".join(["NULL"] * COLUMNS)}"""

_TRIGGER = f"""CREATE TEMP TRIGGER {{prefix}}append_rows INSTEAD OF INSERT ON {{prefix}}append
    BEGIN
        SELECT RAISE(ABORT, 'version')
            FROM {rows_of("bases")} LEFT JOIN {{prefix}}status s ON s.stream = {field(0)}
            WHERE ifnull(s.version || ' ' || s.hash, '0 ') <> {field(1)};
        SELECT RAISE(ABORT, 'lease')
            FROM {rows_of("required")} LEFT JOIN {{prefix}}leases l ON l.stream = {field(0)}
            WHERE l.token IS NOT {field(1)};
        SELECT RAISE(ABORT, 'paused')
            FROM json_each(NEW.starts) j JOIN {{prefix}}job_pauses p ON p.job = j.value;
        SELECT RAISE(ABORT, 'key')
            FROM {rows_of("replies")} JOIN {{prefix}}kept_replies k
            ON k.stream = {field(0)} AND k.key = {field(1)}
            WHERE k.expires_us IS NULL OR k.expires_us > {field(7)};
        SELECT RAISE(ABORT, 'received')
            FROM {rows_of("received")} JOIN {{prefix}}received m
            ON m.target = {field(0)} AND m.sender = {field(1)} WHERE m.version >= {field(2)};
        SELECT RAISE(ABORT, 'inbox')
            FROM json_each(NEW.inbox) j LEFT JOIN {{prefix}}inbox i ON i.n = j.value
            WHERE i.n IS NULL;
        DELETE FROM {{prefix}}inbox WHERE n IN (SELECT j.value FROM json_each(NEW.inbox) j);
        INSERT INTO {{prefix}}stored_events
            SELECT {fields(0, 3)}, {blob_at(3)} FROM {rows_of("events")};
        INSERT INTO {{prefix}}status ({", ".join((*_OFTEN, "state", "head", *_RARE))})
            SELECT {fields(0, len(_OFTEN))}, {text_at(len(_OFTEN))}, {text_at(len(_OFTEN) + 2)},
                {_UNSET_RARE}
            FROM {rows_of("status")} WHERE true
            ON CONFLICT (stream) DO UPDATE SET {_SETS};
        UPDATE {{prefix}}status SET {_SET_RARE}, last_error = {text_at(len(_RARE))}
            FROM {rows_of("rare")} WHERE stream = {field(0)};
        INSERT INTO {{prefix}}alarms (stream, job, due_us, action)
            SELECT {fields(0, 4)} FROM {rows_of("alarms")} WHERE true
            ON CONFLICT (stream) DO UPDATE SET due_us = excluded.due_us, action = excluded.action
            WHERE due_us <> excluded.due_us OR action <> excluded.action;
        DELETE FROM {{prefix}}alarms
            WHERE stream IN (SELECT j.value FROM json_each(NEW.unset) j);
        INSERT INTO {{prefix}}leases (stream, job, owner, until_us, token, run)
            SELECT {fields(0, 6)} FROM {rows_of("taken")} WHERE true
            ON CONFLICT (stream) DO UPDATE SET owner = excluded.owner,
                until_us = excluded.until_us, token = excluded.token, run = excluded.run;
        DELETE FROM {{prefix}}leases
            WHERE stream IN (SELECT j.value FROM json_each(NEW.dropped) j);
        INSERT INTO {{prefix}}kept_replies (stream, key, action, fingerprint, body, expires_us)
            SELECT {fields(0, 4)}, {text_at(4)}, {field(6)} FROM {rows_of("replies")} WHERE true
            ON CONFLICT (stream, key) DO UPDATE SET action = excluded.action,
                fingerprint = excluded.fingerprint, body = excluded.body,
                expires_us = excluded.expires_us;
        INSERT INTO {{prefix}}snapshots (stream, version, state)
            SELECT {fields(0, 2)}, {blob_at(2)} FROM {rows_of("snapshots")} WHERE true
            ON CONFLICT (stream, version) DO UPDATE SET state = excluded.state;
        INSERT INTO {{prefix}}outbox (sender, target, version, job, sent_us, due_us)
            SELECT {fields(0, 6)} FROM {rows_of("sent")};
        INSERT OR REPLACE INTO {{prefix}}received (target, sender, version)
            SELECT {fields(0, 3)} FROM {rows_of("received")};
        DELETE FROM {{prefix}}outbox WHERE (sender, target, version) IN (
            SELECT o.sender, o.target, o.version
            FROM {rows_of("received")} JOIN {{prefix}}outbox o
            ON o.sender = {field(1)} AND o.target = {field(0)} AND o.version <= {field(2)});
    END"""
