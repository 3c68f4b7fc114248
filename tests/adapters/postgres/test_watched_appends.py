"""Appends to PostgreSQL that an event loop watches: failing ones, and on loops of several kinds."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn, ParamSpec, TypeVar

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from tests.adapters.postgres.network_cuts import wired
from tests.adapters.postgres.started_appends import (
    StartingStore,
    all_are_back,
    backend,
    large,
    opened,
    stopped,
)
from tests.adapters.postgres.test_trouble import ORDERING, bare, signed
from tests.support import WAIT_S, task_of
from tests.support_postgres import running_server, with_options
from wakelog import Jobs
from wakelog.errors import InvalidStateError
from wakelog.ports.units import Appended, Unit, VersionConflict
from wakelog.runtime.append_driver import AppendDriver
from wakelog.runtime.group_commit import GroupCommit
from wakelog.runtime.store_threads import StoreExecutor, ThreadExecutor
from wakelog.worker.claims import claim_due, give_up
from wakelog_adapters.conformance.units import NOW, UnitBuilder, kinds
from wakelog_adapters.postgres import append_call, append_run
from wakelog_adapters.postgres import append_started as started_module
from wakelog_adapters.postgres.append_started import SentAppend

__all__ = ["bare"]

P = ParamSpec("P")
R = TypeVar("R")
MANY_TURNS = 2_000


@pytest.fixture
def store(postgres_url: str) -> Iterator[StartingStore]:
    store = opened(postgres_url, pool=1)
    yield store
    all_are_back(store)
    store.close()


class NoLane:
    """For what needs no thread."""

    def run(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        raise AssertionError("a thread was used")

    def close(self, timeout_s: float = 0) -> None: ...

    def join(self, timeout_s: float) -> bool:
        return True


@asynccontextmanager
async def appends_to(
    store: StartingStore, lane: StoreExecutor | None = None
) -> AsyncIterator[AppendDriver]:
    lane = lane or ThreadExecutor("test")
    async with asyncio.timeout(WAIT_S):
        yield AppendDriver(store, lane)
    lane.close()


async def turns(count: int = MANY_TURNS) -> None:
    """Let the loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


# -- the plain case


@pytest.mark.anyio
async def test_no_thread_waits_for_an_append(store: StartingStore) -> None:
    builder = UnitBuilder()
    async with appends_to(store, NoLane()) as appends:
        assert await appends.append([builder.begin(NOW)]) == Appended([None], NOW)
        for _ in range(50):
            assert await appends.append([builder.receive()]) == Appended([None], NOW)
    assert len(store.events(builder.stream)) == 53


@pytest.mark.anyio
async def test_a_refused_append_is_settled_on_the_lane(store: StartingStore) -> None:
    builder, good = UnitBuilder(), UnitBuilder("o-2")
    late = builder.fork()
    async with appends_to(store) as appends:
        await appends.append([builder.begin()])
        appended = await appends.append([late.begin(), good.begin(NOW)])
    assert (kinds(appended), appended.next_due_us) == ([VersionConflict, None], NOW)


@pytest.mark.anyio
async def test_while_all_connections_are_lent_an_append_waits_on_the_lane(
    store: StartingStore,
) -> None:
    async with appends_to(store) as appends:
        with store.datastore.lend():
            appending = appends.append([UnitBuilder().begin()])
            await turns()
            assert not appending.done()
        assert await appending == Appended([None], None)


