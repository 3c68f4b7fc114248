"""Results as JSON documents: times as ISO-8601 in UTC, lengths of time in seconds, and only
ASCII, for any reader."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from wakelog.core.time import as_datetime
from wakelog.history.timeline import HistoryEntry

__all__ = ["document", "iso"]

MOMENTS = {
    "asked_us": "asked_at",
    "due_us": "due_at",
    "handle_at_us": "handle_at",
    "started_us": "started_at",
}
"""Fields of events that are points in time, and their names in a document. The other fields that
end in `_us` are durations, in microseconds."""


def document(result: Any, *, indent: int | None = None) -> str:
    """`result`, made of the engine's frozen values, as JSON text.

    JSON has no NaN and no infinities: if a user's type keeps them, they are shown as texts.
    """
    return json.dumps(_plain(result), indent=indent, allow_nan=False)


def iso(moment: datetime) -> str:
    """A time in UTC to the microsecond, always of the same length."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return iso(value)
        case timedelta():
            return value.total_seconds()
        case HistoryEntry():
            return {**_fields(value), "data": _data(value.data)}
        case list() | tuple():
            return [_plain(each) for each in cast("list[Any]", value)]
        case dict():
            return {key: _plain(each) for key, each in cast("dict[str, Any]", value).items()}
        case float() if not math.isfinite(value):
            return json.dumps(value)
        case _ if dataclasses.is_dataclass(value):
            return _fields(value)
        case _:
            return value


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}


def _data(data: dict[str, Any]) -> dict[str, Any]:
    """An event's own fields; its payload is the user's and is left as it is."""
    return {
        MOMENTS.get(name, name): iso(as_datetime(value)) if name in MOMENTS else _plain(value)
        for name, value in data.items()
    }
