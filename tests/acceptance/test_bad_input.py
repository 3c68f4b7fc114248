"""Whatever is asked amiss is answered with one typed error, says what to do, and loses nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from wakelog import (
    BlockingApp,
    BlockingTaskClient,
    ExecutionError,
    IdempotencyConflictError,
    InstanceNotFoundError,
    InvalidIdError,
    InvalidStateError,
    Jobs,
    StoreUnavailableError,
    Task,
    TaskContext,
    UnknownJobError,
    UnknownJobTypeError,
    ValidationError,
)

NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001  that is what is tried
SOON = datetime(2030, 1, 1, tzinfo=UTC)


class Order(BaseModel):
    """The state."""

    status: Literal["pending", "paid"]


class Do(BaseModel):
    """The event: what the handler is to do."""

    what: Literal["nothing", "pay", "bad_state", "naive", "negative", "bad_topic", "bad_payload"]
    kind: Literal["do"] = "do"


order: Task[Order, Do] = Task(state=Order, event=Do)


def do(ctx: TaskContext[Order], what: str) -> None:
    """Set a state first, so that what follows amiss must undo it."""
    ctx.set_state(Order(status="paid" if what == "pay" else "pending"))
    match what:
        case "bad_state":
            wrong: Any = {"status": "lost"}
            ctx.set_state(wrong)
        case "naive":
            ctx.schedule(NAIVE)
        case "negative":
            ctx.schedule(-1)
        case "bad_topic":
            ctx.emit("", 1)
        case "bad_payload":
            ctx.emit("topic", object())
        case _:
            pass


@order.on_event
def received(ctx: TaskContext[Order], event: Do) -> None:
    do(ctx, event.what)


@order.execute
def run(ctx: TaskContext[Order]) -> None:
    do(ctx, "bad_state")


jobs = Jobs(order=order)
Client = BlockingTaskClient[Order, Do]


@pytest.fixture
def app(store_url: str) -> Iterator[BlockingApp]:
    """An app with one paid order, `o-1`."""
    with jobs.open(store_url) as app:
        app.task(order).send("o-1", Do(what="pay"), event_id="first")
        yield app


@contextmanager
def untouched(app: BlockingApp) -> Generator[None]:
    """What happens in here changes nothing."""
    before = app.history("task:order:o-1"), app.task(order).status("o-1"), app.list()
    yield
    assert (app.history("task:order:o-1"), app.task(order).status("o-1"), app.list()) == before
    assert app.task(order).get_state("o-1") == Order(status="paid")


# -- names and ids


def test_U11_an_unknown_job_says_which_there_are(app: BlockingApp) -> None:
    stranger: Task[Order, Do] = Task(state=Order, event=Do)
    with untouched(app):
        for job in ("invoice", "", "order:o-1", stranger):
            with pytest.raises(UnknownJobError, match=r"registered: order\); pass it to Jobs"):
                app.task(job)
        with pytest.raises(UnknownJobTypeError, match="the types are task"):
            app.names("cron")
        with pytest.raises(UnknownJobError, match="'invoice'"):
            jobs.open("memory://", worker=True, only=["invoice"]).__enter__()


BAD_IDS: list[Any] = ["", "x" * 256, "a\nb", "\x00", "\x85", "\ud800", None, 7, b"o-1", ["o-1"]]
CALLS: dict[str, Callable[[Client, Any], object]] = {
    "send": lambda client, id: client.send(id, Do(what="pay")),
    "trigger": lambda client, id: client.trigger(id, wait=False),
    "clear": lambda client, id: client.clear(id),
    "cancel_clear": lambda client, id: client.cancel_clear(id),
    "status": lambda client, id: client.status(id),
    "get_state": lambda client, id: client.get_state(id),
    "forget_key": lambda client, id: client.forget_key(id, "first"),
}


@pytest.mark.parametrize("call", CALLS)
def test_U4_a_bad_id_is_refused_by_every_call(app: BlockingApp, call: str) -> None:
    with untouched(app):
        for id in BAD_IDS:
            with pytest.raises(InvalidIdError, match=r"must (have 1 to 255|not hold|be a string)"):
                CALLS[call](app.task(order), id)


def test_a_whole_id_that_is_none_is_refused(app: BlockingApp) -> None:
    with untouched(app):
        for whole in ("o-1", "task:order", "task:order:", "task::o-1", "task:order:" + "x" * 256):
            for ask in (app.history, app.status_of, lambda id: app.state_at(id, version=1)):
                with pytest.raises(InvalidIdError):
                    ask(whole)
        with pytest.raises(UnknownJobTypeError):
            app.history("cron:order:o-1")
        with pytest.raises(InstanceNotFoundError, match="check the id"):
            app.history("task:order:o-2")


@pytest.mark.parametrize("name", ["a:b", "", "x" * 256, "a\nb"])
def test_a_bad_name_is_refused_when_it_is_registered(name: str) -> None:
    with pytest.raises(InvalidIdError, match="job name"):
        Jobs(**{name: order})


# -- events, keys, times

BAD_EVENTS: list[Any] = [
    None,
    "pay",
    {},
    {"what": "steal"},
    {"what": "pay", "kind": "undo"},
    [Do(what="pay")],
    Order(status="paid"),
    Do.model_construct(what="steal"),
]


@pytest.mark.parametrize("event", BAD_EVENTS, ids=repr)
def test_U4_an_event_of_the_wrong_shape_is_refused_with_each_issue(
    app: BlockingApp, event: Any
) -> None:
    with untouched(app):
        choices: list[dict[str, Any]] = [{}, {"delay": "1h"}, {"event_id": "k"}]
        for id in ("o-1", "o-2"):
            for options in choices:
                with pytest.raises(ValidationError, match="event of 'order'") as caught:
                    app.task(order).send(id, event, **options)
                assert caught.value.issues
                assert all(issue["msg"] for issue in caught.value.issues)
        assert app.task(order).status("o-2").status == "not_found"
        assert not app.task(order).send("o-3", Do(what="pay"), event_id="k").duplicate
        app.task(order).clear("o-3")


BAD_TIMES: list[Any] = [-1, -0.001, timedelta(days=-1), "-5m", "soon", "", "5", "P1Y", True]
BAD_TIMES += [float("nan"), float("inf"), 1e300, 10**400, "9" * 90 + "d", b"5m", [5], NAIVE]


@pytest.mark.parametrize("bad", BAD_TIMES, ids=lambda bad: repr(bad)[:12])
def test_U9_a_bad_duration_is_refused_wherever_one_is_asked_for(app: BlockingApp, bad: Any) -> None:
    client, event = app.task(order), Do(what="pay")
    with untouched(app):
        for call in (
            lambda: client.send("o-1", event, delay=bad),
            lambda: client.send("o-2", event, wait=True, timeout=bad),
            lambda: client.trigger("o-1", timeout=bad),
            lambda: client.clear("o-1", after=bad),
            lambda: app.close(grace=bad),
            lambda: jobs.open("memory://", lease=bad),
            lambda: jobs.open("memory://", grace=bad),
            lambda: jobs.open("memory://", idempotency_window=bad),
            lambda: order.with_resources(None).on_idle(timeout=bad),
        ):
            with pytest.raises(ValidationError):
                call()
        assert client.status("o-2").status == "not_found"


def test_U9_a_moment_without_a_time_zone_is_refused(app: BlockingApp) -> None:
    client = app.task(order)
    with untouched(app):
        for call in (
            lambda: client.send("o-1", Do(what="pay"), at=NAIVE),
            lambda: app.state_at("task:order:o-1", at=NAIVE),
            lambda: app.list(due_before=NAIVE),
        ):
            with pytest.raises(ValidationError, match="give it a time zone"):
                call()
        too_late = datetime.max.replace(tzinfo=UTC)
        with pytest.raises(ValidationError):
            client.clear("o-1", after=too_late - datetime.now(UTC) + timedelta(days=1))
        with pytest.raises(ValidationError, match="not both"):
            client.send("o-1", Do(what="pay"), delay=1, at=SOON)


@pytest.mark.parametrize("bad", ["", "x" * 256, "a\nb", "\ud800", 7], ids=ascii)
def test_a_bad_key_is_refused(app: BlockingApp, bad: Any) -> None:
    client, event = app.task(order), Do(what="pay")
    with untouched(app):
        for call in (
            lambda: client.send("o-1", event, event_id=bad),
            lambda: client.trigger("o-1", idempotency_key=bad, wait=False),
            lambda: client.clear("o-1", idempotency_key=bad),
        ):
            with pytest.raises(ValidationError, match="key"):
                call()


def test_text_of_a_class_of_its_own_is_text(app: BlockingApp) -> None:
    """As libraries have it, for numbers, markup and the like."""

    class Own(str):
        __slots__ = ()

    class Name(StrEnum):
        ORDER = "o-7"

    client, event = app.task(order), Do(what="pay")
    sent = client.send(Own("o-7"), event, event_id=Own("k"), actor=Own("me"))
    again = client.send(Name.ORDER, event, event_id=Own("k"), correlation_id=Own("c"))
    assert (sent.instance_id, sent.duplicate, again.duplicate) == ("task:order:o-7", False, True)
    cleared = client.clear(Own("o-7"), reason=Own("why"), idempotency_key=Own("x"))
    assert cleared.cleared


@pytest.mark.parametrize("bad", ["\ud800", 7, b"me"], ids=ascii)
def test_a_word_for_the_record_that_it_cannot_hold_is_refused(app: BlockingApp, bad: Any) -> None:
    client, event = app.task(order), Do(what="pay")
    with untouched(app):
        for call in (
            lambda: client.send("o-1", event, actor=bad),
            lambda: client.trigger("o-1", correlation_id=bad, wait=False),
            lambda: client.clear("o-1", reason=bad),
        ):
            with pytest.raises(ValidationError, match="must"):
                call()


def test_I1_a_key_that_was_used_for_something_else_is_refused(app: BlockingApp) -> None:
    with untouched(app):
        for call in (
            lambda: app.task(order).send("o-1", Do(what="nothing"), event_id="first"),
            lambda: app.task(order).send("o-1", Do(what="pay"), event_id="first", delay=1),
            lambda: app.task(order).clear("o-1", idempotency_key="first"),
        ):
            with pytest.raises(IdempotencyConflictError, match="take a new key"):
                call()


# -- handlers that ask amiss


@pytest.mark.parametrize("what", ["bad_state", "naive", "negative", "bad_topic", "bad_payload"])
def test_U8_what_a_handler_asks_amiss_is_told_to_the_sender(app: BlockingApp, what: Any) -> None:
    before = app.history("task:order:o-1")
    for id in ("o-1", "o-2"):
        with pytest.raises(ExecutionError, match="on_event of task:order") as caught:
            app.task(order).send(id, Do(what=what))
        assert isinstance(caught.value.__cause__, ValidationError)
        assert caught.value.error_type == "ValidationError"
    assert app.task(order).get_state("o-1") == Order(status="paid")
    assert app.task(order).status("o-1").event_count == 1
    assert app.task(order).status("o-2").status == "not_found"
    *same, failure = app.history("task:order:o-1")
    assert same == before
    assert failure.event == "ExecutionFailed"
    assert failure.data["payload"] == {"what": what, "kind": "do"}


def test_U8_a_state_that_does_not_fit_fails_the_run_and_is_shown(store_url: str) -> None:
    with jobs.open(store_url, worker=True) as app:
        app.task(order).send("o-1", Do(what="pay"))
        answer = app.task(order).trigger("o-1", timeout="20s")
        assert answer.failed
        assert answer.error is not None
        assert "state of 'order' is not valid: status: " in answer.error.message
        status = app.task(order).status("o-1")
        assert status.status == "failed"
        assert app.task(order).get_state("o-1") == Order(status="paid")
        app.task(order).send("o-1", Do(what="pay"))
        assert app.task(order).status("o-1").status == "idle"


# -- settings

BAD_SETTINGS: list[dict[str, Any]] = [
    {name: value}
    for name in ("concurrency", "cache", "threads", "snapshot_every", "max_lost")
    for value in (0, -1, "5", None, 1.5, True)
]
BAD_SETTINGS += [{"lease": 0}, {"lease": "1ms"}, {"idempotency_window": 0}, {"only": "order"}]


@pytest.mark.parametrize("bad", BAD_SETTINGS, ids=str)
@pytest.mark.parametrize("worker", [False, True])
def test_a_setting_that_makes_no_sense_is_refused(bad: dict[str, Any], worker: bool) -> None:
    with pytest.raises(ValidationError, match=r"must be|give a list"):
        jobs.open("memory://", worker=worker, **bad)


def test_a_closed_app_says_so(store_url: str) -> None:
    with jobs.open(store_url) as app:
        client = app.task(order)
        client.send("o-1", Do(what="pay"))
        app.close()
        for call in (
            lambda: client.send("o-1", Do(what="nothing")),
            lambda: client.status("o-1"),
            lambda: app.history("task:order:o-1"),
            lambda: app.list(),
        ):
            with pytest.raises(InvalidStateError, match="open it again"):
                call()


# -- stores


def refusal(url: Any) -> StoreUnavailableError:
    """Why the store cannot be opened; twice, for the first try must leave nothing behind."""
    with pytest.raises(StoreUnavailableError) as first, jobs.open(url):
        raise AssertionError("it was opened")
    with pytest.raises(StoreUnavailableError) as second, jobs.open(url):
        raise AssertionError("it was opened")
    assert str(first.value) == str(second.value)
    return first.value


@pytest.mark.parametrize(
    "url",
    ["nosuch://me:hunter2@host/jobs", "postgresql:/me:hunter2@host/jobs", "me:hunter2@host://x"],
)
def test_E6_a_url_that_is_refused_does_not_show_its_password(url: str) -> None:
    error = refusal(url)
    assert error.reason == "unknown_scheme"
    assert "hunter2" not in f"{error} {error!r}"
    with pytest.raises(ValidationError) as raised, jobs.open(url.encode()):  # type: ignore[arg-type]
        raise AssertionError("it was opened")
    assert "hunter2" not in str(raised.value)


def test_a_store_whose_driver_is_missing_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from wakelog import Jobs, StoreUnavailableError\n"
        "from wakelog_adapters.sql.admin import store_admin\n"
        "for opens in (Jobs().open('postgresql://me:hunter2@host/jobs').__enter__,\n"
        "              lambda: store_admin('postgresql://me:hunter2@host/jobs')):\n"
        "    try: opens()\n"
        "    except StoreUnavailableError as error: print(error.reason, error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = ran.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("not_installed ")
        assert "pip install 'wakelog[postgres]'" in line
        assert "hunter2" not in line


@pytest.mark.parametrize("url", ["nosuch://x", "jobs.db", "", "sqlite:", "sqlite:/jobs.db"])
def test_an_unknown_scheme_says_which_there_are(url: str) -> None:
    error = refusal(url)
    assert error.reason == "unknown_scheme"
    assert "memory://" in str(error)
    assert "sqlite://" in str(error)


@pytest.mark.parametrize(
    ("url", "instead"),
    [
        ("orders.db", "write sqlite:///orders.db"),
        ("/var/lib/jobs.sqlite3", "write sqlite:////var/lib/jobs.sqlite3"),
        ("me:hunter2@host/jobs.db", "write sqlite:///orders.db"),
        ("postgresql+psycopg2://me:hunter2@host/jobs", "write postgresql://, without"),
        ("postgres+asyncpg://me:hunter2@host/jobs", "write postgres://, without"),
        ("sqlite+aiosqlite:///jobs.db", "write sqlite://, without"),
    ],
)
def test_a_url_of_another_library_says_what_to_write(url: str, instead: str) -> None:
    error = refusal(url)
    assert error.reason == "unknown_scheme"
    assert instead in str(error)
    assert "hunter2" not in str(error)


def test_an_async_app_needs_a_loop_of_asyncio() -> None:
    opening = jobs.open("memory://").__aenter__()
    with pytest.raises(InvalidStateError, match="asyncio"):
        opening.send(None)


@pytest.mark.parametrize("url", [None, 5, Path("jobs.db"), b"memory://"])
def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(ValidationError, match="expected a URL"), jobs.open(url):
        raise AssertionError("it was opened")


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader,\n" * 1000)
    error = refusal(f"sqlite:///{path}")
    assert error.reason == "not_a_database"
    assert "give a wakelog database, or a new path" in str(error)
    assert path.read_text() == "Dear reader,\n" * 1000


def test_a_directory_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    assert refusal(f"sqlite:///{tmp_path}").reason == "not_a_database"
    error = refusal(f"sqlite:///{tmp_path}/no/such/jobs.db")
    assert error.reason == "unreachable"
    assert "check that the path" in str(error)
    assert os.listdir(tmp_path) == []


def test_a_store_of_a_newer_version_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with jobs.open(f"sqlite:///{path}") as app:
        app.task(order).send("o-1", Do(what="pay"))
    with sqlite3.connect(path) as connection:
        later = "INSERT INTO wakelog_migrations (number, name, applied_at) VALUES (99, 'later', '')"
        connection.execute(later)
        before = list(connection.iterdump())
    connection.close()
    error = refusal(f"sqlite:///{path}")
    assert error.reason == "wrong_version"
    assert "upgrade" in str(error)
    with sqlite3.connect(path) as connection:
        assert list(connection.iterdump()) == before
        connection.execute("DELETE FROM wakelog_migrations WHERE number = 99")
    connection.close()
    with jobs.open(f"sqlite:///{path}") as app:
        assert app.task(order).get_state("o-1") == Order(status="paid")


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """A store that may be read and not written, even by root: on a file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with jobs.open(f"sqlite:///{tmp_path}/jobs.db") as app:
        app.task(order).send("o-1", Do(what="pay"))
    shutil.copy(tmp_path / "jobs.db", folder)
    if os.geteuid() != 0:
        folder.chmod(0o555)
        (folder / "jobs.db").chmod(0o444)
        yield folder
        folder.chmod(0o755)
        return
    words = ["--bind", str(folder), str(folder)]
    if subprocess.run(["mount", *words], capture_output=True).returncode:
        pytest.skip("root can write anything here, and cannot mount")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_file_that_may_not_be_written_is_refused(read_only_folder: Path) -> None:
    before = (read_only_folder / "jobs.db").read_bytes()
    error = refusal(f"sqlite:///{read_only_folder}/jobs.db")
    assert error.reason == "read_only"
    assert "check its permissions" in str(error)
    assert (read_only_folder / "jobs.db").read_bytes() == before
    assert os.listdir(read_only_folder) == ["jobs.db"]