@pytest.mark.anyio
async def test_an_append_that_has_ended_is_not_kept(
    store: StartingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[weakref.ref[object]] = []
    start = store.start_append

    def remembered(units: Sequence[Unit]) -> SentAppend | None:
        sent = start(units)
        assert sent is not None
        begun.append(weakref.ref(sent))
        return sent

    monkeypatch.setattr(store, "start_append", remembered)
    builder = UnitBuilder()
    late = builder.fork()
    gc.disable()  # it would collect reference cycles
    try:
        async with appends_to(store) as appends:
            for unit in (builder.begin(), builder.receive(), late.begin()):
                await appends.append([unit])
            await turns(10)
        assert [ref() for ref in begun] == [None, None, None]
    finally:
        gc.enable()


# -- more than a socket holds


@pytest.mark.anyio
async def test_the_loop_goes_on_while_a_large_append_cannot_be_sent(store: StartingStore) -> None:
    builder = UnitBuilder()
    unit = large(builder)
    async with appends_to(store, NoLane()) as appends:
        with stopped(backend(store)) as go_on:
            appending = appends.append([unit])
            await turns()
            assert not appending.done()
            go_on()
            assert await appending == Appended([None], NOW)
    assert store.events(builder.stream) == unit.events


@pytest.mark.anyio
async def test_the_loop_goes_on_while_an_append_waits_for_a_lock(
    store: StartingStore, bare: psycopg.Connection
) -> None:
    async with appends_to(store, NoLane()) as appends:
        with bare.transaction():
            bare.execute(ORDERING.encode())
            appending = appends.append([UnitBuilder().begin()])
            await turns()
            assert not appending.done()
        assert await appending == Appended([None], None)


@pytest.mark.anyio
async def test_a_connection_that_breaks_while_it_is_sent_on(
    store: StartingStore, bare: psycopg.Connection
) -> None:
    async with appends_to(store) as appends:
        for n in range(5):
            builder = UnitBuilder(f"o-{n}")
            pid = backend(store)
            with stopped(pid) as go_on:
                appending = appends.append([large(builder)])
                await turns(10)
                bare.execute("SELECT pg_terminate_backend(%s)", (pid,))
                go_on()
                assert await appending == Appended([None], NOW)
            assert len(store.events(builder.stream)) == 3
            all_are_back(store)
    assert store.counters["store_lost_answers"] == 5


# -- connections that break


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["before", "after"])
async def test_an_append_whose_answer_was_lost_is_recorded_once(
    postgres_url: str, where: Any
) -> None:
    with wired(postgres_url) as (wire, url):
        store = opened(url, pool=1)
        async with appends_to(store) as appends:
            for n in range(1, 6):
                builder = UnitBuilder(f"o-{n}")
                wire.cut_at("commit-1", where)
                unit = signed(builder.begin(NOW), "commit-1")
                assert await appends.append([unit]) == Appended([None], NOW)
                assert wire.cut.is_set()
                assert store.max_notification_id() == 3 * n
                assert store.counters["store_lost_answers"] == n
                all_are_back(store)
        store.close()


@pytest.mark.anyio
async def test_a_connection_that_was_ended_without_notice() -> None:
    """The first byte that is sent reaches no process."""
    with running_server() as server:
        store = opened(server.url, pool=1)
        builder = UnitBuilder()
        async with appends_to(store) as appends:
            await appends.append([builder.begin()])
            for n in range(1, 3):
                process = psutil.Process(backend(store))
                process.kill()
                psutil.wait_procs([process], WAIT_S)
                assert await appends.append([builder.receive()]) == Appended([None], None)
                assert len(store.events(builder.stream)) == 2 + n
                all_are_back(store)
        store.close()


@pytest.mark.anyio
async def test_connections_that_are_ended_and_dropped_meanwhile(
    postgres_url: str, bare: psycopg.Connection
) -> None:
    store = opened(with_options(postgres_url, application_name="hunted"), pool=4)
    prey = threading.Semaphore(0)
    over = threading.Event()

    def hunt() -> None:
        """For each append end one of them, and let the pool check those that it has."""
        while prey.acquire() and not over.is_set():
            bare.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'hunted' ORDER BY random() LIMIT 1"
            )
            store.datastore.drop_idle()

    builder, alone = UnitBuilder(), UnitBuilder("o-2")
    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        async with appends_to(store) as appends:
            await appends.append([builder.begin()])
            for _ in range(40):
                appending = appends.append([signed(builder.receive(), "c")])
                prey.release()
                assert (await appending).errors == [None]
    finally:
        over.set()
        prey.release()
        hunter.join()
    async with appends_to(store) as appends:
        assert await appends.append([alone.begin()]) == Appended([None], None)
    assert [event.version for event in store.events(builder.stream)] == [*range(1, 43)]
    assert store.counters["store_lost_answers"] > 0
    assert store.datastore.lent == 0
    store.close()


