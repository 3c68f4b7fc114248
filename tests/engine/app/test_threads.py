"""A process that can start no thread for a moment, and threads that last as long as an app."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import WAIT_S, Ctx, task_of
from tests.support_threads import refusing_threads
from wakelog import Jobs, ThreadsExhaustedError
from wakelog.threads import LastingThread

MANY = 50
"""More threads than an app has."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops that have failed go on at once."""
    monkeypatch.setattr("wakelog.threads.PAUSE_S", 0.001)


def until(is_so: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s


def test_an_app_that_is_open_goes_on_without_new_threads(store_url: str) -> None:
    # given an open app whose handlers are `def`, and which has called none of them yet
    ran = threading.Event()
    jobs = Jobs(job=task_of(execute=lambda ctx: ran.set()))
    with jobs.open(store_url, worker=True, threads=3) as app:
        client = app.task("job")
        # when no thread can be started
        with refusing_threads(0):
            # then what is recorded is answered, alarms ring, and what is asked is answered
            sent = client.send("a", {"set_state": 1, "schedule": 0})
            assert sent.created
            assert ran.wait(WAIT_S)
            assert app.count() == 1
            assert client.get_state("a") == 1
        # and so it is afterwards
        assert client.send("b", {"set_state": 2}).created
        with refusing_threads(0):
            app.close()


def test_an_app_that_cannot_start_its_threads_is_not_opened_and_leaves_none(store_url: str) -> None:
    before = set(threading.enumerate())
    refusals: list[str] = []
    while len(refusals) < MANY:
        # given a process in which so many threads can be started still
        with refusing_threads(len(refusals)):
            # when an app is opened
            try:
                with Jobs(job=task_of()).open(store_url, worker=True) as app:
                    # then it works, if they are enough
                    assert app.task("job").send("a", {"set_state": 1}).version
                    break
            except ThreadsExhaustedError as error:
                refusals.append(str(error))
        # else it says what it lacks, and leaves none
        left = set(threading.enumerate()) - before
        assert not [thread.name for thread in left if thread.name.startswith("wakelog")]
    assert 2 < len(refusals) < MANY
    assert all("can't start new thread" in refusal for refusal in refusals)


def test_U10_handlers_that_are_stuck_are_replaced_up_to_a_bound_and_then_refused() -> None:
    # given one thread for handlers, which never end
    release, calls = threading.Event(), itertools.count()

    def block(ctx: Ctx, event: Any) -> None:
        next(calls)
        assert release.wait(WAIT_S)

    async def note(ctx: Ctx, event: Any) -> None:
        ctx.set_state("noted")

    stuck = task_of(block, timeout="50ms")
    before = set(threading.enumerate())
    with Jobs(stuck=stuck, other=task_of(note)).open("memory://", threads=1) as app:
        refused = 0
        for number in range(6):
            with pytest.raises(Exception, match=r"took longer|no thread for a def") as raised:
                app.task("stuck").send(f"s-{number}", {})
            refused += isinstance(raised.value, ThreadsExhaustedError)
        # then there is one more thread in its place, and the other sends were not accepted
        assert (next(calls), refused) == (2, 4)
        own = [each for each in set(threading.enumerate()) - before if "handler" in each.name]
        assert len(own) == 2
        assert app.task("stuck").status("s-5").status == "not_found"
        # and what needs no thread goes on
        assert app.task("other").send("o", {}).created
        # when they end, handlers are called again
        release.set()
        for thread in own:
            thread.join(WAIT_S)
        assert app.task("stuck").send("s-9", {}).created


def test_U10_a_worker_whose_threads_are_all_stuck_leaves_to_others_what_needs_one() -> None:
    # given a worker whose one thread, and the one in its place, are stuck
    release, ran = threading.Event(), threading.Event()

    def block(ctx: Ctx) -> None:
        assert release.wait(WAIT_S)

    async def run(ctx: Ctx) -> None:
        ran.set()

    async def plan(ctx: Ctx, event: Any) -> None:
        ctx.schedule(0)

    jobs = Jobs(
        stuck=task_of(plan, execute=block, timeout="50ms"), other=task_of(plan, execute=run)
    )
    with jobs.open("memory://", worker=True, concurrency=1, threads=1) as app:
        client = app.task("stuck")
        client.send("a", {})
        until(lambda: client.status("a").status == "failed")
        client.send("b", {})
        until(lambda: client.status("b").status == "failed")
        # when more is due
        client.send("c", {})
        app.task("other").send("o", {})
        # then it does what needs no thread, and the other waits and has not failed
        assert ran.wait(WAIT_S)
        assert client.status("c").execute_count == 0
        assert client.status("c").status == "active"
        # and is run when there is a thread again
        release.set()
        until(lambda: client.status("c").status == "idle")


# -- threads that last


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("raised", [OSError("out of descriptors"), MemoryError(), SystemExit()])
def test_a_loop_goes_on_whatever_is_raised_in_it(
    raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    done, errors = threading.Event(), [raised]

    def step() -> None:
        if errors:
            raise errors.pop()
        done.set()
        thread.stopped.wait()

    thread = LastingThread("looping", step)
    thread.start()
    assert done.wait(WAIT_S)
    thread.stop(WAIT_S)
    assert not thread.is_alive
    assert "looping failed" in caplog.text


@pytest.mark.usefixtures("quick")
def test_a_loop_goes_on_if_not_even_logging_is_possible() -> None:
    done, errors = threading.Event(), [OSError("no")]

    def step() -> None:
        if errors:
            raise errors.pop()
        done.set()
        thread.stopped.wait()

    def fail(record: logging.LogRecord) -> bool:
        raise RuntimeError("a filter of the user's")

    logger = logging.getLogger("wakelog.threads")
    logger.addFilter(fail)
    try:
        thread = LastingThread("looping", step)
        thread.start()
        assert done.wait(WAIT_S)
        thread.stop(WAIT_S)
    finally:
        logger.removeFilter(fail)


def test_a_loop_is_started_again_only_while_it_is_wanted() -> None:
    thread = LastingThread("looping", lambda: thread.stopped.wait())
    thread.keep_running()
    assert not thread.is_alive  # it has not been started
    with refusing_threads(0), pytest.raises(ThreadsExhaustedError, match="looping"):
        thread.start()
    thread.start()
    assert thread.is_alive
    thread.stop(WAIT_S)
    thread.keep_running()
    assert not thread.is_alive
