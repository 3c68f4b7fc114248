"""A server that takes what it is sent and never answers, and one that only takes its time.

TCP is no help: all is acknowledged. So each wait for an answer has an end.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from tests.adapters.postgres.interrupted_process import jobs, task
from tests.adapters.postgres.network_cuts import Silent, Wire, wired
from tests.adapters.postgres.test_notifications import listening, until
from tests.adapters.postgres.test_trouble import ORDERING, Running, bare, signed
from tests.auditing import audit_all
from tests.support import WAIT_S
from tests.support_postgres import with_options
from wakelog.errors import InvalidStateError, StoreUnavailableError
from wakelog.ports.pools import PoolSeen, PoolWrites
from wakelog.ports.rows import Listing
from wakelog.ports.units import Appended
from wakelog_adapters.conformance.pool.units import pool_look
from wakelog_adapters.conformance.units import NOW, UnitBuilder, claim_request
from wakelog_adapters.postgres import PostgresStore, notifications, open_store
from wakelog_adapters.postgres import connections as pool
from wakelog_adapters.postgres.connections import rows_of
from wakelog_adapters.postgres.session import connection as session

__all__ = ["bare"]

SOON_S = 4.0
"""More than a wait and what follows it last here; far less than all that might add up."""
BOTH: list[Silent] = ["requests", "answers"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MIN_WAIT_S", 0.3)
    monkeypatch.setattr(session, "MARGIN_S", 0.2)
    monkeypatch.setattr(session, "HURRY_S", 0.2)
    monkeypatch.setattr(pool, "AFTER_SILENCE_S", 0.3)


@pytest.fixture
def line(postgres_url: str) -> Iterator[tuple[Wire, PostgresStore]]:
    """A store with an idle connection for each of `CALLS`, and the proxy to its server."""
    with wired(with_options(postgres_url, timeout=0.3, pool=len(CALLS))) as (wire, url):
        store = open_store(url).application_recorder()
        with ExitStack() as stack:
            for _ in CALLS:
                stack.enter_context(store.datastore.lend())
        yield wire, store
        wire.silent = None
        store.close()


@contextmanager
def soon() -> Iterator[None]:
    began_s = time.monotonic()
    yield
    assert time.monotonic() - began_s < SOON_S


def refused(call: Callable[[], Any]) -> StoreUnavailableError:
    with soon(), pytest.raises(StoreUnavailableError) as caught:
        call()
    assert caught.value.reason == "unreachable"
    return caught.value


def accepting(_: PoolSeen) -> PoolWrites:
    raise AssertionError("nothing was seen")


CALLS: dict[str, Callable[[PostgresStore], object]] = {
    "load": lambda store: store.load("task:order:o-1"),
    "status": lambda store: store.status(["task:order:o-1"]),
    "list": lambda store: store.list(Listing()),
    "count": lambda store: store.count(Listing(), NOW),
    "stranded": lambda store: store.stranded(NOW, 9),
    "claim": lambda store: store.claim(claim_request()),
    "renew": lambda store: store.renew("w1", NOW, NOW),
    "release": lambda store: store.release("w1", [("task:order:o-1", -1)]),
    "purge": lambda store: store.purge_kept_replies(NOW, 9),
    "position": lambda store: store.max_notification_id(),
    "pool": lambda store: store.pool_call(pool_look(), accepting),
    "append": lambda store: store.append([UnitBuilder().begin()]),
}


# -- calls of a store


def test_K3_each_call_of_a_silent_server_ends(line: tuple[Wire, PostgresStore]) -> None:
    wire, store = line
    wire.silent = "answers"
    with soon():
        running = {name: Running(lambda call=call: call(store)) for name, call in CALLS.items()}
        errors = {name: each.joined() for name, each in running.items()}
    assert {type(error) for error in errors.values()} == {StoreUnavailableError}, errors
    details = {name: error.detail for name, error in errors.items()}
    assert all("the server has not answered for" in detail for detail in details.values()), details
    wire.silent = None  # and nothing is left of it
    assert store.append([UnitBuilder("o-2").begin()]).errors == [None]
    assert store.datastore.lent == 0


def test_K3_opening_ends_and_leaves_no_connection(postgres_url: str) -> None:
    gc.disable()  # it would close what was left
    try:
        with wired(with_options(postgres_url, timeout=0.3)) as (wire, url):
            wire.silent = "requests"
            assert "timeout" in refused(lambda: open_store(url)).detail
            assert not connections_to(wire.port)
    finally:
        gc.enable()


def connections_to(port: int) -> list[object]:
    """Those that this process has open."""
    found = psutil.Process().net_connections("tcp")
    return [each for each in found if each.raddr and each.raddr.port == port]


@pytest.mark.parametrize("silent", BOTH)
def test_K3_an_append_that_got_no_answer_is_looked_up_on_another_connection(
    line: tuple[Wire, PostgresStore], silent: Silent
) -> None:
    """Only that connection is lost: whether it was recorded is known for certain."""
    wire, store = line
    builder = UnitBuilder()
    wire.silence_at("commit-1", silent)
    unit = signed(builder.begin(), "commit-1")
    if silent == "answers":
        with soon():
            assert store.append([unit]) == Appended([None], None)
        assert len(store.events(builder.stream)) == 2
    else:
        assert "not known" not in refused(lambda: store.append([unit])).detail
        assert store.events(builder.stream) == []


@pytest.mark.parametrize("silent", BOTH)
def test_K3_an_append_to_a_silent_server_may_have_been_recorded(
    line: tuple[Wire, PostgresStore], bare: psycopg.Connection, silent: Silent
) -> None:
    wire, store = line
    wire.silent = silent
    unit = signed(UnitBuilder().begin(), "commit-1")
    assert (
        "it is not known whether 1 units were recorded"
        in refused(lambda: store.append([unit])).detail
    )


# -- statements that take long, and locks


def test_a_server_that_is_at_work_is_waited_for(line: tuple[Wire, PostgresStore]) -> None:
    _, store = line
    with store.datastore.lend() as connection, connection.taking_long():
        assert rows_of(connection, b"SELECT 1 FROM pg_sleep(0.9)") == [(1,)]


def test_a_statement_that_may_take_long_is_given_up_once_the_server_has_answered(
    line: tuple[Wire, PostgresStore],
) -> None:
    """Its answer was lost, so it will never come: the server says that it is idle."""
    wire, store = line
    wire.silence_at("not_a_name", "answers")
    with (
        store.datastore.lend() as connection,
        connection.taking_long(),
        soon(),
        pytest.raises(psycopg.OperationalError, match="has not answered"),
    ):
        connection.execute(b"SELECT 1 AS not_a_name")


def test_a_lock_that_another_session_keeps_is_told_as_that(
    line: tuple[Wire, PostgresStore], bare: psycopg.Connection
) -> None:
    _, store = line
    with bare.transaction():
        bare.execute(ORDERING.encode())
        with pytest.raises(StoreUnavailableError) as caught:
            store.append([UnitBuilder().begin()])
    assert caught.value.reason == "locked"


# -- notifications


def test_a_listener_notices_that_its_server_is_silent(
    line: tuple[Wire, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    wire, store = line
    monkeypatch.setattr(notifications, "LISTENS_FOR", 1)
    monkeypatch.setattr(notifications, "_LISTEN_S", 0.05)
    with listening(store) as alarms:
        listens_us = store.poll_us
        wire.silent = "answers"
        until(lambda: store.poll_us != listens_us)
        wire.silent = None
        until(lambda: store.poll_us == listens_us)
        assert alarms.get(timeout=WAIT_S) == 0  # look now


# -- apps


def test_K3_requests_of_an_app_end_and_work_when_the_server_answers(postgres_url: str) -> None:
    async def main(wire: Wire, url: str) -> None:
        async with jobs.open(url, worker=True) as app:
            await app.task(task).send("a", 1)
            wire.silent = "answers"
            calls = [app.task(task).send("a", 1), app.task(task).status("a"), app.count()]
            with soon():
                errors = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(error) for error in errors} == {StoreUnavailableError}
            wire.silent = None
            await app.task(task).send("b", 1)
        with closing(open_store(url)) as factory:
            audit_all(factory.application_recorder())

    with wired(with_options(postgres_url, timeout=0.3)) as (wire, url):
        asyncio.run(main(wire, url))


def test_U6_a_cancelled_caller_waits_no_longer(postgres_url: str) -> None:
    async def main(wire: Wire, url: str) -> None:
        async with jobs.open(url) as app:
            await app.task(task).send("a", 1)
            wire.silent = "answers"
            sending = asyncio.ensure_future(app.task(task).send("a", 1))
            await asyncio.to_thread(wire.was_silent.wait, WAIT_S)
            began_s = time.monotonic()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert time.monotonic() - began_s < 0.2
            wire.silent = None  # its connection is used by no one else meanwhile
            sent = await asyncio.gather(*(app.task(task).send("b", 1) for _ in range(20)))
            assert sorted(each.event_count for each in sent) == [*range(1, 21)]
            assert await app.task(task).get_state("a") in (1, 2)

    with wired(with_options(postgres_url, timeout=0.3)) as (wire, url):
        asyncio.run(main(wire, url))


@pytest.mark.parametrize("worker", [False, True], ids=["client", "worker"])
def test_K2_closing_ends_soon_after_its_grace(postgres_url: str, *, worker: bool) -> None:
    """Although each wait alone might last as long as `timeout`."""

    async def main(wire: Wire, url: str) -> None:
        async with jobs.open(url, worker=worker) as app:
            await app.task(task).send("a", 1)
            wire.silent = "answers"
            sending = asyncio.ensure_future(app.task(task).send("a", 1))
            await asyncio.to_thread(wire.was_silent.wait, WAIT_S)
            with soon():
                await app.close(grace="0.2s")
            with pytest.raises(StoreUnavailableError):
                await sending

    before = set(threading.enumerate())
    with wired(with_options(postgres_url, timeout=30)) as (wire, url):
        asyncio.run(main(wire, url))
    until(lambda: not [each for each in {*threading.enumerate()} - before if is_ours(each)])


def is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith("wakelog")


def test_K2_each_call_that_a_close_meets_ends_with_a_typed_error(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that waits for a thread until there is none. Others wait for a connection, which
    takes longer than the close."""
    monkeypatch.setattr("wakelog.closing.END_S", 0.1)

    async def main(wire: Wire, url: str) -> None:
        async with jobs.open(url) as app:
            client = app.task(task)
            await client.send("a", 1)
            wire.silent = "answers"
            asks: list[Callable[[], Awaitable[object]]] = [
                lambda: client.send("a", 1),
                lambda: client.send("b", 1, wait=False),
                lambda: client.status("a"),
                lambda: app.history("task:job:a"),
                lambda: client.pause("a"),
                app.count,
                app.list,
                app.workers,
                lambda: app.pause(task),
            ]
            calls = [asyncio.ensure_future(ask()) for ask in asks for _ in range(3)]
            await asyncio.to_thread(wire.was_silent.wait, WAIT_S)
            await app.close(grace=0)
            errors = await asyncio.gather(*calls, return_exceptions=True)
            expected = {StoreUnavailableError, InvalidStateError}
            assert {type(error) for error in errors} <= expected, errors

    with wired(with_options(postgres_url, timeout=30)) as (wire, url):
        asyncio.run(main(wire, url))
