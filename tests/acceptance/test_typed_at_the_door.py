"""U4, U11: whatever a caller gives, the error is one of ours, can be shown and pickled."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support import WAIT_S
from wakelog import (
    Backoff,
    Continuous,
    Debounce,
    Fair,
    Jobs,
    Retry,
    StoreUnavailableError,
    Task,
    ValidationError,
    WakelogError,
    WorkerPool,
)
from wakelog.bounds import MAX_NUMBER
from wakelog.settings import Settings, WorkerSettings
from wakelog.testing import Simulation

HUGE = 10**5_000
"""Python refuses to write it as text."""


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("it cannot be shown")


def deep() -> list[Any]:
    """A list that `repr` cannot show, and JSON cannot hold."""
    value: list[Any] = []
    for _ in range(50_000):
        value = [value]
    return value


STRANGE: dict[str, Any] = {
    "huge": HUGE,
    "hugely negative": -HUGE,
    "deep": deep(),
    "surrogate": "a\ud800",
    "unshown": Unshown(),
    "list": [1],
    "bytes": b"x",
    "nan": float("nan"),
    "type": int,
    "naive": datetime(2026, 1, 1),  # noqa: DTZ001
    "text": "x" * 100_000,
}


def refused(call: Callable[[], Any]) -> None:
    """It is answered, or refused with an error of ours that can be shown, logged and sent."""
    try:
        call()
    except WakelogError as error:
        for text in (str(error), repr(error), str(pickle.loads(pickle.dumps(error)))):
            text.encode()


def order() -> Task[Any, Any]:
    task: Task[Any, Any] = Task(state=dict, event=dict)
    task.on_event(lambda ctx, event: ctx.schedule("1h"))
    task.execute(lambda ctx: None)
    return task


@pytest.mark.parametrize("name", STRANGE)
def test_U4_requests_with_strange_values(name: str) -> None:
    value = STRANGE[name]
    pool: WorkerPool[Any] = WorkerPool(event=dict)
    pool.execute(lambda ctx, event: None)
    with Simulation(Jobs(order=order(), pool=pool)) as sim:
        sim.task("order").send("a", {})
        task, pool_of = sim.task("order"), sim.worker_pool("pool")
        calls: list[Callable[[], Any]] = [
            lambda: sim.pause(value),
            lambda: sim.resume(value),
            lambda: sim.task(value),
            lambda: sim.names(value),
            lambda: sim.list(type=value),
            lambda: sim.list(limit=value),
            lambda: sim.bulk(value),
            lambda: sim.history(value),
            lambda: sim.state_at("task:order:a", version=value),
            lambda: sim.advance(value) if not isinstance(value, int) else None,
            lambda: task.send(value, {}),
            lambda: task.send("a", value),
            lambda: task.send("a", {"n": value}),
            lambda: task.send("a", {}, event_id=value),
            lambda: task.send("a", {}, delay=value),
            lambda: task.send("a", {}, at=value),
            lambda: task.send("a", {}, actor=value),
            lambda: task.pause("a", reason=value),
            lambda: task.clear("a", after=value),
            lambda: task.trigger("a", wait=False, timeout=value),
            lambda: task.discard("a", value),
            lambda: pool_of.enqueue(value),
            lambda: pool_of.enqueue({}, priority=value),
            lambda: pool_of.enqueue({}, partition_key=value),
            lambda: pool_of.requeue([value]),
            lambda: pool_of.discard(value),
            lambda: pool_of.set_priority(value, ["a"]),
            lambda: pool_of.dead_letters(after=value),
        ]
        for call in calls:
            refused(call)
        assert sim.count(type="task") >= 1


@pytest.mark.parametrize("name", STRANGE)
def test_U4_definitions_with_strange_values(name: str) -> None:
    value = STRANGE[name]
    calls: list[Callable[[], Any]] = [
        lambda: Task(state=value, event=value),
        lambda: Debounce(event=value, flush_after="1s"),
        *(
            lambda what=what: Task(state=int, event=int, **{what: value})
            for what in ("max_running",)
        ),
        *(lambda what=what: Retry(**{what: value}) for what in ("max_attempts", "delay", "jitter")),
        *(lambda what=what: Continuous(state=int, **{what: value}) for what in ("every", "cron")),
        *(
            lambda what=what: WorkerPool(event=int, **{what: value})
            for what in ("concurrency", "rate_limit", "max_pending", "fair")
        ),
        lambda: Retry(retry_if=value),
        lambda: Backoff.exponential(value, value, value),
        lambda: Debounce(event=int, flush_after=value, max_events=value),
        lambda: Fair(value),
        lambda: Fair("tenant", weights=value),
        lambda: Fair("tenant", weights={"big": value}),
        lambda: Jobs(job=value),
        lambda: order().execute(timeout=value),
        lambda: Simulation(value),
        lambda: Simulation(Jobs(order=order()), seed=value).close(),
        lambda: Simulation(Jobs(order=order()), settings=value).close(),
        lambda: Simulation(Jobs(order=order()), url=value).close(),
        lambda: Jobs(order=order()).open(value).__enter__(),
    ]
    for call in calls:
        refused(call)


def test_U4_what_is_no_type_is_refused_where_it_is_given() -> None:
    strange: list[Any] = ["5m", "list[", "a\ud800", "a\0b", {}, HUGE, [int]]
    for type_ in strange:
        with pytest.raises(ValidationError, match="the type given as state="):
            Task(state=type_, event=int)
        with pytest.raises(ValidationError, match="the type given as event="):
            Task(state=int, event=type_)


URLS = [
    "sqlite:///a\ud800.db",
    "sqlite:///a.db?max_mib=" + "9" * 5_000,
    "postgresql://me:secret\ud800@host/db",
    "postgresql://me:secret@host/db?application_name=\ud800",
    "postgresql://me:secret@host/db?options=%ff",
    "postgresql://me:secret@host/db?pool=" + "9" * 5_000,
    "postgresql://me:secret@host/db\0",
]


@pytest.mark.parametrize("number", range(len(URLS)))
def test_U4_a_url_that_no_driver_can_take_is_refused(number: int) -> None:
    with pytest.raises(ValidationError) as raised, Jobs(order=order()).open(URLS[number]):
        pass
    shown = str(raised.value)
    shown.encode()
    assert "secret" not in shown


def test_K3_a_relative_path_in_a_folder_that_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(StoreUnavailableError, match="the current folder is gone"):
        Simulation(Jobs(order=order()), url="sqlite:///jobs.db")
    Simulation(Jobs(order=order()), url=f"sqlite:///{tmp_path}/jobs.db").close()


def test_U5_the_failure_of_an_error_whose_class_has_a_strange_name_is_recorded(
    store_url: str,
) -> None:
    class Strange(Exception):
        pass

    Strange.__qualname__ = "A\ud800\0" + "x" * 1_000

    def fails(ctx: Any) -> None:
        raise Strange(HUGE)

    task: Task[Any, Any] = Task(state=int, event=int)
    task.on_event(lambda ctx, event: ctx.schedule(0))
    task.execute(fails)
    with Simulation(Jobs(order=task), url=store_url) as sim:
        sim.task(task).send("a", 1)
        sim.run_until_idle()
        status = sim.task(task).status("a")
    assert (status.status, status.failure_count) == ("failed", 1)
    assert status.last_error is not None
    assert status.last_error.type[:12] == "A\\ud800\\x00x"
    assert len(status.last_error.type) <= 255


def opening(**options: Any) -> Any:
    return Jobs(order=order()).open("memory://", **options)


NUMBERS: dict[str, Callable[[Any], Any]] = {
    "max_running": lambda n: Task(state=int, event=int, max_running=n),
    "max_waiting": lambda n: Task(state=int, event=int, max_waiting=n),
    "max_catch_up": lambda n: Continuous(state=int, every="1h", max_catch_up=n),
    "max_events": lambda n: Debounce(event=int, flush_after="1s", max_events=n),
    "pool's concurrency": lambda n: WorkerPool(event=int, concurrency=n),
    "max_pending": lambda n: WorkerPool(event=int, max_pending=n),
    "rate_limit": lambda n: WorkerPool(event=int, rate_limit=(n, "1s")),
    "max_attempts": lambda n: Retry(max_attempts=n),
    "standard": Retry.standard,
    "concurrency": lambda n: opening(concurrency=n),
    "threads": lambda n: opening(threads=n),
    "cache": lambda n: opening(cache=n),
    "snapshot_every": lambda n: opening(snapshot_every=n),
    "max_lost": lambda n: opening(max_lost=n),
    "lease_us": lambda n: Settings(lease_us=n),
    "grace_us": lambda n: Settings(grace_us=n),
    "idempotency_window_us": lambda n: Settings(idempotency_window_us=n),
    "sweep_us": lambda n: WorkerSettings(sweep_us=n),
}


@pytest.mark.parametrize("what", NUMBERS)
@pytest.mark.parametrize("number", [2**63, HUGE, -HUGE, 1.5, True], ids=lambda n: type(n).__name__)
def test_U4_a_number_out_of_bounds_is_refused_where_it_is_given(what: str, number: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        NUMBERS[what](number)
    assert caught.value.issues[0]["type"] in ("bound", "value")


@pytest.mark.parametrize("what", [each for each in NUMBERS if not each.endswith("_us")])
def test_U4_a_number_that_a_store_cannot_keep_is_refused(what: str) -> None:
    with pytest.raises(ValidationError, match="at most"):
        NUMBERS[what](2**31)


def test_U4_numbers_of_calls_have_a_bound_too() -> None:
    with Simulation(Jobs(order=order())) as sim:
        calls: list[Callable[[], Any]] = [
            lambda: sim.list(limit=HUGE),
            lambda: sim.dead_letters(limit=HUGE),
            lambda: sim.bulk("retry", limit=HUGE),
            lambda: sim.state_at("task:order:a", version=HUGE),
            lambda: sim.task("order").discard("a", HUGE),
            lambda: sim.run_until_idle(limit=HUGE),
        ]
        for call in calls:
            with pytest.raises(ValidationError, match="at most"):
                call()


def test_U4_a_worker_works_with_the_largest_numbers(store_url: str) -> None:
    most: Any = MAX_NUMBER
    job: Task[Any, Any] = Task(state=dict, event=dict, max_running=most, max_waiting=most)
    job.on_event(lambda ctx, event: None)
    job.execute(lambda ctx: None)
    pool: WorkerPool[Any] = WorkerPool(event=dict, max_pending=most, rate_limit=(most, "1s"))
    pool.execute(lambda ctx, event: None)
    limits: dict[str, Any] = dict.fromkeys(("cache", "snapshot_every", "max_lost", "threads"), most)
    with Jobs(job=job, pool=pool).open(
        store_url, worker=True, concurrency=most, grace="1s", **limits
    ) as app:
        app.task(job).send("a", {})
        assert app.task(job).trigger("a", timeout=WAIT_S).triggered
        event = app.worker_pool(pool).enqueue({})
        assert app.worker_pool(pool).wait(event.event_id, WAIT_S).status == "completed"


def test_U4_a_filter_that_there_is_not_is_named() -> None:
    with Simulation(Jobs(order=order())) as sim:
        filters: dict[str, Any] = {"aftre": None}
        page: dict[str, Any] = {"after": None}
        calls: list[Callable[[], Any]] = [
            lambda: sim.list(**filters),
            lambda: sim.dead_letters(**filters),
            lambda: sim.count(**filters),
            lambda: sim.bulk("retry", **page),
            lambda: sim.bulk("discard", **filters),
        ]
        for call in calls:
            with pytest.raises(ValidationError, match=r"filter 'aft.*give one of type, name"):
                call()


@pytest.mark.parametrize("verb", ["get", "why", "wait", "history"])
def test_U4_an_event_id_that_is_too_long_is_not_repeated(verb: str) -> None:
    pool: WorkerPool[Any] = WorkerPool(event=dict)
    pool.execute(lambda ctx, event: None)
    with Simulation(Jobs(pool=pool)) as sim:
        with pytest.raises(ValidationError, match=r"^event id 'x+\.\.\.") as caught:
            getattr(sim.worker_pool(pool), verb)("x" * 100_000)
        assert len(str(caught.value)) < 200
