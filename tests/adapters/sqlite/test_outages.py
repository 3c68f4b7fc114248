"""A file in which nobody can write for a while."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from tests.auditing import audit_all
from tests.support import WAIT_S
from tests.support_stores import writes_blocked
from wakelog import Jobs, StoreUnavailableError, Task, TaskContext
from wakelog_adapters.sqlite import open_store


class MissedBeats(logging.Handler):
    """Counts the heartbeats that failed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = threading.Semaphore(0)

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("a heartbeat was missed"):
            self.seen.release()


def test_U2_K3_a_worker_keeps_its_runs_while_it_cannot_renew(tmp_path: Path) -> None:
    # given an open run
    url, begun, go_on = f"sqlite:///{tmp_path}/jobs.db", threading.Semaphore(0), threading.Event()
    job: Task[int, int] = Task(state=int, event=int)

    @job.on_event
    def received(ctx: TaskContext[int], event: int) -> None:
        ctx.set_state(event)
        ctx.schedule(0)

    @job.execute
    def run(ctx: TaskContext[int]) -> None:
        begun.release()
        assert go_on.wait(WAIT_S)

    missed, log = MissedBeats(), logging.getLogger("wakelog.worker")
    log.addHandler(missed)
    with Jobs(job=job).open(f"{url}?timeout=0.1", worker=True, lease="1s") as app:
        task = app.task(job)
        task.send("a", 1)
        assert begun.acquire(timeout=WAIT_S)
        # when nobody can write for longer than its lease
        with writes_blocked(url):
            for _ in range(6):
                assert missed.seen.acquire(timeout=WAIT_S)
        # and the worker claims again
        task.send("b", 1)
        assert begun.acquire(timeout=WAIT_S)
        # then it has begun neither again
        go_on.set()
        deadline_s = time.monotonic() + WAIT_S
        while any(task.status(id).executing for id in ("a", "b")):
            assert time.monotonic() < deadline_s
        assert not begun.acquire(blocking=False)
        for id in ("a", "b"):
            names = [entry.event for entry in app.history(f"task:job:{id}")]
            assert names.count("RunStarted") == names.count("Executed") == 1
        audit_all(app.app.application.store)
    log.removeHandler(missed)


def test_K2_while_an_app_is_closed_one_write_waits_and_for_a_moment_only(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All others would wait after it, for `timeout` each."""
    monkeypatch.setattr("wakelog_adapters.sqlite.store.HURRY_S", 0.2)
    store = open_store(f"{sqlite_url}?timeout={WAIT_S}").application_recorder()
    errors: list[StoreUnavailableError] = []

    def remove() -> None:
        with pytest.raises(StoreUnavailableError) as caught:
            store.remove_worker("w")
        errors.append(caught.value)

    began_s = time.monotonic()
    with writes_blocked(sqlite_url):
        # given a file that is locked, when the app is about to be closed
        store.hurry()
        removing = [threading.Thread(target=remove, daemon=True) for _ in range(30)]
        for thread in removing:
            thread.start()
        for thread in removing:
            thread.join(WAIT_S / 2)
        store.close()
    # then
    assert [error.reason for error in errors] == ["locked"] * 30
    assert time.monotonic() - began_s < 30 * 0.2


def test_K2_while_an_app_is_closed_what_can_be_written_is_written(sqlite_url: str) -> None:
    store = open_store(sqlite_url).application_recorder()
    store.hurry()
    for _ in range(2):
        store.remove_worker("w")
    store.close()
