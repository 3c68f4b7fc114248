"""A process that is forked while an SQLite file is open, and opens it itself (E3).

SQLite counts its locks for each process: beside a connection that was inherited, a new one would
rely on locks of the other process.
"""

from __future__ import annotations

import os
import threading
from contextlib import closing

import pytest

from tests.forking import in_forked_process
from tests.support import WAIT_S
from wakelog.ports.rows import Listing
from wakelog_adapters.conformance.units import UnitBuilder
from wakelog_adapters.sqlite import SQLiteStore, open_store


def store_at(url: str) -> SQLiteStore:
    return open_store(url).application_recorder()


def test_E3_what_it_writes_stays_when_the_other_process_closes_the_file(sqlite_url: str) -> None:
    # given a store that has read and written, and a process that is forked then
    store = store_at(sqlite_url)
    store.append([UnitBuilder("task:job:a").begin()])
    assert len(store.list(Listing(limit=10))) == 1
    assert store.max_notification_id()
    to_child, from_child = os.pipe(), os.pipe()

    def work() -> str:
        with closing(store_at(sqlite_url)) as own:
            own.append([UnitBuilder("task:job:b").begin()])
            os.write(from_child[1], b"open")
            os.read(to_child[0], 1)
            # when the other one has closed the file, this one goes on
            own.append([UnitBuilder("task:job:c").begin()])
            return str(len(own.list(Listing(limit=10))))

    def close_meanwhile() -> None:
        os.read(from_child[0], 4)
        store.close()
        os.write(to_child[1], b"!")

    closer = threading.Thread(target=close_meanwhile)
    answers: list[str] = []
    forked = threading.Event()

    def fork() -> None:
        forked.set()
        answers.append(in_forked_process(work))

    forker = threading.Thread(target=fork)
    forker.start()
    assert forked.wait(WAIT_S)
    closer.start()
    forker.join(WAIT_S)
    closer.join(WAIT_S)
    # then nothing is lost
    assert answers == ["3"]
    with closing(store_at(sqlite_url)) as later:
        assert len(later.list(Listing(limit=10))) == 3


def test_E3_a_file_that_a_thread_was_using_at_the_fork_is_refused(sqlite_url: str) -> None:
    # given a thread that writes
    store = store_at(sqlite_url)
    with store.writing():
        # when a process is forked, and opens the file
        said = in_forked_process(lambda: str(store_at(sqlite_url)))
    # then it says so
    assert said.startswith("InvalidStateError: this process was forked while another thread"), said
    assert "spawn" in said
    store.append([UnitBuilder("task:job:a").begin()])
    # and one that is forked when nothing is under way opens it
    assert in_forked_process(lambda: str(store_at(sqlite_url).max_notification_id())) != ""
    store.close()


@pytest.mark.parametrize("call", ["close", "__del__"])
def test_E3_to_close_what_was_inherited_does_nothing(sqlite_url: str, call: str) -> None:
    factory = open_store(sqlite_url)
    store = factory.application_recorder()
    store.append([UnitBuilder("task:job:a").begin()])
    owner = store if call == "close" else factory.datastore.pool
    assert in_forked_process(lambda: str(getattr(owner, call)())) == "None"
    store.append([UnitBuilder("task:job:b").begin()])
    store.close()
