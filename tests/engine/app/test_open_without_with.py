"""Apps for places without `with`, and for the threads beside an event loop (E3)."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

from tests.forking import in_forked_process
from tests.support import WAIT_S, Ctx, task_of
from wakelog import (
    App,
    InvalidIdError,
    InvalidStateError,
    Jobs,
    StoreUnavailableError,
    WaitTimeoutError,
)
from wakelog.jobs import OpenOptions
from wakelog.testing import Simulation


def threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.is_alive()}


def test_E3_a_blocking_app_is_opened_and_closed_without_a_block(store_url: str) -> None:
    # given
    before = threads()
    app = Jobs(job=task_of()).open_blocking(store_url, worker=True)
    # when
    app.task("job").send("a", {"set_state": 1})
    assert app.task("job").get_state("a") == 1
    app.close()
    # then it has ended, and nothing of it is left
    with pytest.raises(InvalidStateError, match="the app is closed"):
        app.task("job").send("a", {})
    app.close()
    assert threads() <= before


@pytest.mark.anyio
async def test_E3_so_is_an_async_one(store_url: str) -> None:
    before = threads()
    app = await Jobs(job=task_of()).open_async(store_url, worker=True)
    await app.task("job").send("a", {"set_state": 1})
    assert await app.task("job").get_state("a") == 1
    await app.close()
    with pytest.raises(InvalidStateError, match="the app is closed"):
        await app.task("job").send("a", {})
    assert threads() <= before


def test_E3_an_opening_that_fails_leaves_nothing_open() -> None:
    before = threads()
    with pytest.raises(StoreUnavailableError):
        Jobs(job=task_of()).open_blocking("sqlite:////no/such/folder/jobs.db")
    assert threads() <= before


def test_E3_all_three_ways_to_open_take_the_same_options() -> None:
    options = inspect.signature(Jobs.open).parameters.keys() - {"self", "url"}
    assert options == OpenOptions.__annotations__.keys()
    hints = get_type_hints(Jobs.open)
    assert {name: hints[name] for name in options} == get_type_hints(OpenOptions)


# -- app.blocking ----------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_E3_threads_call_the_async_app_of_their_process(store_url: str) -> None:
    async with Jobs(job=task_of()).open(store_url, worker=True) as app:

        def endpoint() -> Any:
            client = app.blocking.task("job")
            client.send("a", {"set_state": 1})
            return client.get_state("a"), app.blocking.list()[0].instance_id

        assert await asyncio.to_thread(endpoint) == (1, "task:job:a")
        assert app.blocking is app.blocking
        # and what it raises is raised in the thread
        with pytest.raises(InvalidIdError):
            await asyncio.to_thread(lambda: app.blocking.task("job").send("", {}))
        assert await app.task("job").get_state("a") == 1


@pytest.mark.anyio
async def test_E3_on_its_own_loop_it_is_refused_and_on_another() -> None:
    async with Jobs(job=task_of()).open("memory://") as app:
        for call in (lambda: app.blocking.task("job").send("a", {}), app.blocking.close):
            with pytest.raises(InvalidStateError, match="await the app's own method"):
                call()

        async def elsewhere() -> None:
            app.blocking.task("job").send("a", {})

        with pytest.raises(InvalidStateError, match="would stop the event loop of this thread"):
            await asyncio.to_thread(asyncio.run, elsewhere())


@pytest.mark.anyio
async def test_E3_a_handler_of_the_app_is_refused_too() -> None:
    said: list[str] = []
    opened: list[App] = []
    task = task_of()

    @task.execute
    def calls(ctx: Ctx) -> None:
        try:
            opened[0].blocking.task("job").send("b", {})
        except InvalidStateError as error:
            said.append(str(error))

    async with Jobs(job=task).open("memory://", worker=True) as app:
        opened.append(app)
        await app.task("job").send("a", {})
        await app.task("job").trigger("a", timeout=WAIT_S)
    assert "must not wait for the app" in said[0]


@pytest.mark.parametrize("is_in_thread", [True, False])
@pytest.mark.anyio
async def test_E3_it_ends_with_the_app_also_for_a_caller_that_waits(
    store_url: str, is_in_thread: bool
) -> None:
    # given a thread, or a task of the loop, that waits for a run that is going on
    begun, task = asyncio.Event(), task_of()

    @task.execute
    async def goes_on(ctx: Ctx) -> None:
        begun.set()
        await asyncio.Event().wait()

    app = await Jobs(job=task).open_async(store_url, worker=True, grace=0)
    await app.task("job").send("a", {})
    client = app.blocking.task("job")
    waiting = asyncio.create_task(
        asyncio.to_thread(lambda: client.trigger("a", timeout="1h"))
        if is_in_thread
        else app.task("job").trigger("a", timeout="1h")
    )
    await asyncio.wait_for(begun.wait(), WAIT_S)
    # when
    await app.close()
    # then
    with pytest.raises(InvalidStateError, match=r"the app (was|is) closed"):
        await asyncio.wait_for(waiting, WAIT_S)
    with pytest.raises(InvalidStateError, match="the app is closed"):
        await asyncio.to_thread(lambda: client.send("a", {}))
    await asyncio.to_thread(app.blocking.close)


@pytest.mark.anyio
async def test_E3_a_thread_may_close_the_app() -> None:
    app = await Jobs(job=task_of()).open_async("memory://")
    await asyncio.to_thread(app.blocking.close)
    assert app.is_closed


def test_E3_a_loop_that_ended_under_it_is_told() -> None:
    opened: list[App] = []

    async def main() -> None:
        opened.append(await Jobs(job=task_of()).open_async("memory://"))

    asyncio.run(main())
    with pytest.raises(InvalidStateError, match="the event loop of the app has ended"):
        opened[0].blocking.task("job").send("a", {})
    asyncio.run(opened[0].close())


def test_E3_a_call_that_the_loop_did_not_begin_ends_with_it() -> None:
    """Its loop is stopped before it gets to the call, and closed."""
    loop = asyncio.new_event_loop()
    app = loop.run_until_complete(Jobs(job=task_of()).open_async("memory://"))
    raised: list[BaseException] = []

    def call() -> None:
        try:
            app.blocking.task("job").send("a", {})
        except InvalidStateError as error:
            raised.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    loop.close()
    caller.join(WAIT_S)
    assert not caller.is_alive()
    assert "the event loop of the app has ended" in str(raised[0])
    asyncio.run(app.close())


@pytest.mark.anyio
async def test_E3_a_time_limit_is_the_callers() -> None:
    async with Jobs(job=task_of()).open("memory://") as app:
        await app.task("job").send("a", {})
        with pytest.raises(WaitTimeoutError):
            await asyncio.to_thread(lambda: app.blocking.task("job").trigger("a", timeout="10ms"))


def test_E3_a_forked_process_has_none(store_url: str) -> None:
    async def main() -> None:
        async with Jobs(job=task_of()).open(store_url) as app:
            calls: list[Callable[[], object]] = [
                lambda: app.blocking.task("job").send("a", {}),
                app.blocking.close,
            ]
            said = [in_forked_process(lambda call=call: str(call())) for call in calls]  # type: ignore[misc]
            assert said[0].startswith("InvalidStateError: this process was forked after")
            assert said[1] == "None"
            await app.task("job").send("a", {})

    asyncio.run(main())


def test_E3_a_simulation_is_blocking_itself() -> None:
    with Simulation(Jobs(job=task_of())) as sim, pytest.raises(InvalidStateError, match="itself"):
        assert sim.app.blocking
