"""A worker: takes what is due, as long as it has free slots, and keeps what it took alive.

Three threads meet here: the alarm clock's (claims), the heart's (leases, sweeps) and the event
loop's (the work itself). They share a few counters, and hand everything else over to the loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence

from wakelog.application import Application
from wakelog.core.commands import HandlerName
from wakelog.errors import LeaseLostError
from wakelog.ports.alarm_clock import AlarmClock, Claimant
from wakelog.ports.rows import WorkerRow
from wakelog.ports.units import NothingDue
from wakelog.settings import WorkerSettings
from wakelog.worker.claims import Claimed, LeaseKey, next_due_us, take
from wakelog.worker.heartbeat import _Heart
from wakelog.worker.loop_watchdog import LoopWatchdog
from wakelog.worker.runs import work
from wakelog.worker.startup import autostart, retime
from wakelog.worker.sweep import rearm

__all__ = ["Worker"]

_LOG = logging.getLogger("wakelog.worker")
LAST_S = 5.0
"""How long a shutdown waits for what it has given back to be recorded."""
STRANDED_US = 10_000_000
"""How long work must have been without an alarm before a sweep calls it stranded."""
SWEEP_LIMIT = 100
ENDED_US = 1_000_000
"""How soon to look again whether other workers' runs of a job that has reached its limit ended."""
LOST_US = 50_000
"""How long to wait before looking again, after others were faster."""


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
        self.jobs = _jobs(app, settings.only)
        self._limits = app.registry.limits()
        self.name = f"{socket.gethostname()}:{os.getpid()}:{app.clock.now_us():x}"
        self._started_us = app.clock.now_us()
        self._clock = make_clock(self)
        self._pulse = LoopWatchdog(self._loop, self._clock.wakeup)
        self._lock = threading.Lock()
        self._running = 0
        self._closing = False
        self._retiming: asyncio.Task[int] | None = None
        self._left = False
        """Closed: what still goes on cannot be recorded any more."""
        self._empty_take_us = -1
        self._nothing_due: NothingDue | None = None
        """What the last claim has seen, until it is used: there is no need to look twice."""
        self._look_again_us = 0
        self._asleep_until_us: int | None = None
        self._heard = False
        self._unheard: Callable[[], None] = lambda: None
        self._holding: set[LeaseKey] = set()
        """What was taken and is not done with, begun or not."""
        self._doubtful: set[LeaseKey] = set()
        """What the last beat found held but not worked on, or worked on but not held."""
        self._tasks: dict[LeaseKey, tuple[Claimed, asyncio.Task[None]]] = {}
        self._heart = _Heart(self, app.settings.lease_us / 3_000_000)
        app.on_wake = self._on_wake
        app.on_cleared = self.cancel

    async def start(self) -> None:
        """Say that this worker lives, then begin to take what is due."""
        await self._app.write(self._app.store.put_worker, self._row())
        await autostart(self._app, self.jobs)
        self._heart.start()
        self._clock.start()
        self._unheard = self._app.store.watch_alarms(self._on_heard)
        self._retiming = self._loop.create_task(retime(self._app, self.jobs))
        self._retiming.add_done_callback(_log_failed_retiming)

    async def close(self, grace_us: int) -> None:
        """Take nothing new, let runs end within the grace, give the others back at once.

        A handler in a thread cannot be stopped: it keeps its lease until it has ended or the
        lease does.
        """
        self._closing = self._app.stopping = True
        if self._retiming is not None:
            self._retiming.cancel()
        await asyncio.to_thread(self._unheard)
        await asyncio.to_thread(self._clock.stop)
        tasks = {task for _, task in self._tasks.values()}
        if tasks:
            _, tasks = await asyncio.wait(tasks, timeout=grace_us / 1_000_000)
        late = [each for each in self._tasks.values() if each[1] in tasks]
        stopped = {task for claimed, task in late if self._can_stop(claimed)}
        for task in stopped:
            self._app.caller.stop(task)
        if stopped:
            await asyncio.wait(stopped, timeout=LAST_S)
        self._leave()
        await asyncio.to_thread(self._heart.stop)
        await self._app.write(self._app.store.remove_worker, self.name)

    def _leave(self) -> None:
        """Say what does not end: handlers in threads, which nothing can stop."""
        self._left = True
        for stream, _ in self._tasks:
            _LOG.warning(
                "a handler of %s does not end: it is left behind, and its run is taken up again "
                "when its lease ends",
                stream,
                extra={"instance": stream},
            )

    @property
    def running(self) -> int:
        """How many instances it is working on."""
        return self._running

    # -- the desk: on the alarm clock's thread

    def take(self, now_us: int) -> Sequence[object]:
        """Claim what is due, for the free slots only, and only if the loop would get to it.

        User code that blocks the loop holds up what it works on; what is due goes to others.
        """
        self._asleep_until_us = self._nothing_due = None
        heard, self._heard = self._heard, False
        free = self._settings.concurrency - self._running
        if free <= 0 or self._closing or not self._pulse.is_felt():
            return ()
        claimed, self._nothing_due = take(
            self._app, worker=self.name, jobs=self.jobs, limit=free, now_us=now_us
        )
        self._empty_take_us = -1 if claimed else now_us
        self._look_again_us = now_us + LOST_US if heard and not claimed else 0
        with self._lock:
            self._running += len(claimed)
            self._holding |= {each.held for each in claimed if each.works}
        return claimed

    def begin(self, claimed: object) -> None:
        """Hand what was taken to the loop."""
        if not isinstance(claimed, Claimed):
            raise AssertionError(f"not taken here: {claimed!r}")
        self._loop.call_soon_threadsafe(self._begin, claimed)

    def next_us(self, now_us: int) -> int | None:
        """When to look again: never while no slot is free, or the loop blocked; else when
        something is due.

        Something due that a moment ago could not be had (another worker was faster) is not
        worth a second look at once; alarms set by other processes are heard of, or found by
        polling. So are leases that end early.
        """
        if self._running >= self._settings.concurrency or self._closing or self._pulse.is_missed:
            return None
        store = self._app.store
        if self._nothing_due is not None:
            next_us, self._nothing_due = self._nothing_due.next_due_us, None
        else:
            next_us = next_due_us(self._app, self.jobs, now_us)
        if next_us is not None and next_us <= self._empty_take_us:
            next_us = now_us + LOST_US
        looks = [] if next_us is None else [next_us]
        if store.poll_us is not None:
            looks.append(now_us + min(store.poll_us, self._app.settings.lease_us))
        if self._limits and (store.next_due_us(self.jobs, now_us) or now_us + 1) <= now_us:
            looks.append(now_us + ENDED_US)
        if self._look_again_us:
            looks.append(self._look_again_us)
        next_us = min(looks, default=None)
        self._asleep_until_us = next_us
        return next_us

    # -- on the loop

    def cancel(self, stream: str) -> None:
        """Stop working on an instance: its life was ended, or its lease is not ours any more."""
        for (working_on, _), (_, task) in list(self._tasks.items()):
            if working_on == stream:
                self._app.caller.stop(task)

    def _begin(self, claimed: Claimed) -> None:
        task = self._loop.create_task(self._work(claimed))
        self._app.caller.own(task)
        self._tasks[claimed.held] = claimed, task
        task.add_done_callback(lambda _: self._done(claimed.held))

    async def _work(self, claimed: Claimed) -> None:
        stream = claimed.unit.stream
        try:
            await work(self._app, claimed)
        except LeaseLostError as error:
            _LOG.warning("%s: its outcome is dropped", error, extra={"instance": stream})
        except asyncio.CancelledError:
            _LOG.info("stopped working on %s", stream, extra={"instance": stream})
        except Exception as error:
            if self._left:
                _LOG.info("%s ended too late: %s", stream, error, extra={"instance": stream})
                return
            _LOG.exception(
                "%s could not be worked on; it is taken up again a little later",
                stream,
                extra={"instance": stream},
            )

    def _done(self, held: LeaseKey) -> None:
        """A task has ended, or was stopped before it began: its slot is free."""
        self._pulse.lives()
        self._tasks.pop(held, None)
        with self._lock:
            self._holding.discard(held)
            was_full = self._running >= self._settings.concurrency
            self._running -= 1
        if (was_full or _job_of(held[0]) in self._limits) and not self._closing:
            self._clock.wakeup()  # others' runs of a limited job may be due, and could not be had

    def _on_wake(self, due_us: int) -> None:
        """An append has set an alarm: wake the clock if that is earlier than it would wake."""
        asleep_until_us = self._asleep_until_us
        if (asleep_until_us is None or due_us < asleep_until_us) and not self._closing:
            self._clock.wakeup()

    def _on_heard(self, due_us: int) -> None:
        """Another process has set an alarm, and told all workers of it.

        All but one of them come too late; who did does not run after each, but looks again soon.
        """
        asleep_until_us = self._asleep_until_us
        is_about_to = asleep_until_us is not None and asleep_until_us <= self._look_again_us
        if is_about_to or self._running >= self._settings.concurrency:
            return
        self._heard = 0 < due_us <= self._app.clock.now_us()
        self._on_wake(due_us)

    def _can_stop(self, claimed: Claimed) -> bool:
        """Whether no handler that may be running for it is in a thread."""
        handlers = self._app.registry.of(claimed.head.instance.id).handlers
        first: HandlerName = "on_event" if claimed.call is None else "execute"
        names: tuple[HandlerName, ...] = (first, "on_error", "on_idle")
        return all(handlers[name].is_async for name in names if name in handlers)

    # -- on the heart's thread

    def beat(self) -> None:
        """Prolong what is held; stop working on what is not, and give up what nobody works on.

        Only what two beats in a row agree on: in between, a unit may just have been appended.
        """
        app = self._app
        now_us = app.clock.now_us()
        with self._lock:
            before = set(self._holding)
        held = set(app.store.renew(self.name, now_us + app.settings.lease_us, now_us))
        app.store.put_worker(self._row())
        with self._lock:
            holding = before & self._holding
            orphaned = held - before - self._holding
        doubtful = (holding - held) | orphaned
        for each in doubtful & self._doubtful:
            if each in orphaned:
                self._give_up(each)
            else:
                self._loop.call_soon_threadsafe(self._lost, each)
        self._doubtful = doubtful

    def sweep(self) -> None:
        """Find what is stranded, and forget old answers."""
        app = self._app
        now_us = app.clock.now_us()
        app.store.purge_kept_replies(now_us, limit=10_000)
        stranded = app.store.stranded(now_us - STRANDED_US, SWEEP_LIMIT)
        self._rearm([stream for stream in stranded if _job_of(stream) in self.jobs])

    def _give_up(self, held: LeaseKey) -> None:
        """Work that failed unexpectedly has left its lease behind."""
        self._app.store.release(self.name, [held])
        self._rearm([held[0]])

    def _rearm(self, streams: Sequence[str]) -> None:
        for stream, row in zip(streams, self._app.store.status(streams), strict=True):
            if row is not None:
                done = asyncio.run_coroutine_threadsafe(
                    rearm(self._app, stream, row.version), self._loop
                )
                done.add_done_callback(functools.partial(_log_failure, stream))

    @property
    def sweep_s(self) -> float:
        """Seconds between two sweeps."""
        return self._settings.sweep_us / 1_000_000

    def _lost(self, held: LeaseKey) -> None:
        working = self._tasks.get(held)
        if working is not None:
            stream = held[0]
            _LOG.warning("the lease on %s is lost: stopping", stream, extra={"instance": stream})
            self._app.caller.stop(working[1])

    def _row(self) -> WorkerRow:
        now_us = self._app.clock.now_us()
        return WorkerRow(
            worker=self.name,
            jobs=self.jobs,
            concurrency=self._settings.concurrency,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_us=self._started_us,
            seen_us=now_us,
            until_us=now_us + self._app.settings.lease_us,
        )


def _log_failure(stream: str, done: concurrent.futures.Future[None]) -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:
        _LOG.error("%s cannot be re-armed: %s", stream, error, extra={"instance": stream})


def _log_failed_retiming(done: asyncio.Task[int]) -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:
        _LOG.error("schedules could not be held against the rules of today: %s", error)
    elif not done.cancelled() and done.result():
        _LOG.info("%d schedules follow a rule that has changed", done.result())


def _job_of(stream: str) -> str:
    return ":".join(stream.split(":", 2)[:2])


def _jobs(app: Application, only: tuple[str, ...]) -> tuple[str, ...]:
    """The jobs to work on, as `kind:name`. Raises `UnknownJobError`."""
    if not only:
        return app.registry.jobs()
    return tuple(app.registry.job_of(name) for name in only)
