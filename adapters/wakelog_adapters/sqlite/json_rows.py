"""Rows that travel as JSON lists, one for each column of a view, and are written by its trigger.

Long and binary values travel in one blob, and the JSON says where in it they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

__all__ = ["blob_at", "field", "fields", "json_of", "rows_of", "text_at"]


def json_of(rows: Sequence[object]) -> str | None:
    """JSON text, None if there are no rows. Raises `ValueError` for a NUL, at which SQLite would
    cut the text, and for a lone surrogate."""
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


# -- inside the trigger


def field(index: int) -> str:
    """A field of a row."""
    return f"json_extract(j.value, '$[{index}]')"


def rows_of(column: str) -> str:
    """The rows of a column of the view, as `j.value`. Not `json_each` itself: that would write the
    JSON of the row anew for each field that is taken out of it, which costs three times as much as
    all the rest of the append. `LIMIT` keeps SQLite from making it one query again."""
    return f"(SELECT value FROM json_each(NEW.{column}) LIMIT -1) j"


def fields(first: int, end: int) -> str:
    """The fields from `first` on, without `end`."""
    return ", ".join(field(index) for index in range(first, end))


def blob_at(index: int) -> str:
    """The value in the blob at the place that this field names, as long as the next one says."""
    return f"substr(NEW.blob, {field(index)}, {field(index + 1)})"


def text_at(index: int) -> str:
    """The same as text."""
    return f"CAST({blob_at(index)} AS TEXT)"
