"""The parcel: a whole append as the arguments of one call, `append_1` of the migrations.

Short values travel as JSON, one list of objects a table; the states of events and snapshots in one
blob, `bulk`, and the JSON says where in it they lie. One call is one round trip and, outside a
transaction, one commit; to adapt each row by itself cost more than the server's own work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from wakelog.ports.units import Lease, Unit
from wakelog_projections.inline import alarms, status

__all__ = ["AppendOptions", "AppendRows", "TooLargeError", "dumps"]

MAX_BULK = 100 << 20
"""Bytes of events and snapshots in one call: the server takes a message of 1 GiB at most, and what
the views need of them comes on top."""

_Row = dict[str, object]


class AppendOptions(NamedTuple):
    """How an append is called: under which id, how long it waits, whose clock judges leases."""

    append_id: str
    lock_timeout: str
    now_us: int | None
    """When the leases begin; None: as each unit says."""
    server_clock: bool


class TooLargeError(ValueError):
    """More than one call can carry."""


class _Placed(Struct, frozen=True):
    """An event, and where in the blob its state lies."""

    stream: str
    version: int
    topic: str
    at: int
    length: int


class _LeaseMove(Struct, frozen=True):
    """What the units of one stream together do to its lease."""

    needs: int | None
    """The token that must be there before them."""
    known: bool
    """Whether they decide what is there after them; if not, it stays as it is."""
    lease: Lease | None
    unit: Unit


class AppendRows:
    """The units of one append, as rows; view rows and leases only as they are at the end."""

    def __init__(self, units: Sequence[Unit]) -> None:
        """Raises `ValueError` if a unit does not fit onto those before it."""
        self._bulk: list[bytes] = []
        self._at = 1
        self._events: list[_Placed] = []
        self._bases: dict[str, int] = {}
        self._last: dict[str, Unit] = {}
        self._moves: dict[str, _LeaseMove] = {}
        self._answers: dict[tuple[str, str], _Row] = {}
        self._snapshots: list[_Row] = []
        for unit in units:
            self._add(unit)
        if self._at > MAX_BULK:
            raise TooLargeError(f"more than {MAX_BULK >> 20} MiB in one append")
        self._alarms: list[alarms.AlarmRow] = []
        self._unset: list[str] = []
        dues = [self._set_alarm(unit) for unit in self._last.values()]
        self.next_due_us = min((due for due in dues if due is not None), default=None)
        """The earliest alarm among the units."""

    def _add(self, unit: Unit) -> None:
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
            self._events.append(_Placed(stream, event.version, event.topic, at, length))
        if unit.lease_token is not None or unit.take is not None or unit.ends_lease:
            self._move_lease(unit)
        if unit.kept_reply is not None:
            self._add_answer(unit)
        if unit.snapshot is not None:
            at, length = self._put(unit.snapshot.state)
            version = unit.snapshot.version
            self._snapshots.append(
                {"stream": stream, "version": version, "at": at, "length": length}
            )

    def _put(self, data: bytes) -> tuple[int, int]:
        at, length = self._at, len(data)
        self._bulk.append(data)
        self._at = at + length
        return at, length

    def _move_lease(self, unit: Unit) -> None:
        stream = unit.stream
        move = self._moves.get(stream) or _LeaseMove(None, False, None, unit)
        if unit.lease_token is not None:
            if not move.known and move.needs in (None, unit.lease_token):
                move = replace(move, needs=unit.lease_token)
            elif not move.known or move.lease is None or move.lease.token != unit.lease_token:
                raise ValueError(f"two units of {stream} cannot hold the same lease")
        if unit.take is not None:
            move = _LeaseMove(move.needs, True, unit.take, unit)
        elif unit.ends_lease:
            move = _LeaseMove(move.needs, True, None, unit)
        self._moves[stream] = move

    def _add_answer(self, unit: Unit) -> None:
        answer = unit.kept_reply
        assert answer is not None
        where = (unit.stream, answer.key)
        if where in self._answers:
            raise ValueError(f"two units of {unit.stream} have the same key")
        self._answers[where] = {
            "stream": unit.stream,
            **asdict(answer),
            "now_us": unit.after.recorded_us,
        }

    def _set_alarm(self, unit: Unit) -> int | None:
        alarm = alarms.row(unit.after)
        if alarm is None:
            self._unset.append(unit.stream)
            return None
        self._alarms.append(alarm)
        return alarm.due_us

    def arguments(self, call: AppendOptions) -> tuple[Any, ...]:
        """What `append_1` takes, in its order."""
        changed: list[_Row] = []
        created: list[_Row] = []
        absent: list[str] = []
        for stream, unit in self._last.items():
            base = self._bases[stream]
            if not unit.after.version:  # an answer of what never was
                absent.append(stream)
                continue
            row: _Row = asdict(status.row(unit.after, unit.hash))
            error = unit.after.last_error
            row["error_type"] = None if error is None else error.error_type
            if base:
                row["base"] = base
                changed.append(row)
            else:
                created.append(row)
        moves = self._moves
        holds = [{"stream": s, "token": m.needs} for s, m in moves.items() if m.needs is not None]
        dropped = [s for s, m in moves.items() if m.known and m.lease is None]
        return (
            call.append_id,
            call.lock_timeout,
            None if call.server_clock else 0,
            *(_json(rows) for rows in (changed, created)),
            absent or None,
            *(_json(rows) for rows in (self._events, self._alarms)),
            self._unset or None,
            *(_json(rows) for rows in (holds, self._taken(call))),
            dropped or None,
            *(_json(rows) for rows in (list(self._answers.values()), self._snapshots)),
            b"".join(self._bulk),
        )

    def _taken(self, call: AppendOptions) -> list[_Row]:
        """The leases to take. By the server's clock they are sent as durations."""
        rows: list[_Row] = []
        for stream, move in self._moves.items():
            lease, after = move.lease, move.unit.after
            if lease is None:
                continue
            until_us = lease.until_us
            if call.server_clock:
                until_us -= after.recorded_us if call.now_us is None else call.now_us
            lease = replace(lease, until_us=until_us)
            rows.append({"stream": stream, "job": after.id.job, **asdict(lease)})
        return rows


def dumps(value: object) -> str:
    """Compact JSON. Raises `ValueError` for a lone surrogate, which no server would take."""
    return msgspec.json.encode(value).decode()


def _json(rows: Sequence[object]) -> str | None:
    return dumps(rows) if rows else None
