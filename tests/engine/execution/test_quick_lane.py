"""Short `def` calls share a thread: which are short, and what happens when one is not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support import WAIT_S
from wakelog.errors import ThreadsExhaustedError
from wakelog.execution.pool_task import PoolTask
from wakelog.execution.quick_lane import Pace, Paces
from wakelog.execution.thread_pool import HandlerPool

pytestmark = pytest.mark.anyio

SHORT_S = 0.000_01
LONG_S = 0.01
ENOUGH = 200
"""So many short calls, and the function counts as short."""


class Hold:
    """What a call may wait for; it says when it does."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()

    def wait(self) -> None:
        self.begun.set()
        assert self.release.wait(WAIT_S)


def function() -> Callable[[Callable[[], Any] | None], Any]:
    """A new function that does nothing, or what it is given."""

    def call(what: Callable[[], Any] | None = None) -> Any:
        return None if what is None else what()

    return call


@asynccontextmanager
async def a_pool(limit: int) -> AsyncIterator[HandlerPool]:
    pool = HandlerPool(limit)
    try:
        yield pool
    finally:
        pool.close()


async def short(pool: HandlerPool) -> Callable[..., Any]:
    """A new function whose calls were short so far."""
    fn = function()
    for _ in range(ENOUGH):
        await pool.call(fn, ())
    return fn


