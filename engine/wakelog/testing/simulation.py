"""The simulation: the real engine on a virtual clock, one thing at a time, the same every time."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from wakelog.app import App
from wakelog.application import Application
from wakelog.arguments import check_type
from wakelog.blocking import BlockingCalls
from wakelog.bounds import at_least
from wakelog.client.gateway import refuse_in_handler
from wakelog.core.time import Duration, as_datetime, duration_us, moment_us
from wakelog.errors import InvalidStateError
from wakelog.ids import InstanceId, job_of
from wakelog.jobs import Jobs, open_store
from wakelog.log.records import Recorded, decode
from wakelog.pools.state import job_stream
from wakelog.ports.rows import HeldLease, Listing, StatusRow, WorkerRow
from wakelog.ports.units import Lease, Unit
from wakelog.settings import Settings, WorkerSettings
from wakelog.testing.crash import CrashPoint, crash_next, is_owed, revive
from wakelog.testing.virtual_time import VirtualClock, VirtualLoop, refuse_on_a_loop
from wakelog.worker.claims import Claimed, claim_due, next_due_us
from wakelog.worker.leases import HeldLeases
from wakelog.worker.pool.pools import Pools
from wakelog.worker.runs import work
from wakelog.worker.schedules import Schedules, rules_of
from wakelog.worker.startup import autostart
from wakelog.worker.unread import Rereader

__all__ = ["Alarm", "Simulation"]

R = TypeVar("R")

WORKER = "simulation"
_NUMBERS = itertools.count(1)
MAX_FIRED = 10_000_000
"""Alarms that one call may fire: a job that re-arms itself for the same instant would never end."""
MAX_CLAIMED = 1_000
"""Leases that are looked at in a restart: a simulation claims one instance at a time."""
POOL_LEASE_US = 100 * 366 * 86_400_000_000
"""A simulation is never silent: how far time jumps says nothing about its worker."""
MAX_EMPTY = 100
"""Claims in a row that may find nothing to do before the simulation says that it is stuck."""
MAX_SEED = (1 << 64) - 1
SIMULATION_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A pending wake-up."""

    instance_id: str
    due_at: datetime


