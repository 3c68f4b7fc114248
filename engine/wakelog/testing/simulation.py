"""The simulation: the real engine on a virtual clock, one thing at a time, the same every time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar, overload

from wakelog.app import App
from wakelog.application import Application
from wakelog.blocking import BlockingContinuousClient, BlockingDebounceClient, BlockingTaskClient
from wakelog.client.gateway import refuse_in_handler
from wakelog.core.time import Duration, as_datetime, duration_us, moment_us
from wakelog.definitions.continuous import Continuous
from wakelog.definitions.debounce import Debounce
from wakelog.definitions.task import Task
from wakelog.errors import InvalidStateError
from wakelog.ids import InstanceId
from wakelog.jobs import Jobs, open_store
from wakelog.log.records import Recorded, decode
from wakelog.ports.rows import Listing, StatusRow
from wakelog.settings import Settings
from wakelog.testing.crash import CrashPoint, crash_next, revive
from wakelog.testing.virtual_time import VirtualClock, VirtualLoop
from wakelog.worker.claims import Claimed, next_due_us, take
from wakelog.worker.runs import work
from wakelog.worker.startup import autostart, retime

__all__ = ["Alarm", "Simulation"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
E = TypeVar("E")

WORKER = "simulation"
MAX_FIRED = 10_000_000
"""Alarms that one call may fire: a job that re-arms itself for the same instant would never end."""
MAX_EMPTY = 100
"""Claims in a row that may find nothing to do before the simulation says that it is stuck."""
SIMULATION_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A pending wake-up."""

    instance_id: str
    due_at: datetime


