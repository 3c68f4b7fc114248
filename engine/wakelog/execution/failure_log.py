"""What failed is logged once it is recorded: failed attempts, lost runs, dead letters. Failed tries
of steps are not recorded, and logged at once.

A storm of failures is in the log of events one by one; here it is cut short, so that it neither
fills a disk nor holds up the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from wakelog.clock import Clock
from wakelog.core.calls import EPILOGUES, HandlerFailed
from wakelog.core.events import (
    DeadLettered,
    Event,
    ExecutionFailed,
    ExecutionLost,
    RetryExhausted,
    RetryScheduled,
)
from wakelog.core.instance import OpenRun
from wakelog.core.pool.events import RunsLost
from wakelog.core.time import as_datetime
from wakelog.execution.error_text import error_text
from wakelog.execution.retry_advice import cause_of
from wakelog.pools.items import item_name

__all__ = ["FailureLog"]

_LOG = logging.getLogger("wakelog.failures")

MAX_AT_ONCE = 250
"""How many lines of one kind (job, what failed, type of error) may follow one another at once."""
LINE_US = 1_000_000
"""After that, one more of the kind in this time, which says how many were left out."""
MAX_KINDS = 256
"""How many kinds are told apart; the one that was met first is forgotten for a new one."""
MAX_IN_ALL, LINES_IN_ALL = 1_000, 10
"""The same for all kinds together: so many at once, and then so many in that time."""
FAILURES = frozenset[type[Event]]((ExecutionFailed, ExecutionLost, DeadLettered, RunsLost))

Kind = tuple[str, str, str]


class _Allowance(Struct):
    """How many lines may be logged now."""

    lines: float
    at_us: int
    left_out: int = 0

    def refill(self, now_us: int, most: int, each_us: float) -> bool:
        """Whether there is one left, after what time has brought."""
        self.lines = min(most, self.lines + (now_us - self.at_us) / each_us)
        self.at_us = now_us
        return self.lines >= 1


class FailureLog:
    """Logs failures of one process. Any thread may use it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        """Held while what may be logged is counted."""
        self._kinds: dict[Kind, _Allowance] = {}
        self._all = _Allowance(MAX_IN_ALL, clock.monotonic_us())

    def after(
        self,
        appending: asyncio.Future[None],
        instance: str,
        events: Sequence[Event],
        failures: Sequence[HandlerFailed],
    ) -> None:
        """Log what failed in a unit of work once that is appended; what is not is done again."""
        if FAILURES.isdisjoint(map(type, events)):
            return
        log = functools.partial(self._appended, instance, events, failures)
        if appending.done():
            log(appending)
        else:
            appending.add_done_callback(log)

    def _appended(
        self,
        instance: str,
        events: Sequence[Event],
        failures: Sequence[HandlerFailed],
        appending: asyncio.Future[None],
    ) -> None:
        if not appending.cancelled() and appending.exception() is None:
            self.log(instance, events, failures)

    def log(
        self,
        instance: str,
        events: Sequence[Event],
        failures: Sequence[HandlerFailed] = (),
        *,
        attempts: Sequence[int] = (),
    ) -> None:
        """Log what failed; `failures` are what the events of failed handlers are about, in the same
        order, and `attempts` those of events of a pool that were lost. Never raises: a handler or
        filter of the user's may fail."""
        left = iter(failures)
        for event in events:
            if isinstance(event, ExecutionFailed):
                failure = next(left, None)
                if not _is_raised(event):
                    self._failed(instance, event, failure, _next(events))
            elif isinstance(event, ExecutionLost):
                if event.reason != "shutdown":
                    self._lost(instance, event, _next(events))
            elif isinstance(event, RunsLost):
                self._runs_lost(instance, event, attempts, _next(events))
            elif isinstance(event, DeadLettered) and event.reason != "waiting_for_code":
                self._dead(instance, event)

    def try_failed(
        self, instance: str, run: OpenRun, step: str, nth: int, raised: Exception, due_us: int
    ) -> None:
        """Log try `nth` of a step, which is tried again: nothing is recorded of it. Never raises.

        The last try of an attempt is not logged here: the handler gets its error.
        """
        if not _LOG.isEnabledFor(logging.WARNING):
            return
        error = error_text(cause_of(raised), raised)
        where = f" ({error.where})" if error.where else ""
        self._line(
            logging.WARNING,
            (instance, "step", error.error_type),
            "step %r of %s failed in run %d, attempt %d, try %d: %s: %s%s; try %d is due at %s",
            (step, instance, run.number, run.attempt, nth, error.error_type, error.message, where,
             nth + 1, _shown(due_us)),
            {"instance": instance, "run": run.number, "attempt": run.attempt,
             "step": step, "step_try": nth},
        )  # fmt: skip

    def _failed(
        self, instance: str, event: ExecutionFailed, failure: HandlerFailed | None, then: _Next
    ) -> None:
        is_warning = event.will_retry or event.recovered
        attempt = event.attempt or then.attempt
        where = f" ({event.where})" if event.where else ""
        run = "" if event.run is None else f" in run {event.run}"
        nth = "" if attempt is None else f", attempt {attempt}"
        what = "it was recovered" if event.recovered else then.words
        self._line(
            logging.WARNING if is_warning else logging.ERROR,
            (instance, event.handler, event.error_type),
            "%s of %s failed%s%s: %s: %s%s%s",
            (event.handler, instance, run, nth, event.error_type, event.message, where,
             what and f"; {what}"),
            {"instance": instance, "run": event.run, "attempt": attempt},
            None if is_warning else failure,
        )  # fmt: skip

    def _lost(self, instance: str, event: ExecutionLost, then: _Next) -> None:
        self._line(
            logging.ERROR if then.is_end else logging.WARNING,
            (instance, "lost", event.reason),
            "run %d of %s, attempt %d, was lost with %s (%s)%s",
            (event.run, instance, event.attempt,
             f"worker {event.worker}" if event.worker else "its worker",
             event.reason.replace("_", " "), then.words and f"; {then.words}"),
            {"instance": instance, "run": event.run, "attempt": event.attempt},
        )  # fmt: skip

    def _runs_lost(
        self, partition: str, event: RunsLost, attempts: Sequence[int], then: _Next
    ) -> None:
        if len(attempts) == 1:
            [(lane, off)], [attempt] = event.items, attempts
            one = ExecutionLost(
                run=1,
                attempt=attempt,
                worker=event.worker,
                reason="lease_expired" if event.worker else "no_lease",
            )
            self._lost(_item_of(partition, item_name(lane, off)), one, then)
            return
        self._line(
            logging.WARNING,
            (partition, "lost", ""),
            "the worker of %s%s was lost with %d events that it had taken; they are taken again",
            (partition, event.worker and f" ({event.worker})", len(event.items)),
            {"instance": partition, "run": None, "attempt": None},
        )

    def _dead(self, instance: str, event: DeadLettered) -> None:
        what = f"batch of {len(event.events)} events" if event.events else "event"
        if event.item is not None:  # of a take that was lost
            instance = _item_of(instance, event.item)
        error = f"{event.error_type}: {event.message}" if event.error_type else ""
        self._line(
            logging.ERROR,
            (instance, "dead", event.error_type),
            "the %s of %s was dead-lettered after attempt %d (%s)%s",
            (
                what,
                instance,
                event.attempts,
                event.reason.replace("_", " "),
                error and f": {error}",
            ),
            {"instance": instance, "run": None, "attempt": event.attempts},
        )

    def _line(
        self,
        level: int,
        kind: Kind,
        message: str,
        args: tuple[Any, ...],
        extra: dict[str, Any],
        failure: HandlerFailed | None = None,
    ) -> None:
        """Log a line, if its kind may have another one now; with the error, if there is one."""
        if not _LOG.isEnabledFor(level):
            return
        with self._lock:
            left_out = self._left_out((kind[0].rpartition(":")[0], *kind[1:]))
        if left_out is None:
            return
        if left_out:
            message, args = message + "; %d others like it were not logged", (*args, left_out)
        with contextlib.suppress(Exception):
            error = None if failure is None else failure.error
            exc_info = None if error is None else (type(error), error, error.__traceback__)
            record = _LOG.makeRecord(
                _LOG.name, level, __file__, 0, message, args, exc_info, extra=extra
            )
            if failure is not None:  # bounded, and without our own frames
                record.exc_text = failure.traceback.rstrip()
            _LOG.handle(record)

    def _left_out(self, kind: Kind) -> int | None:
        """How many lines of the kind were left out since its last one; None: so is this one."""
        now_us = self._clock.monotonic_us()
        allowance = self._kinds.get(kind)
        if allowance is None:
            if len(self._kinds) >= MAX_KINDS:
                del self._kinds[next(iter(self._kinds))]
            allowance = self._kinds[kind] = _Allowance(MAX_AT_ONCE, now_us)
        may_be = allowance.refill(now_us, MAX_AT_ONCE, LINE_US)
        if not (self._all.refill(now_us, MAX_IN_ALL, LINE_US / LINES_IN_ALL) and may_be):
            allowance.left_out += 1
            return None
        allowance.lines -= 1
        self._all.lines -= 1
        left_out, allowance.left_out = allowance.left_out, 0
        return left_out


class _Next(Struct):
    """What follows a failure."""

    words: str = ""
    attempt: int | None = None
    """The number of the attempt that has failed."""
    is_end: bool = False


def _next(events: Iterable[Event]) -> _Next:
    for event in events:
        match event:
            case RetryScheduled():
                words = f"attempt {event.attempt} is due at {_shown(event.due_us)}"
                return _Next(words, event.attempt - 1)
            case RetryExhausted():
                return _Next(f"no attempt is left ({event.reason})", event.attempts, is_end=True)
            case DeadLettered():
                return _Next("", event.attempts, is_end=True)
            case _:
                pass
    return _Next()


def _item_of(partition: str, name: str) -> str:
    return f"{partition.rpartition(':')[0]}:{name}"


def _shown(due_us: int) -> str:
    return as_datetime(due_us).isoformat(sep=" ", timespec="milliseconds")


def _is_raised(event: ExecutionFailed) -> bool:
    """Whether its caller gets the error, and so it is not for the log."""
    is_of_send = event.run is None and event.event_version is None
    return is_of_send and not event.recovered and event.handler not in EPILOGUES
