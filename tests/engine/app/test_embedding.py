"""Jobs live in somebody else's process: no loop, signals, logging or global is theirs (E3)."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import signal
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from tests.support import WAIT_S, Ctx, order_task, task_of
from wakelog import (
    Jobs,
    NotOpenedError,
    StoreUnavailableError,
    Task,
    UnknownJobError,
    ValidationError,
    WorkerPool,
)
from wakelog_adapters.sql.admin import store_admin


def test_E3_two_jobs_on_two_stores_in_one_process_know_nothing_of_each_other(
    tmp_path: Path,
) -> None:
    # given the same names, and the same ids
    one = task_of(lambda ctx, event: ctx.set_state("one"))
    two = task_of(lambda ctx, event: ctx.set_state("two"))
    with (
        Jobs(job=one, only_here=order_task()).open(f"sqlite:///{tmp_path / '1.db'}") as first,
        Jobs(job=two).open(f"sqlite:///{tmp_path / '2.db'}", worker=True) as second,
    ):
        # when
        first.task("job").send("a", {})
        second.task("job").send("a", {})
        # then
        assert first.task("job").get_state("a") == "one"
        assert second.task("job").get_state("a") == "two"
        with pytest.raises(UnknownJobError):
            second.task("only_here")
        with pytest.raises(
            UnknownJobError, match=r"this task is not registered .*: job, only_here"
        ):
            first.task(two)


def test_U11_a_job_of_another_type_is_told_from_one_that_there_is_not() -> None:
    pool: WorkerPool[int] = WorkerPool(event=int)
    pool.execute(lambda ctx, event: None)
    with Jobs(job=task_of(), mail=pool).open("memory://") as app:
        either: list[Any] = ["mail", pool]
        for job in either:
            with pytest.raises(UnknownJobError, match=r"as in app\.worker_pool\('mail'\)"):
                app.task(job)
        with pytest.raises(UnknownJobError, match=r"as in app\.task\('job'\)"):
            app.worker_pool("job")


def test_E3_what_was_not_entered_says_how_to() -> None:
    opening: Any = Jobs(job=task_of()).open("memory://")
    with pytest.raises(
        NotOpenedError, match=r"write `with jobs\.open\(\.\.\.\) as app:`"
    ) as raised:
        opening.task("job")
    assert "app = jobs.open_blocking(...)" in str(raised.value)
    assert pickle.loads(pickle.dumps(raised.value)).name == "task"
    assert not hasattr(opening, "task"), "to those who ask, it is an AttributeError"
    assert not hasattr(opening, "__fspath__")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        opening.nonsense()


def test_E3_two_jobs_share_a_file_by_table_prefix(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    with (
        Jobs(job=task_of()).open(f"{url}?prefix=one_") as first,
        Jobs(job=task_of()).open(f"{url}?prefix=two_") as second,
    ):
        first.task("job").send("a", {"set_state": 1})
        assert second.task("job").status("a").status == "not_found"
        assert second.list() == []


def test_E3_one_definition_may_be_registered_twice_and_objects_do_not_mix() -> None:
    # given a definition that is thrown away after it was registered
    jobs = Jobs(job=task_of(lambda ctx, event: ctx.set_state("theirs")))
    gc.collect()
    with jobs.open("memory://") as app:
        # when others are made, perhaps at the same place in memory
        for _ in range(100):
            with pytest.raises(UnknownJobError):
                app.task(task_of())


@pytest.mark.anyio
async def test_E3_both_apps_work_inside_a_running_loop(shared_url: str) -> None:
    # given
    jobs = Jobs(job=task_of())
    loop = asyncio.get_running_loop()
    async with jobs.open(shared_url, worker=True) as app:
        await app.task("job").send("a", {"set_state": 1})
        # when the blocking one is used beside it, in a thread

        def blocking() -> Any:
            with jobs.open(shared_url) as other:
                other.task("job").send("a", {"set_state": 2})
                return other.task("job").get_state("a")

        assert await asyncio.to_thread(blocking) == 2
        assert await app.task("job").get_state("a") == 2
    # then the loop is the caller's, and goes on
    assert asyncio.get_running_loop() is loop
    assert loop.is_running()


class Dog(Aggregate):
    @event("Named")
    def __init__(self, name: str) -> None:
        self.name = name


class Kennel(Application[UUID]):
    """Another application of the eventsourcing library's, configured by the environment."""


