"""Closing, whatever fails: no thread and no connection is left, and no exception of the caller is
replaced (K2)."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.adapters.postgres.network_cuts import wired
from tests.support import WAIT_S, Ctx, task_of
from tests.support_postgres import bare_connection, with_options
from tests.support_stores import writes_blocked
from wakelog import Jobs, WorkerPool


class Users(Exception):
    """Raised in the body of a `with`."""


class Runs:
    """Jobs of which a run, and an event of a pool, have begun and do not end by themselves."""

    def __init__(self) -> None:
        self._begun = [threading.Event(), threading.Event()]
        self.on_stop: Callable[[], None] = lambda: None
        """Called when the run is stopped."""
        pool: WorkerPool[Any] = WorkerPool(event=Any, concurrency=1)

        @pool.execute
        async def work(ctx: Any, event: Any) -> None:
            self._begun[1].set()
            await asyncio.Event().wait()

        self.jobs = Jobs(job=task_of(execute=self._execute), pool=pool)

    async def _execute(self, ctx: Ctx) -> None:
        self._begun[0].set()
        try:
            await asyncio.Event().wait()
        finally:
            self.on_stop()

    def begin(self, app: Any) -> None:
        """Of a blocking app."""
        app.task("job").send("a", {"schedule": 0})
        app.worker_pool("pool").enqueue(1)
        assert all(begun.wait(WAIT_S) for begun in self._begun)

    async def begin_in(self, app: Any) -> None:
        """Of an async app."""
        await app.task("job").send("a", {"schedule": 0})
        await app.worker_pool("pool").enqueue(1)
        for begun in self._begun:
            assert await asyncio.to_thread(begun.wait, WAIT_S)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be recorded is given up soon."""
    monkeypatch.setattr("wakelog.closing.END_S", 0.3)


