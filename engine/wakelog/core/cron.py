"""Cron: the occurrences of a cron string in a time zone, over the changes of its clock (C3).

A fixed hour and minute come once a day: right after the gap where they fall into a skipped hour,
and the first time where the hour is repeated. With `*`, a list or a step it is as the clock shows.

`cronsim` reads the string and says which days match. The moments of a day are worked out here: a
whole day at a time, which makes a year of them cheap to count, and right where a clock changes by
half an hour.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from wakelog.core.time import EPOCH, MAX_US, MICROSECOND
from wakelog.errors import Issue, ValidationError

__all__ = ["Cron", "check_zone", "cron_of", "refused"]

MAX_DAYS = 50 * 366
"""How far apart two occurrences may lie; what comes more seldom never comes."""
LAST_DAY = date.max.toordinal() - 1
"""A day whose end every clock can still show."""
MINUTE_US = 60_000_000


class Day(NamedTuple):
    """The occurrences of one local day, as microseconds after its start."""

    start_us: int
    times_us: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron string in a time zone. Made by `cron_of`."""

    text: str
    zone: str

    def after(self, us: int) -> int:
        """The first occurrence later than `us`; the last moment there is where none comes."""
        today = self._today(us)
        for day in self._days(range(today, min(today + MAX_DAYS, LAST_DAY))):
            index = bisect_right(day.times_us, us - day.start_us)
            if index < len(day.times_us):
                return day.start_us + day.times_us[index]
        return MAX_US

    def back(self, us: int, number: int) -> int:
        """The occurrence at `us` or before it that has `number` others up to there behind it."""
        left, today = number, self._today(us)
        for day in self._days(range(today, 1, -1)):
            there = bisect_right(day.times_us, us - day.start_us)
            if there > left:
                return day.start_us + day.times_us[there - 1 - left]
            left -= there
        raise AssertionError(f"cron {self.text} did not come {number + 1} times before {us}")

    def count(self, after_us: int, upto_us: int) -> int:
        """How many occurrences are later than `after_us` and not later than `upto_us`."""
        days = self._days(range(self._today(after_us), self._today(upto_us) + 1))
        return sum(
            bisect_right(day.times_us, upto_us - day.start_us)
            - bisect_right(day.times_us, after_us - day.start_us)
            for day in days
        )

    def _today(self, us: int) -> int:
        return datetime.fromtimestamp(us // 1_000_000, _zone(self.zone)).toordinal()

    def _days(self, ordinals: Iterable[int]) -> Iterable[Day]:
        """Those of the days on which there is an occurrence."""
        for ordinal in ordinals:
            day = _day(self.text, self.zone, ordinal)
            if day is not None:
                yield day


def cron_of(text: str, zone: str) -> Cron:
    """The cron string that is meant. Raises `ValidationError`."""
    if not isinstance(text, str) or len(text.split()) != 5:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise refused(
            f"cron {text!r}", "write minute, hour, day of month, month and day of week: '0 2 * * *'"
        )
    check_zone(zone)
    spaced = " ".join(text.split())
    try:
        next(CronSim(spaced, EPOCH))
    except CronSimError as error:
        raise refused(f"cron {text!r}", str(error)) from error
    except StopIteration as error:
        raise refused(f"cron {text!r}", "it never comes") from error
    return Cron(spaced, zone)


def check_zone(zone: str) -> None:
    """Raise `ValidationError` for a time zone that there is not."""
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise refused(
            f"time zone {zone!r}", "no such zone: write one as 'Europe/Berlin'"
        ) from error


# -- a day -----------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _day(text: str, zone: str, ordinal: int) -> Day | None:
    """A day, if it matches: mostly its clock does not change, and its times are those of the
    text."""
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
    """The first time that the clock shows this, or the end of the gap that it jumps over."""
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


def _is_fixed(text: str) -> bool:
    minute, hour, *_ = text.split()
    return minute.isdigit() and hour.isdigit()


def _us(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def refused(what: str, message: str) -> ValidationError:
    """The error for what is no cadence."""
    return ValidationError(what, [Issue(loc="", msg=message, type="cadence")])