def test_E3_the_environment_of_another_eventsourcing_application_does_not_leak_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sqlite_url: str
) -> None:
    # given settings that would break ours, were they ours
    kennel_file = tmp_path / "kennel.db"
    for name, value in {
        "PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "SQLITE_DBNAME": str(kennel_file),
        "WAKELOG_PERSISTENCE_MODULE": "no.such.module",
        "COMPRESSOR_TOPIC": "zlib",
        "CIPHER_TOPIC": "no.such:Cipher",
        "MAPPER_TOPIC": "no.such:Mapper",
        "IS_SNAPSHOTTING_ENABLED": "yes",
        "AGGREGATE_CACHE_MAXSIZE": "nonsense",
    }.items():
        monkeypatch.setenv(name, value)
    # when
    with Jobs(job=task_of()).open(sqlite_url) as app:
        app.task("job").send("a", {"set_state": "plain"})
        # then
        assert app.task("job").get_state("a") == "plain"
    assert b'"plain"' in Path(sqlite_url.removeprefix("sqlite:///")).read_bytes()
    assert not kennel_file.exists()
    # and the other one goes by them as if we were not there
    for name in ("CIPHER_TOPIC", "MAPPER_TOPIC", "AGGREGATE_CACHE_MAXSIZE"):
        monkeypatch.delenv(name)
    kennel = Kennel()
    kennel.save(Dog("Rex"))
    assert kennel_file.exists()
    kennel.close()


def test_E3_no_logging_signals_hooks_or_threads_are_left_behind(shared_url: str) -> None:
    # given
    def globals_() -> tuple[Any, ...]:
        names = [n for n in logging.root.manager.loggerDict if n.startswith(("wakelog", "aps"))]
        loggers = [logging.getLogger(), *(logging.getLogger(name) for name in names)]
        return (
            [handler for logger in loggers for handler in logger.handlers],
            {logger.level for logger in loggers[1:]} - {logging.NOTSET},
            {number: signal.getsignal(number) for number in signal.valid_signals()},
            (sys.excepthook, threading.excepthook, sys.unraisablehook),
            asyncio.get_event_loop_policy(),
            set(threading.enumerate()),
        )

    with Jobs(job=task_of()).open(shared_url):
        pass  # what is imported lazily is imported now
    before = globals_()
    # when
    ran = threading.Event()
    with Jobs(job=task_of(execute=lambda ctx: ran.set())).open(shared_url, worker=True) as app:
        during = globals_()
        app.task("job").send("a", {"schedule": 0})
        assert ran.wait(WAIT_S)
    # then
    assert during[:5] == before[:5]
    assert globals_() == before


def test_E3_services_come_by_closure_by_jobs_and_by_definition() -> None:
    # given
    seen: list[Any] = []
    mailbox: list[str] = []

    def on_event(ctx: Ctx, event: Any) -> None:
        mailbox.append("closure")
        seen.append(ctx.resources)

    task = task_of(on_event)
    jobs = Jobs(plain=task, own=task.with_resources("own"), resources="common")
    # when
    with jobs.open("memory://") as app:
        app.task("plain").send("a", {})
        app.task("own").send("a", {})
    # then
    assert seen == ["common", "own"]
    assert mailbox == ["closure"] * 2


@pytest.mark.parametrize("url", ["", "nonsense", "nosuch://x", "sqlite", "memory"])
def test_a_store_that_is_not_installed_says_which_are(url: str) -> None:
    with (
        pytest.raises(StoreUnavailableError, match=r"memory://, .*sqlite://") as raised,
        Jobs(job=task_of()).open(url),
    ):
        pass
    assert raised.value.reason == "unknown_scheme"


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"lease": 0},
        {"lease": "soon"},
        {"grace": -1},
        {"cache": -1},
        {"snapshot_every": 0},
        {"threads": 0},
        {"max_lost": 0},
        {"idempotency_window": float("nan")},
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with (
        pytest.raises(ValidationError),
        Jobs(job=task_of()).open("memory://", worker=True, **options),
    ):
        pass


def test_a_type_that_pydantic_cannot_validate_is_refused_at_the_definition() -> None:
    class Opaque:
        pass

    with pytest.raises(ValidationError, match="state="):
        Jobs(job=task_of(state=Opaque))
    with pytest.raises(ValidationError, match="max_waiting"):
        Task(state=int, event=int, max_waiting=0)


@pytest.mark.parametrize("what", ["lease", "idempotency_window"])
def test_a_duration_that_is_too_short_is_named_in_words_of_the_caller(what: str) -> None:
    with pytest.raises(ValidationError, match=rf"^{what} 0 s is not valid: it must be at least"):
        Jobs(job=task_of()).open("memory://", **{what: "0s"})  # type: ignore[arg-type]


def test_E3_a_url_as_sqlalchemy_writes_it_is_that_of_the_same_store(shared_url: str) -> None:
    # given one setting for both
    theirs = shared_url.replace("sqlite:", "sqlite+pysqlite:").replace(
        "postgresql:", "postgresql+psycopg:"
    )
    assert theirs != shared_url
    # when
    with Jobs(job=task_of()).open(theirs) as app:
        app.task("job").send("a", {"set_state": 1})
    # then
    with Jobs(job=task_of()).open(shared_url) as app:
        assert app.task("job").get_state("a") == 1
    assert store_admin(theirs).schema_version() == store_admin(shared_url).schema_version()