def started(pool: HandlerPool, fn: Callable[..., Any], *args: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(pool.call(fn, args))


async def seen(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, WAIT_S)


# -- pace


def test_a_function_counts_as_short_when_enough_of_its_calls_were() -> None:
    pace = Pace()
    assert not pace.is_quick
    pace.took(SHORT_S)
    assert not pace.is_quick
    for _ in range(ENOUGH):
        pace.took(SHORT_S)
    assert pace.is_quick


def test_one_long_call_is_forgiven_and_some_are_not() -> None:
    pace = Pace()
    for _ in range(ENOUGH):
        pace.took(SHORT_S)
    pace.took(LONG_S)
    assert pace.is_quick
    for _ in range(5):
        pace.took(LONG_S)
    assert not pace.is_quick


def test_after_a_call_that_was_stuck_more_short_ones_are_needed_than_at_first() -> None:
    def needed(pace: Pace) -> int:
        count = 0
        while not pace.is_quick:
            pace.took(SHORT_S)
            count += 1
        return count

    pace = Pace()
    at_first = needed(pace)
    pace.was_stuck()
    assert not pace.is_quick
    assert needed(pace) > at_first


def test_each_function_has_a_pace_of_its_own_for_as_long_as_it_lives() -> None:
    paces, one, other = Paces(), function(), function()
    pace = paces.of(one)
    assert pace is not None
    assert paces.of(one) is pace
    assert paces.of(other) is not pace
    for _ in range(ENOUGH):  # many of them have the number of one that is gone
        fresh = function()
        made = paces.of(fresh)
        assert made is not None
        assert not made.is_quick
        made.is_quick = True
        del fresh


# -- calls


async def test_short_calls_share_one_thread() -> None:
    before = set(threading.enumerate())
    async with a_pool(8) as pool:
        fn = await short(pool)
        await asyncio.gather(*(pool.call(fn, ()) for _ in range(100)))
        assert len(set(threading.enumerate()) - before) == 1


async def test_what_short_calls_answer_or_raise_comes_back_as_a_value_to_its_caller() -> None:
    async with a_pool(2) as pool:
        fn = await short(pool)
        failed = SystemExit("no")

        def fail() -> None:
            raise failed

        given: list[Any] = [fail if n % 10 == 0 else (lambda n=n: n) for n in range(100)]
        outcomes = await asyncio.gather(*(pool.call(fn, (each,)) for each in given))
        expected = [(None, failed) if n % 10 == 0 else (n, None) for n in range(100)]
        assert outcomes == expected


async def test_U10_calls_that_were_short_and_now_wait_for_each_other_all_run_at_once() -> None:
    together = threading.Barrier(8, timeout=WAIT_S)
    async with a_pool(8) as pool:
        fn = await short(pool)
        outcomes = await asyncio.gather(*(pool.call(fn, (together.wait,)) for _ in range(16)))
        assert [error for _, error in outcomes] == [None] * 16


async def test_U10_calls_of_different_functions_that_were_short_can_wait_for_each_other() -> None:
    together = threading.Barrier(8, timeout=WAIT_S)
    async with a_pool(8) as pool:
        functions = [await short(pool) for _ in range(8)]
        outcomes = await asyncio.gather(*(pool.call(fn, (together.wait,)) for fn in functions))
        assert [error for _, error in outcomes] == [None] * 8


async def test_U10_a_call_that_blocks_holds_up_neither_the_loop_nor_those_behind_it() -> None:
    hold = Hold()
    async with a_pool(2) as pool:
        fn, other = await short(pool), await short(pool)
        # given a call that was expected to be short and blocks
        blocked = started(pool, fn, hold.wait)
        await seen(hold.begun)
        # when others come
        answers = await asyncio.gather(*(pool.call(other, (lambda: 7,)) for _ in range(20)))
        # then they are made meanwhile
        assert answers == [(7, None)] * 20
        assert not blocked.done()
        hold.release.set()
        assert await blocked == (None, None)


async def test_U10_those_that_wait_already_are_made_too() -> None:
    hold = Hold()
    async with a_pool(2) as pool:
        fn, other = await short(pool), await short(pool)
        # given they come together, the one that blocks first
        blocked = started(pool, fn, hold.wait)
        behind = [started(pool, other, lambda: 7) for _ in range(20)]
        # then
        assert await asyncio.gather(*behind) == [(7, None)] * 20
        assert not blocked.done()
        hold.release.set()
        assert await blocked == (None, None)


async def test_U10_the_timeout_of_a_call_that_was_short_begins_when_it_blocks() -> None:
    hold, told = Hold(), asyncio.Event()
    async with a_pool(1) as pool:
        fn = await short(pool)
        blocked = asyncio.create_task(pool.call(fn, (hold.wait,), told.set))
        await asyncio.wait_for(told.wait(), WAIT_S)
        assert hold.begun.is_set()
        hold.release.set()
        assert await blocked == (None, None)


async def test_a_short_call_whose_caller_has_gone_before_it_began_never_does() -> None:
    hold, called = Hold(), threading.Event()
    async with a_pool(1) as pool:
        fn = await short(pool)
        busy = started(pool, function(), hold.wait)
        await seen(hold.begun)
        gone = started(pool, fn, called.set)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        hold.release.set()
        await busy
        await pool.call(fn, ())
        assert gone.cancelled()
        assert not called.is_set()


async def test_U10_the_thread_of_a_short_call_that_is_abandoned_is_replaced() -> None:
    hold, stuck = Hold(), list[threading.Thread]()

    def block() -> None:
        stuck.append(threading.current_thread())
        hold.wait()

    async with a_pool(1) as pool:
        fn, other = await short(pool), await short(pool)
        # given one that blocks the only thread, and one behind it
        caller = started(pool, fn, block)
        behind = started(pool, other, threading.current_thread)
        await seen(hold.begun)
        # when the caller goes
        caller.cancel()
        # then the one behind has another thread, and the stuck one ends
        thread, error = await asyncio.wait_for(behind, WAIT_S)
        assert error is None
        assert thread not in stuck
        hold.release.set()
        await asyncio.to_thread(stuck[0].join, WAIT_S)
        assert not stuck[0].is_alive()


async def test_short_calls_that_wait_are_refused_when_the_last_thread_is_found_stuck() -> None:
    holds = [Hold(), Hold()]
    async with a_pool(1) as pool:
        fn = await short(pool)
        # given the only thread, and the one in its place, are stuck
        callers = [started(pool, function(), hold.wait) for hold in holds]
        await seen(holds[0].begun)
        callers[0].cancel()
        await seen(holds[1].begun)
        waiting = started(pool, fn, lambda: 7)
        await asyncio.sleep(0)
        callers[1].cancel()
        # then
        with pytest.raises(ThreadsExhaustedError):
            await waiting
        for hold in holds:
            hold.release.set()


# -- a call that goes on without its first caller


async def test_an_outcome_that_comes_before_anybody_has_taken_over_is_kept() -> None:
    call = PoolTask(function(), (), None, None)
    call.future.cancel()
    call.resolve((7, None))
    call.hand_down()
    assert await call.future == (7, None)


async def test_so_is_a_refusal() -> None:
    call = PoolTask(function(), (), None, None)
    call.future.cancel()
    call.resolve(ThreadsExhaustedError("a def handler", "all are stuck", "restart"))
    call.hand_down()
    with pytest.raises(ThreadsExhaustedError):
        await call.future


async def test_who_takes_over_a_call_that_has_ended_finds_its_outcome() -> None:
    call = PoolTask(function(), (), None, None)
    call.resolve((7, None))
    call.hand_down()
    assert await call.future == (7, None)
