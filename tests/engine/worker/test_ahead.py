"""How much a worker may claim ahead of its free slots, and what becomes of it (A1)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.engine.worker.test_claim_guard import Clocks
from tests.support import WAIT_S, Ctx, task_of
from wakelog import Jobs
from wakelog.app import App
from wakelog.ports.alarm_clock import Claimant
from wakelog.ports.rows import Due
from wakelog.ports.units import NothingDue
from wakelog.settings import WorkerSettings
from wakelog.worker.ahead import AHEAD_US, LATE_US, MAX_AHEAD, SLOW_US, Ahead
from wakelog.worker.claims import Beginning, Claimed, claim_due
from wakelog.worker.worker import Worker

SECOND_US = 1_000_000


def claimed(clocks: Clocks, id: str = "a") -> Claimed:
    due = Due(f"task:job:{id}", 0, 3, "hash", None)
    return Claimed(due.stream, due, "w1", -1, clocks.monotonic_us())


def paced(runs: int, us: int, *, handler_us: int = 10, is_allowed: bool = True) -> Ahead:
    """After so many runs in so much time."""
    clocks = Clocks()
    ahead = Ahead(clocks, is_allowed=is_allowed)
    for _ in range(runs):
        ahead.note_ended(handler_us)
    clocks.go_on(us)
    ahead.pace()
    return ahead


def test_A1_at_the_beginning_nothing_may_lie_ahead() -> None:
    assert Ahead(Clocks(), is_allowed=True).allowed == 0


@pytest.mark.parametrize("runs", [0, 10, 100, 5_000])
def test_A1_as_much_may_lie_ahead_as_is_done_in_some_milliseconds(runs: int) -> None:
    assert paced(runs, SECOND_US).allowed == runs * AHEAD_US // SECOND_US
    assert 20_000 <= AHEAD_US <= LATE_US <= 50_000


def test_A1_what_may_lie_ahead_is_bounded_at_any_pace() -> None:
    assert paced(1_000_000, SECOND_US).allowed == MAX_AHEAD


def test_A1_nothing_lies_ahead_of_slow_handlers() -> None:
    assert paced(1_000, SECOND_US, handler_us=SLOW_US - 1).allowed > 0
    assert paced(1_000, SECOND_US, handler_us=2 * SLOW_US).allowed == 0


def test_nothing_lies_ahead_if_a_job_has_a_limit_on_its_runs() -> None:
    assert paced(5_000, SECOND_US, is_allowed=False).allowed == 0


def test_A1_a_pace_that_was_high_counts_no_longer_when_it_is_low() -> None:
    clocks = Clocks()
    ahead = Ahead(clocks, is_allowed=True)
    for _ in range(5_000):
        ahead.note_ended(10)
    clocks.go_on(SECOND_US)
    ahead.pace()
    clocks.go_on(SECOND_US)
    ahead.pace()
    assert ahead.allowed == 0


def test_A1_the_oldest_begins_first_and_what_is_late_is_given_back() -> None:
    clocks = Clocks()
    ahead = Ahead(clocks, is_allowed=True)
    first, second, third = (claimed(clocks, id) for id in "abc")
    ahead.put([first, second])
    assert ahead.late_in_us() == LATE_US
    assert ahead.take() is first
    # when the second one has waited for too long
    clocks.go_on(LATE_US - 1)
    third.at_us = clocks.monotonic_us()
    ahead.put([third])
    assert (ahead.take_late(), ahead.late_in_us()) == ([], 1)
    clocks.go_on(1)
    # then it does not begin any more, nor what comes after it before it is given back
    assert ahead.take() is None
    assert ahead.take_late() == [second]
    assert ahead.take() is third
    assert (len(ahead), ahead.late_in_us(), ahead.take()) == (0, None, None)


# -- in a worker that is asked to claim by the test, and not by its alarm clock


class SilentClock:
    """An alarm clock that never rings."""

    def __init__(self, claimant: Claimant) -> None:
        self.claimant = claimant

    def start(self) -> None: ...

    def keep_running(self) -> None: ...

    def wakeup(self) -> None: ...

    def stop(self, timeout_s: float | None = None) -> None: ...


class Claiming:
    """A worker of an app, whose claims are made by a test."""

    def __init__(self, app: App, clocks: Clocks) -> None:
        application = app.application
        application.clock = clocks
        self.app, self.clocks = app, clocks
        self.store = application.store
        self.worker = Worker(application, WorkerSettings(concurrency=3), SilentClock)

    async def claim(self) -> Sequence[object]:
        """On another thread, as the alarm clock's."""
        return await asyncio.to_thread(self.worker.claim, self.clocks.now_us())

    def leased(self) -> list[str]:
        return sorted(each.stream for each in self.store.leases(self.clocks.now_us(), 99))

    async def versions(self) -> list[int]:
        return [len(await self.app.history(f"task:job:{id}")) for id in "ab"]


