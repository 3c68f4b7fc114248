"""Between a claim and the beginning of what was claimed, anything may happen (U2, T5)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.support import WAIT_S, Ctx, task_of
from wakelog import Jobs, LeaseLostError
from wakelog.app import App
from wakelog.clock import Clock
from wakelog.worker.claims import Beginning, Claimed, claim_due
from wakelog.worker.leases import LeaseKey
from wakelog.worker.runs import work

pytestmark = pytest.mark.anyio
STREAM = "task:job:a"


def execute(ctx: Ctx) -> None:
    ctx.set_state("ran")


@pytest.fixture
async def app(store_url: str) -> AsyncIterator[App]:
    """One instance is due."""
    async with Jobs(job=task_of(execute=execute)).open(store_url) as app:
        await app.task("job").send("a", {"schedule": 0})
        yield app


async def claim(app: App, owner: str = "w1") -> Sequence[Claimed]:
    application = app.application
    claimed, _ = await asyncio.to_thread(
        claim_due,
        application,
        worker=owner,
        jobs=["task:job"],
        limit=9,
        now_us=application.clock.now_us(),
    )
    return claimed


async def claim_one(app: App, owner: str = "w1") -> Claimed:
    [claimed] = await claim(app, owner)
    return claimed


async def end_leases(app: App, owner: str) -> None:
    """Its worker has died, and some time has passed."""
    now_us = app.application.clock.now_us()
    await asyncio.to_thread(app.application.store.renew, owner, now_us - 1, now_us)


async def recorded(app: App) -> list[str]:
    return [entry.event for entry in await app.history(STREAM)]


async def tokens(app: App) -> Sequence[int | None]:
    return await asyncio.to_thread(app.application.store.lease_tokens, [STREAM])


async def test_T5_what_was_claimed_runs_once(app: App) -> None:
    claimed = await claim_one(app)
    assert await claim(app, "w2") == []
    before = await recorded(app)
    assert "RunStarted" not in before
    await work(app.application, claimed)
    after = await recorded(app)
    assert after[len(before) :] == ["RunStarted", "Executed", "StateSet"]
    assert await tokens(app) == [None]
    assert await claim(app) == []


async def test_U2_what_others_have_appended_since_counts(app: App) -> None:
    claimed = await claim_one(app)
    await app.task("job").send("a", {"set_state": "changed"})
    await work(app.application, claimed)
    assert (await recorded(app)).count("RunStarted") == 1
    assert await app.task("job").get_state("a") == "ran"


async def test_T5_what_was_scheduled_for_later_since_does_not_run_early(app: App) -> None:
    claimed = await claim_one(app)
    await app.task("job").send("a", {"schedule": 3600})
    await work(app.application, claimed)
    assert "RunStarted" not in await recorded(app)
    assert await tokens(app) == [None]


async def test_T9_what_was_cleared_since_does_not_begin(app: App) -> None:
    claimed = await claim_one(app)
    await app.task("job").clear("a")
    before = await recorded(app)
    with pytest.raises(LeaseLostError):
        await work(app.application, claimed)
    assert await recorded(app) == before


async def test_what_was_paused_since_does_not_begin(app: App) -> None:
    claimed = await claim_one(app)
    await app.task("job").pause("a")
    await work(app.application, claimed)
    assert "RunStarted" not in await recorded(app)
    assert await tokens(app) == [None]


async def test_a_job_that_was_paused_since_does_not_begin(app: App) -> None:
    before = await recorded(app)
    claimed = await claim_one(app)
    await app.pause("job")
    await work(app.application, claimed)
    assert (await recorded(app), await tokens(app)) == (before, [None])
    # and it is due again when the pause ends
    assert await claim(app) == []
    await app.resume("job")
    await work(app.application, await claim_one(app))
    assert (await recorded(app)).count("RunStarted") == 1


async def test_K1_a_worker_that_died_before_it_began_has_lost_no_run(app: App) -> None:
    await claim_one(app, "w1")
    await end_leases(app, "w1")
    # when its lease has ended, and another one takes over
    await work(app.application, await claim_one(app, "w2"))
    names = await recorded(app)
    assert (names.count("RunStarted"), names.count("ExecutionLost")) == (1, 0)


async def test_U2_a_claim_that_was_taken_over_cannot_begin(app: App) -> None:
    late = await claim_one(app, "w1")
    await end_leases(app, "w1")
    taken_over = await claim_one(app, "w2")
    with pytest.raises(LeaseLostError):
        await work(app.application, late)
    assert "RunStarted" not in await recorded(app)
    await work(app.application, taken_over)
    assert (await recorded(app)).count("RunStarted") == 1


async def test_U2_a_run_that_was_lost_is_recovered_though_a_claim_of_it_was_lost_too(
    app: App,
) -> None:
    # given a run of a worker that died, and a claim of it by another one that died too
    claimed = await claim_one(app, "w1")

    def unnoted(before: LeaseKey, after: LeaseKey) -> None: ...

    begun = await Beginning(app.application, claimed, unnoted, unnoted).recorded()
    assert begun is not None
    assert begun.call is not None
    await end_leases(app, "w1")
    late = await claim_one(app, "w2")
    await end_leases(app, "w2")
    # when a third one takes it
    await work(app.application, await claim_one(app, "w3"))
    # then the run is done, and the attempt that had not begun does not count
    names = await recorded(app)
    assert names[-4:] == ["ExecutionLost", "RunStarted", "Executed", "StateSet"]
    assert names.count("RunStarted") == 2
    with pytest.raises(LeaseLostError):
        await work(app.application, late)


async def test_A4_a_run_that_was_lost_is_found_though_a_claim_of_it_was_given_up(app: App) -> None:
    def unnoted(before: LeaseKey, after: LeaseKey) -> None: ...

    # given a run of a worker that died, and a claim of it while its job is paused
    claimed = await claim_one(app, "w1")
    await Beginning(app.application, claimed, unnoted, unnoted).recorded()
    await end_leases(app, "w1")
    late = await claim_one(app, "w2")
    await app.pause("job")
    await work(app.application, late)
    assert await tokens(app) == [None]
    # when the pause ends
    await app.resume("job")
    # then it can be claimed at once, and is done
    await work(app.application, await claim_one(app, "w3"))
    assert (await recorded(app))[-4:] == ["ExecutionLost", "RunStarted", "Executed", "StateSet"]


class LaterClock:
    """A clock that is moved on."""

    def __init__(self, clock: Clock, us: int) -> None:
        self._clock = clock
        self._us = us

    def now_us(self) -> int:
        return self._clock.now_us() + self._us

    def monotonic_us(self) -> int:
        return self._clock.monotonic_us() + self._us

    def wait(self, event: threading.Event, us: int) -> None:
        self._clock.wait(event, us)


async def test_U2_a_run_that_had_to_wait_for_a_handler_has_a_whole_lease(store_url: str) -> None:
    """However long it waited: the lease of its claim was renewed meanwhile."""
    begun, go, ran = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def on_event(ctx: Ctx, event: str) -> None:
        if event == "schedule":
            ctx.schedule(0)
        else:
            begun.set()
            await go.wait()

    async def execute(ctx: Ctx) -> None:
        ran.set()
        await asyncio.Event().wait()

    async with (
        asyncio.timeout(WAIT_S),
        Jobs(job=task_of(on_event, execute=execute)).open(store_url) as app,
    ):
        # given a claim that waits for a handler
        await app.task("job").send("a", "schedule")
        claimed = await claim_one(app)
        application = app.application
        store, lease_us = application.store, application.settings.lease_us
        sending = asyncio.create_task(app.task("job").send("a", "block"))
        await begun.wait()
        working = asyncio.create_task(work(application, claimed))
        await asyncio.sleep(0.01)
        # when that takes longer than a lease
        clock = LaterClock(application.clock, 2 * lease_us)
        application.clock = application.units.clock = clock
        now_us = clock.now_us()
        await asyncio.to_thread(store.renew, "w1", now_us + lease_us, now_us)
        go.set()
        await sending
        await ran.wait()
        # then nobody can take the run over
        assert await claim(app, "w2") == []
        [held] = await asyncio.to_thread(store.leases, now_us, 9)
        assert held.lease.until_us > now_us
        working.cancel()
        await asyncio.wait([working])
