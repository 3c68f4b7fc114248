"""A whole append as the arguments of one call of `append_1`, a function of the migrations.

Short values travel as JSON, one list of objects for each table; the states of events and snapshots
in one blob, and the JSON says where in it they are. One call is one round trip and, outside a
transaction, one commit; adapting each row by itself cost more than the server's own work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, defstruct
from msgspec.structs import asdict, astuple

from wakelog.ports.rows import StatusRow
from wakelog.ports.units import Unit
from wakelog_adapters.sql.blob import Blob
from wakelog_projections.inline.append_rows import AppendRows, TakenLease

__all__ = ["AppendCall", "AppendOptions", "TooLargeError", "dumps"]

MAX_BLOB = 100 << 20
"""Bytes of events and snapshots in one call: the server takes a message of 1 GiB at most, and what
the views hold of them comes on top."""

_Row = dict[str, object]


class AppendOptions(NamedTuple):
    """What a call is given beside its rows."""

    append_id: str
    row_timeout: str
    """How long to wait for a row that another session has locked."""
    lock_timeout: str
    """How long to wait for the log, which all sessions append to, and for a job to be paused."""
    server_clock: bool
    """Whether the server's clock judges leases."""
    only_rows: bool = False
    """Whether to leave out the events, for which the log would be locked: to be undone."""


class TooLargeError(ValueError):
    """More than one call can carry."""


class _Placed(Struct, frozen=True):
    """An event, and where in the blob its state is."""

    stream: str
    version: int
    topic: str
    at: int
    length: int


_BASE = [("base", int), ("base_hash", str)]
"""The version and the hash that a row must have."""
_REQUIRED = StatusRow.__struct_fields__.index("due_us")
"""The fields before it are never null, and never 0 but where that counts."""


def _sparse(name: str, first: Sequence[tuple[str, type]]) -> type[Struct]:
    """A status row and the head that it keeps, whose JSON leaves out what is null or 0: most of it
    is, and the server pays for each field of each row."""
    fields = StatusRow.__struct_fields__
    always = [(field, Any) for field in fields[:_REQUIRED]]
    rest = (*fields[_REQUIRED:], "head")
    sometimes = [(field, Any, 0 if field.endswith("_count") else None) for field in rest]
    return defstruct(name, [*first, *always, *sometimes], omit_defaults=True, gc=False)


_Created = _sparse("_Created", [])
"""A row that must not exist yet."""
_Changed = _sparse("_Changed", _BASE)
"""A row that must exist."""


class AppendCall:
    """The units of one append as a call."""

    def __init__(self, units: Sequence[Unit]) -> None:
        """Raises `ValueError` if the units do not fit together, `TooLargeError` if they are too
        large for one call."""
        self._rows = rows = AppendRows(units)
        self._blob = blob = Blob()
        self._events = [
            _Placed(event.stream, event.version, event.topic, *blob.put(event.state))
            for event in rows.events
        ]
        self._snapshots: list[_Row] = []
        for stream, snapshot in rows.snapshots:
            at, length = blob.put(snapshot.state)
            row: _Row = {"stream": stream, "version": snapshot.version, "at": at, "length": length}
            self._snapshots.append(row)
        if blob.size > MAX_BLOB:
            raise TooLargeError(f"more than {MAX_BLOB >> 20} MiB in one append")

    @property
    def next_due_us(self) -> int | None:
        """The earliest alarm among the units."""
        return self._rows.next_due_us

    @property
    def emits(self) -> bool:
        """Whether messages are among the events."""
        return self._rows.emits

    def arguments(self, options: AppendOptions) -> tuple[Any, ...]:
        """What `append_1` takes, in its order."""
        rows, bases = self._rows, self._rows.bases
        streams: list[str] = []
        changed: list[Struct] = []
        created: list[Struct] = []
        for row in rows.status_rows:
            stream = row.stream
            base = bases[stream]
            if base.version:
                streams.append(stream)
                changed.append(_Changed(*base, *astuple(row), rows.heads.get(stream)))
            else:
                created.append(_Created(*astuple(row), rows.heads.get(stream)))
        replies: list[_Row] = [
            {"stream": stream, **asdict(reply), "now_us": now_us}
            for stream, reply, now_us in rows.kept_replies
        ]
        return (
            options.append_id,
            options.row_timeout,
            options.lock_timeout,
            None if options.server_clock else 0,
            rows.started_jobs or None,
            _json(streams),
            _json(changed),
            _json(created),
            rows.absent or None,
            None if options.only_rows else _json(self._events),
            _json(rows.alarm_rows),
            rows.unset_alarms or None,
            _json([{"stream": s, "token": token} for s, token in rows.required_leases]),
            _json([_taken(each, options) for each in rows.taken_leases]),
            rows.dropped_leases or None,
            _json(replies),
            _json(self._snapshots),
            _json([row._asdict() for row in rows.sent]),
            _json([{"target": target, **of._asdict()} for target, of in rows.received]),
            rows.inbox or None,
            self._blob.joined(),
        )


def _taken(taken: TakenLease, options: AppendOptions) -> _Row:
    """A lease to take. If the server's clock judges leases, its end is sent as a duration."""
    row: _Row = {"stream": taken.stream, "job": taken.job, **asdict(taken.lease)}
    if options.server_clock:
        row["until_us"] = taken.lease.until_us - taken.taken_us
    return row


def dumps(value: object) -> str:
    """Compact JSON. Raises `ValueError` for a lone surrogate, which no server would take."""
    return msgspec.json.encode(value).decode()


def _json(rows: Sequence[object]) -> str | None:
    return dumps(rows) if rows else None
