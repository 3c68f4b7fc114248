"""Fixtures for the tests of the engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.clockwork import Winding, winding


@pytest.fixture
def wind(store_url: str) -> Iterator[Winding]:
    """Builds simulations of a Continuous job on one store; at the end all must add up."""
    with winding(store_url) as wind:
        yield wind


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Interrupts the main thread, as Ctrl-C does, when it next waits for the threads of a store."""
    due: list[KeyboardInterrupt] = []

    class Interrupted(threading.Barrier):
        def wait(self, timeout: float | None = None) -> int:
            if due and threading.current_thread() is threading.main_thread():
                raise due.pop()
            return super().wait(timeout)

    monkeypatch.setattr("wakelog.runtime.store_threads.Barrier", Interrupted)
    return lambda: due.append(KeyboardInterrupt())
