"""Cadence: when recurring work is due. Pure: from one moment follows the next.

Cron strings are read by `cronsim`, in a time zone, over the changes of its clock (C3): a fixed hour
and minute come once a day, right after the gap where they fall into a skipped hour and the first
time where the hour is repeated; with `*`, a list or a step it is as the clock shows.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from wakelog.core.schedule import EPOCH, MICROSECOND, Duration, as_datetime, duration_us
from wakelog.errors import Issue, ValidationError

__all__ = ["Cadence", "CatchUp", "Mode", "Passed", "cadence"]

MIN_EVERY_US = 10_000
"""The shortest interval: 10 ms."""
MAX_COUNTED = 100_000
"""Occurrences that are counted at a time after an outage."""

Mode = Literal["fixed_delay", "fixed_rate"]
CatchUp = Literal["once", "all", "skip"]


class Passed(NamedTuple):
    """Occurrences that have come by `now`."""

    number: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Cadence:
    """Every so often, or by cron. Made by `cadence`."""

    text: str
    """As the history says it: `every 30m`, `cron 0 2 * * * Europe/Berlin`."""
    every_us: int = 0
    """The interval; 0 for cron."""
    mode: Mode = "fixed_delay"
    cron: str = ""
    zone: str = "UTC"
    jitter_us: int = 0

    @property
    def is_grid(self) -> bool:
        """Whether the occurrences are fixed beforehand, however long runs take."""
        return bool(self.cron) or self.mode == "fixed_rate"

    def after(self, after_us: int, origin_us: int) -> int:
        """The first occurrence later than `after_us`, on the grid that began at `origin_us`."""
        if self.cron:
            return _cron_after(self.cron, self.zone, after_us)
        if self.mode == "fixed_rate":
            return origin_us + ((after_us - origin_us) // self.every_us + 1) * self.every_us
        return after_us + self.every_us

    def spread(self, due_us: int, origin_us: int, seed: str) -> int:
        """An occurrence with its jitter: later, but never as late as the next one."""
        if not self.jitter_us:
            return due_us
        longest_us = min(self.jitter_us, self.after(due_us, origin_us) - due_us - 1)
        return due_us + round(random.Random(seed).random() * longest_us)

    def passed(self, due_us: int, now_us: int, origin_us: int) -> Passed:
        """How many occurrences there are from the one at `due_us` to now, and the last of them."""
        if not self.is_grid:
            return Passed(1, due_us)
        if not self.cron:
            more = max(0, (now_us - due_us) // self.every_us)
            return Passed(1 + more, due_us + more * self.every_us)
        count, last_us = 1, due_us
        next_us = self.after(last_us, origin_us)
        while next_us <= now_us and count < MAX_COUNTED:
            count, last_us = count + 1, next_us
            next_us = self.after(last_us, origin_us)
        return Passed(count, last_us)


def cadence(
    *,
    every: Duration | None,
    cron: str | None,
    mode: Mode,
    zone: str,
    jitter: Duration | None,
) -> Cadence:
    """The cadence that is meant. Raises `ValidationError`; give one of `every` and `cron`."""
    if (every is None) == (cron is None):
        raise _invalid("cadence", "give either every= or cron=")
    jitter_us = 0 if jitter is None else duration_us(jitter, "jitter")
    if every is not None:
        return _every(every, mode, jitter_us)
    if not isinstance(cron, str) or len(cron.split()) != 5:
        raise _invalid(
            f"cron {cron!r}", "write minute, hour, day of month, month and day of week: '0 2 * * *'"
        )
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise _invalid(
            f"time zone {zone!r}", "no such zone: write one as 'Europe/Berlin'"
        ) from error
    text = " ".join(cron.split())
    try:
        next(CronSim(text, EPOCH))
    except CronSimError as error:
        raise _invalid(f"cron {cron!r}", str(error)) from error
    except StopIteration as error:
        raise _invalid(f"cron {cron!r}", "it never comes") from error
    return Cadence(f"cron {text} {zone}", cron=text, zone=zone, jitter_us=jitter_us)


def _every(every: Duration, mode: Mode, jitter_us: int) -> Cadence:
    if mode not in ("fixed_delay", "fixed_rate"):
        raise _invalid(f"mode {mode!r}", "it must be 'fixed_delay' or 'fixed_rate'")
    every_us = duration_us(every, "every")
    if every_us < MIN_EVERY_US:
        raise _invalid(f"every {every!r}", "it must be at least 10 ms")
    shown = every if isinstance(every, str) else f"{every_us / 1_000_000:g}s"
    return Cadence(f"every {shown} {mode}", every_us, mode, jitter_us=jitter_us)


def _cron_after(cron: str, zone: str, after_us: int) -> int:
    """The first occurrence of a cron string after a moment."""
    sim = copy.copy(_parsed(cron, zone))
    local = as_datetime(after_us).astimezone(_zone(zone))
    second = local.replace(microsecond=0)
    sim.dt = second if sim.fixup_tz is None else second.replace(tzinfo=None)
    while True:
        due_us = (next(sim) - EPOCH) // MICROSECOND
        if due_us > after_us:
            return due_us


@lru_cache(maxsize=256)
def _parsed(cron: str, zone: str) -> CronSim:
    """The string, read once. A leading field for the seconds lets `*`, lists and steps follow the
    clock, which cronsim does for `*` alone otherwise."""
    minute, hour, *_ = cron.split()
    is_fixed = minute.isdigit() and hour.isdigit()
    return CronSim(cron if is_fixed else f"0 {cron}", datetime(2000, 1, 1, tzinfo=_zone(zone)))


@lru_cache(maxsize=256)
def _zone(zone: str) -> ZoneInfo:
    return ZoneInfo(zone)


def _invalid(what: str, message: str) -> ValidationError:
    return ValidationError(what, [Issue(loc="", msg=message, type="cadence")])
