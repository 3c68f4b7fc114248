"""Parking: an instance whose history is damaged is set aside, so that the others go on (K4).

It shows as `failed`, with the error that tells why. Its log is left as it is, but for the `Parked`
event on top.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from msgspec.structs import replace

from wakelog.core.events import Event, Parked
from wakelog.core.evolve import evolve
from wakelog.core.instance import Instance
from wakelog.errors import HistoryError
from wakelog.ids import InstanceId
from wakelog.log.rebuild import Head
from wakelog.log.status_row import is_sound
from wakelog.ports.rows import StatusRow
from wakelog.ports.store import Store
from wakelog.ports.units import Unit
from wakelog.runtime.unit_records import UnitRecords

__all__ = ["Parking", "parking"]

_LOG = logging.getLogger("wakelog.runtime")

Parking = tuple[Unit, Head]
"""The unit that parks an instance, and the head it makes."""


def parking(
    store: Store,
    records: UnitRecords,
    stream: str,
    error: HistoryError,
    now_us: int,
    *,
    again: bool = False,
) -> Parking | None:
    """How to park an instance that `error` prevents from being loaded. Blocks.

    On top of what the status row says is the newest event; without an event of its own if the log
    goes on behind that. None if it has no row to show it, or is parked already: then with `again`
    what wakes it is dropped once more. Raises `StoreUnavailableError`.
    """
    [row] = store.status([stream])
    is_parked = row is not None and _is_parked(row)
    if row is None or (is_parked and not again):
        return None
    _LOG.error("%s is parked: %s", stream, error, extra={"instance": stream})
    at_us = max(now_us, row.updated_us)
    started_us = row.created_us or at_us
    id = InstanceId.parse(stream)
    before = Instance(id, row.version, row.updated_us, lives=1, started_us=started_us)
    if is_sound(row):  # then its state and counts are still the last ones known
        before = replace(
            before,
            state=row.state,
            event_count=row.event_count,
            run_count=row.run_count,
            failure_count=row.failure_count,
        )
    parked = Parked(reason="unreadable", error_type=type(error).__name__, message=str(error))
    after = evolve(before, parked, at_us)
    events: list[Event] = [parked]
    if is_parked or store.events(stream, after=row.version, limit=1):
        events, after = [], replace(after, version=row.version)
    head = Head(before, row.hash)
    unit = records.unit(stream, head, events, after, at_us, ends_lease=True, is_whole=False)
    return unit, Head(after, unit.hash)


def _is_parked(row: StatusRow) -> bool:
    try:
        error: Any = json.loads(row.last_error or "null")
        return row.status == "failed" and error["handler"] == "load"
    except (ValueError, TypeError, LookupError):  # no error, or the row is damaged too
        return False
