"""Many deferred events of one instance are handled in pages: in order, each a unit of its own, with
few appends (T15, U1 to U3)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from tests.auditing import audit_all
from tests.support import WAIT_S, Ctx, task_of
from wakelog import BlockingApp, Jobs
from wakelog.core.events import DeadLettered, EventHandled
from wakelog.jobs import open_store
from wakelog.log.records import Recorded
from wakelog.worker import deferred_events
from wakelog.worker.deferred_events import PAGE

MANY = 3 * PAGE + 7
STREAM = "task:job:a"

Opened = Callable[..., BlockingApp]


async def collect(ctx: Ctx, event: int) -> None:
    ctx.set_state([*(ctx.state or ()), event])


def outside(ask: Callable[[], object]) -> None:
    """Call another app while a handler of this one runs: as another process would."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(ask).result(WAIT_S)


@pytest.fixture
def opened(store_url: str) -> Iterator[Opened]:
    """Opens one app after the other on the same store, and keeps the first open: a memory store
    lasts as long as one is."""
    apps: list[Any] = []

    def build(on_event: Callable[..., Any] = collect, **options: Any) -> BlockingApp:
        job = task_of(on_event, event=int, execute=lambda ctx: None)
        app = Jobs(job=job).open(store_url, **options)
        apps.append(app)
        return app.__enter__()

    yield build
    for app in reversed(apps):
        app.__exit__(None, None, None)


def waiting(app: BlockingApp, count: int = MANY) -> list[int]:
    """Accept so many events that wait, in this order, for a worker."""
    app.pause("job")
    numbers = list(range(count))
    for number in numbers:
        assert app.task("job").send("a", number).deferred
    app.resume("job")
    return numbers


def handled(app: BlockingApp) -> list[int]:
    """What was handled, once none waits any longer."""
    task = app.task("job")
    looks, pause = int(WAIT_S / 0.01), threading.Event()
    for _ in range(looks):
        status = task.status("a")
        if status.event_count and not status.deferred_count:
            return list(task.get_state("a") or ())
        pause.wait(0.01)
    raise AssertionError(f"still waiting: {task.status('a')}")


def history(url: str) -> list[Recorded]:
    """The history of the one instance, after everything was found to add up."""
    with closing(open_store(url)) as factory:
        [recorded] = audit_all(factory.application_recorder()).values()
    return recorded


def units(url: str) -> list[list[str]]:
    """The names of the events of each unit."""
    by_commit: dict[str, list[str]] = {}
    for recorded in history(url):
        by_commit.setdefault(recorded.commit, []).append(type(recorded.event).__name__)
    return list(by_commit.values())


def test_T15_U1_many_are_handled_in_order_each_a_unit_with_few_appends(
    opened: Opened, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("PAGE_US", "SLOW_US"):
        monkeypatch.setattr(deferred_events, limit, 60_000_000)  # on a slow machine too
    expected = waiting(opened())
    worker = opened(worker=True)
    assert handled(worker) == expected
    made = [each for each in units(store_url) if "EventHandled" in each]
    assert made == [["EventHandled", "StateSet"]] * MANY
    if not store_url.startswith("memory:"):  # it appends at once
        assert worker.metrics()["appends"] < MANY / 4


def test_T12_one_that_fails_is_given_up_at_its_own_place(opened: Opened, store_url: str) -> None:
    async def fails_for_some(ctx: Ctx, event: int) -> None:
        if event in (3, PAGE):
            raise ValueError(event)
        await collect(ctx, event)

    expected = [each for each in waiting(opened(), PAGE + 5) if each not in (3, PAGE)]
    worker = opened(fails_for_some, worker=True)
    assert handled(worker) == expected
    events = [each.event for each in history(store_url)]
    ends = [each for each in events if isinstance(each, (EventHandled, DeadLettered))]
    given_up = [at for at, end in enumerate(ends) if isinstance(end, DeadLettered)]
    assert given_up == [3, PAGE]


def test_U3_what_others_accept_meanwhile_costs_no_order_and_no_second_call(opened: Opened) -> None:
    # given another process that sends while a page is handled
    calls: list[int] = []
    go_on = threading.Event()

    async def count(ctx: Ctx, event: int) -> None:
        calls.append(event)
        if event == 5:
            outside(lambda: other.task("job").send("a", MANY))
            go_on.set()
        await collect(ctx, event)

    sender, other = opened(), opened()
    expected = waiting(sender)
    # when
    worker = opened(count, worker=True)
    # then it comes last, and what was built on a refused unit is recorded once, in order
    assert go_on.wait(WAIT_S)
    assert handled(worker) == [*expected, MANY]
    assert calls == [*expected, MANY]


@pytest.mark.anyio
async def test_U3_one_that_was_handled_on_top_of_a_refused_one_is_not_called_again(
    opened: Opened, store_url: str
) -> None:
    called: list[int] = []

    async def on_event(ctx: Ctx, event: int) -> None:
        called.append(event)
        if event == 0:  # another writer is faster than the append of this one
            outside(lambda: other.task("job").send("a", 2))
        if event == 1:  # which is refused while this one runs, on top of it
            await worker.application.commits.drained()
        await collect(ctx, event)

    other = await asyncio.to_thread(opened, handlers=False)
    expected = await asyncio.to_thread(waiting, other, 2)
    jobs = Jobs(job=task_of(on_event, event=int, execute=lambda ctx: None))
    async with jobs.open(store_url, worker=True) as worker:
        assert await asyncio.to_thread(handled, other) == [*expected, 2]
    assert called == [*expected, 2]


@pytest.mark.parametrize("limit", ["SLOW_US", "PAGE_US"])
def test_A5_a_pause_of_the_job_is_met_between_two_slow_events(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(deferred_events, limit, 0)  # whatever a turn takes, it takes too long
    paused = threading.Event()

    async def pause_in_the_middle(ctx: Ctx, event: int) -> None:
        if event == 9:
            outside(lambda: other.pause("job"))
            paused.set()
        await collect(ctx, event)

    sender, other = opened(), opened()
    expected = waiting(sender, 20)
    worker = opened(pause_in_the_middle, worker=True)
    assert paused.wait(WAIT_S)
    worker.close(grace=WAIT_S)
    assert other.task("job").get_state("a") == expected[:10]
    assert other.task("job").status("a").deferred_count == 10


def test_T10_a_clear_ends_a_page_and_nothing_of_it_follows(opened: Opened, store_url: str) -> None:
    cleared = threading.Event()

    async def clear_in_the_middle(ctx: Ctx, event: int) -> None:
        if event == 9:
            outside(lambda: other.task("job").clear("a"))
            cleared.set()
        await collect(ctx, event)

    sender, other = opened(), opened()
    waiting(sender, PAGE)
    worker = opened(clear_in_the_middle, worker=True)
    assert cleared.wait(WAIT_S)
    worker.task("job").send("a", -1)
    assert worker.task("job").get_state("a") == [-1]
    assert worker.task("job").status("a").deferred_count == 0
    assert units(store_url)[-1] == ["Started", "EventReceived", "StateSet"]
