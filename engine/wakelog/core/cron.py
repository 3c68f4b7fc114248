"""Cron: the occurrences of a cron string in a time zone, over its daylight-saving changes (C3).

A fixed hour and minute occur once a day: in a skipped hour right after the gap, in a repeated hour
the first time. With `*`, a list or a step the occurrences follow the local clock.

`cronsim` parses the string and tells which days match. The moments of a day are computed here, a
whole day at a time: so a year of them is cheap to count, and a change by half an hour is correct.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from wakelog.core.time import EPOCH, MAX_US, MICROSECOND
from wakelog.errors import Issue, ValidationError, quoted

__all__ = ["Cron", "check_zone", "cron_of", "forget_zones", "refused"]

MAX_DAYS = 50 * 366
"""The longest distance between two occurrences; a rarer one counts as never."""
LAST_DAY = date.max.toordinal() - 1
"""The last day whose end every time zone can represent."""
MINUTE_US = 60_000_000
RULES_YEARS = (2024, 2044)
"""The years whose offsets tell the rules of a zone from others."""


class Field(NamedTuple):
    """A field of a cron string."""

    unit: str
    cycle: int
    """The step over all its values that is as regular as it looks; 0 if none is."""
    values: str
    """The attribute of `CronSim` with the values of the string."""
    every: str
    """The unit of `every=`; empty if that has none so long."""


FIELDS = (
    Field("minute", 60, "minutes", "m"),
    Field("hour", 24, "hours", "h"),
    Field("day", 0, "days", "d"),
    Field("month", 0, "months", ""),
    Field("weekday", 7, "weekdays", "d"),
)


class Day(NamedTuple):
    """The occurrences of one local day, in microseconds after its start."""

    start_us: int
    times_us: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron string in a time zone. Made by `cron_of`."""

    text: str
    zone: str

    def after(self, us: int) -> int:
        """The first occurrence later than `us`; the end of the year 9999 if there is none."""
        today = self._today(us)
        for day in self._days(range(today, min(today + MAX_DAYS, LAST_DAY))):
            index = bisect_right(day.times_us, us - day.start_us)
            if index < len(day.times_us):
                return day.start_us + day.times_us[index]
        return MAX_US

    def back(self, us: int, number: int) -> int:
        """The occurrence that lies `number` occurrences before the last one not later than `us`."""
        left, today = number, self._today(us)
        for day in self._days(range(today, 1, -1)):
            count = bisect_right(day.times_us, us - day.start_us)
            if count > left:
                return day.start_us + day.times_us[count - 1 - left]
            left -= count
        raise AssertionError(f"cron {self.text} did not occur {number + 1} times before {us}")

    def count(self, after_us: int, upto_us: int) -> int:
        """How many occurrences are later than `after_us` and not later than `upto_us`."""
        days = self._days(range(self._today(after_us), self._today(upto_us) + 1))
        return sum(
            bisect_right(day.times_us, upto_us - day.start_us)
            - bisect_right(day.times_us, after_us - day.start_us)
            for day in days
        )

    def local(self, us: int) -> str | None:
        """What the clock of the zone shows then, to the minute; None in UTC, which never changes
        its rules."""
        if self.zone == "UTC":
            return None
        shown = datetime.fromtimestamp(us // 1_000_000, _zone(self.zone))
        return shown.replace(tzinfo=None).isoformat(timespec="minutes")

    def moment(self, local: str) -> int:
        """The first occurrence at which the clock of the zone shows this or more. Of a fixed hour
        and minute that of the day: what was shown may have been the end of a gap (C3)."""
        shown = datetime.fromisoformat(local)
        if _is_fixed(self.text):
            shown = datetime.combine(shown.date(), time())
        return self.after(_us(_after_the_gap(shown, _zone(self.zone))) - 1)

    @property
    def rules(self) -> str:
        """A fingerprint of the rules of the zone; empty for UTC, which never changes them."""
        return "" if self.zone == "UTC" else _rules(self.zone)

    def _today(self, us: int) -> int:
        return datetime.fromtimestamp(us // 1_000_000, _zone(self.zone)).toordinal()

    def _days(self, ordinals: Iterable[int]) -> Iterable[Day]:
        """The days that have an occurrence."""
        for ordinal in ordinals:
            day = _day(self.text, self.zone, ordinal)
            if day is not None:
                yield day


def cron_of(text: str, zone: str) -> Cron:
    """The cron string in its time zone. Raises `ValidationError`."""
    if not isinstance(text, str) or len(text.split()) != 5:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise refused(
            f"cron {quoted(text)}",
            "expected minute, hour, day of month, month and day of week, as in '0 2 * * *'",
        )
    check_zone(zone)
    spaced = " ".join(text.split())
    try:
        next(CronSim(spaced, EPOCH))
    except (CronSimError, ValueError) as error:  # ValueError: thousands of digits
        raise refused(f"cron {quoted(text)}", str(error)) from error
    except StopIteration as error:
        raise refused(f"cron {quoted(text)}", "it has no occurrence") from error
    _check_steps(text, spaced.split())
    return Cron(spaced, zone)


def _check_steps(text: str, fields: list[str]) -> None:
    """Refuse a step that reaches no second value of its field: `*/90` would run each hour.

    Taken are `*/60` minutes, `*/24` hours and `*/7` weekdays: each hour, day and week, as they say.
    Raises `ValidationError`.
    """
    for index, (field, parts) in enumerate(zip(FIELDS, fields, strict=True)):
        for part in parts.split(","):
            values, has_step, step = part.partition("/")
            if not has_step or int(step) == field.cycle:
                continue
            is_point = "-" in values and _how_many(index, values) == 1  # to `cronsim` 5-5/2 is 5/2
            if is_point or _how_many(index, part) == 1:
                raise refused(f"cron {quoted(text)}", _advice(field, part, int(step)))


def _how_many(index: int, part: str) -> int:
    """How many values a part of a field has."""
    alone = CronSim(" ".join([*"*" * index, part, *"*" * (4 - index)]), EPOCH)
    return len(getattr(alone, FIELDS[index].values))


def _advice(field: Field, part: str, step: int) -> str:
    fault = f"{part!r} is one {field.unit} only, since the step of {step} reaches no other one"
    if field.every:
        unit = "day" if field.every == "d" else field.unit
        return f"{fault}; for a run every {step} {unit}s use every='{step}{field.every}'"
    return f"{fault}; name the {field.unit}s, or use every= with a number of days"


def check_zone(zone: str) -> None:
    """Raise `ValidationError` for an unknown time zone."""
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise refused(
            f"time zone {quoted(zone)}", "unknown; expected a name such as 'Europe/Berlin'"
        ) from error


# -- a day -----------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _day(text: str, zone: str, ordinal: int) -> Day | None:
    """The occurrences of a day, if it matches. On most days the clock does not change, and the
    times are those of the text."""
    read, day, tz = _read(text), date.fromordinal(ordinal), _zone(zone)
    if day.month not in read.months or not read.match_day(day):
        return None
    start = datetime.combine(day, time(), tz)
    end = datetime.combine(date.fromordinal(ordinal + 1), time(fold=1), tz)
    start_us, clock = _us(start), _clock(text)
    if start.utcoffset() == end.utcoffset():
        return Day(start_us, clock)
    naive = [start.replace(tzinfo=None) + timedelta(microseconds=each) for each in clock]
    if _is_fixed(text):
        moments = {_us(_after_the_gap(naive[0], tz))}
    else:
        moments = {_us(shown) for each in naive for shown in _shown(each, tz)}
    return Day(start_us, tuple(sorted(each - start_us for each in moments)))


def _after_the_gap(naive: datetime, tz: ZoneInfo) -> datetime:
    """The first moment at which the clock shows this, or the end of the gap that it falls into."""
    while not (shown := _shown(naive, tz)):
        naive += timedelta(minutes=1)
    return shown[0]


def _shown(naive: datetime, tz: ZoneInfo) -> list[datetime]:
    """The moments, none to two, at which the clock shows this."""
    folds = (naive.replace(tzinfo=tz, fold=fold).astimezone(UTC) for fold in (0, 1))
    shown = (each.astimezone(tz) for each in folds)
    return [each for each in shown if each.replace(tzinfo=None, fold=0) == naive]


@lru_cache(maxsize=256)
def _clock(text: str) -> tuple[int, ...]:
    """The times of day, as microseconds after midnight on a day of 24 hours."""
    read = _read(text)
    return tuple(
        (60 * hour + minute) * MINUTE_US
        for hour in sorted(read.hours)
        for minute in sorted(read.minutes)
    )


@lru_cache(maxsize=256)
def _read(text: str) -> CronSim:
    return CronSim(text, EPOCH)


@lru_cache(maxsize=256)
def _zone(zone: str) -> ZoneInfo:
    return ZoneInfo(zone)


@lru_cache(maxsize=256)
def _rules(zone: str) -> str:
    """A digest of the offsets of a zone, twice a day over `RULES_YEARS`."""
    tz, (first, last) = _zone(zone), RULES_YEARS
    start, days = datetime(first, 1, 1, tzinfo=UTC), 366 * (last - first)
    moments = (start + timedelta(hours=12 * half) for half in range(2 * days))
    offsets = ",".join(str(moment.astimezone(tz).utcoffset()) for moment in moments)
    return hashlib.sha256(offsets.encode()).hexdigest()[:16]


def forget_zones() -> None:
    """Read the rules of all zones anew when they are next used."""
    for cached in (_zone, _rules, _day):
        cached.cache_clear()


def _is_fixed(text: str) -> bool:
    minute, hour, *_ = text.split()
    return minute.isdigit() and hour.isdigit()


def _us(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def refused(what: str, message: str) -> ValidationError:
    """The error for an invalid recurrence."""
    return ValidationError(what, [Issue(loc="", msg=message, type="recurrence")])