@pytest.fixture
def settled() -> Iterator[None]:
    """At the end there are the threads that there were."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("wakelog"):
            thread.join(WAIT_S)  # a call of the store that was abandoned ends by itself
            assert not thread.is_alive(), thread.name


pytestmark = pytest.mark.usefixtures("hurried", "settled")


@pytest.mark.parametrize("error", [None, Users("of the caller")])
def test_K2_a_store_that_takes_no_writes_hides_no_exception_of_the_caller(
    shared_url: str, error: Exception | None
) -> None:
    # given a worker that is at work, on a store that is then locked by another
    runs, url = Runs(), with_options(shared_url, timeout="0.3")
    expected = nullcontext() if error is None else pytest.raises(Users)
    with ExitStack() as locked, expected, runs.jobs.open(url, worker=True, grace=0) as app:
        runs.begin(app)
        locked.enter_context(writes_blocked(shared_url))
        # when the context is left, then what was raised there is raised, and nothing else
        if error is not None:
            raise error


@pytest.mark.parametrize("is_async", [False, True])
def test_K2_a_server_that_is_away_leaves_no_thread_and_no_session(
    postgres_url: str, is_async: bool
) -> None:
    # given
    runs, name = Runs(), "closing-while-away"
    with wired(with_options(postgres_url, timeout="1", application_name=name)) as (wire, url):
        # when the server is unreachable at the end
        if is_async:

            async def main() -> None:
                async with runs.jobs.open(url, worker=True, grace=0) as app:
                    await runs.begin_in(app)
                    wire.close()
                    raise Users

            with pytest.raises(Users):
                asyncio.run(main())
        else:

            def use() -> None:
                with runs.jobs.open(url, worker=True, grace=0) as app:
                    runs.begin(app)
                    wire.close()
                    raise Users

            with pytest.raises(Users):
                use()
    # then
    with bare_connection(postgres_url) as server:
        sessions = b"SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        assert server.execute(sessions, (name,)).fetchone() == (0,)


def test_K2_a_caller_that_stops_waiting_for_the_close_leaves_nothing(store_url: str) -> None:
    # given an app whose close waits for a run, and whose caller is cancelled
    runs = Runs()

    async def main() -> None:
        app = await runs.jobs.open(store_url, worker=True, grace=WAIT_S).__aenter__()
        await runs.begin_in(app)
        closing = asyncio.create_task(app.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing

    # when its event loop ends, then so does the app
    asyncio.run(main())


def test_K2_an_interrupt_while_it_closes_ends_it_at_once(store_url: str) -> None:
    # given a run that interrupts the main thread when it is stopped
    runs, main = Runs(), threading.main_thread().ident
    assert main is not None
    runs.on_stop = lambda: signal.pthread_kill(main, signal.SIGINT)

    def use() -> None:
        with runs.jobs.open(store_url, worker=True, grace=0) as app:
            runs.begin(app)
        threading.Event().wait(WAIT_S)  # the interrupt may come a moment later

    # when, then
    with pytest.raises(KeyboardInterrupt):
        use()


def test_K2_an_interrupt_while_it_waits_for_its_threads_leaves_no_connection(
    shared_url: str, interrupt: Callable[[], None]
) -> None:
    # given an async app that waits on the main thread for a call of its store
    url = shared_url
    if url.startswith("postgres"):
        url = with_options(url, application_name="interrupted")
    connected: list[Any] = []
    go_on = threading.Event()

    async def main() -> None:
        nonlocal connected
        async with Jobs(job=task_of()).open(url) as app:
            await app.task("job").send("a", {})
            call = asyncio.ensure_future(app.application.threads.write(go_on.wait, WAIT_S))
            await asyncio.sleep(0)
            connected = connections_of(shared_url)
            interrupt()
        await call

    # when it is interrupted there
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    # then the store is closed nonetheless
    go_on.set()
    assert connected
    assert not connections_of(shared_url)


def connections_of(url: str) -> list[Any]:
    """What of this process is open at the store."""
    if url.startswith("sqlite:"):
        path = url.removeprefix("sqlite:///")
        return [each.path for each in psutil.Process().open_files() if each.path == path]
    with bare_connection(url) as server:
        sessions = b"SELECT pid FROM pg_stat_activity WHERE application_name = 'interrupted'"
        return server.execute(sessions).fetchall()


def test_an_opening_that_fails_late_closes_what_it_has_opened(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a worker that cannot start its last thread
    def refuse(worker: object, *_: object) -> None:
        raise OSError("out of descriptors")

    monkeypatch.setattr("wakelog_adapters.alarm_scheduler.SchedulerClock.start", refuse)
    # when
    with pytest.raises(OSError, match="out of descriptors"):
        Runs().jobs.open(shared_url, worker=True).__enter__()
    # then it has left no row either
    with Runs().jobs.open(shared_url) as app:
        assert app.workers() == []


LEFT_OPEN = """
from wakelog import Jobs, Task
job = Task(state=int, event=int)
job.on_event(lambda ctx, event: ctx.set_state(event))
app = Jobs(job=job).open({url!r}, worker={worker}).__enter__()
app.task(job).send("a", 7)
print(app.task(job).get_state("a"))
"""


@pytest.mark.parametrize("worker", [False, True])
def test_K2_a_process_that_closes_nothing_ends_at_once(shared_url: str, worker: bool) -> None:
    source = LEFT_OPEN.format(url=shared_url, worker=worker)
    left = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=WAIT_S / 2
    )
    assert (left.returncode, left.stdout, left.stderr) == (0, "7\n", "")


def test_what_closing_raises_is_added_to_the_exception_of_the_caller(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    # given an app that is left on another event loop than its own
    opening = Runs().jobs.open(sqlite_url)
    loop = asyncio.new_event_loop()
    app = loop.run_until_complete(opening.__aenter__())
    error = Users("of the caller")
    caplog.set_level(logging.ERROR, "wakelog")
    # when
    asyncio.run(opening.__aexit__(Users, error, None))
    # then
    assert "belongs to the event loop that opened it" in error.__notes__[0]
    assert "could not be closed" in caplog.text
    loop.run_until_complete(app.close())
    loop.close()
