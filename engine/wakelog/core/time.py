"""Durations and moments, as users write them, in microseconds (U9).

A duration is a number of seconds, a `timedelta`, a short text (`"5m"`, `"1h30m"`, `"1d"`) or
ISO-8601 without years and months (`"PT90S"`, `"P1DT12H"`): a day is always 24 hours. A moment is
an aware `datetime`. Everything else raises `ValidationError`, which says what is expected.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache

from wakelog.errors import ValidationError, quoted

__all__ = [
    "Duration",
    "When",
    "as_datetime",
    "duration_us",
    "later_us",
    "moment",
    "moment_us",
    "when_us",
]

Duration = float | timedelta | str
When = Duration | datetime

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_US = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
MAX_US = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND

MAX_TEXT = 100
"""The most characters of a duration."""

_UNITS_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_PART = r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)"
_SHORT = re.compile(rf"(?:{_PART}\s*)+", re.ASCII)
_ISO = re.compile(
    r"P(?=.)(?:(?P<w>\d+(?:\.\d+)?)W)?(?:(?P<d>\d+(?:\.\d+)?)D)?"
    r"(?:T(?=.)(?:(?P<h>\d+(?:\.\d+)?)H)?(?:(?P<m>\d+(?:\.\d+)?)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?",
    re.ASCII,
)


def duration_us(value: Duration, what: str = "duration") -> int:
    """Microseconds of a duration; raises `ValidationError`, naming it `what`."""
    us: float
    if isinstance(value, str):
        us = _text_us(value, what)
    elif isinstance(value, timedelta):
        us = value // MICROSECOND
    elif isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _invalid(
            what, value, "expected seconds, a timedelta, or a text such as '5m' or '1h30m'"
        )
    elif isinstance(value, float) and not math.isfinite(value):
        raise _invalid(what, value, "must be finite")
    else:
        us = value * 1_000_000
    if us < 0:
        raise _invalid(what, value, "must not be negative")
    if us > MAX_US:
        raise _invalid(what, value, "must not exceed the year 9999")
    return round(us)


def moment_us(value: datetime, what: str = "moment") -> int:
    """Microseconds since 1970 of an aware datetime; raises `ValidationError`, naming it `what`."""
    if not isinstance(value, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _invalid(what, value, "expected an aware datetime")
    if value.utcoffset() is None:
        raise _invalid(what, value, "is naive: give it a time zone, as in datetime.now(UTC)")
    us = (value - EPOCH) // MICROSECOND
    if not MIN_US <= us <= MAX_US:
        raise _invalid(what, value, "must be within the years 1 to 9999 in UTC")
    return us


def when_us(value: When, now_us: int, what: str = "time") -> int:
    """The moment of an aware datetime, or a duration after `now_us`."""
    if isinstance(value, datetime):
        return moment_us(value, what)
    return later_us(value, now_us, what)


def later_us(value: Duration, now_us: int, what: str = "duration") -> int:
    """The moment that lies a duration after `now_us`; raises `ValidationError` past 9999."""
    due_us = now_us + duration_us(value, what)
    if due_us > MAX_US:
        raise _invalid(what, value, "is too far away: must not exceed the year 9999")
    return due_us


def as_datetime(us: int) -> datetime:
    """The aware UTC datetime of a moment in microseconds."""
    return EPOCH + timedelta(microseconds=us)


@lru_cache(maxsize=1024)
def _text_us(text: str, what: str) -> int:
    stripped = text.strip()
    if len(stripped) > MAX_TEXT:
        raise _invalid(what, text, f"must have at most {MAX_TEXT} characters")
    if _SHORT.fullmatch(stripped):
        parts = re.findall(_PART, stripped)
    elif iso := _ISO.fullmatch(stripped):
        parts = [(number, unit) for unit, number in iso.groupdict().items() if number]
    else:
        parts = []
    if not parts:
        raise _invalid(
            what, text, "expected a text such as '90s', '5m', '1h30m', '1d' or ISO-8601 'PT90S'"
        )
    return round(sum(Fraction(number) * _UNITS_US[unit] for number, unit in parts))


def _invalid(what: str, value: object, message: str) -> ValidationError:
    return ValidationError(f"{what} {quoted(value)}", [{"loc": "", "msg": message, "type": "time"}])


def moment(us: int | None) -> datetime | None:
    """An optional moment in microseconds as an aware datetime."""
    return None if us is None else as_datetime(us)
