"""A server that goes away and comes back, and one whose disk is full: nothing is opened again (K3).

The apps of these tests stay open throughout; the server is a real one, stopped and started.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.adapters.postgres.network_cuts import wired
from tests.auditing import audit_all
from tests.support import WAIT_S
from tests.support_postgres import Server, Stop, bare_connection, running_server, with_options
from wakelog import BlockingApp, Jobs, StoreUnavailableError, Task, TaskContext
from wakelog_adapters.conformance.units import NOW, UnitBuilder, claim_request
from wakelog_adapters.postgres import PostgresStore, open_store

QUIET = 2
"""An event that asks for no run."""
PATIENCE = {"timeout": 0.2, "wait": WAIT_S}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


class Work:
    """A job whose runs wait until the test lets them go on."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.ended = threading.Semaphore(0)
        self.task: Task[int, int] = Task(state=int, event=int)
        self.task.on_event(self.received)
        self.task.execute(self.do)
        self.jobs = Jobs(job=self.task)

    def received(self, ctx: TaskContext[int], event: int) -> None:
        ctx.set_state((ctx.state or 0) + event)
        if event != QUIET:
            ctx.schedule(0)

    async def do(self, ctx: TaskContext[int]) -> None:
        self.begun.release()
        await asyncio.to_thread(self.go_on.wait, WAIT_S)
        ctx.update_state(lambda count: count + 100)

    def is_done(self, app: BlockingApp, id: str, state: int) -> None:
        """Wait until the run is recorded, with the state that it makes of `state`."""
        deadline_s = time.monotonic() + WAIT_S
        while app.task(self.task).get_state(id) != state + 100:
            assert time.monotonic() < deadline_s, app.task(self.task).status(id)


class LogWatcher(logging.Handler):
    """Counts the messages that begin with some words."""

    def __init__(self, words: str = "") -> None:
        super().__init__()
        self.seen = threading.Semaphore(0)
        self._words = words

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(self._words):
            self.seen.release()

    @contextmanager
    def on(self, logger: str) -> Iterator[None]:
        log = logging.getLogger(logger)
        log.addHandler(self)
        try:
            yield
        finally:
            log.removeHandler(self)


def check(app: BlockingApp) -> None:
    """All that is recorded is consistent."""
    audit_all(app.app.application.store)


# -- a server that is restarted --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
def test_K3_requests_fail_while_the_server_is_away_and_work_when_it_is_back(
    server: Server, how: Stop
) -> None:
    # given an app with a worker, in the middle of a run
    work = Work()
    url = with_options(server.url, schema=f"away_{how}", timeout=0.3)
    with work.jobs.open(url, worker=True, lease="1h") as app:
        task = app.task(work.task)
        task.send("a", 1)
        assert work.begun.acquire(timeout=WAIT_S)
        # when the server is away
        server.stop(how)
        # then a request says so, and the run's outcome waits
        for ask in (lambda: task.send("b", 1, event_id="e"), lambda: task.status("a")):
            with pytest.raises(StoreUnavailableError) as caught:
                ask()
            assert caught.value.reason == "unreachable"
        work.go_on.set()
        # when it is back, all goes on: the outcome is recorded, the refused request is accepted
        server.start()
        work.is_done(app, "a", 1)
        assert task.send("b", 1, event_id="e").duplicate is False
        assert task.send("b", 1, event_id="e").duplicate is True
        work.is_done(app, "b", 1)
        names = [entry.event for entry in app.history("task:job:a")]
        assert names.count("RunStarted") == names.count("Executed") == 1
        assert "ExecutionLost" not in names
        check(app)


def test_U2_K3_an_outage_longer_than_the_lease_ends_no_run_of_a_living_worker(
    server: Server,
) -> None:
    # given an open run, and a server that is away for longer than its lease
    work, missed = Work(), LogWatcher("a heartbeat was missed")
    url = with_options(server.url, schema="outlived", timeout=0.3)
    with work.jobs.open(url, worker=True, lease="1s") as app, missed.on("wakelog.worker"):
        task = app.task(work.task)
        task.send("a", 1)
        assert work.begun.acquire(timeout=WAIT_S)
        server.stop()
        for _ in range(6):
            assert missed.seen.acquire(timeout=WAIT_S)
        # when it is back, and the worker claims again
        server.start()
        task.send("b", 1)
        assert work.begun.acquire(timeout=WAIT_S)
        # then the run goes on, and its outcome is recorded
        work.go_on.set()
        work.is_done(app, "a", 1)
        work.is_done(app, "b", 1)
        names = [entry.event for entry in app.history("task:job:a")]
        assert names.count("RunStarted") == names.count("Executed") == 1
        check(app)


