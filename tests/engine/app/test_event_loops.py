"""An app belongs to the event loop that opened it; a blocking one blocks no event loop: E3."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.support import WAIT_S, task_of
from wakelog import Continuous, Debounce, InvalidStateError, Jobs, Position, WorkerPool

GIVEN: dict[str, Any] = {
    "position": Position.parse("w1-0"),
    "follower": "mailer",
    "action": "pause",
    "event": {},
    "event_id": "e",
    "event_ids": ["e"],
    "events": [1],
    "id": "a",
    "input": None,
    "instance_id": "task:job:a",
    "job": "job",
    "key": "k",
    "priority": 1,
}
"""For each parameter that a call needs."""


def make_jobs() -> Jobs:
    continuous: Continuous[Any] = Continuous(state=Any, every="1h")
    continuous.execute(lambda ctx: None)
    debounce: Debounce[Any, Any] = Debounce(event=Any, flush_after="1h")
    debounce.execute(lambda ctx: None)
    pool: WorkerPool[Any] = WorkerPool(event=Any, concurrency=1)
    pool.execute(lambda ctx, event: None)
    return Jobs(job=task_of(), often=continuous, batch=debounce, pool=pool)


def calls_of(app: Any) -> Iterator[tuple[str, Callable[[], Awaitable[Any]]]]:
    """All calls of an app and of its clients that are to be awaited."""
    clients = [app.task("job"), app.continuous("often"), app.debounce("batch")]
    for owner in [app, *clients, app.worker_pool("pool")]:
        for name, method in inspect.getmembers(owner, inspect.iscoroutinefunction):
            if name.startswith("_") or name == "start_worker":
                continue
            needed = [
                each.name
                for each in inspect.signature(method).parameters.values()
                if each.default is each.empty and each.kind is not each.VAR_KEYWORD
            ]
            given = [GIVEN[each] for each in needed]
            extra = {"version": 1} if name == "state_at" else {}
            yield f"{type(owner).__name__}.{name}", lambda m=method, g=given, e=extra: m(*g, **e)  # type: ignore[misc]


async def on_another_loop(call: Callable[[], Awaitable[Any]]) -> Any:
    """What it raises on the event loop of another thread, or returns."""

    async def called() -> Any:
        try:
            return await asyncio.wait_for(call(), WAIT_S)
        except Exception as error:
            return error

    return await asyncio.to_thread(lambda: asyncio.run(called()))


@pytest.mark.anyio
async def test_E3_each_call_of_another_event_loop_is_told_so_at_once(store_url: str) -> None:
    # given
    async with make_jobs().open(store_url, worker=True) as app:
        await app.task("job").send("a", {"set_state": 1})
        calls = dict(calls_of(app))
        assert len(calls) > 60
        # when, then
        for name, call in calls.items():
            raised = await on_another_loop(call)
            assert isinstance(raised, InvalidStateError), (name, raised)
            assert "belongs to the event loop that opened it" in str(raised)
        # and the app goes on, and is closed on its own loop
        await app.task("job").send("a", {"set_state": 2})
        assert await app.task("job").get_state("a") == 2


@pytest.mark.anyio
async def test_E3_a_call_may_be_made_elsewhere_and_awaited_on_the_loop(shared_url: str) -> None:
    loop = asyncio.get_running_loop()
    async with make_jobs().open(shared_url) as app:

        def ask() -> Any:
            sending = app.task("job").send("a", {"set_state": 1})
            return asyncio.run_coroutine_threadsafe(sending, loop).result(WAIT_S)

        assert (await asyncio.to_thread(ask)).created


def test_E3_an_app_whose_event_loop_has_ended_says_so_and_can_be_closed(store_url: str) -> None:
    # given an app that was not closed on its loop
    before = set(threading.enumerate())
    jobs = make_jobs()

    async def opened() -> Any:
        return await jobs.open(store_url, worker=True).__aenter__()

    app = asyncio.run(opened())

    async def used() -> None:
        with pytest.raises(InvalidStateError, match="has ended: close the app"):
            await app.task("job").send("a", {})

    asyncio.run(used())
    # when
    asyncio.run(app.close())
    # then
    assert set(threading.enumerate()) <= before


@pytest.mark.anyio
async def test_E3_the_blocking_app_refuses_to_block_an_event_loop(shared_url: str) -> None:
    # given
    opening = make_jobs().open(shared_url)
    with pytest.raises(InvalidStateError, match="async with"):
        opening.__enter__()
    app = await asyncio.to_thread(make_jobs().open(shared_url).__enter__)
    # when
    with pytest.raises(InvalidStateError, match=r"asyncio\.to_thread"):
        app.task("job").send("a", {})
    # then a thread may use it, and closing is possible
    assert (await asyncio.to_thread(app.task("job").send, "a", {})).created
    app.close()
    with pytest.raises(InvalidStateError, match="closed"):
        await asyncio.to_thread(app.list)