class Simulation(BlockingCalls):
    """Run jobs in virtual time, from `start`, repeatable from `seed`.

        with Simulation(jobs) as sim:
            sim.task(order).send("o-17", Placed())
            sim.advance("3d")
            assert sim.task(order).get_state("o-17") == Order(status="expired")

    It is the real engine on a real store (`memory://`, or a SQLite URL) with a worker that takes
    one thing at a time. Handlers run inline, `def` and `async def` alike; on its event loop time
    jumps, so a handler's `asyncio.sleep` costs nothing, moves the clock, and meets its `timeout=`.
    What waits for real I/O finds that no time has passed: stub it. Alarms that fall due while a
    handler sleeps fire after it, late.
    """

    def __init__(
        self,
        jobs: Jobs,
        *,
        start: datetime = SIMULATION_START,
        seed: int = 0,
        url: str = "memory://",
        handlers: bool = True,
        settings: Settings | None = None,
    ) -> None:
        refuse_on_a_loop()
        check_type(Jobs, "jobs", jobs)
        check_type(Settings | None, "settings", settings)
        at_least(0, "seed", seed, most=MAX_SEED)
        self._jobs = jobs
        self._url = url
        self._seed = seed
        self._handlers = handlers
        self._settings = settings or Settings()
        self.clock = VirtualClock(moment_us(start, "start"))
        """The virtual clock; a test may set it ahead, which fires nothing."""
        self._factory = open_store(url)
        self._loop = VirtualLoop(self.clock)
        by_given_time = getattr(self._factory, "judge_leases_by_given_time", None)
        if by_given_time is not None:  # a database's own clock knows nothing of virtual time
            by_given_time()
        self._fired = 0
        self._restarts = 0
        self._open()

    def __enter__(self) -> Simulation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- asking

    def alarms(self) -> list[Alarm]:
        """All pending wake-ups, the earliest first; also those for events that wait though the
        life before them was ended."""
        self._loop.check_process()
        rows = [row for page in self._pages() for row in page]
        found = [Alarm(r.stream, as_datetime(r.wake_us)) for r in rows if r.wake_us is not None]
        found += [Alarm(job_stream(job), as_datetime(us)) for job, us in self._pools.due().items()]
        return sorted(found, key=lambda alarm: (alarm.due_at, alarm.instance_id))

    def events(self, instance_id: str) -> list[Recorded]:
        """Every event of an instance, as recorded."""
        self._loop.check_process()
        stream = str(InstanceId.parse(instance_id))
        return [decode(stored) for stored in self.application.store.events(stream)]

    @property
    def now(self) -> datetime:
        """The virtual time (aware, UTC)."""
        return as_datetime(self.clock.now_us())

    @property
    def fired(self) -> int:
        """How many alarms have fired so far."""
        return self._fired + self._pools.worked

    # -- letting time pass

    def advance(self, duration: Duration) -> int:
        """Let this much time pass, firing each alarm in it at its instant; answers how many."""
        return self.advance_to(as_datetime(self.clock.now_us() + duration_us(duration)))

    def advance_to(self, moment: datetime) -> int:
        """Let time pass until `moment`, firing each alarm on the way; answers how many."""
        until_us = moment_us(moment)
        fired = self.run(self._fire_until(until_us))
        self.clock.move_to(until_us)
        return fired

    def run_until_idle(self, *, limit: int = 100_000) -> int:
        """Fire alarms, however far away, until none is left; answers how many. Raises
        `InvalidStateError` after `limit`: a job that always sets its next alarm has no end."""
        at_least(1, "limit", limit, most=MAX_FIRED)
        return self.run(self._fire_until(None, limit))

    def fire(self, instance_id: str) -> bool:
        """Fire the next alarm of one instance now, going forward to it; False if it has none."""
        stream = str(InstanceId.parse(instance_id))
        alarm = next((a for a in self.alarms() if a.instance_id == stream), None)
        if alarm is None:
            return False
        self.clock.move_to(moment_us(alarm.due_at))
        return self.run(self._fire_one(stream))

    # -- crashing

    def crash_next(self, point: CrashPoint) -> None:
        """Let the process die before or after its next write: that call raises `SimulatedCrash`."""
        self._loop.check_process()
        crash_next(self.application.store, point)

    def restart(self) -> None:
        """Begin again as a new process would, with nothing but what the store holds.

        A run that the old one had claimed and not begun is due at once, one that it had begun to
        recover is to be recovered at once; a real one would leave both until its lease ends.
        """
        self._loop.check_process()
        revive(self.application.store)
        self._release_pools()
        lost = self._release_claims()
        self._restarts += 1
        self._open()
        for stream in lost:
            self.run(self._lose_again(stream))

    def _held(self) -> Sequence[HeldLease]:
        return self.application.store.leases(self.clock.now_us(), MAX_CLAIMED)

    def _release_pools(self) -> None:
        """Give up the partitions of pools."""
        if self._pools.jobs:
            held = [each for each in self._held() if job_of(each.stream) in self._pools.jobs]
            self.application.store.release(WORKER, [(h.stream, h.lease.token) for h in held])

    def _release_claims(self) -> Sequence[str]:
        """Give up the runs that were claimed and have not begun; return the streams of those that
        were to be recovered."""
        store = self.application.store
        claimed = [each for each in self._held() if each.lease.run and each.lease.token < 0]
        rows = store.status([each.stream for each in claimed])
        paired = [(each, row) for each, row in zip(claimed, rows, strict=True) if row is not None]
        now_us = self.clock.now_us()
        free = [each for each, row in paired if is_owed(row, now_us)]
        store.release(WORKER, [(each.stream, each.lease.token) for each in free])
        return [each.stream for each, row in paired if row.executing]

    async def _lose_again(self, stream: str) -> None:
        """Put the ended lease of an open run in the place of the claim that was to recover it."""
        head = (await self.application.instances.cached(stream)).head
        run, now_us = head.instance.run, self.clock.now_us()
        if run is not None:
            version, hash = head.instance.version, head.hash
            lease = Lease(WORKER, now_us, run.token, run=True)
            unit = Unit(stream, version, hash, (), head.instance, hash, "", take=lease)
            self.application.store.append([unit])

    def close(self) -> None:
        """Let go of the store and the loop. Nothing happens in a forked process."""
        if not (self._loop.is_closed() or self._loop.is_inherited):
            revive(self.application.store)
            self._release_pools()
            self.application.store.remove_worker(self._worker.worker)
            self.application.close()
            self._factory.close()
            self._loop.close()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._loop.is_closed()

    def call(self, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """What `make` makes, run to its end on the simulation's loop: its clients call this."""
        return self.run(make())

    def at_once(self, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """As `call`: there is no other thread."""
        return self.call(make)

    # -- inside

    def _open(self) -> None:
        self.application = self.run(self._opened())
        self.application.stream_watch.drive = self._next
        opened = App(self.application, handlers=self._handlers)
        super().__init__(opened, self)
        self._deliveries, self._followers = opened.deliveries, opened.followers
        self._work_on = self._jobs.registry.jobs()
        self._jobs_claimed = tuple(d.job for d in self._jobs.registry if d.has_instances)
        self.run(autostart(self.application, self._work_on))
        app, now_us = self.application, self.clock.now_us()
        leases = HeldLeases(app.store, WORKER, self._settings.lease_us, self.clock)
        self._pools = Pools(app, self._work_on, WORKER, leases, lambda: True, POOL_LEASE_US)
        self._worker = WorkerRow(
            worker=f"{WORKER}-{next(_NUMBERS):09}",
            jobs=self._work_on,
            concurrency=1,
            host="",
            pid=0,
            started_us=now_us,
            seen_us=now_us,
            until_us=now_us + self._settings.lease_us,
            rules=rules_of(app, self._work_on),
        )
        app.store.put_worker(self._worker)
        name, rules = self._worker.worker, self._worker.rules
        self._schedules = Schedules(app, self._work_on, name, now_us, rules)
        self._rereader = Rereader(app, self._work_on, self._pools.reread)
        self.run(self._rereader())
        self.run(self._schedules.open())

    async def _sweep(self) -> None:
        """As a worker's sweep: other processes may have written since this one was last used."""
        now_us = self.clock.now_us()
        until_us = now_us + self._settings.lease_us
        row = self._worker._replace(seen_us=now_us, until_us=until_us)
        self.application.store.put_worker(row)
        await self._rereader()
        await self._schedules.sweep()

    async def _opened(self) -> Application:
        return Application(
            self._factory,
            self._jobs.registry,
            self.clock,
            self._settings,
            inline=True,
            seed=self._seed + (self._restarts << 64),  # no commit id may come twice
        )

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine to its end on the simulation's event loop."""
        with contextlib.closing(coroutine):
            self._loop.check_process()
            refuse_in_handler()
            refuse_on_a_loop()
            return self._loop.run_until_complete(coroutine)

    async def _fire_until(self, until_us: int | None, limit: int = MAX_FIRED) -> int:
        before, empty = self.fired, 0
        sweep_us: int | None = self.clock.now_us() + WorkerSettings().sweep_us
        while True:
            await self._deliver()
            due_us = self._next_due_us(to_idle=until_us is None and sweep_us is None)
            target_us = until_us if due_us is None else due_us
            if sweep_us is not None and target_us is not None and target_us > sweep_us:
                if until_us is None or until_us > sweep_us:
                    self.clock.move_to(sweep_us)
                    await self._sweep()
                sweep_us = None
                continue
            if due_us is None or (until_us is not None and due_us > until_us):
                self.clock.move_to(until_us or 0)  # what is held back may not be by then
                if not await self._deliver():
                    return self.fired - before
                continue
            self.clock.move_to(due_us)
            empty = 0 if await self._take() else empty + 1
            if self.fired - before > limit or empty > MAX_EMPTY:
                raise InvalidStateError(
                    f"the simulation has fired {self.fired - before} alarms and is not done"
                )

    async def _deliver(self) -> bool:
        """Deliver the messages between jobs that are not held back; whether there were any."""
        await self._followers.look(self._work_on)
        await self._deliveries.notice_due()
        return await self._deliveries.deliver_noticed()

    async def _take(self) -> bool:
        claimed, _ = claim_due(
            self.application,
            worker=WORKER,
            jobs=self._jobs_claimed,
            limit=1,
            now_us=self.clock.now_us(),
        )
        for each in claimed:
            await self._work(each)
        return bool(claimed) or await self._take_of_pools()

    async def _take_of_pools(self) -> bool:
        """Let pools take what they have now, and work on it to its end."""
        before = self._pools.worked
        due = self._pools.claim(self.clock.now_us())
        self._pools.begin(due)
        await self._pools.idle()
        return self._pools.worked > before

    def _next_due_us(self, *, to_idle: bool = False) -> int | None:
        """When an instance or a pool is next; `to_idle`: without those pools that are held back."""
        now_us = self.clock.now_us()
        at_us = next_due_us(self.application, self._jobs_claimed, now_us)
        if not self._pools.notice():  # before each step, and so never for what others may do
            return at_us
        self._pools.claim(now_us)
        held_back = self._pools.held_back(now_us) if to_idle else set[str]()
        looks = [at_us for job, at_us in self._pools.due().items() if job not in held_back]
        return min(looks if at_us is None else [*looks, at_us], default=None)

    async def _work(self, claimed: Claimed) -> None:
        self._fired += 1
        await work(self.application, claimed)

    async def _fire_one(self, stream: str) -> bool:
        """Claim until it is the turn of `stream`; what is due before it fires before it."""
        before = self._fired
        while any(a.instance_id == stream and a.due_at <= self.now for a in self.alarms()):
            if not await self._take():
                break
        return self._fired > before

    async def _next(self, until_us: int | None) -> None:
        """A caller waits for an outcome: go to the next alarm, or to the end of its patience."""
        await self._deliver()
        due_us = self._next_due_us()
        if until_us is not None and (due_us is None or due_us > until_us):
            self.clock.move_to(until_us)
            return
        if due_us is None:
            raise InvalidStateError("nothing is left to happen that could bring the outcome")
        self.clock.move_to(due_us)
        await self._take()

    def _pages(self) -> Iterator[Sequence[StatusRow]]:
        after: str | None = None
        while page := self.application.store.list(Listing(waking=True, limit=1000, after=after)):
            yield page
            after = page[-1].stream