def test_K3_requests_wait_for_the_server_if_the_url_says_so(server: Server) -> None:
    # given an app that may wait, and a server that is away
    work = Work()
    url = with_options(server.url, schema="patient", **PATIENCE)
    with work.jobs.open(url) as app:
        task = app.task(work.task)
        task.send("a", 1)
        assert app.metrics()["store_waits"] == 0
        server.stop()
        # when requests of all kinds are made
        answers: list[object] = []
        asks = [
            threading.Thread(target=lambda: answers.append(task.send("a", 1).event_count)),
            threading.Thread(target=lambda: answers.append(task.status("a").status)),
            threading.Thread(target=lambda: answers.append(len(app.list()))),
        ]
        for ask in asks:
            ask.start()
        while app.metrics()["store_waits"] < 3:
            assert all(ask.is_alive() for ask in asks)
        # then they succeed when it is back
        server.start()
        for ask in asks:
            ask.join(WAIT_S)
        assert {2, 1} <= set(answers)
        assert len(answers) == 3
        assert app.metrics()["store_retries"] > 0
        check(app)


def test_K3_opening_waits_too(server: Server) -> None:
    server.stop()
    opened, watcher = threading.Event(), LogWatcher()

    def open_and_close() -> None:
        open_store(with_options(server.url, schema="early", **PATIENCE)).close()
        opened.set()

    opening = threading.Thread(target=open_and_close)
    with watcher.on("wakelog.postgres"):
        opening.start()
        assert watcher.seen.acquire(timeout=WAIT_S)  # it has tried once, and will try again
        assert not opened.is_set()
        server.start()
        opening.join(WAIT_S)
        assert opened.is_set()


@pytest.mark.parametrize("what", ["status", "append", "claim"])
def test_K3_requests_wait_too_if_a_pooler_answers_for_a_server_that_is_away(
    postgres_url: str, what: str
) -> None:
    options = {"pooler": "transaction", "pool": 3, **PATIENCE}
    with wired(with_options(postgres_url, **options)) as (wire, url):
        store = open_store(url).application_recorder()
        builder = UnitBuilder()
        store.append([builder.begin(NOW)])
        asks: dict[str, Callable[[], object]] = {
            "status": lambda: store.status([builder.stream]),
            "append": lambda: store.append([builder.receive()]).errors,
            "claim": lambda: store.claim(claim_request(now_us=NOW - 1)),
        }
        answers: list[object] = []
        asking = threading.Thread(target=lambda: answers.append(asks[what]()))
        # when it accepts connections, and then closes them
        wire.is_refusing = True
        asking.start()
        counted = "store_lost_answers" if what == "append" else "store_waits"
        while store.counters[counted] == 0:
            assert asking.is_alive()
        # then the call succeeds once the server is back
        wire.is_refusing = False
        asking.join(WAIT_S)
        assert len(answers) == 1
        store.close()


def test_K3_no_call_waits_longer_than_the_url_says(postgres_url: str) -> None:
    with wired(with_options(postgres_url, timeout=0.1, wait=0.5)) as (wire, url):
        store = open_store(url).application_recorder()
        wire.close()
        with pytest.raises(StoreUnavailableError) as caught:
            store.status(["task:job:a"])
        assert caught.value.reason == "unreachable"
        assert store.counters["store_waits"] > 0
        store.close()


