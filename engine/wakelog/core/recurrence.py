"""Recurrence: when recurring work is due. Pure: each moment follows from the one before."""

from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple

from wakelog.core.cron import Cron, check_zone, cron_of, refused
from wakelog.core.events import Missed
from wakelog.core.time import MAX_US, Duration, duration_us
from wakelog.errors import quoted

__all__ = ["CatchUp", "IntervalMode", "Passed", "Recurrence", "recurrence"]

MIN_EVERY_US = 10_000
"""The shortest interval: 10 ms."""

IntervalMode = Literal["fixed_delay", "fixed_rate"]
CatchUp = Literal["once", "all", "skip"]


class Passed(NamedTuple):
    """The occurrences up to some moment."""

    number: int
    last_us: int


class Late(NamedTuple):
    """What is done about occurrences that have passed."""

    missed: tuple[Missed, ...]
    due_us: int
    """The occurrence that the run is for."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """An interval, or a cron string. Made by `recurrence`."""

    text: str
    """As the history shows it: `every 30m fixed_delay`, `cron 0 2 * * * Europe/Berlin`."""
    every_us: int = 0
    """The interval; 0 for cron."""
    mode: IntervalMode = "fixed_delay"
    cron: Cron | None = None
    jitter_us: int = 0

    @property
    def is_grid(self) -> bool:
        """Whether the occurrences do not depend on how long runs take."""
        return self.cron is not None or self.mode == "fixed_rate"

    @property
    def fingerprint(self) -> str:
        """Tells this recurrence, in the rules of its time zone, from others."""
        return self.text if self.cron is None else f"{self.text} {self.cron.rules}".rstrip()

    def after(self, after_us: int, origin_us: int) -> int:
        """The first occurrence later than `after_us`, on the grid that began at `origin_us`; the
        end of the year 9999 if there is none."""
        if self.cron is not None:
            return self.cron.after(after_us)
        if self.mode == "fixed_rate":
            steps = (after_us - origin_us) // self.every_us + 1
            return min(MAX_US, origin_us + steps * self.every_us)
        return min(MAX_US, after_us + self.every_us)

    def spread(self, due_us: int, origin_us: int, seed: str) -> int:
        """An occurrence with its jitter: later, but always before the next one."""
        longest_us = min(self.jitter_us, self.after(due_us, origin_us) - due_us - 1)
        return due_us + int(random.Random(seed).random() * max(0, longest_us))

    def passed(self, due_us: int, now_us: int, origin_us: int) -> Passed:
        """How many occurrences there are from the one at `due_us` to now, and the last of them.

        The one at `due_us` counts even if it is not on the grid: jitter or a handler may have moved
        it.
        """
        next_us = self.after(due_us, origin_us)
        if not self.is_grid or next_us > now_us:
            return Passed(1, due_us)
        if self.cron is not None:
            return Passed(1 + self.cron.count(due_us, now_us), self.cron.back(now_us, 0))
        more = (now_us - next_us) // self.every_us
        return Passed(2 + more, next_us + more * self.every_us)

    def not_run(self, due_us: int, ran_us: tuple[int, int], now_us: int, origin_us: int) -> int:
        """An occurrence; or, if it is among those that ran while the clock was ahead (from the
        first to the last of `ran_us`), the next after them. An interval does not wait for that if
        they end later than one interval from now: its occurrences have no names."""
        first_us, last_us = ran_us
        may_wait = self.cron is not None or last_us <= now_us + self.every_us
        if self.is_grid and may_wait and 0 < first_us <= due_us <= last_us:
            return self.after(last_us, origin_us)
        return due_us

    def late(self, due_us: int, now_us: int, origin_us: int, catch_up: CatchUp, most: int) -> Late:
        """What is to be done about the occurrences from the one at `due_us` to now (C4): at most
        `most` have their runs."""
        count, last_us = self.passed(due_us, now_us, origin_us)
        if catch_up == "all" and count <= most:
            return Late((), due_us)
        if catch_up == "all":
            count, last_us = count - most, self.back(last_us, most - 1)
        return Late((Missed(due_us=due_us, count=count, policy=catch_up),), last_us)

    def back(self, due_us: int, number: int) -> int:
        """The occurrence that lies `number` occurrences before the one of the grid at `due_us`."""
        if self.cron is not None:
            return self.cron.back(due_us, number)
        return due_us - number * self.every_us


def recurrence(
    *,
    every: Duration | None,
    cron: str | None,
    mode: IntervalMode,
    zone: str,
    jitter: Duration | None,
) -> Recurrence:
    """The recurrence of these options, of which exactly one of `every` and `cron` is given.

    Raises `ValidationError`, also for a bad value that only the other one would use: it is a
    mistake in any case.
    """
    jitter_us = 0 if jitter is None else duration_us(jitter, "jitter")
    if mode not in ("fixed_delay", "fixed_rate"):
        raise refused(f"mode {quoted(mode)}", "expected 'fixed_delay' or 'fixed_rate'")
    check_zone(zone)
    if every is not None and cron is None:
        return _every(every, mode, jitter_us)
    if cron is None or every is not None:
        raise refused("recurrence", "expected either every= or cron=")
    read = cron_of(cron, zone)
    return Recurrence(f"cron {read.text} {read.zone}", cron=read, jitter_us=jitter_us)


def _every(every: Duration, mode: IntervalMode, jitter_us: int) -> Recurrence:
    every_us = duration_us(every, "every")
    if every_us < MIN_EVERY_US:
        raise refused(f"every {quoted(every)}", "must be at least 10 ms")
    shown = every if isinstance(every, str) else f"{Decimal(every_us) / 1_000_000:f}s"
    return Recurrence(f"every {shown} {mode}", every_us, mode, jitter_us=jitter_us)