# -- loops that cannot watch


def unwatching(error: Exception) -> Any:
    """A loop that watches no sockets but its own, and raises `error` for others."""

    def refuse(*_: object) -> NoReturn:
        raise error

    loop: Any = asyncio.SelectorEventLoop()
    loop.add_reader = loop.add_writer = refuse
    return loop


FULL = OSError(28, "No space left on device")
MISTAKEN = RuntimeError("File descriptor 9 is used by transport <one that was closed behind it>")
UNWATCHING = [NotImplementedError("as on Windows"), FULL, MISTAKEN]


@pytest.mark.parametrize("error", UNWATCHING)
def test_a_loop_that_watches_no_sockets_appends_on_the_lane(
    store: StartingStore, bare: psycopg.Connection, error: Exception
) -> None:
    async def main() -> None:
        async with appends_to(store) as appends:
            for n in range(3):
                builder = UnitBuilder(f"o-{n}")
                assert await appends.append([builder.begin(NOW)]) == Appended([None], NOW)
            builder = UnitBuilder("large")
            unit = large(builder)
            assert await appends.append([unit]) == Appended([None], NOW)
            assert store.events(builder.stream) == unit.events
            with bare.transaction():  # the loop goes on meanwhile
                bare.execute(ORDERING.encode())
                appending = appends.append([UnitBuilder("waits").begin()])
                await turns()
                assert not appending.done()
            assert await appending == Appended([None], None)

    with asyncio.Runner(loop_factory=lambda: unwatching(error)) as runner:
        runner.run(main())


@pytest.mark.parametrize("error", UNWATCHING)
def test_the_first_append_of_a_loop_that_watches_no_sockets_may_be_large_or_wait(
    store: StartingStore, bare: psycopg.Connection, error: Exception
) -> None:
    """It is sent before it is known that the loop watches none."""

    async def main() -> None:
        async with appends_to(store) as appends:
            with bare.transaction():
                bare.execute(ORDERING.encode())
                appending = appends.append([large(UnitBuilder())])
                await turns()
                assert not appending.done()
            assert await appending == Appended([None], NOW)

    with asyncio.Runner(loop_factory=lambda: unwatching(error)) as runner:
        runner.run(main())


@pytest.mark.parametrize("error", [FULL, MISTAKEN])
def test_an_append_that_the_loop_could_send_but_cannot_watch_is_settled_on_the_lane(
    store: StartingStore, error: Exception
) -> None:
    """While it was sent, other sockets took the last places that the loop could watch."""

    async def main() -> None:
        builder = UnitBuilder()
        unit = large(builder)
        async with appends_to(store) as appends:
            with stopped(backend(store)) as go_on:
                appending = appends.append([unit])
                await turns(10)
                go_on()
                assert await appending == Appended([None], NOW)
        assert store.events(builder.stream) == unit.events

    def deaf() -> Any:
        loop = unwatching(error)
        del loop.add_writer
        return loop

    with asyncio.Runner(loop_factory=deaf) as runner:
        runner.run(main())


# -- unexpected errors: the waiting callers get them, and the next append works


def committer_of(appends: AppendDriver, store: StartingStore, refused: list[Unit]) -> GroupCommit:
    return GroupCommit(
        store, appends, on_refused=refused.append, on_appended=lambda units, due_us: None
    )


