"""An SQLite file that is removed, moved or replaced while a store has it open."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from wakelog import Jobs, StoreUnavailableError, Task
from wakelog.ports.rows import JobPauseRow, Listing, WorkerRow
from wakelog_adapters.conformance.units import NOW, UnitBuilder
from wakelog_adapters.sqlite import SQLiteStore, open_store
from wakelog_adapters.sqlite.open_file import OpenFile

Change = Callable[[Path], None]


def remove(path: Path) -> None:
    for each in path.parent.glob("jobs.db*"):
        each.unlink()


def move(path: Path) -> None:
    for each in path.parent.glob("jobs.db*"):
        each.rename(each.parent / f"old-{each.name}")


def replace(path: Path) -> None:
    """By a copy, as a restore does it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"VACUUM INTO '{path.parent}/copy'")
    remove(path)
    shutil.move(path.parent / "copy", path)


def remove_only_the_wal(path: Path) -> None:
    path.with_name("jobs.db-wal").unlink()


def remove_only_the_index(path: Path) -> None:
    path.with_name("jobs.db-shm").unlink()


def remove_only_the_file(path: Path) -> None:
    path.unlink()


def move_only_the_file(path: Path) -> None:
    path.rename(path.with_name("old-jobs.db"))


def replace_only_the_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"VACUUM INTO '{path.parent}/copy'")
    (path.parent / "copy").replace(path)


