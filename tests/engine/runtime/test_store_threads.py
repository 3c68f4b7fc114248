"""Lanes: a loop that is busy does not keep the threads from their calls."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support import WAIT_S
from wakelog.errors import InvalidStateError, StoreUnavailableError
from wakelog.runtime import store_threads as lanes
from wakelog.runtime.store_threads import ThreadExecutor

pytestmark = pytest.mark.anyio


@pytest.fixture
def lane(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadExecutor]:
    """One whose loop would wait for as long as it takes."""
    monkeypatch.setattr(lanes, "HAND_OVER_S", WAIT_S)
    lane = ThreadExecutor("test", 2, hands_over=True)
    yield lane
    lane.close()


@pytest.fixture
def greedy() -> Iterator[None]:
    """Who has the interpreter keeps it until it waits for something."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(WAIT_S)
    yield
    sys.setswitchinterval(interval_s)


@pytest.mark.usefixtures("greedy")
async def test_a_call_is_under_way_when_it_was_asked_for(lane: ThreadExecutor) -> None:
    for _ in range(3):
        done = threading.Event()
        asked = lane.run(done.set)
        assert done.is_set()
        await asked


async def test_the_loop_waits_for_no_call_where_all_threads_are_taken(lane: ThreadExecutor) -> None:
    go_on = threading.Event()
    asked = [lane.run(go_on.wait, WAIT_S) for _ in range(5)]
    go_on.set()
    assert [await each for each in asked] == [True] * 5
    assert await lane.run(lambda: "and so on") == "and so on"


async def test_what_a_call_raises_is_raised_and_frees_its_thread(lane: ThreadExecutor) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 / 0)
    assert await lane.run(lambda: 7) == 7


async def test_a_closed_lane_refuses(lane: ThreadExecutor) -> None:
    lane.close()
    with pytest.raises(InvalidStateError):
        await lane.run(lambda: None)


async def test_closing_waits_for_a_call_no_longer_than_it_is_told(lane: ThreadExecutor) -> None:
    # given a call that does not end, on each thread, and one that waits for a thread
    go_on, made = threading.Event(), threading.Event()
    calls = [lane.run(go_on.wait, WAIT_S) for _ in range(2)]
    waiting = asyncio.ensure_future(lane.run(made.set))
    # when
    lane.close(0.01)
    # then those end by themselves, and the other is not made
    go_on.set()
    assert [await each for each in calls] == [True, True]
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not made.is_set()


async def test_a_call_that_ends_once_the_store_is_closed_is_waited_for() -> None:
    # given a call that waits for the store when the threads are closed
    before = set(threading.enumerate())
    closed = threading.Event()
    threads = lanes.StoreThreads(blocking=True, inline=False)
    call = asyncio.ensure_future(threads.read(closed.wait, WAIT_S))
    await asyncio.sleep(0)
    threads.close()
    assert set(threading.enumerate()) > before
    # when the store is closed
    closed.set()
    threads.join()
    # then no thread is left
    assert set(threading.enumerate()) == before
    assert await call


async def test_a_call_that_is_not_made_any_longer_is_refused() -> None:
    # given calls that do not end, on each thread, and as many that wait for one
    go_on = threading.Event()
    threads = lanes.StoreThreads(blocking=True, inline=False)
    kinds = (threads.read, threads.browse, threads.write)
    calls = [asyncio.create_task(kind(go_on.wait, WAIT_S)) for kind in kinds for _ in range(4)]
    await asyncio.sleep(0)
    # when one caller stops waiting, and then the threads are closed
    calls[-1].cancel()
    threads.close()
    go_on.set()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    # then only that one was cancelled
    assert isinstance(ends[-1], asyncio.CancelledError)
    expected = [True, True, InvalidStateError, InvalidStateError] * len(kinds)
    assert [end if end is True else type(end) for end in ends[:-1]] == expected[:-1]
    threads.join()


async def test_K3_calls_that_waited_while_the_store_was_away_do_not_each_find_it_out() -> None:
    # given a store that does not answer, and calls that wait for a thread meanwhile
    silent, begun = threading.Event(), []

    def give_up() -> None:
        begun.append(silent.wait(WAIT_S))
        raise StoreUnavailableError("unreachable", "no answer")

    threads = lanes.StoreThreads(blocking=True, inline=False)
    for kind in (threads.read, threads.browse, threads.write):
        calls = [asyncio.create_task(kind(give_up)) for _ in range(20)]
        await asyncio.sleep(0)
        # when the first ones give up
        silent.set()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        # then the others end as those, and at most one more on each thread has tried
        errors = [end for end in ends if isinstance(end, StoreUnavailableError)]
        assert {error.reason for error in errors} == {"unreachable"}
        not_tried = [error for error in errors if "not tried" in error.detail]
        assert len(not_tried) == 20 - len(begun) >= 16
        assert all("no answer" in error.detail for error in errors)
        # and a call that is asked for now is made
        assert await kind(len, "abc") == 3
        silent.clear()
        begun.clear()
    threads.close()


async def test_joining_ends_though_a_call_does_not(lane: ThreadExecutor) -> None:
    go_on = threading.Event()
    call = lane.run(go_on.wait, WAIT_S)
    lane.close(0.01)
    assert not lane.join(0)
    assert not go_on.is_set()
    go_on.set()
    assert await call


async def test_a_call_needs_no_thread_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is refused a thread when it is queued would be made, and its caller told that it
    was not."""
    threads = lanes.StoreThreads(blocking=True, inline=False)
    before = set(threading.enumerate())

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for call in (threads.read, threads.browse, threads.write):
        assert await call(len, "abc") == 3
    assert set(threading.enumerate()) == before
    threads.close()


def test_K2_an_interrupt_while_a_lane_closes_leaves_no_thread_that_waits_for_others(
    lane: ThreadExecutor, interrupt: Callable[[], None]
) -> None:
    # given a call that does not end, and threads that are free
    go_on, busy = threading.Event(), threading.Event()

    def call() -> None:
        busy.set()
        go_on.wait(WAIT_S)

    async def main() -> None:
        _ = lane.run(call)
        assert busy.wait(WAIT_S)

    asyncio.run(main())
    # when what waits for all of them is interrupted
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        lane.close(WAIT_S)
    # then all end that can, and so does the process
    go_on.set()
    assert lane.join(WAIT_S)
