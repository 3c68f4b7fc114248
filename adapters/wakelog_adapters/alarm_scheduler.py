# pyright: reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
"""The alarm clock: APScheduler over a job store that presents the alarm view.

APScheduler wakes, the store claims. What it calls a job is one claimed instance; to look for due
jobs is to claim them, up to the free slots; to remove a job means that it was handed over, never
that it is done. It runs on a thread of its own, so that a claim never holds up the event loop.
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
"""How soon to look again after the store could not answer."""


def open_alarm_clock(desk: Claimant) -> SchedulerClock:
    """An alarm clock for a worker's desk; found through the `wakelog.alarm_clocks` entry point."""
    return SchedulerClock(desk)


class SchedulerClock:
    """Wakes a worker: a background scheduler whose one job store is the alarm view."""

    def __init__(self, desk: Claimant) -> None:
        self._store = AlarmJobStore(desk)
        self._scheduler = Scheduler(
            jobstores={"default": self._store},
            executors={"default": HandOver()},
            timezone=UTC,
            jobstore_retry_interval=RETRY_S,
            daemon=True,
            logger=_LOG,
        )

    def start(self) -> None:
        """Start the thread; it looks for due alarms at once."""
        self._scheduler.start()

    def wakeup(self) -> None:
        """Look again now. Any thread may call."""
        if self._scheduler.running:
            self._scheduler.wakeup()

    def stop(self) -> None:
        """End the thread; a claim that is under way is finished first."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)


class Scheduler(BackgroundScheduler):
    """Hands over everything that it claimed, also while it is being stopped."""

    def remove_job(self, job_id: str, jobstore: str | None = None) -> None:
        """There is nothing to remove. APScheduler's own raises once a stop was asked for, in the
        middle of a batch: the claims behind it would be held, and never worked on."""


class AlarmJobStore(BaseJobStore):
    """The alarm view as APScheduler sees it: due jobs are claimed instances."""

    def __init__(self, desk: Claimant) -> None:
        super().__init__()
        self._desk = desk

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """Claim what is due by `now`, APScheduler's own clock: nothing later than it is taken."""
        claimed = self._desk.take(moment_us(now))
        return [self._job(number, each, now) for number, each in enumerate(claimed)]

    def get_next_run_time(self) -> datetime | None:
        """When to look again; None while no slot is free, so that nothing is polled in vain.

        What is raised here would end APScheduler's thread, and with it the worker, in silence.
        """
        now = datetime.now(UTC)
        try:
            next_us = self._desk.next_us(moment_us(now))
        except Exception as error:
            _LOG.warning("the next alarm cannot be read, looking again soon: %s", error)
            return now + timedelta(seconds=RETRY_S)
        return None if next_us is None else as_datetime(next_us)

    def remove_job(self, job_id: str) -> None:
        """The job was handed over. It leaves the view when its outcome is appended."""

    def lookup_job(self, job_id: str) -> Job | None:
        """Nothing can be looked up: a job exists only while it is handed over."""
        return None

    def get_all_jobs(self) -> list[Job]:
        """Nothing is listed here: ask the app for its instances."""
        return []

    def add_job(self, job: Job) -> None:
        raise NotImplementedError("alarms are set by events, in the append")

    def update_job(self, job: Job) -> None:
        raise NotImplementedError("alarms are set by events, in the append")

    def remove_all_jobs(self) -> None:
        raise NotImplementedError("alarms are set by events, in the append")

    def _job(self, number: int, claimed: object, now: datetime) -> Job:
        return Job(
            self._scheduler,
            id=str(number),
            name="wakelog",
            func=self._desk.begin,
            args=(claimed,),
            kwargs={},
            trigger=DateTrigger(now, UTC),
            next_run_time=now,
            executor="default",
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1_000_000,
        )


class HandOver(BaseExecutor):
    """Hands a claimed instance to the worker at once: there is nothing to wait for."""

    def submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        fn: Any = job.func
        fn(*job.args)

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        raise NotImplementedError
