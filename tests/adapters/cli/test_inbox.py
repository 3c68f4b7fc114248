"""`wakelog inbox`: events sent in transactions that are not taken up yet (E1)."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from tests.adapters.cli.command_line import CommandLine
from tests.support import counter_task
from wakelog import Jobs
from wakelog.jobs import open_store
from wakelog.ports.inbox import InboxHold

JOBS = Jobs(counter=counter_task())


@pytest.fixture
def url(sqlite_url: str) -> str:
    """Two events are in the inbox, and the first one was refused."""
    path = sqlite_url.removeprefix("sqlite:///")
    with JOBS.open(sqlite_url) as app, closing(sqlite3.connect(path)) as connection:
        for id in ("a", "b"):
            app.task("counter").send(id, 1, connection=connection)
        connection.commit()
    with closing(open_store(sqlite_url)) as factory:
        store = factory.application_recorder()
        store.inbox_hold(InboxHold(store.inbox_list(0, 1)[0].n, 0, "KeyError: used", True))
    return sqlite_url


def test_rows_are_listed_tried_again_and_dropped(wakelog: CommandLine, url: str) -> None:
    listed = wakelog("inbox", "list", "--url", url).stdout
    assert "task:counter:a" in listed
    assert "KeyError: used" in listed
    rows = json.loads(wakelog("inbox", "list", "--url", url, "--json").stdout)["rows"]
    assert [row["status"] for row in rows] == ["refused", "waiting"]
    first, second = (str(row["number"]) for row in rows)
    # when
    assert "tried again" in wakelog("inbox", "retry", first, "--url", url).stdout
    assert "dropped" in wakelog("inbox", "drop", second, "--url", url).stdout
    # then
    rows = json.loads(wakelog("inbox", "list", "--url", url, "--json").stdout)["rows"]
    assert [row["status"] for row in rows] == ["waiting"]
    again = wakelog("inbox", "drop", second, "--url", url)
    assert (again.exit_code, again.stdout) == (1, f"row {second}  is not in the inbox\n")
    wakelog("inbox", "drop", first, "--url", url)
    assert "empty" in wakelog("inbox", "list", "--url", url).stdout


def test_the_doctor_tells_of_what_is_not_taken_up(wakelog: CommandLine, url: str) -> None:
    def said() -> str:
        return " ".join(wakelog("doctor", url).stdout.split())

    assert "1 event for task:counter refused in the inbox (KeyError: used)" in said()
    wakelog("inbox", "drop", "1", "--url", url)
    assert "1 event for task:counter in the inbox: no running worker knows it" in said()
