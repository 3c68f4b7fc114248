"""Apps on PostgreSQL whose loops end while an append is under way, and apps on several loops."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from tests.adapters.postgres.interrupted_process import jobs, task
from tests.adapters.postgres.test_trouble import ORDERING, bare, waiting_for_locks
from tests.auditing import audit_all
from tests.support import WAIT_S
from tests.support_postgres import with_options
from wakelog import App, Jobs, SendResult
from wakelog.blocking import BlockingApp
from wakelog_adapters.postgres import open_store

__all__ = ["bare"]


@contextmanager
def held(bare: psycopg.Connection) -> Iterator[None]:
    """Until the end of the block no append ends."""
    with bare.transaction():
        bare.execute(ORDERING.encode())
        yield


def recorded(url: str) -> int:
    """How many sends to `a` are in the log; all of it is consistent, and another app can go on."""
    with jobs.open(url) as app:
        before = app.task(task).get_state("a") or 0
        assert app.task(task).send("a", 1).event_count == before + 1
        audit_all(app.app.application.store)
        names = [entry.event for entry in app.history("task:job:a")]
        assert names.count("EventReceived") == before + 1
        return before


async def sending(app: App, bare: psycopg.Connection) -> asyncio.Task[SendResult]:
    """A send whose append is under way."""
    send = asyncio.ensure_future(app.task(task).send("a", 1))
    await asyncio.to_thread(waiting_for_locks, bare, 1)
    return send


# -- loops that end


def test_a_loop_that_ends_without_a_close_leaves_nothing_incomplete(
    postgres_url: str, bare: psycopg.Connection
) -> None:
    async def main() -> App:
        app = await jobs.open(postgres_url).__aenter__()
        await sending(app, bare)
        return app  # asyncio.run cancels the send, and closes the loop

    with held(bare):
        app = asyncio.run(main())
    app.application.close()  # as the process would by ending
    assert recorded(postgres_url) in (0, 1)


@pytest.mark.anyio
async def test_a_close_waits_for_what_is_under_way(
    postgres_url: str, bare: psycopg.Connection
) -> None:
    async def main() -> None:
        async with jobs.open(postgres_url) as app:
            await (await sending(app, bare))

    with held(bare):
        running = asyncio.ensure_future(main())
        await asyncio.to_thread(waiting_for_locks, bare, 1)
        running.cancel()
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not running.done()
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(asyncio.CancelledError):
            await running
    assert await asyncio.to_thread(recorded, postgres_url) == 1


@pytest.mark.anyio
async def test_what_was_acknowledged_before_a_close_is_recorded(postgres_url: str) -> None:
    async with jobs.open(postgres_url) as app:
        sends = [asyncio.ensure_future(app.task(task).send("a", 1)) for _ in range(300)]
        await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED)
        async with asyncio.timeout(WAIT_S):
            await app.close()
        answers = await asyncio.gather(*sends, return_exceptions=True)
    acknowledged = sum(isinstance(answer, SendResult) for answer in answers)
    assert 0 < acknowledged <= await asyncio.to_thread(recorded, postgres_url)


def test_an_interrupted_process_ends_when_its_append_has(
    postgres_url: str, bare: psycopg.Connection
) -> None:
    url = with_options(postgres_url, timeout=WAIT_S)
    with interrupted(url, bare) as process:
        assert process.poll() is None
    assert recorded(postgres_url) == 1


def test_an_interrupted_process_waits_no_longer_than_its_append(
    postgres_url: str, bare: psycopg.Connection
) -> None:
    url = with_options(postgres_url, timeout=0.5)
    with interrupted(url, bare) as process:
        process.wait(WAIT_S)
    assert recorded(postgres_url) == 0


@contextmanager
def interrupted(url: str, bare: psycopg.Connection) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is interrupted while its append waits, which goes on when the block ends."""
    words = [sys.executable, "-m", "tests.adapters.postgres.interrupted_process", url]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            with held(bare):
                waiting_for_locks(bare, 1)
                process.send_signal(signal.SIGINT)
                assert process.stdout is not None
                assert process.stdout.readline() == b"cancelled\n"
                yield process
            _, errors = process.communicate(timeout=WAIT_S)
            assert (process.returncode, b"KeyboardInterrupt" in errors) == (-signal.SIGINT, True)
        finally:
            process.kill()


# -- several loops


def test_blocking_apps_on_loops_of_their_own_share_a_store(postgres_url: str) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(12) as threads:
        apps = [stack.enter_context(jobs.open(postgres_url)) for _ in range(3)]
        sends = [
            threads.submit(lambda app, id: app.task(task).send(id, 1), app, id)
            for _ in range(20)
            for id in ("a", "b")
            for app in apps
        ]
        versions = [send.result(WAIT_S).version for send in sends]
        assert len(versions) == 120
        for app in apps:
            assert [accepted(app, id) for id in ("a", "b")] == [60, 60]
        audit_all(apps[0].app.application.store)


def accepted(app: BlockingApp, id: str) -> int:
    """How many events were handled or, after too many lost conflicts (U3), wait for a worker."""
    counters = app.task(task)
    return (counters.get_state(id) or 0) + counters.status(id).deferred_count


def test_apps_on_several_loops_at_once(postgres_url: str) -> None:
    def run(name: str) -> int:
        async def main() -> int:
            async with jobs.open(postgres_url) as app, asyncio.timeout(WAIT_S):
                ids = [name, "shared"] * 20
                await asyncio.gather(*(app.task(task).send(id, 1) for id in ids))
                return await app.task(task).get_state(name) or 0

        return asyncio.run(main())

    open_store(postgres_url).close()
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(run, "xyz")) == [20, 20, 20]
    with Jobs(job=task).open(postgres_url) as app:
        assert accepted(app, "shared") == 60
        audit_all(app.app.application.store)
