"""Following the log of an SQL store while it cannot answer, and until it is closed."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest
from eventsourcing.persistence import Notification, ProgrammingError

from tests.support import WAIT_S
from wakelog.errors import IntegrityError, StoreUnavailableError
from wakelog.jobs import open_store as open_any
from wakelog_adapters.conformance.units import UnitBuilder
from wakelog_adapters.sql import subscription
from wakelog_adapters.sql.subscription import LogListeners
from wakelog_adapters.sqlite import open_store


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that could not answer is asked again at once."""
    monkeypatch.setattr(subscription, "PAUSE_S", 0.001)


@pytest.mark.parametrize(
    "error",
    [StoreUnavailableError("unreachable", "away"), OSError("too many open files"), MemoryError()],
)
def test_a_store_that_cannot_answer_for_a_while_is_asked_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with closing(open_store(sqlite_url)) as factory:
        store, builder = factory.application_recorder(), UnitBuilder()
        store.append([builder.begin()])
        select, failed = store.select_notifications, threading.Event()

        def fail_once(*args: Any, **options: Any) -> Any:
            if not failed.is_set():
                failed.set()
                raise error
            return select(*args, **options)

        monkeypatch.setattr(store, "select_notifications", fail_once)
        with store.subscribe(gt=1) as followed:
            assert next(followed).originator_version == 2
            assert failed.is_set()


@pytest.mark.parametrize("error", [IntegrityError("s", 1, "broken"), ProgrammingError("no")])
def test_what_asking_again_cannot_mend_is_raised_to_the_reader(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with closing(open_store(sqlite_url)) as factory:
        store = factory.application_recorder()

        def fail(*args: Any, **options: Any) -> Any:
            raise error

        monkeypatch.setattr(store, "select_notifications", fail)
        with store.subscribe() as followed, pytest.raises(type(error)):
            next(followed)


def test_closing_the_store_ends_what_follows_it(shared_url: str) -> None:
    store = open_any(shared_url).application_recorder()
    followed = store.subscribe()
    found: list[Notification | BaseException] = []

    def follow() -> None:
        try:
            found.extend(followed)
        except BaseException as error:
            found.append(error)

    reader = threading.Thread(target=follow)
    reader.start()
    store.close()
    reader.join(WAIT_S)
    assert not reader.is_alive()
    assert isinstance(found[-1], Exception)


def test_listeners_may_come_and_go_while_appends_end() -> None:
    listeners, events = LogListeners(), [threading.Event() for _ in range(3)]
    for event in events:
        listeners.add(event)
    listeners.discard(events[1])
    listeners.notify()
    assert [event.is_set() for event in events] == [True, False, True]
