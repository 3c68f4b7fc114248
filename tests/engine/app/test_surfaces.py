"""The async app, the blocking app and the simulation offer the same calls: none is forgotten."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tests.support import task_of
from wakelog import App, BlockingApp, Continuous, Debounce, Jobs, Task, WorkerPool
from wakelog.client.job_types import CLIENTS
from wakelog.ids import KINDS
from wakelog.testing import Simulation

OF_THE_ENGINE = {"own", "start_worker", "is_closed", "is_idle", "application", "worker", "app"}
OF_THE_ENGINE |= {"deliveries", "followers", "others"}
"""What the engine's own parts call on an app; not offered to users."""


def calls(value: object) -> set[str]:
    return {name for name in dir(value) if not name.startswith("_")} - OF_THE_ENGINE


def make_jobs() -> Jobs:
    pulse, batch = Continuous(state=int, every="1h"), Debounce(event=int, flush_after="1h")
    pulse.execute(lambda ctx: None)
    batch.execute(lambda ctx: None)
    return Jobs(task=task_of(), pulse=pulse, batch=batch)


def test_the_blocking_app_has_each_call_of_the_async_one() -> None:
    with make_jobs().open("memory://") as app:
        assert calls(app.app) == calls(app)


def test_the_simulation_has_each_call_but_those_of_a_process() -> None:
    with Simulation(make_jobs()) as sim:
        assert calls(sim.app) - calls(sim) == set()


@pytest.mark.parametrize("name", ["task", "pulse", "batch"])
def test_a_blocking_client_has_each_call_of_the_async_one(name: str) -> None:
    with make_jobs().open("memory://") as app:
        kind = next(kind for kind in CLIENTS if name in app.names(kind))
        client: Any = getattr(app.app, kind)(name)
        blocking: Any = getattr(app, kind)(name)
        assert calls(client) == calls(blocking)
        for call in calls(client) - {"name"}:
            assert inspect.signature(getattr(client, call)) == inspect.signature(
                getattr(blocking, call)
            )
        assert getattr(app, kind)(name) is blocking
        assert getattr(app.app, kind)(name) is client


def test_each_type_of_job_that_can_be_defined_has_a_client() -> None:
    methods = {"task", "continuous", "debounce", "worker_pool"}
    assert set(CLIENTS) == set(KINDS) == {d.kind for d in (Task, Continuous, Debounce, WorkerPool)}
    assert all(hasattr(app, each) for each in methods for app in (App, BlockingApp, Simulation))
