"""Calling `def` handlers on threads: outcomes as values, a bound, and nobody left waiting."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from wakelog.errors import ThreadsExhaustedError
from wakelog.execution.thread_pool import HandlerPool

WAIT_S = 10
"""Longer than anything here takes: a wait that long has failed."""


Body = Callable[[HandlerPool], Coroutine[Any, Any, None]]
Running = Callable[[Body, int], None]


@pytest.fixture
def running() -> Running:
    """Run a body with threads of its own, and see that they end when they are closed."""

    def run(body: Body, limit: int) -> None:
        before = set(threading.enumerate())
        threads = HandlerPool(limit)
        asyncio.run(body(threads))
        own = set(threading.enumerate()) - before
        threads.close()
        for thread in own:
            thread.join(WAIT_S)
        assert not any(thread.is_alive() for thread in own)

    return run


@pytest.mark.parametrize("raised", [ValueError("no"), StopIteration(1), KeyboardInterrupt()])
def test_what_a_function_answers_or_raises_comes_back_as_a_value(
    running: Running, raised: BaseException
) -> None:
    def fail() -> None:
        raise raised

    async def body(threads: HandlerPool) -> None:
        assert await threads.call(divmod, (7, 2)) == ((3, 1), None)
        assert await threads.call(fail, ()) == (None, raised)

    running(body, 2)


def test_a_function_sees_its_callers_context_on_another_thread(running: Running) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")

    async def body(threads: HandlerPool) -> None:
        who.set("the caller")
        outcome = await threads.call(lambda: (who.get(), threading.get_ident()), ())
        seen, thread = outcome[0]
        assert seen == "the caller"
        assert thread != threading.get_ident()

    running(body, 1)


def test_as_many_calls_go_on_at_a_time_as_the_limit_says(running: Running) -> None:
    lock, going_on, most = threading.Lock(), 0, 0
    three_at_once = threading.Barrier(3, timeout=WAIT_S)

    def work() -> None:
        nonlocal going_on, most
        with lock:
            going_on += 1
            most = max(most, going_on)
        three_at_once.wait()
        with lock:
            going_on -= 1

    async def body(threads: HandlerPool) -> None:
        outcomes = await asyncio.gather(*(threads.call(work, ()) for _ in range(12)))
        assert outcomes == [(None, None)] * 12

    running(body, 3)
    assert most == 3


def test_one_call_after_the_other_takes_one_thread(running: Running) -> None:
    async def body(threads: HandlerPool) -> None:
        used = {(await threads.call(threading.get_ident, ()))[0] for _ in range(50)}
        assert len(used) == 1

    running(body, 40)


def test_a_call_that_has_not_begun_when_its_caller_goes_never_does(running: Running) -> None:
    begun, release = threading.Event(), threading.Event()
    called: list[int] = []

    def block() -> None:
        begun.set()
        assert release.wait(WAIT_S)

    async def body(threads: HandlerPool) -> None:
        # given: the only thread is busy
        first = asyncio.ensure_future(threads.call(block, ()))
        await asyncio.to_thread(begun.wait, WAIT_S)
        second = asyncio.ensure_future(threads.call(called.append, (1,)))
        await asyncio.sleep(0)
        # when
        second.cancel()
        await asyncio.wait([second])
        release.set()
        # then
        assert second.cancelled()
        assert await first == (None, None)
        assert await threads.call(len, (called,)) == (0, None)

    running(body, 1)


def test_the_thread_of_a_call_whose_caller_has_gone_is_replaced_and_ends(running: Running) -> None:
    stuck: list[threading.Thread] = []
    begun, release = threading.Event(), threading.Event()

    def block() -> None:
        stuck.append(threading.current_thread())
        begun.set()
        assert release.wait(WAIT_S)

    async def body(threads: HandlerPool) -> None:
        # given
        caller = asyncio.ensure_future(threads.call(block, ()))
        await asyncio.to_thread(begun.wait, WAIT_S)
        # when
        caller.cancel()
        await asyncio.wait([caller])
        # then: others are called meanwhile, on one other thread
        used = {(await threads.call(threading.current_thread, ()))[0] for _ in range(3)}
        assert len(used) == 1
        assert used.isdisjoint(stuck)
        # and: the stuck one takes no more calls when it comes back
        release.set()
        await asyncio.to_thread(stuck[0].join, WAIT_S)
        assert not stuck[0].is_alive()
        assert {(await threads.call(threading.current_thread, ()))[0]} == used

    running(body, 1)


# -- threads that cannot be started, and that do not end


async def until(is_so: Callable[[], bool]) -> None:
    """Let the event loop turn until it is so."""
    async with asyncio.timeout(WAIT_S):
        while True:
            if is_so():
                return
            await asyncio.sleep(0)


def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread can be started until this is undone."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_calls_are_made_one_by_one_while_no_more_threads_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = HandlerPool(3)
    refuse_threads(monkeypatch)

    async def body() -> None:
        outcomes = await asyncio.gather(*(threads.call(threading.get_ident, ()) for _ in range(9)))
        assert len({result for result, _ in outcomes}) == 1

    asyncio.run(body())
    threads.close()


def test_calls_wait_for_the_first_thread_that_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body() -> None:
        with monkeypatch.context() as refused:
            refuse_threads(refused)
            threads = HandlerPool(3)
            calls = [asyncio.ensure_future(threads.call(len, ("abc",))) for _ in range(9)]
            await asyncio.sleep(0)
            assert not any(call.done() for call in calls)
        assert await asyncio.wait_for(asyncio.gather(*calls), WAIT_S) == [(3, None)] * 9
        threads.close()

    asyncio.run(body())


def test_a_call_that_waits_is_refused_when_the_last_thread_is_found_stuck(running: Running) -> None:
    release = threading.Event()
    begun = [threading.Event() for _ in range(4)]

    def block(number: int) -> None:
        begun[number].set()
        assert release.wait(WAIT_S)

    async def body(threads: HandlerPool) -> None:
        # given both threads of the pool, and one in the place of each, are in a call
        for pair in ((0, 1), (2, 3)):
            callers = [asyncio.ensure_future(threads.call(block, (number,))) for number in pair]
            for number in pair:
                await asyncio.to_thread(begun[number].wait, WAIT_S)
            waiting = asyncio.ensure_future(threads.call(len, ("abc",)))
            await asyncio.sleep(0)
            # when their callers go
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)
            if pair == (0, 1):
                assert await waiting == (3, None)
        # then what waits is refused, and so is what comes
        with pytest.raises(ThreadsExhaustedError, match="all 4 are stuck"):
            await waiting
        assert threads.is_exhausted
        with pytest.raises(ThreadsExhaustedError):
            await threads.call(len, ("abc",))
        # and calls are made again as soon as one has ended
        release.set()
        await until(lambda: not threads.is_exhausted)
        assert await threads.call(len, ("abc",)) == (3, None)

    running(body, 2)


def test_E3_closing_waits_for_the_threads_that_are_in_no_call() -> None:
    before = set(threading.enumerate())
    release, begun = threading.Event(), threading.Event()
    threads = HandlerPool(5)

    def block() -> None:
        begun.set()
        assert release.wait(WAIT_S)

    async def body() -> None:
        # given four threads without a call, and one in a call
        together = threading.Barrier(5, timeout=WAIT_S)
        await asyncio.gather(*(threads.call(together.wait, ()) for _ in range(5)))
        stuck = asyncio.ensure_future(threads.call(block, ()))
        await until(begun.is_set)
        # when
        threads.close()
        # then
        [left] = set(threading.enumerate()) - before
        assert not stuck.done()
        release.set()
        left.join(WAIT_S)
        assert not left.is_alive()

    asyncio.run(body())
