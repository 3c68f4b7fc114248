"""A handler that waits for its own app would wait for itself: U13."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, Staging, task_of
from wakelog import ExecutionError, InvalidStateError, Jobs, WaitTimeoutError

ASKS: dict[str, Callable[[Any], Any]] = {
    "send": lambda app: app.task("job").send("b", {}),
    "send without waiting": lambda app: app.task("job").send("b", {}, delay="1h"),
    "trigger": lambda app: app.task("job").trigger("b"),
    "trigger without waiting": lambda app: app.task("job").trigger("b", wait=False),
    "clear": lambda app: app.task("job").clear("b"),
    "cancel_clear": lambda app: app.task("job").cancel_clear("b"),
    "status": lambda app: app.task("job").status("b"),
    "stale status": lambda app: app.task("job").status("b", stale_ok=True),
    "get_state": lambda app: app.task("job").get_state("b"),
    "forget_key": lambda app: app.task("job").forget_key("b", "k"),
    "history": lambda app: app.history("task:job:b"),
    "state_at": lambda app: app.state_at("task:job:b", version=1),
    "list": lambda app: app.list(),
    "close": lambda app: app.close(),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", ASKS)
async def test_U13_the_async_app_refuses_its_own_handlers(shared_url: str, name: str) -> None:
    # given
    raised: list[BaseException] = []

    async def handler(ctx: Ctx, event: Any = None) -> None:
        try:
            await ASKS[name](app)
        except InvalidStateError as error:
            raised.append(error)

    task = task_of(handler, execute=handler)
    async with Jobs(job=task).open(shared_url, worker=True) as app:
        # when
        await app.task("job").send("a", 1)
        await app.task("job").trigger("a", timeout=WAIT_S)
        # then
        assert len(raised) == 2
        assert all("task:job:a" in str(error) for error in raised)


@pytest.mark.parametrize("name", ASKS)
def test_U13_so_does_the_blocking_one(shared_url: str, name: str) -> None:
    # given
    raised: list[BaseException] = []

    def blocking(ctx: Ctx, event: Any = None) -> None:
        try:
            ASKS[name](app)
        except InvalidStateError as error:
            raised.append(error)

    async def waiting(ctx: Ctx) -> None:
        blocking(ctx)

    with Jobs(job=task_of(blocking, execute=waiting)).open(shared_url, worker=True) as app:
        # when
        app.task("job").send("a", 1)
        app.task("job").trigger("a", timeout=WAIT_S)
    # then
    assert len(raised) == 2


def test_U13_and_the_simulation(stage: Staging) -> None:
    # given
    def on_event(ctx: Ctx, event: Any) -> None:
        job.send(1, id="b")

    job = stage(on_event)
    # when
    with pytest.raises(ExecutionError) as raised:
        job.send(1)
    # then
    assert isinstance(raised.value.__cause__, InvalidStateError)
    assert job.names("b") == []


@pytest.mark.anyio
async def test_U13_what_a_handler_leaves_behind_may_ask_when_it_has_ended(shared_url: str) -> None:
    # given a handler that starts a task which outlives it
    left: list[asyncio.Task[Any]] = []
    ended = asyncio.Event()

    async def on_event(ctx: Ctx, event: str) -> None:
        async def follow_up() -> Any:
            with pytest.raises(InvalidStateError):
                await app.task("job").status("a")
            await ended.wait()
            return await app.task("job").send("b", "from outside")

        if event == "first":
            left.append(asyncio.create_task(follow_up()))
            await asyncio.sleep(0)

    async with Jobs(job=task_of(on_event)).open(shared_url) as app:
        # when
        await app.task("job").send("a", "first")
        ended.set()
        # then
        assert (await left[0]).created


@pytest.mark.anyio
async def test_a_closed_app_says_so_whatever_is_asked(shared_url: str) -> None:
    # given
    async with Jobs(job=task_of()).open(shared_url) as app:
        await app.task("job").send("a", {})
    # then
    for name, ask in ASKS.items():
        if name == "close":
            await ask(app)  # safe to call twice
        else:
            with pytest.raises(InvalidStateError, match="closed"):
                await ask(app)


def test_an_opening_is_used_once_and_jobs_many_times(shared_url: str) -> None:
    # given
    jobs = Jobs(job=task_of())
    opening = jobs.open(shared_url)
    with opening as app:
        app.task("job").send("a", {})
    # then
    with pytest.raises(InvalidStateError, match="used before"), opening:
        pass
    with jobs.open(shared_url) as app:
        assert app.task("job").status("a").event_count == 1


# -- timeouts


@pytest.mark.anyio
async def test_T1_a_send_that_waits_ends_at_its_timeout_though_its_handler_goes_on(
    shared_url: str,
) -> None:
    # given a handler that runs in the call, and takes longer
    go_on = asyncio.Event()

    async def slow(ctx: Ctx, event: Any) -> None:
        await go_on.wait()
        ctx.set_state(event)

    async with Jobs(job=task_of(slow)).open(shared_url) as app:
        # when
        with pytest.raises(WaitTimeoutError, match="what was accepted stays accepted"):
            await app.task("job").send("a", 1, wait=True, timeout="50ms")
        # then the event is accepted once the handler has ended
        go_on.set()
        assert (await app.task("job").send("a", 2, wait=True, timeout=WAIT_S)).event_count == 2
        assert await app.task("job").get_state("a") == 2


@pytest.mark.anyio
async def test_T1_its_cancellation_ends_it_though_its_handler_catches_that(shared_url: str) -> None:
    begun, caught, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stubborn(ctx: Ctx, event: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            caught.set()
            await go_on.wait()

    async with Jobs(job=task_of(stubborn)).open(shared_url) as app:
        sending = asyncio.create_task(app.task("job").send("a", 1, wait=True, timeout=WAIT_S))
        await begun.wait()
        # when
        sending.cancel()
        # then
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert caught.is_set()
        go_on.set()
