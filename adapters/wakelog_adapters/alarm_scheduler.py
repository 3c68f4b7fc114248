# pyright: reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
"""The alarm clock: APScheduler over a job store that presents the alarm view.

APScheduler wakes, the store claims. What APScheduler calls a job is all that one claim has got; its
query for due jobs is the claim, up to the free slots; its removal of a job means that the instances
were handed to the worker, never that their work is done. It runs on a thread of its own, so that a
claim never blocks the event loop. The loop of that thread is ours: APScheduler's ends with the
first exception, and waits for the difference of two readings of a clock that may be set between
them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.date import DateTrigger

from wakelog.clock import SystemClock
from wakelog.core.time import as_datetime, moment_us
from wakelog.ports.alarm_clock import Claimant
from wakelog.threads import LastingThread

__all__ = ["AlarmJobStore", "SchedulerClock", "open_alarm_clock"]

_LOG = logging.getLogger("wakelog.alarms")
_SCHEDULERS_LOG = logging.getLogger("wakelog.alarms.scheduler")
"""What APScheduler says: a line or two for each look, so nothing below a warning unless asked for.
"""
if _SCHEDULERS_LOG.level == logging.NOTSET:
    _SCHEDULERS_LOG.setLevel(logging.WARNING)
_CLOCK = SystemClock()
RETRY_S = 1
"""How soon to claim again after the store could not answer."""
CLOCK_LOOK_S = 1.0
"""How often to compare the wall clock with the time of the next look: it may have been set on, or
the machine was suspended, which a wait does not notice."""
SET_BACK_US = 1_000_000
"""The wall clock was set back if it is behind the time that has passed by more than this."""


def open_alarm_clock(claimant: Claimant) -> SchedulerClock:
    """An alarm clock for a worker; found through the `wakelog.alarm_clocks` entry point."""
    return SchedulerClock(claimant)


class SchedulerClock:
    """Wakes a worker: a background scheduler whose one job store is the alarm view."""

    def __init__(self, claimant: Claimant) -> None:
        self._store = AlarmJobStore(claimant)
        self._scheduler = Scheduler(
            jobstores={"default": self._store},
            executors={"default": DirectExecutor()},
            timezone=UTC,
            jobstore_retry_interval=RETRY_S,
            logger=_SCHEDULERS_LOG,
        )
        self._thread = LastingThread("wakelog-alarms", self._look)

    def start(self) -> None:
        """Start the thread; it claims at once. Raises `ThreadsExhaustedError`."""
        self._scheduler.start()
        try:
            self._thread.start()
        except BaseException:
            self._scheduler.shutdown(wait=True)
            raise

    def keep_running(self) -> None:
        """Start the thread again if something has ended it. Any thread may call."""
        self._thread.keep_running()

    def wakeup(self) -> None:
        """Claim now. Any thread may call."""
        self._scheduler.wakeup()

    def stop(self, timeout_s: float | None = None) -> None:
        """End the thread, after a claim that is under way and all that it claimed was begun; wait
        for that, at most `timeout_s`."""
        self._thread.stopped.set()
        self._scheduler.woken.set()
        self._thread.stop(timeout_s)
        if self._scheduler.running and not self._thread.is_alive:  # a claim has APScheduler's lock
            self._scheduler.shutdown(wait=True)

    def _look(self) -> None:
        self._store.next_look.wait(self._scheduler.woken)
        if self._thread.stopped.is_set():
            return
        self._scheduler.woken.clear()
        self._store.next_look = AT_ONCE  # unless this look says otherwise
        self._scheduler.look()


class NextLook:
    """When to look again: at a time of the wall clock, or after as long as it is until then.

    Both are kept, since the wall clock may be set on or back meanwhile.
    """

    def __init__(self, now_us: int, due_us: int | None) -> None:
        """`due_us` None: only after a wakeup."""
        self._due_us = due_us
        self._until_s = time.monotonic() + max(0, (due_us or 0) - now_us) / 1_000_000

    def wait(self, woken: threading.Event) -> None:
        """Block this thread until then, or until `woken` is set."""
        while not woken.wait(self._pause_s()):
            if self._due_us is not None and self._is_reached(self._due_us):
                return

    def _is_reached(self, due_us: int) -> bool:
        left_us = due_us - _CLOCK.now_us()
        if left_us <= 0:
            return True
        return time.monotonic() >= self._until_s and left_us > SET_BACK_US

    def _pause_s(self) -> float | None:
        if self._due_us is None:
            return None
        left_s = (self._due_us - _CLOCK.now_us()) / 1_000_000
        return max(0.0, min(left_s, CLOCK_LOOK_S))


AT_ONCE = NextLook(0, 0)
"""Look now."""


class Scheduler(BaseScheduler):
    """Begins everything that it claimed, also while it is being stopped."""

    def __init__(self, **options: Any) -> None:
        self.woken = threading.Event()
        """Set by what wants a claim."""
        super().__init__(**options)

    def look(self) -> None:
        """Claim and begin."""
        self._process_jobs()

    def wakeup(self) -> None:
        self.woken.set()

    def shutdown(self, wait: bool = True) -> None:
        super().shutdown(wait)

    def remove_job(self, job_id: str, jobstore: str | None = None) -> None:
        """There is nothing to remove. APScheduler's own method raises while it is being stopped,
        also between two jobs: the rest would be claimed, and never begun."""


class AlarmJobStore(BaseJobStore):
    """The alarm view as APScheduler sees it: a due job is what a claim has got."""

    def __init__(self, claimant: Claimant) -> None:
        super().__init__()
        self._claimant = claimant
        self.next_look = AT_ONCE
        """When to claim again, as the last claim has left it."""

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """Claim what is due by `now`, APScheduler's own clock: nothing is claimed early.

        APScheduler catches what is raised here; it is tried again after `RETRY_S`.
        """
        self.next_look = _soon()
        claimed = self._claimant.claim(moment_us(now))
        return [self._job(claimed, now)] if claimed else []

    def get_next_run_time(self) -> datetime | None:
        """When to claim again; None while no slot is free, so that nothing is polled in vain."""
        now_us = _CLOCK.now_us()
        try:
            next_us = self._claimant.next_look_us(now_us)
        except Exception as error:
            _LOG.warning("the next alarm cannot be read; trying again soon: %s", error)
            next_us = now_us + RETRY_S * 1_000_000
        self.next_look = NextLook(now_us, next_us)
        return None if next_us is None else as_datetime(next_us)

    def remove_job(self, job_id: str) -> None:
        """The worker has the job. It leaves the view when its outcome is appended."""

    def lookup_job(self, job_id: str) -> Job | None:
        """Nothing can be looked up: a job exists only until the worker has it."""
        return None

    def get_all_jobs(self) -> list[Job]:
        """Nothing is listed here: the app lists its instances."""
        return []

    def add_job(self, job: Job) -> None:
        raise NotImplementedError("alarms are set by events, in the append")

    def update_job(self, job: Job) -> None:
        raise NotImplementedError("alarms are set by events, in the append")

    def remove_all_jobs(self) -> None:
        raise NotImplementedError("alarms are set by events, in the append")

    def _job(self, claimed: Sequence[object], now: datetime) -> Job:
        """Without a misfire grace time, so that APScheduler drops none that is late. One for all
        that was claimed: APScheduler inspects the callable of each, some 20 µs."""
        return Job(
            self._scheduler,
            id="claimed",
            name="wakelog",
            func=self._claimant.begin,
            args=(claimed,),
            kwargs={},
            trigger=DateTrigger(now, UTC),
            next_run_time=now,
            executor="default",
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1_000_000,
        )


def _soon() -> NextLook:
    now_us = _CLOCK.now_us()
    return NextLook(now_us, now_us + RETRY_S * 1_000_000)


class DirectExecutor(BaseExecutor):
    """Begins a claimed instance at once, on the scheduler's thread: the worker does not block."""

    def submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        fn: Any = job.func
        fn(*job.args)

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        raise NotImplementedError