@pytest.fixture
async def claiming(store_url: str) -> AsyncIterator[Claiming]:
    """Two instances are due."""

    def execute(ctx: Ctx) -> None: ...

    async with Jobs(job=task_of(execute=execute)).open(store_url, lease="1s") as app:
        for id in "ab":
            await app.task("job").send(id, {"schedule": 0})
        claiming = Claiming(app, Clocks())
        yield claiming
        await claiming.worker.close(0)


@pytest.mark.anyio
async def test_A1_what_the_event_loop_has_not_begun_in_time_is_given_back(
    claiming: Claiming,
) -> None:
    """The event loop is blocked: it begins nothing."""
    before = await claiming.versions()
    assert len(await claiming.claim()) == 2
    assert claiming.leased() == ["task:job:a", "task:job:b"]
    # when it is late, and not to be claimed again
    await claiming.app.pause("job")
    assert claiming.worker.next_look_us(claiming.clocks.now_us()) is not None
    claiming.clocks.go_on(LATE_US)
    assert await claiming.claim() == []
    # then another worker may have it, and the log does not tell
    assert claiming.leased() == []
    assert await claiming.versions() == before


@pytest.mark.anyio
async def test_K2_what_lies_ahead_is_given_back_when_the_worker_closes(claiming: Claiming) -> None:
    before = await claiming.versions()
    assert len(await claiming.claim()) == 2
    async with asyncio.timeout(WAIT_S):
        await claiming.worker.close(0)
    assert claiming.leased() == []
    assert await claiming.versions() == before


@pytest.mark.anyio
async def test_A1_no_more_begin_than_there_are_free_slots(store_url: str) -> None:
    going, most, done = 0, 0, 0
    full, all_done = asyncio.Event(), asyncio.Event()

    async def execute(ctx: Ctx) -> None:
        nonlocal going, most, done
        going += 1
        most = max(most, going)
        if going == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        going, done = going - 1, done + 1
        if done == 100:
            all_done.set()

    jobs = Jobs(job=task_of(execute=execute))
    async with jobs.open(store_url, worker=True, concurrency=3) as app, asyncio.timeout(WAIT_S):
        job = app.task("job")
        await asyncio.gather(*(job.send(f"{n}", {"schedule": 0}) for n in range(100)))
        await all_done.wait()
    assert most == 3


@pytest.mark.anyio
async def test_A1_an_alarm_that_is_set_while_a_look_ends_is_looked_at(claiming: Claiming) -> None:
    """The alarm clock's thread is about to say when it looks again: it waits for no room."""
    await claiming.claim()
    worker, now_us = claiming.worker, claiming.clocks.now_us()
    room = worker.room

    class Interrupted(Worker):
        @property
        def room(self) -> int:
            self._on_alarm_set(now_us + 1)
            return room

    # given a look that has found nothing
    worker.next_look.begin()
    worker.next_look.claimed(now_us, 0, NothingDue(None), is_full=False)
    # when an alarm is set just then
    worker.__class__ = Interrupted
    next_us = worker.next_look_us(now_us)
    worker.__class__ = Worker
    # then it is not missed
    assert next_us == now_us + 1


@pytest.mark.anyio
async def test_U2_a_run_that_begins_while_the_loop_is_blocked_has_not_lost_its_lease(
    claiming: Claiming,
) -> None:
    """The store has the lease of the run already, and the event loop does not know it yet."""
    worker, store = claiming.worker, claiming.store
    await claiming.claim()
    worker.begin([])
    for _ in range(5):  # until the append is under way
        await asyncio.sleep(0)
    # when the loop is blocked by user code until the heartbeat has looked, and renewed
    until_s = time.monotonic() + 1
    while time.monotonic() < until_s and (store.lease_tokens(["task:job:a"])[0] or 0) < 1:
        threading.Event().wait(0.01)
    for look in (worker.look, worker.look, worker.beat, worker.beat):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(WAIT_S)
    async with asyncio.timeout(WAIT_S):
        while worker.running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    # then the runs went on
    for id in "ab":
        names = [entry.event for entry in await claiming.app.history(f"task:job:{id}")]
        assert names[-2:] == ["RunStarted", "Executed"]


@pytest.mark.anyio
async def test_A4_a_run_that_was_lost_is_found_though_a_claim_of_it_was_given_back(
    claiming: Claiming,
) -> None:
    # given a run of a worker that died, taken over by one whose event loop begins nothing
    app, store, clocks = claiming.app.application, claiming.store, claiming.clocks
    [due, _] = claim_due(app, worker="w0", jobs=["task:job"], limit=9, now_us=clocks.now_us())[0]
    await Beginning(app, due, lambda *_: None, lambda *_: None).recorded()
    now_us = clocks.now_us()
    store.renew("w0", now_us - 1, now_us)
    clocks.go_on(
        app.settings.lease_us // 3
    )  # a worker that has just started leaves ended leases to their owners
    assert len(await claiming.claim()) == 2
    # when that is given back
    await claiming.app.pause("job")
    clocks.go_on(LATE_US)
    assert await claiming.claim() == []
    # then its loss is recorded, with no sweep
    async with asyncio.timeout(WAIT_S):
        while (row := store.status([due.stream])[0]) is None or row.executing:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