@pytest.mark.anyio
async def test_a_call_that_cannot_be_made_fails_its_units_and_no_others(
    store: StartingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(units: Sequence[Unit]) -> Any:
        if any(unit.stream.endswith("bad") for unit in units):
            raise LookupError("no such thing")
        return append_call.AppendCall(units)

    for module in (started_module, append_run):
        monkeypatch.setattr(module, "AppendCall", broken)
    refused: list[Unit] = []
    async with appends_to(store) as appends:
        committer = committer_of(appends, store, refused)
        bad = [
            committer.submit(UnitBuilder("bad").begin()),
            committer.submit(UnitBuilder("o-1").begin()),
        ]
        await turns(1)
        good = committer.submit(UnitBuilder("o-2").begin())
        await committer.drained()
        assert [type(future.exception()) for future in bad] == [LookupError, LookupError]
        assert good.exception() is None
        assert len(refused) == 2


@pytest.mark.anyio
async def test_an_append_that_cannot_be_started_fails_its_units_and_no_others(
    store: StartingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with appends_to(store) as appends:
        committer = committer_of(appends, store, [])
        real = store.start_append

        def broken(units: Sequence[Unit]) -> Any:
            monkeypatch.setattr(store, "start_append", real)
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(store, "start_append", broken)
        first = committer.submit(UnitBuilder().begin())
        await turns(1)
        second = committer.submit(UnitBuilder("o-2").begin())
        await committer.drained()
        assert isinstance(first.exception(), RuntimeError)
        assert second.exception() is None


@pytest.mark.anyio
async def test_processes_that_cannot_be_notified_do_not_stop_the_next_append(
    store: StartingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notifier's thread cannot be started: the append is recorded all the same."""

    def broken(due_us: int) -> None:
        raise RuntimeError("can't start new thread")

    async with appends_to(store) as appends:
        committer = committer_of(appends, store, [])
        monkeypatch.setattr(store, "_notify_processes", broken)
        first = committer.submit(UnitBuilder().begin(NOW))
        second = committer.submit(UnitBuilder("o-2").begin())
        await turns(1)
        third = committer.submit(UnitBuilder("o-3").begin())
        await committer.drained()
        assert [type(future.exception()) for future in (first, second)] == [RuntimeError] * 2
        assert third.exception() is None


@pytest.mark.anyio
async def test_a_lane_that_was_closed_meanwhile_fails_the_append(
    store: StartingStore, bare: psycopg.Connection
) -> None:
    builder = UnitBuilder()
    late = builder.fork()
    store.append([builder.begin()])
    lane = ThreadExecutor("closed")
    async with appends_to(store, lane) as appends:
        appending = appends.append([late.begin()])
        lane.close()
        with pytest.raises(InvalidStateError, match="closed meanwhile"):
            await appending


@pytest.mark.anyio
async def test_closing_a_store_ends_appends_under_way_first(
    postgres_url: str, bare: psycopg.Connection
) -> None:
    store = opened(postgres_url, pool=1)
    async with appends_to(store, NoLane()) as appends:
        with bare.transaction():
            bare.execute(ORDERING.encode())
            appending = appends.append([UnitBuilder().begin()])
            await turns(10)
            store.close()
        assert await appending == Appended([None], None)
        [[count]] = bare.execute("SELECT count(*) FROM stored_events").fetchall()
        assert count == 2


# -- an app's


@pytest.mark.anyio
async def test_a_lease_is_dropped_once_the_work_under_it_is_appended(
    postgres_url: str, bare: psycopg.Connection
) -> None:
    """If it were dropped before, another worker would handle the same event again."""

    def leases() -> int:
        row = bare.execute("SELECT count(*) FROM leases").fetchone()
        assert row is not None
        return int(row[0])

    async with Jobs(job=task_of()).open(postgres_url) as app, asyncio.timeout(WAIT_S):
        job, application = app.task("job"), app.application
        await job.send("a", {}, delay="1us")
        now_us = application.clock.now_us()
        [claimed], _ = await asyncio.to_thread(
            claim_due, application, worker="w", jobs=["task:job"], limit=1, now_us=now_us
        )
        # given a unit on its way, and another transaction that has the ordering lock
        with bare.transaction():
            bare.execute(ORDERING.encode())
            sending = asyncio.ensure_future(job.send("a", {}))
            await turns()
            # when the lease is dropped
            giving = asyncio.ensure_future(give_up(application, claimed))
            await turns()
            assert (sending.done(), giving.done(), leases()) == (False, False, 1)
        await giving
        assert (sending.done(), leases()) == (True, 0)
