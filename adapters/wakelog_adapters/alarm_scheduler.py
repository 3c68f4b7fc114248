# pyright: reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
"""The alarm clock: APScheduler over a job store that presents the alarm view.

APScheduler wakes, the store claims. What APScheduler calls a job is one claimed instance; its query
for due jobs is the claim, up to the free slots; its removal of a job means that the instance was
handed to the worker, never that its work is done. It runs on a thread of its own, so that a claim
never blocks the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

from wakelog.core.time import as_datetime, moment_us
from wakelog.ports.alarm_clock import Claimant

__all__ = ["AlarmJobStore", "SchedulerClock", "open_alarm_clock"]

_LOG = logging.getLogger("wakelog.alarms")
RETRY_S = 1
"""How soon to claim again after the store could not answer."""


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
            daemon=True,
            logger=_LOG,
        )

    def start(self) -> None:
        """Start the thread; it claims at once."""
        self._scheduler.start()

    def wakeup(self) -> None:
        """Claim now. Any thread may call."""
        if self._scheduler.running:
            self._scheduler.wakeup()

    def stop(self) -> None:
        """End the thread, after a claim that is under way and all that it claimed was begun."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)


class Scheduler(BackgroundScheduler):
    """Begins everything that it claimed, also while it is being stopped."""

    def remove_job(self, job_id: str, jobstore: str | None = None) -> None:
        """There is nothing to remove. APScheduler's own method raises while it is being stopped,
        also between two jobs: the rest would be claimed, and never begun."""


class AlarmJobStore(BaseJobStore):
    """The alarm view as APScheduler sees it: due jobs are claimed instances."""

    def __init__(self, claimant: Claimant) -> None:
        super().__init__()
        self._claimant = claimant

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """Claim what is due by `now`, APScheduler's own clock: nothing is claimed early.

        APScheduler catches what is raised here, and tries again after `RETRY_S`.
        """
        claimed = self._claimant.claim(moment_us(now))
        return [self._job(number, each, now) for number, each in enumerate(claimed)]

    def get_next_run_time(self) -> datetime | None:
        """When to claim again; None while no slot is free, so that nothing is polled in vain.

        An exception from here would end APScheduler's thread without a message, and with it the
        worker.
        """
        now = datetime.now(UTC)
        try:
            next_us = self._claimant.next_look_us(moment_us(now))
        except Exception as error:
            _LOG.warning("the next alarm cannot be read; trying again soon: %s", error)
            return now + timedelta(seconds=RETRY_S)
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

    def _job(self, number: int, claimed: object, now: datetime) -> Job:
        """Without a misfire grace time, so that APScheduler drops none that is late."""
        return Job(
            self._scheduler,
            id=str(number),
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


class DirectExecutor(BaseExecutor):
    """Begins a claimed instance at once, on the scheduler's thread: the worker does not block."""

    def submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        fn: Any = job.func
        fn(*job.args)

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        raise NotImplementedError
