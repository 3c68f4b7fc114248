"""The async app, the blocking app and the simulation offer the same calls: none is forgotten."""

from __future__ import annotations

import inspect
from typing import Any
from unittest.mock import create_autospec

import pytest

from tests import blocking_source
from tests.support import task_of
from wakelog import (
    App,
    BlockingApp,
    BlockingContinuousClient,
    BlockingDebounceClient,
    BlockingTaskClient,
    BlockingWorkerPoolClient,
    Continuous,
    ContinuousClient,
    Debounce,
    DebounceClient,
    Jobs,
    Task,
    TaskClient,
    WorkerPool,
    WorkerPoolClient,
)
from wakelog.client.job_types import CLIENTS
from wakelog.ids import KINDS
from wakelog.testing import Simulation

OF_THE_ENGINE = {"own", "start_worker", "is_closed", "is_idle", "application", "worker", "app",
                 "blocking"}  # fmt: skip
OF_THE_ENGINE |= {"deliveries", "followers", "others"}
"""What the engine's own parts call on an app; not offered to users."""


METHODS = {
    Task.kind: "task",
    Continuous.kind: "continuous",
    Debounce.kind: "debounce",
    WorkerPool.kind: "worker_pool",
}


def calls(value: object) -> set[str]:
    return {name for name in dir(value) if not name.startswith("_")} - OF_THE_ENGINE


def make_jobs() -> Jobs:
    pulse, batch = Continuous(state=int, every="1h"), Debounce(event=int, flush_after="1h")
    pulse.execute(lambda ctx: None)
    batch.execute(lambda ctx: None)
    pool: WorkerPool[int] = WorkerPool(event=int)
    pool.execute(lambda ctx, event: None)
    return Jobs(task=task_of(), pulse=pulse, batch=batch, pool=pool)


def test_the_blocking_app_has_each_call_of_the_async_one() -> None:
    with make_jobs().open("memory://") as app:
        assert calls(app.app) == calls(app)


def test_the_simulation_has_each_call_but_those_of_a_process() -> None:
    with Simulation(make_jobs()) as sim:
        assert calls(sim.app) - calls(sim) == set()


@pytest.mark.parametrize("name", ["task", "pulse", "batch", "pool"])
def test_a_blocking_client_has_each_call_of_the_async_one(name: str) -> None:
    with make_jobs().open("memory://") as app:
        kind = next(kind for kind in METHODS if name in app.names(kind))
        client: Any = getattr(app.app, METHODS[kind])(name)
        blocking: Any = getattr(app, METHODS[kind])(name)
        assert calls(client) == calls(blocking)
        assert getattr(app, METHODS[kind])(name) is blocking
        assert getattr(app.app, METHODS[kind])(name) is client


TWINS = [
    (App, BlockingApp),
    (TaskClient, BlockingTaskClient),
    (ContinuousClient, BlockingContinuousClient),
    (DebounceClient, BlockingDebounceClient),
    (WorkerPoolClient, BlockingWorkerPoolClient),
]


@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: twins[1].__name__)
def test_a_blocking_call_is_a_method_with_the_signature_and_words_of_the_async_one(
    twins: tuple[type[Any], type[Any]],
) -> None:
    asynchronous, blocking = twins
    spec = create_autospec(blocking)
    for call in calls(asynchronous) - {"name"}:
        one, other = getattr(asynchronous, call), getattr(blocking, call)
        assert inspect.isfunction(other), call
        assert not inspect.iscoroutinefunction(other), call
        assert other.__doc__, call
        if call not in {*METHODS.values(), "follow"}:  # what they answer differs
            assert inspect.signature(one) == inspect.signature(other), call
        with pytest.raises(TypeError):
            getattr(spec, call)(*range(10))
    assert blocking.__doc__


@pytest.mark.parametrize("module", blocking_source.MODULES, ids=lambda module: module.name)
def test_the_blocking_clients_are_what_make_blocking_makes(
    module: blocking_source.Module,
) -> None:
    """A call that was added to an async client is not forgotten."""
    found = module.path.read_text("utf-8")
    assert found == blocking_source.source_of(module), "run: make blocking"


def test_each_type_of_job_that_can_be_defined_has_a_client() -> None:
    methods = {"task", "continuous", "debounce", "worker_pool"}
    assert set(CLIENTS) == set(KINDS) == {d.kind for d in (Task, Continuous, Debounce, WorkerPool)}
    assert all(hasattr(app, each) for each in methods for app in (App, BlockingApp, Simulation))
