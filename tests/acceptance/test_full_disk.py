"""The disk fills up and is freed again while the app is open: nothing is lost, nothing restarts."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from tests.auditing import audit_all
from wakelog import BlockingApp, Jobs, SendResult, StoreUnavailableError, Task, TaskContext
from wakelog.jobs import open_store
from wakelog_adapters.sqlite import SQLiteStore

WAIT_S = 30.0
DISK_KIB = 4096
LARGE, SMALL = 200_000, 10
MAX_SENDS = 5_000


class Disk(Protocol):
    """A place for a store, whose space can be taken away and given back."""

    url: str

    def fill(self, app: BlockingApp) -> None:
        """Leave no room for the file to grow."""
        ...

    def free(self, app: BlockingApp) -> None:
        """Give the room back."""
        ...


@dataclass
class SmallDisk:
    """A file system of its own, of a few MiB; another file takes what is left of it."""

    folder: Path
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"sqlite:///{self.folder}/jobs.db"

    def fill(self, app: BlockingApp) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                return

    def free(self, app: BlockingApp) -> None:
        (self.folder / "filler").unlink()


@dataclass
class SmallFile:
    """A file that SQLite itself is told not to let grow: the same error, without a file system."""

    folder: Path
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"sqlite:///{self.folder}/jobs.db"

    def fill(self, app: BlockingApp) -> None:
        self._limit(app, 1)  # SQLite takes the pages that there are as the least

    def free(self, app: BlockingApp) -> None:
        self._limit(app, 1_000_000)

    def _limit(self, app: BlockingApp, pages: int) -> None:
        with store_of(app).writing() as connection:
            connection.execute(f"PRAGMA max_page_count = {pages}")


def store_of(app: BlockingApp) -> SQLiteStore:
    """The store behind an app."""
    store = app.app.application.store
    assert isinstance(store, SQLiteStore)
    return store


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    mount, umount = shutil.which("mount"), shutil.which("umount")
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(folder)]
    if not mount or not umount or subprocess.run([mount, *words], capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root only")
    yield SmallDisk(folder)
    subprocess.run([umount, "-l", str(folder)], check=True)


@pytest.fixture(params=["small_disk", "small_file"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    if request.param == "small_file":
        return SmallFile(tmp_path)
    made: SmallDisk = request.getfixturevalue(request.param)
    return made


@dataclass
class Work:
    """Jobs whose runs wait until they are let go on, and that count how often they are called."""

    started: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    calls: int = 0

    def __post_init__(self) -> None:
        self.task: Task[str, str] = Task(state=str, event=str)

        @self.task.on_event
        def received(ctx: TaskContext[str], event: str) -> None:
            if event.startswith("in "):
                ctx.schedule(event.removeprefix("in "))
            else:
                ctx.set_state(event)

        @self.task.execute
        async def run(ctx: TaskContext[str]) -> None:
            self.calls += 1
            self.started.set()
            assert await asyncio.to_thread(self.go_on.wait, WAIT_S)
            ctx.set_state("r" * LARGE)

        self.jobs = Jobs(job=self.task)


def fill_to_the_brim(app: BlockingApp, disk: Disk, work: Work) -> list[SendResult]:
    """Take the space away and send, first much and then little, until nothing is accepted."""
    disk.fill(app)
    accepted: list[SendResult] = []
    for size in (LARGE, SMALL):
        for number in range(MAX_SENDS):
            try:
                accepted.append(app.task(work.task).send(f"fill-{number % 3}", "x" * size))
            except StoreUnavailableError as error:
                if error.reason != "full" or "free some space" not in str(error):
                    raise
                break
        else:
            raise AssertionError("the disk is never full")
    return accepted


def check_all(disk: Disk, accepted: list[SendResult]) -> None:
    """All that was accepted is recorded, once."""
    with closing(open_store(disk.url)) as factory:
        histories = audit_all(factory.application_recorder())
    for answer in accepted:
        recorded = histories[answer.instance_id][answer.version - 1]
        assert type(recorded.event).__name__ in ("StateSet", "EventReceived")
    filled = [stream for stream in histories if stream.startswith("task:job:fill-")]
    units = sum(len({r.commit for r in histories[stream]}) for stream in filled)
    assert units == len(accepted), "a send that was refused is recorded"


class Hearing(logging.Handler):
    """An event that is set when a logger says something."""

    def __init__(self, logger: str, text: str) -> None:
        super().__init__()
        self._logger = logging.getLogger(logger)
        self._text = text
        self.heard = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage():
            self.heard.set()

    def __enter__(self) -> threading.Event:
        self._logger.addHandler(self)
        return self.heard

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)


def test_a_refused_send_leaves_nothing_and_the_same_one_is_accepted_when_there_is_space(
    disk: Disk,
) -> None:
    # given an instance, and a disk that is full
    work = Work()
    with work.jobs.open(disk.url) as app:
        task = app.task(work.task)
        task.send("a", "before")
        before = app.history("task:job:a")
        accepted = fill_to_the_brim(app, disk, work)
        # when it is sent something, then that is refused, and it stands as it stood
        with pytest.raises(StoreUnavailableError) as caught:
            task.send("a", "y" * LARGE, event_id="k")
        assert caught.value.reason == "full"
        assert task.get_state("a") == "before"
        assert app.history("task:job:a") == before
        assert task.status("b").status == "not_found"
        # and when there is space again the same app goes on, with the same key
        disk.free(app)
        answer = task.send("a", "y" * LARGE, event_id="k")
        assert (answer.duplicate, answer.event_count) == (False, 2)
        assert task.get_state("a") == "y" * LARGE
    check_all(disk, accepted)


def test_many_that_are_refused_together_are_each_told(small_disk: SmallDisk) -> None:
    work = Work()

    async def send_many(number: int) -> list[SendResult | BaseException]:
        async with work.jobs.open(small_disk.url) as app:
            sends = [app.task(work.task).send(f"m-{n % 7}", "z" * LARGE) for n in range(number)]
            return await asyncio.gather(*sends, return_exceptions=True)

    with work.jobs.open(small_disk.url) as app:
        accepted = fill_to_the_brim(app, small_disk, work)
        refused = asyncio.run(send_many(40))
        assert [type(each) for each in refused] == [StoreUnavailableError] * 40
        small_disk.free(app)
        assert app.task(work.task).status("m-0").status == "not_found"
        accepted.append(app.task(work.task).send("fill-0", "after"))
    check_all(small_disk, accepted)


def test_the_outcome_of_an_open_run_is_recorded_once_there_is_space(disk: Disk) -> None:
    # given a run that is open while the disk fills up
    work = Work()
    with (
        Hearing("wakelog.worker", "cannot be recorded yet") as refused,
        work.jobs.open(disk.url, worker=True) as app,
    ):
        task = app.task(work.task)
        task.send("a", "in 0s")
        assert work.started.wait(WAIT_S)
        accepted = fill_to_the_brim(app, disk, work)
        # when it ends, then its outcome waits
        work.go_on.set()
        assert refused.wait(WAIT_S)
        assert task.status("a").executing
        # until there is space: it is recorded, and `execute` is not called again
        disk.free(app)
        task.send("a", "after", wait=True, timeout=WAIT_S)
        assert task.get_state("a") == "after"
        names = [entry.event for entry in app.history("task:job:a")]
    assert names.count("RunStarted") == names.count("Executed") == work.calls == 1
    assert "ExecutionLost" not in names
    check_all(disk, accepted)


def test_an_alarm_that_falls_due_on_a_full_disk_fires_once_there_is_space(
    small_disk: SmallDisk,
) -> None:
    # given a worker, and an alarm that it cannot take before the disk is full
    work = Work()
    work.go_on.set()
    with (
        Hearing("wakelog.alarms", "full") as refused,
        work.jobs.open(small_disk.url, worker=True) as worker,
        work.jobs.open(small_disk.url) as client,
    ):
        with store_of(worker).writing():
            client.task(work.task).send("a", "in 0s")
            accepted = fill_to_the_brim(client, small_disk, work)
        # when it is refused the run, then that run has not begun
        assert refused.wait(WAIT_S)
        assert not work.started.is_set()
        # and it begins when there is space
        small_disk.free(client)
        assert work.started.wait(WAIT_S)
        client.task(work.task).send("a", "after", wait=True, timeout=WAIT_S)
        status = client.task(work.task).status("a")
        assert (status.execute_count, status.failure_count, work.calls) == (1, 0, 1)
    check_all(small_disk, accepted)


def test_a_full_disk_cannot_be_worked_on_and_is_given_back_unharmed(small_disk: SmallDisk) -> None:
    work = Work()
    with work.jobs.open(small_disk.url) as app:
        accepted = fill_to_the_brim(app, small_disk, work)
        with (
            pytest.raises(StoreUnavailableError, match="free some space"),
            work.jobs.open(small_disk.url, worker=True),
        ):
            raise AssertionError("a worker cannot say that it lives")
        small_disk.free(app)
    check_all(small_disk, accepted)
