"""The file of an SQLite store: how it is opened, which files are refused, and a full disk."""

from __future__ import annotations

import ctypes
import os
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from wakelog.errors import StoreUnavailableError, ValidationError
from wakelog.ports.rows import Listing
from wakelog_adapters.conformance.units import NOW, UnitBuilder, kept_reply
from wakelog_adapters.sqlite import connections, open_store
from wakelog_adapters.sqlite.connections import FairLock, connect
from wakelog_adapters.sqlite.url import StoreLocation, parse


def refusal(url: str) -> StoreUnavailableError:
    with pytest.raises(StoreUnavailableError) as caught:
        open_store(url)
    return caught.value


# -- URLs


def test_urls_name_files_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("sqlite:///jobs.db") == StoreLocation(f"{tmp_path}/jobs.db")
    assert parse("sqlite:////var/a%20b%3F.db") == StoreLocation("/var/a b?.db")
    place = StoreLocation("/jobs.db", prefix="a_", timeout_s=0.5, max_mib=3)
    assert parse("sqlite:////jobs.db?prefix=a_&timeout=0.5&max_mib=3") == place


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://", "memory://"),
        ("sqlite:///", "memory://"),
        ("sqlite://jobs.db", "three slashes"),
        ("sqlite:///a%00b", "NUL"),
        ("sqlite:///a.db?prefix=a-b", "prefix"),
        ("sqlite:///a.db?prefix=1", "prefix"),
        ("sqlite:///a.db?timeout=-1", "timeout"),
        ("sqlite:///a.db?timeout=soon", "timeout"),
        ("sqlite:///a.db?timeout=nan", "timeout"),
        ("sqlite:///a.db?max_mib=0", "max_mib"),
        ("sqlite:///a.db?mode=ro", "unknown option"),
    ],
)
def test_an_invalid_url_is_refused_with_a_hint(url: str, hint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        open_store(url)
    assert hint in str(caught.value)


# -- files that can be opened


def test_commits_are_on_disk_before_they_are_acknowledged(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/jobs.db").application_recorder()
    full = 2
    with store.writing() as writer, store.readers.lend() as reader:
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert writer.execute("PRAGMA synchronous").fetchone() == (full,)
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_stores_with_prefixes_share_a_file(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/jobs.db{query}" for query in ("", "?prefix=a_", "?prefix=b_")]
    stores = [open_store(url).application_recorder() for url in urls]
    for store in stores[:2]:
        assert store.append([UnitBuilder().begin(NOW)]).errors == [None]
    assert [len(store.list(Listing())) for store in stores] == [1, 1, 0]
    assert [store.max_notification_id() for store in stores] == [3, 3, None]
    for store in stores:
        store.close()


def test_opening_an_up_to_date_file_takes_no_lock(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db?timeout=0"
    first = open_store(url).application_recorder()
    with first.writing() as writer:
        writer.execute("BEGIN IMMEDIATE")
        second = open_store(url).application_recorder()
        assert second.list(Listing()) == []
        with pytest.raises(StoreUnavailableError) as caught:
            second.append([UnitBuilder().begin()])
        assert caught.value.reason == "locked"
        writer.execute("ROLLBACK")
    assert second.append([UnitBuilder().begin()]).errors == [None]
    first.close()
    second.close()


def test_many_may_create_the_file_at_the_same_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    start = threading.Barrier(8)
    errors: list[BaseException] = []

    def make(number: int) -> None:
        start.wait()
        try:
            store = open_store(url).application_recorder()
            assert store.append([UnitBuilder(f"o-{number}").begin()]).errors == [None]
            store.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    store = open_store(url).application_recorder()
    assert len(store.list(Listing())) == 8
    store.close()


def test_an_application_may_keep_its_own_tables_there(tmp_path: Path) -> None:
    own = sqlite3.connect(tmp_path / "app.db")
    own.execute("CREATE TABLE customers (id INTEGER)")
    own.commit()
    store = open_store(f"sqlite:///{tmp_path}/app.db").application_recorder()
    assert store.append([UnitBuilder().begin()]).errors == [None]
    store.close()
    assert own.execute("SELECT count(*) FROM customers").fetchone() == (0,)
    own.close()


# -- files that cannot be opened


def test_calls_of_a_closed_store_are_refused(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/jobs.db").application_recorder()
    store.close()
    store.close()
    for call in (lambda: store.append([UnitBuilder().begin()]), lambda: store.list(Listing())):
        with pytest.raises(StoreUnavailableError, match="closed"):
            call()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database at all\n" * 500)
    error = refusal(f"sqlite:///{path}")
    assert (error.reason, str(path) in error.detail) == ("not_a_database", True)
    assert path.read_text() == "not a database at all\n" * 500


def test_a_directory(tmp_path: Path) -> None:
    error = refusal(f"sqlite:///{tmp_path}")
    assert (error.reason, str(tmp_path) in error.detail) == ("not_a_database", True)


def test_a_missing_folder(tmp_path: Path) -> None:
    error = refusal(f"sqlite:///{tmp_path}/none/jobs.db")
    assert (error.reason, f"{tmp_path}/none" in error.detail) == ("unreachable", True)
    assert not (tmp_path / "none").exists()


@contextmanager
def without_root() -> Iterator[None]:
    """Root may write everything: a thread of root's accesses files as the user `nobody`."""
    libc = ctypes.CDLL(None)
    root = os.geteuid() == 0
    if root:
        libc.setfsuid(65534)
    try:
        yield
    finally:
        if root:
            libc.setfsuid(0)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_or_folder_that_is_not_writable(what: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "jobs.db"
        open_store(f"sqlite:///{path}").close()
        path.chmod(0o444 if what == "file" else 0o666)
        Path(name).chmod(0o777 if what == "file" else 0o555)
        with without_root():
            error = refusal(f"sqlite:///{path}")
        Path(name).chmod(0o700)
    assert (error.reason, str(path) in error.detail) == ("read_only", True)


def test_a_database_from_a_newer_wakelog(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    open_store(f"sqlite:///{path}").close()
    connection = sqlite3.connect(path)
    later = "INSERT INTO wakelog_migrations (number, name, applied_at) VALUES (9999, 'later', '')"
    connection.execute(later)
    connection.commit()
    connection.close()
    error = refusal(f"sqlite:///{path}")
    assert error.reason == "wrong_version"
    assert "9999" in error.detail


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    store = open_store(f"sqlite:///{path}").application_recorder()
    store.append([UnitBuilder(f"o-{i}").begin() for i in range(500)])
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    assert refusal(f"sqlite:///{path}").reason == "damaged"


def test_a_full_disk_refuses_the_group_and_keeps_the_rest(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db?max_mib=1"
    store = open_store(url).application_recorder()
    count = 0

    def fill() -> None:
        nonlocal count
        while True:
            builders = [UnitBuilder(f"o-{count}-{i}") for i in range(10)]
            body = "x" * 2_000
            store.append(
                [builder.begin(kept_reply=kept_reply("k", NOW, body)) for builder in builders]
            )
            count += 1

    with pytest.raises(StoreUnavailableError) as caught:
        fill()
    assert caught.value.reason == "full"
    assert count > 5
    assert len(store.list(Listing(limit=9999))) == 10 * count
    assert store.max_notification_id() == 20 * count
    loser = UnitBuilder("o-0-0").begin()
    more = [
        UnitBuilder(f"p-{i}").begin(kept_reply=kept_reply("k", NOW, "x" * 9_000)) for i in range(90)
    ]
    with pytest.raises(StoreUnavailableError) as caught:
        store.append([loser, *more])  # one is in conflict: the rest is written again without it
    assert caught.value.reason == "full"
    assert len(store.list(Listing(limit=9999))) == 10 * count
    assert store.purge_kept_replies(NOW, 10_000) == 10 * count
    assert store.append([UnitBuilder("new").begin()]).errors == [None]
    store.close()


def test_the_log_of_recent_writes_is_cut_after_a_long_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_WAL_LIMIT", 1 << 20)
    path = tmp_path / "jobs.db"
    store = open_store(f"sqlite:///{path}").application_recorder()
    store.append([UnitBuilder().begin()])
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        # given another program that reads for long, while much is written
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM wakelog_stored_events").fetchone()
        reply = kept_reply("k", NOW, "x" * 1_000_000)
        for number in range(8):
            store.append([UnitBuilder(f"o-{number}").begin(kept_reply=reply)])
        assert wal_size(path) > 5_000_000
        reader.execute("COMMIT")
    # when it has ended
    for number in range(2):
        store.append([UnitBuilder(f"p-{number}").begin()])
    # then
    assert wal_size(path) == 1 << 20
    store.close()


def wal_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


# -- the lock


def test_the_lock_is_given_in_the_order_of_waiting() -> None:
    lock, order = FairLock(), list[int]()
    waiting = [threading.Event() for _ in range(3)]

    def wait(number: int) -> None:
        waiting[number].set()
        with lock:
            order.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(3)]
    with lock:
        for number, thread in enumerate(threads):
            thread.start()
            waiting[number].wait()
            while lock.waiting <= number:
                pass
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2]


def test_the_lock_survives_an_interrupted_wait() -> None:
    lock, held, release = FairLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait()

    def interrupt(*_: object) -> None:
        raise InterruptedError

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    with pytest.raises(InterruptedError):
        lock.__enter__()
    signal.signal(signal.SIGALRM, before)
    release.set()
    holder.join()
    with lock:
        pass


def test_a_connection_waits_while_another_sets_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE t (x)")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailableError) as caught:
        connect(StoreLocation(str(path), timeout_s=0.0))
    assert caught.value.reason == "locked"
    other.execute("COMMIT")
    connect(StoreLocation(str(path), timeout_s=0.0)).close()
    other.close()