CHANGES = [
    remove,
    move,
    replace,
    remove_only_the_file,
    move_only_the_file,
    replace_only_the_file,
    remove_only_the_wal,
    remove_only_the_index,
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    store = open_store(f"sqlite:///{path}").application_recorder()
    yield store
    store.close()


def assert_moved(call: Callable[[], object]) -> StoreUnavailableError:
    with pytest.raises(StoreUnavailableError) as caught:
        call()
    assert caught.value.reason == "moved"
    assert "put it back" in str(caught.value)
    return caught.value


@pytest.mark.parametrize("change", CHANGES)
def test_K1_nothing_is_acknowledged_after_it(
    store: SQLiteStore, path: Path, change: Change
) -> None:
    assert store.append([UnitBuilder("o-1").begin()]).errors == [None]
    change(path)
    pause = JobPauseRow("task:order", None, None, NOW)
    worker = WorkerRow("w", ("task:order",), 1, "host", 1, NOW, NOW, NOW + 1)
    for write in (
        lambda: store.append([UnitBuilder("o-2").begin()]),
        lambda: store.insert_events([]),
        lambda: store.renew("w", NOW, NOW),
        lambda: store.release("w", [("task:order:o-1", 2)]),
        lambda: store.pause_job(pause),
        lambda: store.resume_job("task:order"),
        lambda: store.put_worker(worker),
        lambda: store.forget_key("task:order:o-1", "k"),
    ):
        assert_moved(write)


@pytest.mark.parametrize("change", CHANGES)
def test_U12_no_read_is_answered_from_a_file_that_others_do_not_see(
    store: SQLiteStore, path: Path, change: Change
) -> None:
    store.append([UnitBuilder("o-1").begin()])
    change(path)
    for read in (
        lambda: store.load("task:order:o-1"),
        lambda: store.events("task:order:o-1"),
        lambda: store.status(["task:order:o-1"]),
        lambda: store.list(Listing()),
        lambda: store.count(Listing(), NOW),
        lambda: store.next_due_us(["task:order"], NOW),
        lambda: store.select_notifications(1, 10),
        store.max_notification_id,
    ):
        assert_moved(read)


def test_K1_a_commit_during_which_the_file_is_moved_is_not_acknowledged(
    store: SQLiteStore, path: Path
) -> None:
    def write() -> None:
        with store.writing() as connection:
            connection.execute("DELETE FROM wakelog_workers")
            move(path)

    assert "not known" in assert_moved(write).detail


def test_no_new_file_is_made_in_its_place(store: SQLiteStore, path: Path) -> None:
    move(path)
    assert_moved(lambda: store.status(["task:order:o-1"]))
    assert not path.exists()


def test_a_file_that_is_put_back_can_be_used_again(store: SQLiteStore, path: Path) -> None:
    store.append([UnitBuilder("o-1").begin()])
    move(path)
    assert_moved(lambda: store.append([UnitBuilder("o-2").begin()]))
    for each in path.parent.glob("old-*"):
        each.rename(each.parent / each.name.removeprefix("old-"))
    assert store.append([UnitBuilder("o-2").begin()]).errors == [None]
    assert len(store.list(Listing())) == 2


def test_a_link_that_leads_elsewhere_is_noticed(tmp_path: Path) -> None:
    link, real, other = tmp_path / "link.db", tmp_path / "real.db", tmp_path / "other.db"
    open_store(f"sqlite:///{other}").close()
    link.symlink_to(real)
    with closing(open_store(f"sqlite:///{link}")) as factory:
        store = factory.application_recorder()
        assert store.append([UnitBuilder("o-1").begin()]).errors == [None]
        link.unlink()
        link.symlink_to(other)
        error = assert_moved(lambda: store.append([UnitBuilder("o-2").begin()]))
    assert str(link) in error.detail


def test_all_three_files_are_watched(store: SQLiteStore, path: Path) -> None:
    """They are there for as long as the store is open, so that none is overlooked."""
    assert {each.name for each in path.parent.iterdir()} == {
        "jobs.db",
        "jobs.db-wal",
        "jobs.db-shm",
    }
    file = OpenFile(str(path))
    file.check()
    remove_only_the_index(path)
    assert_moved(file.check)


@pytest.mark.parametrize("change", CHANGES[:-2])
def test_K3_requests_of_an_open_app_are_refused_and_it_closes(path: Path, change: Change) -> None:
    counter = Task(state=int, event=int)

    @counter.on_event
    def add(ctx, event):  # type: ignore[no-untyped-def]
        ctx.set_state((ctx.state or 0) + event)

    jobs = Jobs(counter=counter)
    with jobs.open(f"sqlite:///{path}", worker=True) as app:
        app.task(counter).send("a", 1)
        change(path)
        for _ in range(3):
            assert_moved(lambda: app.task(counter).send("a", 1))
            assert_moved(lambda: app.task(counter).get_state("a"))
            assert_moved(lambda: app.task(counter).send("b", 1))


@pytest.mark.parametrize("change", [remove, move, remove_only_the_file, move_only_the_file])
def test_K1_what_was_acknowledged_is_written_back_when_it_is_closed(
    path: Path, change: Change
) -> None:
    url = f"sqlite:///{path}"
    path.touch(0o640)
    with closing(open_store(url)) as factory, closing(open_store(url)) as other:
        store = factory.application_recorder()
        assert store.append([UnitBuilder("o-1").begin()]).errors == [None]
        change(path)
        assert_moved(lambda: store.append([UnitBuilder("o-2").begin()]))
        assert not path.exists()
        other.close()  # another process, or the same one, may close it later, and again
        assert_moved(lambda: store.append([UnitBuilder("o-2").begin()]))
    with closing(open_store(url)) as factory:
        store = factory.application_recorder()
        assert [row.stream for row in store.list(Listing())] == ["task:order:o-1"]
        assert store.append([UnitBuilder("o-2").begin()]).errors == [None]
    assert not list(path.parent.glob("*restored*"))
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("change", [move_only_the_file, replace_only_the_file])
def test_K1_no_wal_of_the_old_file_spoils_the_one_in_its_place(path: Path, change: Change) -> None:
    url = f"sqlite:///{path}"
    with closing(open_store(url)) as factory, closing(open_store(url)) as other:
        assert factory.application_recorder().append([UnitBuilder("o-1").begin()]).errors == [None]
        change(path)
        other.close()
    assert not list(path.parent.glob("jobs.db-*"))
    for each in path.parent.glob("*jobs.db"):
        with closing(open_store(f"sqlite:///{each}")) as factory:
            rows = factory.application_recorder().list(Listing())
            assert [row.stream for row in rows] == ["task:order:o-1"]


def test_the_wal_of_the_file_in_its_place_is_left_alone(path: Path) -> None:
    url = f"sqlite:///{path}"
    with closing(open_store(url)) as factory:
        remove(path)
        with closing(open_store(url)) as other:
            assert other.application_recorder().append([UnitBuilder("o-2").begin()]).errors == [
                None
            ]
            factory.close()
            rows = other.application_recorder().list(Listing())
            assert [row.stream for row in rows] == ["task:order:o-2"]


def test_a_file_in_its_place_is_left_alone_when_it_is_closed(path: Path) -> None:
    with closing(open_store(f"sqlite:///{path}")) as factory:
        assert factory.application_recorder().append([UnitBuilder("o-1").begin()])
        remove(path)
        path.write_text("of somebody else")
    assert path.read_text() == "of somebody else"


def test_a_folder_that_is_gone_too_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with closing(open_store(f"sqlite:///{folder / 'jobs.db'}")):
        shutil.rmtree(folder)
    assert "not written back" in caplog.text
    assert not folder.exists()