@pytest.mark.parametrize("end", [PostgresStore.close, PostgresStore.hurry])
def test_K3_a_waiting_call_ends_when_the_store_is_closed_or_soon_to_be(
    postgres_url: str, end: Callable[[PostgresStore], None]
) -> None:
    with wired(with_options(postgres_url, timeout=0.1, wait=3600)) as (wire, url):
        store = open_store(url).application_recorder()
        wire.close()
        errors: list[StoreUnavailableError] = []

        def ask() -> None:
            with pytest.raises(StoreUnavailableError) as caught:
                store.status(["task:job:a"])
            errors.append(caught.value)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        while store.counters["store_waits"] == 0:
            assert asking.is_alive()
        end(store)
        asking.join(WAIT_S)
        assert [error.reason for error in errors] == ["unreachable"]
        store.close()


# -- a server whose disk is full -------------------------------------------------------------------

PROVOKED = """
CREATE OR REPLACE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER no_room BEFORE INSERT ON stored_events EXECUTE FUNCTION no_room();
"""


class Room:
    """The disk under the log: a small one of its own, or the error of a server without space."""

    def __init__(self, connection: psycopg.Connection, disk: Path | None) -> None:
        self._connection = connection
        self._disk = disk

    def fill(self) -> None:
        if self._disk is None:
            self._connection.execute(PROVOKED)
            return
        with (self._disk / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                return

    def free(self) -> None:
        if self._disk is None:
            self._connection.execute("DROP TRIGGER no_room ON stored_events")
        else:
            (self._disk / "filler").unlink()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of 4 MiB, if one may be mounted."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    words = ["-t", "tmpfs", "-o", "size=4096k", "tmpfs", str(folder)]
    if not mount or not umount or subprocess.run([mount, *words], capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run([umount, "-l", str(folder)], check=True)


@contextmanager
def rooms(server: Server, schema: str, folder: Path, *, mounted: bool) -> Iterator[Room]:
    """The disk of a store's log; its tables exist already."""
    with bare_connection(server.url) as connection:
        connection.execute(f"SET search_path = {schema}".encode())
        if not mounted:
            yield Room(connection, None)
            return
        with small_disk(folder) as disk:
            if disk is not None:
                space = disk / "space"
                space.mkdir()
                owner = server.data_folder.stat()
                shutil.chown(space, owner.st_uid, owner.st_gid)
                connection.execute(f"CREATE TABLESPACE small LOCATION '{space}'".encode())
                connection.execute("ALTER TABLE stored_events SET TABLESPACE small")
            yield Room(connection, disk)
            if disk is not None:
                connection.execute("DROP TABLE stored_events CASCADE")
                connection.execute("DROP TABLESPACE small")


@pytest.mark.parametrize("mounted", [False, True])
def test_K3_a_full_disk_refuses_what_is_new_and_keeps_what_was(
    server: Server, tmp_path: Path, mounted: bool
) -> None:
    work = Work()
    schema = f"full_{mounted}".lower()
    url = with_options(server.url, schema=schema)
    with work.jobs.open(url, worker=True, lease="1h") as app:
        task = app.task(work.task)
        folder = Path(server.data_folder.parent / schema)
        folder.mkdir()
        with rooms(server, schema, folder, mounted=mounted) as room:
            # given an open run, and a disk that fills up
            task.send("a", 1)
            assert work.begun.acquire(timeout=WAIT_S)
            room.fill()
            # when more is sent than there is room for
            before = until_refused(app, work)
            # then what was acknowledged is recorded, and nothing of what was refused
            assert task.status("b").event_count == before
            work.go_on.set()
            # when there is room again
            room.free()
            # then the same request is accepted, and the outcome of the open run recorded
            assert task.send("b", QUIET, event_id=f"e-{before}").duplicate is False
            assert task.status("b").event_count == before + 1
            work.is_done(app, "a", 1)
            names = [entry.event for entry in app.history("task:job:a")]
            assert names.count("RunStarted") == names.count("Executed") == 1
            check(app)


def until_refused(app: BlockingApp, work: Work) -> int:
    """Send to `b` until there is no room; return how many were acknowledged."""
    for acknowledged in range(100_000):
        try:
            app.task(work.task).send("b", QUIET, event_id=f"e-{acknowledged}")
        except StoreUnavailableError as error:
            reason = error.reason
            break
    else:
        raise AssertionError("there was room for everything")
    assert reason == "full"
    return acknowledged
