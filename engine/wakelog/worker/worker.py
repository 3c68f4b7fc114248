"""A worker: claims what is due while it has free slots, and hands it to the event loop.

Three threads meet here: the alarm clock's (claims), the heartbeat's (leases, sweeps) and the event
loop's (the work itself). They share what lies ahead and the set of held leases; everything else is
handed to the loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from wakelog.application import Application
from wakelog.errors import LeaseLostError, StoreUnavailableError
from wakelog.ids import job_of
from wakelog.ports.alarm_clock import AlarmClock, Claimant
from wakelog.ports.inbox import INBOX
from wakelog.ports.rows import WorkerRow
from wakelog.runtime.store_threads import InlineExecutor, StoreExecutor, ThreadExecutor
from wakelog.settings import WorkerSettings
from wakelog.threads import start_thread
from wakelog.worker.ahead import Ahead
from wakelog.worker.begun import BegunWork
from wakelog.worker.claim_guard import ClaimGuard
from wakelog.worker.claims import Claimed, GivenBack, claim_due
from wakelog.worker.heartbeat import Heartbeat
from wakelog.worker.inbox.inbox import DueRows, Inbox
from wakelog.worker.leases import HeldLeases, LeaseKey
from wakelog.worker.loop_watchdog import LoopWatchdog
from wakelog.worker.next_look import NextLook
from wakelog.worker.pool.pools import DuePool, Pools
from wakelog.worker.runs import Appending, Step, begin
from wakelog.worker.schedule_keeper import ScheduleKeeper
from wakelog.worker.schedules import Schedules, rules_of
from wakelog.worker.startup import autostart, worker_row
from wakelog.worker.sweep import Sweep

__all__ = ["Worker"]

_LOG = logging.getLogger("wakelog.worker")
LAST_S = 4.0
"""How long a shutdown waits until what it has given back is recorded."""
RELEASE_S = 0.5
"""How long a release waits for a thread that is in a call of the store."""


class Worker:
    """Works for one application. Made and closed on its event loop."""

    def __init__(
        self,
        app: Application,
        settings: WorkerSettings,
        make_clock: Callable[[Claimant], AlarmClock],
    ) -> None:
        self._app = app
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._all_jobs = app.registry.chosen(settings.only)
        self.jobs = app.registry.with_instances(self._all_jobs)
        """Those whose instances it claims."""
        self._async_jobs = app.registry.without_threads(self.jobs)
        """Those that need no thread."""
        self._limited = app.registry.limits()
        self._started_us = app.clock.now_us()
        self.name = f"{socket.gethostname()}:{os.getpid()}:{self._started_us:x}"
        self._clock = make_clock(self)
        self._watchdog = LoopWatchdog(self._loop, self._clock.wakeup)
        self.next_look = NextLook(app, self.jobs)
        """When the alarm clock looks again; not part of the stable interface."""
        self._begun = BegunWork(app, self._first_step, self._guarded, self._ended)
        self._is_beginning = False
        self._ahead = Ahead(app.clock, is_allowed=not self._limited.keys() & set(self.jobs))
        self._waits_for_room = False
        """The alarm clock looks again when there is room for another claim."""
        self._given_back = GivenBack()
        self._closing = False
        self._awaits_beat = False
        """Nothing was claimed, because the leases must be renewed first."""
        self._abandoned = False
        """Closed: what still runs cannot be recorded any longer."""
        self._stop_watching: Callable[[], None] = lambda: None
        self._leases = HeldLeases(app.store, self.name, app.settings.lease_us, app.clock)
        self.sweep = Sweep(app, self.jobs, self._loop, lambda: self._pools.reread())
        """What the heartbeat calls every `sweep_us`; not part of the stable interface."""
        self._rules = rules_of(app, self.jobs)
        schedules = Schedules(app, self.jobs, self.name, self._started_us, self._rules)
        self._schedules = ScheduleKeeper(
            app.clock, schedules, settings.sweep_us, on_jump=self._clock.wakeup
        )
        self._beat_us = app.settings.lease_us // 3
        self._heartbeat = self._new_heartbeat()
        self._is_registered = False
        self._closer: StoreExecutor | None = None
        """Waits for the other threads when they are ended; started with them: later none may be."""
        self._guard = ClaimGuard(
            app.clock,
            self.name,
            lease_us=app.settings.lease_us,
            beat_us=self._beat_us,
            renew=lambda: self._heartbeat.beat_now(),
        )
        leases, may_take_over = self._leases, self._guard.may_take_over
        self._pools = Pools(app, self._all_jobs, self.name, leases, may_take_over)
        self._inbox = Inbox(app, self._all_jobs, self._wake)
        app.pools.on_change = self._on_pool_changed
        app.on_wake = self._on_alarm_set
        app.on_cleared = self.cancel

    async def start(self) -> None:
        """Register this worker, then begin to claim what is due.

        Raises `StoreUnavailableError` and `ThreadsExhaustedError`: then it is to be closed.
        """
        await self._app.threads.write(self._app.store.put_worker, self._row())
        self._is_registered = True
        await self._app.threads.write(self._pools.count_workers)
        await autostart(self._app, self.jobs)
        self._closer = ThreadExecutor("closing")
        start_thread(self._heartbeat)
        self._clock.start()
        told = self._on_others_alarm, self._on_others_pool
        self._stop_watching = self._app.store.watch_alarms(*told)
        self.sweep.reread()
        self._schedules.start()

    async def close(self, grace_us: int) -> None:
        """Claim nothing new, let runs end within the grace, give the others back at once (K2).

        A handler in a thread cannot be stopped: it keeps its lease until it has ended or the
        lease does. Whatever this raises, `release` does the rest.
        """
        self._closing = self._app.stopping = True
        self.sweep.stop_rereading()
        await self._schedules.stop()
        closer, grace_s = self._closer or InlineExecutor(), grace_us / 1_000_000
        await asyncio.gather(
            closer.run(self._stop_claiming),
            self._pools.close(grace_s),
            self._inbox.close(grace_s),
            self._begun.close(grace_s, LAST_S),
        )
        self._abandoned = True
        await closer.run(self._heartbeat.stop)
        try:
            if self._is_registered:
                await self._app.threads.write(self._app.store.remove_worker, self.name)
        except StoreUnavailableError as error:  # its row ends by itself; the app is closed anyway
            _LOG.warning("worker %s could not record that it has ended: %s", self.name, error)

    def _stop_claiming(self) -> None:
        self._stop_watching()
        self._clock.stop()
        self._give_back(self._ahead.take_all())

    def release(self) -> None:
        """Abandon what has not ended, until its lease ends, and end the threads: one that is in a
        call of the store for longer than `RELEASE_S` ends by itself. Safe to call twice. Blocks."""
        self._closing = self._app.stopping = self._abandoned = True
        self._begun.abandon()
        self._clock.stop(RELEASE_S)
        self._heartbeat.stop(RELEASE_S)
        if self._closer is not None:
            self._closer.close(RELEASE_S)

    @property
    def running(self) -> int:
        """How many instances and events of pools it is working on."""
        return len(self._begun) + self._pools.running

    # -- on the alarm clock's thread

    def claim(self, now_us: int) -> Sequence[object]:
        """Claim what is due, for the free slots and a little more, while the event loop turns and
        the leases that are held are certain. What lies ahead for too long is given back.

        User code that blocks the loop holds up what this worker has claimed; what is due goes to
        other workers. So does what needs a thread if all of them are stuck.
        """
        if not self._heartbeat.is_alive() and not self._closing:  # something has ended it
            self._heartbeat = self._new_heartbeat()
            start_thread(self._heartbeat)
        found = () if self._closing else (*self._pools.claim(now_us), *self._inbox.claim(now_us))
        return [*found, *self._claim_instances(now_us)]

    def _claim_instances(self, now_us: int) -> Sequence[Claimed]:
        self.next_look.begin()
        self._give_back(self._ahead.take_late())
        self._ahead.pace()
        jobs = self._async_jobs if self._app.handler_runner.is_exhausted else self.jobs
        room = self.room
        if room <= 0 or self._closing or not self._watchdog.is_responsive():
            return ()
        if (takeover := self._guard.takeover()) is None:
            self._awaits_beat = True
            return ()
        self._awaits_beat = False
        claimed, nothing_due = claim_due(
            self._app,
            worker=self.name,
            jobs=jobs,
            limit=room,
            now_us=now_us,
            takeover=takeover,
            given_back=self._given_back,
            may_take_over=self._guard.may_take_over,
        )
        self.next_look.claimed(now_us, len(claimed), nothing_due, is_full=len(claimed) == room)
        self._leases.add([each.key for each in claimed])
        self._ahead.put(claimed)
        return claimed

    def _give_back(self, claimed: Sequence[Claimed]) -> None:
        """Give back what has not begun. Blocks."""
        self._leases.give_back([each.key for each in claimed])
        for each in claimed:
            if each.holds_lost_run:
                self.sweep.rearm_at(each.stream, each.due.version)

    def begin(self, claimed: Sequence[object]) -> None:
        """Tell the event loop that something was claimed: once for each claim, since each hand-over
        is a system call after which the loop may keep the GIL."""
        pools = [each for each in claimed if isinstance(each, DuePool)]
        rows = [each for each in claimed if isinstance(each, DueRows)]
        if pools:
            self._loop.call_soon_threadsafe(self._pools.begin, pools)
        if rows:
            self._loop.call_soon_threadsafe(self._inbox.begin, rows[0])
        if not claimed or len(pools) + len(rows) < len(claimed):
            self._loop.call_soon_threadsafe(self._begin_next)

    def next_look_us(self, now_us: int) -> int | None:
        """When to look again: never while there is no room or the loop is blocked, except to give
        back what lies ahead for too long."""
        presented = self._pools.next_look_us(), self._inbox.next_look_us()
        looks = self._next_look_us(now_us), *presented
        return min((at_us for at_us in looks if at_us is not None), default=None)

    def _next_look_us(self, now_us: int) -> int | None:
        late_us = None if (in_us := self._ahead.late_in_us()) is None else now_us + in_us
        if self._closing or self._watchdog.found_blocked or self._awaits_beat:
            return late_us  # the event loop or the heartbeat wakes the alarm clock
        self._waits_for_room = True
        if self.room <= 0:
            return late_us  # room for another claim wakes it
        self._waits_for_room = False
        looks = [at_us for at_us in (self.next_look.next_us(now_us), late_us) if at_us is not None]
        return min(looks, default=None)

    @property
    def room(self) -> int:
        """For how many instances another claim is worth its while: while all slots are used, for at
        least half of what may lie ahead."""
        ahead = self._ahead.allowed
        free = self._settings.concurrency - len(self._begun) - len(self._ahead)
        return free + ahead if free > 0 or 0 < ahead <= 2 * (free + ahead) else 0

    # -- on the event loop

    def cancel(self, stream: str) -> None:
        """Stop working on an instance: its life was ended."""
        self._begun.stop_stream(stream)

    def _begin_next(self) -> None:
        """Begin what lies ahead, as far as there are free slots."""
        if self._is_beginning:  # something that was begun has ended at once: the loop goes on
            return
        self._is_beginning = True
        try:
            while len(self._begun) < self._settings.concurrency and not self._closing:
                if (claimed := self._ahead.take()) is None:
                    break
                self._begun.begin(claimed)
        finally:
            self._is_beginning = False

    def _first_step(self, claimed: Claimed) -> Appending | Step:
        return begin(self._app, claimed, self._leases.rekey, self._leases.becomes)

    async def _guarded(self, claimed: Claimed, step: Step) -> Appending | None:
        """A step of the work; what it raises is logged, and ends the work."""
        stream = claimed.stream
        try:
            return await step
        except LeaseLostError as error:
            _LOG.warning("%s: its outcome is dropped", error, extra={"instance": stream})
        except asyncio.CancelledError:
            _LOG.info("stopped working on %s", stream, extra={"instance": stream})
        except Exception as error:
            if self._abandoned:
                _LOG.info("%s ended too late: %s", stream, error, extra={"instance": stream})
                return None
            text = "%s could not be worked on; it is taken up again a little later"
            _LOG.exception(text, stream, extra={"instance": stream})
        return None

    def _ended(self, claimed: Claimed) -> None:
        """Its slot is free."""
        self._watchdog.note_progress()
        if (head := self._app.instances.peek(claimed.stream)) is not None:
            self._given_back.note(head.instance)
        self._leases.discard(claimed.key)
        self._ahead.note_ended(claimed.handler_us)
        self._begin_next()
        waits = self._waits_for_room and self.room > 0
        if waits or (self._limited and job_of(claimed.stream) in self._limited):
            self._waits_for_room = False
            self._wake()  # what was due could not be claimed until now

    def _on_pool_changed(self, job: str, due_us: int) -> None:
        """A call of this process has changed when a pool has work."""
        if due_us > self._app.clock.now_us():
            self._pools.notice(job)
            self._wake()
        elif not self._pools.changed(job):
            self._wake()

    def _on_alarm_set(self, due_us: int) -> None:
        """An append of this process has set an alarm."""
        if self.next_look.comes_too_late(due_us) and not self._waits_for_room:
            self._wake()

    def _on_others_alarm(self, due_us: int) -> None:
        """Another process has set an alarm; called on any thread."""
        if self._pools.notice():
            self._wake()
        elif not self._waits_for_room and self.next_look.expects_others_alarm(due_us):
            self._on_alarm_set(due_us)

    def _on_others_pool(self, job: str, number: int) -> None:
        """Another process has put something into a pool or the inbox; called on any thread."""
        if job == INBOX:
            self._inbox.notice()
        elif not self._pools.has_seen(job, number):
            self._loop.call_soon_threadsafe(self._on_pool_changed, job, 0)

    def _wake(self) -> None:
        if not self._closing:
            self._clock.wakeup()

    # -- on the heartbeat's thread

    def beat(self) -> None:
        """Renew the leases; stop the work whose lease is lost, give up leases without work. If the
        loop has ended before the app was closed, so has the work: its leases end."""
        if self._loop.is_closed():
            self._closing = True
            return
        self._clock.keep_running()
        began = self._guard.beat_begins()
        try:
            renewal = self._leases.renew()
        except BaseException:
            self._guard.beat_failed()
            raise
        if self._guard.beat_succeeded(began):
            self._clock.wakeup()
        for key in renewal.lost:  # first: it is told once, and the store may fail
            self._loop.call_soon_threadsafe(self._lease_lost, key)
        self._app.store.put_worker(self._row())
        self._pools.count_workers()
        self._loop.call_soon_threadsafe(self._pools.beat)
        for key in renewal.orphaned:  # work that failed unexpectedly has left its lease behind
            self._app.store.release(self.name, [key])
            # of a claim that had not begun the alarm is there, unless it had taken over a lost run
            if job_of(key[0]) in self.jobs:
                self.sweep.rearm([key[0]], only_runs=key[1] < 0)

    def look(self) -> None:
        """Stop the work of which another process has ended or taken over the lease (U14); go on
        with what the last sweep has left."""
        with suppress(StoreUnavailableError):  # the next beat reports it
            for key in self._leases.look():
                self._loop.call_soon_threadsafe(self._lease_lost, key)
            self.sweep.purge_more()

    def _lease_lost(self, key: LeaseKey) -> None:
        self._pools.lost(key)
        if (claimed := self._begun.under(key)) is not None:
            stream = claimed.stream
            _LOG.warning("the lease on %s is lost: stopping", stream, extra={"instance": stream})
            self._begun.stop_if_possible(claimed)

    def _new_heartbeat(self) -> Heartbeat:
        return Heartbeat(
            self.beat,
            self.look,
            self.sweep,
            every_s=self._beat_us / 1_000_000,
            sweep_s=self._settings.sweep_us / 1_000_000,
        )

    def _row(self) -> WorkerRow:
        about = self._settings.concurrency, self._started_us, self._rules
        return worker_row(self._app, self.name, self._all_jobs, *about)