class Simulation:
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
        _refuse_in_loop()
        self._jobs = jobs
        self._url = url
        self._seed = seed
        self._handlers = handlers
        self._settings = settings or Settings()
        self._clock = VirtualClock(moment_us(start, "start"))
        self._factory = open_store(url)
        self._loop = VirtualLoop(self._clock)
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

    @overload
    def task(self, job: Task[S, E]) -> BlockingTaskClient[S, E]: ...
    @overload
    def task(self, job: str) -> BlockingTaskClient[Any, Any]: ...
    def task(
        self, job: Task[S, E] | str
    ) -> BlockingTaskClient[S, E] | BlockingTaskClient[Any, Any]:
        """The instances of a Task. A call that waits lets time pass until it has its answer."""
        return BlockingTaskClient(self._app.task(job), self)

    @overload
    def continuous(self, job: Continuous[S]) -> BlockingContinuousClient[S]: ...
    @overload
    def continuous(self, job: str) -> BlockingContinuousClient[Any]: ...
    def continuous(
        self, job: Continuous[S] | str
    ) -> BlockingContinuousClient[S] | BlockingContinuousClient[Any]:
        """The instances of a Continuous job."""
        return BlockingContinuousClient(self._app.continuous(job), self)

    @overload
    def debounce(self, job: Debounce[S, E]) -> BlockingDebounceClient[S, E]: ...
    @overload
    def debounce(self, job: str) -> BlockingDebounceClient[Any, Any]: ...
    def debounce(
        self, job: Debounce[S, E] | str
    ) -> BlockingDebounceClient[S, E] | BlockingDebounceClient[Any, Any]:
        """The instances of a Debounce. A call that waits lets time pass until it has its answer."""
        return BlockingDebounceClient(self._app.debounce(job), self)

    def alarms(self) -> list[Alarm]:
        """All pending wake-ups, the earliest first; also those for events that wait though the
        life before them was ended."""
        rows = [row for page in self._pages() for row in page]
        found = [Alarm(r.stream, as_datetime(r.wake_us)) for r in rows if r.wake_us is not None]
        return sorted(found, key=lambda alarm: (alarm.due_at, alarm.instance_id))

    def events(self, instance_id: str) -> list[Recorded]:
        """Every event of an instance, as recorded."""
        stream = str(InstanceId.parse(instance_id))
        return [decode(stored) for stored in self._application.store.events(stream)]

    @property
    def now(self) -> datetime:
        """The virtual time (aware, UTC)."""
        return as_datetime(self._clock.now_us())

    @property
    def fired(self) -> int:
        """How many alarms have fired so far."""
        return self._fired

    # -- letting time pass

    def advance(self, duration: Duration) -> int:
        """Let this much time pass, firing each alarm in it at its instant; answers how many."""
        return self.advance_to(as_datetime(self._clock.now_us() + duration_us(duration)))

    def advance_to(self, moment: datetime) -> int:
        """Let time pass until `moment`, firing each alarm on the way; answers how many."""
        until_us = moment_us(moment)
        fired = self._run(self._fire_until(until_us))
        self._clock.move_to(until_us)
        return fired

    def run_until_idle(self, *, limit: int = 100_000) -> int:
        """Fire alarms, however far away, until none is left; answers how many.

        Raises `InvalidStateError` after `limit`: a job that always sets its next alarm has no end.
        """
        return self._run(self._fire_until(None, limit))

    def fire(self, instance_id: str) -> bool:
        """Fire the next alarm of one instance now, going forward to it; False if it has none."""
        stream = str(InstanceId.parse(instance_id))
        alarm = next((a for a in self.alarms() if a.instance_id == stream), None)
        if alarm is None:
            return False
        self._clock.move_to(moment_us(alarm.due_at))
        return self._run(self._fire_one(stream))

    # -- crashing

    def crash_next(self, point: CrashPoint) -> None:
        """Let the process die before or after its next write: that call raises `SimulatedCrash`."""
        crash_next(self._application.store, point)

    def restart(self) -> None:
        """Begin again as a new process would, with nothing but what the store holds."""
        revive(self._application.store)
        self._restarts += 1
        self._open()

    def close(self) -> None:
        """Let go of the store and the loop."""
        if not self._loop.is_closed():
            self._application.close()
            self._factory.close()
            self._loop.close()

    def wraps(self, method: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
        """`method`, run to its end on the simulation's loop."""

        @functools.wraps(method)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            return self._run(method(*args, **kwargs))

        return blocking

    # -- inside

    def _open(self) -> None:
        self._application = self._run(self._opened())
        self._application.watching.drive = self._next
        self._app = App(self._application, handlers=self._handlers)
        self._work_on = self._jobs.registry.jobs()
        self._run(autostart(self._application, self._work_on))
        self._run(retime(self._application, self._work_on))
        self.history = self.wraps(self._app.history)
        self.state_at = self.wraps(self._app.state_at)
        self.list = self.wraps(self._app.list)
        self.pause = self.wraps(self._app.pause)
        self.resume = self.wraps(self._app.resume)
        self.job_pauses = self.wraps(self._app.job_pauses)
        self.bulk = self.wraps(self._app.bulk)
        self.count = self.wraps(self._app.count)
        self.counts = self.wraps(self._app.counts)

    async def _opened(self) -> Application:
        return Application(
            self._factory,
            self._jobs.registry,
            self._clock,
            self._settings,
            inline=True,
            seed=self._seed + (self._restarts << 64),  # no commit id may come twice
        )

    def _run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        with _closing(coroutine):
            refuse_in_handler()
            _refuse_in_loop()
            return self._loop.run_until_complete(coroutine)

    async def _fire_until(self, until_us: int | None, limit: int = MAX_FIRED) -> int:
        before, empty = self._fired, 0
        while True:
            due_us = next_due_us(self._application, self._work_on, self._clock.now_us())
            if due_us is None or (until_us is not None and due_us > until_us):
                return self._fired - before
            self._clock.move_to(due_us)
            empty = 0 if await self._take() else empty + 1
            if self._fired - before > limit or empty > MAX_EMPTY:
                raise InvalidStateError(
                    f"the simulation has fired {self._fired - before} alarms and is not done"
                )

    async def _take(self) -> bool:
        claimed, _ = take(
            self._application,
            worker=WORKER,
            jobs=self._work_on,
            limit=1,
            now_us=self._clock.now_us(),
        )
        for each in claimed:
            await self._work(each)
        return bool(claimed)

    async def _work(self, claimed: Claimed) -> None:
        self._fired += 1
        await work(self._application, claimed)

    async def _fire_one(self, stream: str) -> bool:
        """Claim until it is the turn of `stream`; what is due before it fires before it."""
        before = self._fired
        while any(a.instance_id == stream and a.due_at <= self.now for a in self.alarms()):
            if not await self._take():
                break
        return self._fired > before

    async def _next(self, until_us: int | None) -> None:
        """A caller waits for an outcome: go to the next alarm, or to the end of its patience."""
        due_us = next_due_us(self._application, self._work_on, self._clock.now_us())
        if until_us is not None and (due_us is None or due_us > until_us):
            self._clock.move_to(until_us)
            return
        if due_us is None:
            raise InvalidStateError("nothing is left to happen that could bring the outcome")
        self._clock.move_to(due_us)
        await self._take()

    def _pages(self) -> Iterator[Sequence[StatusRow]]:
        after: str | None = None
        while page := self._application.store.list(Listing(waking=True, limit=1000, after=after)):
            yield page
            after = page[-1].stream


@contextlib.contextmanager
def _closing(coroutine: Coroutine[Any, Any, Any]) -> Generator[None]:
    try:
        yield
    finally:
        coroutine.close()


def _refuse_in_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise InvalidStateError(
        "a simulation runs its own event loop: use it in a plain def, not async def"
    )
