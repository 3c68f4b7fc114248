"""Retry: whether a failed attempt is followed by another, and when (R1 to R3).

The one place that decides it, for every type of job. Pure: jitter comes from a random generator
seeded by what is judged, and what only user code can decide is passed in as `Advice`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from msgspec import Struct

from wakelog.bounds import at_least
from wakelog.core.time import Duration, duration_us
from wakelog.errors import Issue, JobError, ValidationError, quoted
from wakelog.functions import why_unfit

__all__ = [
    "Advice",
    "Again",
    "Backoff",
    "GiveUp",
    "OnExhausted",
    "Over",
    "Reason",
    "Retry",
    "RetryAfter",
    "Verdict",
    "judge",
]

MAX_DELAY_US = 366 * 86_400_000_000
"""The longest delay: a year."""

OnExhausted = Literal["fail", "continue", "clear", "dead_letter"]
"""What happens to an instance when a run has no attempt left: it stays `failed` until an operator
acts, continues as if the run had succeeded, ends its life, or keeps the batch as a dead letter."""

Types = tuple[type[BaseException], ...]
RetryIf = type[BaseException] | Types | Callable[[BaseException], bool]
Reason = Literal["max_attempts", "max_duration", "not_retryable", "lost"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after each attempt. Made by `constant`, `linear` or `exponential`."""

    first_us: int
    increment_us: int = 0
    factor: float = 1.0
    max_us: int = MAX_DELAY_US

    @classmethod
    def constant(cls, delay: Duration) -> Backoff:
        """The same delay after each attempt."""
        return cls(duration_us(delay, "delay"))

    @classmethod
    def linear(cls, initial: Duration, increment: Duration, max: Duration | None = None) -> Backoff:
        """`initial` after the first attempt, `increment` more after each further one."""
        first_us, increment_us = (
            duration_us(initial, "initial"),
            duration_us(increment, "increment"),
        )
        return cls(first_us, increment_us, max_us=_max_us(max))

    @classmethod
    def exponential(
        cls, initial: Duration, factor: float = 2.0, max: Duration | None = None
    ) -> Backoff:
        """`initial` after the first attempt, `factor` times as long after each further one."""
        is_number = isinstance(factor, int | float) and not isinstance(factor, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not is_number or not 1 <= factor <= 1_000:
            raise _invalid("factor", factor, "must be a number from 1 to 1000")
        return cls(duration_us(initial, "initial"), factor=factor, max_us=_max_us(max))

    def delay_us(self, attempt: int) -> int:
        """Microseconds between the end of attempt `attempt` (from 1) and the next."""
        before = attempt - 1
        grows = self.first_us > 0 and self.factor > 1
        if (
            grows and before * math.log2(self.factor) > 64
        ):  # beyond any delay, and costly to compute
            return self.max_us
        grown_us = self.first_us * self.factor**before if grows else self.first_us
        delay_us = grown_us + self.increment_us * before
        return min(self.max_us, round(delay_us))


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How many attempts a failing run has, and how long to wait between two of them.

        Retry(max_attempts=5, delay=Backoff.exponential("1s", factor=2, max="30s"))

    `max_attempts` is the total number of attempts, the first included. `delay` is a `Backoff`, a
    duration, or a function of the number of the failed attempt (from 1). `jitter` changes each
    delay by up to that share of it, either way. There is no attempt that would begin more than
    `max_duration` after the first one began. `retry_if`, exception types or a function of the
    exception, selects the failures that are retried; by default all are. `on_exhausted`: see
    `OnExhausted`; each type of job has its own default.

    Raises `ValidationError` if a value is out of bounds, and for a function that is an `async def`:
    the functions of a policy are called without `await`.
    """

    max_attempts: int = 3
    delay: Backoff | Duration | Callable[[int], Duration] = Backoff(1_000_000, 0, 2.0, 30_000_000)
    jitter: float = 0.1
    max_duration: Duration | None = None
    retry_if: RetryIf | None = None
    on_exhausted: OnExhausted | None = None

    def __post_init__(self) -> None:
        at_least(1, "max_attempts", self.max_attempts)
        is_number = isinstance(self.jitter, int | float) and not isinstance(self.jitter, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not is_number or not 0 <= self.jitter <= 1:
            raise _invalid("jitter", self.jitter, "must be a number from 0 to 1")
        if unfit := _why_no_retry_if(self.retry_if):
            raise _invalid("retry_if", self.retry_if, unfit)
        if self.max_duration is not None:
            duration_us(self.max_duration, "max_duration")
        if callable(self.delay):
            if unfit := why_unfit(self.delay, 1):
                raise _invalid("delay", self.delay, unfit)
        elif not isinstance(self.delay, Backoff):
            object.__setattr__(self, "delay", Backoff.constant(self.delay))
        words = ("fail", "continue", "clear", "dead_letter", None)
        if self.on_exhausted not in words:
            raise _invalid("on_exhausted", self.on_exhausted, f"expected one of {words[:-1]}")

    @classmethod
    def standard(cls, max_attempts: int = 3) -> Retry:
        """Delays of 1 s, doubling up to 30 s."""
        return cls(max_attempts=max_attempts)

    @classmethod
    def aggressive(cls, max_attempts: int = 10) -> Retry:
        """Delays of 100 ms, doubling up to 5 s."""
        return cls(max_attempts=max_attempts, delay=Backoff.exponential("100ms", 2, "5s"))

    @classmethod
    def patient(cls, max_attempts: int = 10) -> Retry:
        """Delays of 5 s, doubling up to 2 min."""
        return cls(max_attempts=max_attempts, delay=Backoff.exponential("5s", 2, "2m"))

    @classmethod
    def simple(cls, max_attempts: int = 3) -> Retry:
        """Delays of 1 s, without jitter."""
        return cls(max_attempts=max_attempts, delay=Backoff.constant("1s"), jitter=0.0)

    @property
    def max_duration_us(self) -> int | None:
        """Microseconds of `max_duration`."""
        return None if self.max_duration is None else duration_us(self.max_duration)


class RetryAfter(JobError):
    """Raise it in a run to request another attempt after `delay`, because of `cause`.

    It overrules the delay and `retry_if` of the retry policy, not its bounds; without a policy the
    run is retried as often as it asks. `delay` is a duration, in seconds or as in "5m"; one longer
    than a year counts as a year. `cause` is the failure, or a text that gives the reason: then this
    exception itself is the failure. Raises `ValidationError` if `delay` is not a duration.
    """

    def __init__(self, delay: Duration, cause: BaseException | str | None = None) -> None:
        duration_us(delay, "delay")
        self.delay, self.cause = delay, cause
        super().__init__(delay, cause)

    def __str__(self) -> str:
        return f"retry after {self.delay}" + (f": {self.cause}" if self.cause else "")


class GiveUp(JobError):
    """Raise it in a run that is not to be retried, because of `cause`: the failure, or a text that
    gives the reason; then this exception itself is the failure."""

    def __init__(self, cause: BaseException | str | None = None) -> None:
        self.cause = cause
        super().__init__(cause)

    def __str__(self) -> str:
        return str(self.cause or "not to be retried")


class Advice(Struct, frozen=True):
    """What user code decides about a failure: its exception, and the functions of its policy."""

    retryable: bool = True
    gives_up: bool = False
    """The handler raised `GiveUp`."""
    after_us: int | None = None
    """The handler raised `RetryAfter` with this delay."""
    delay_us: int | None = None
    """The result of the policy's own `delay` function."""


class Again(Struct, frozen=True):
    """Another attempt, at `due_us`."""

    due_us: int


class Over(Struct, frozen=True):
    """No other attempt, because of the policy's `reason`."""

    reason: Reason


Verdict = Again | Over | None
"""None: there is no policy that decides."""


def judge(
    retry: Retry | None, advice: Advice, attempt: int, first_us: int, now_us: int, seed: str
) -> Verdict:
    """Whether attempt `attempt`, which has failed at `now_us`, is followed by another.

    `first_us` is when the first attempt began, `seed` seeds the jitter. `RetryAfter` overrules the
    delay and `retry_if`, never the bounds; without a policy there are no bounds (R3).
    """
    if retry is None:
        is_requested = advice.after_us is not None and not advice.gives_up
        return Again(now_us + _bounded_us(advice.after_us or 0)) if is_requested else None
    if advice.gives_up or (not advice.retryable and advice.after_us is None):
        return Over("not_retryable")
    if attempt >= retry.max_attempts:
        return Over("max_attempts")
    due_us = now_us + _bounded_us(_planned_us(retry, advice, attempt, seed))
    max_us = retry.max_duration_us
    if max_us is not None and due_us - first_us > max_us:
        return Over("max_duration")
    return Again(due_us)


def _planned_us(retry: Retry, advice: Advice, attempt: int, seed: str) -> int:
    """The delay after `attempt`, with jitter unless the handler asked for it."""
    if advice.after_us is not None:
        return advice.after_us
    delay_us = advice.delay_us or 0
    if isinstance(retry.delay, Backoff):
        delay_us = retry.delay.delay_us(attempt)
    spread = retry.jitter * (2 * random.Random(seed).random() - 1)
    return round(delay_us * (1 + spread))


def _bounded_us(planned_us: int) -> int:
    return min(MAX_DELAY_US, planned_us)


def _why_no_retry_if(wanted: object) -> str | None:
    """Why it cannot be a `retry_if`; None if it can."""
    if wanted is None:
        return None
    if isinstance(wanted, tuple | type):
        types = cast("tuple[object, ...]", wanted if isinstance(wanted, tuple) else (wanted,))
        if all(isinstance(each, type) and issubclass(each, BaseException) for each in types):
            return None
    elif callable(wanted):
        return why_unfit(wanted, 1)
    return "expected exception types or a function"


def _max_us(max: Duration | None) -> int:
    return MAX_DELAY_US if max is None else min(MAX_DELAY_US, duration_us(max, "max"))


def _invalid(what: str, value: object, message: str) -> ValidationError:
    return ValidationError(f"{what} {quoted(value)}", [Issue(loc="", msg=message, type="retry")])
