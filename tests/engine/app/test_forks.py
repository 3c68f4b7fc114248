"""A process that is forked while an app is open (gunicorn --preload, multiprocessing): E3."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from tests.forking import in_forked_process
from tests.support import WAIT_S, task_of
from wakelog import Jobs, WorkerPool
from wakelog.testing import Simulation

pool: WorkerPool[int] = WorkerPool(event=int, concurrency=2)


@pool.execute
async def nothing(ctx: Any, event: int) -> None:
    """Take it."""


def make_jobs() -> Jobs:
    return Jobs(job=task_of(), pool=pool)


CALLS: dict[str, Callable[[Any], Any]] = {
    "send": lambda app: app.task("job").send("b", {}),
    "wait": lambda app: app.task("job").trigger("a", timeout=WAIT_S),
    "status": lambda app: app.task("job").status("a", stale_ok=True),
    "list": lambda app: app.list(),
    "workers": lambda app: app.workers(),
    "bulk": lambda app: app.bulk("pause", name="job"),
    "enqueue": lambda app: app.worker_pool("pool").enqueue(1),
    "pool": lambda app: app.worker_pool("pool").wait("#1.1"),
    "metrics": lambda app: app.metrics(),
}


def closed(app: Any) -> str:
    app.close()
    return "closed" if app.app.is_closed else "still open"


@pytest.mark.parametrize("worker", [False, True])
def test_E3_a_forked_process_is_told_at_once_to_open_an_app_of_its_own(
    store_url: str, worker: bool
) -> None:
    # given an app that is open, and has been used
    with make_jobs().open(store_url, worker=worker) as app:
        app.task("job").send("a", {"set_state": 1})
        # when it is used in a forked process
        for call in CALLS.values():
            said = in_forked_process(lambda call=call: str(call(app)))  # type: ignore[misc]
            # then it says what to do
            assert said.startswith("InvalidStateError: this process was forked after"), said
            assert "jobs.open(...)" in said
        # and there is nothing to close in it
        assert in_forked_process(lambda: closed(app)) == "still open"
        # and the app goes on
        app.task("job").send("a", {"set_state": 2})
        assert app.task("job").get_state("a") == 2


def test_E3_so_is_an_event_loop_of_a_forked_process(store_url: str) -> None:
    # given an async app, and a process that is forked on its loop
    async def main() -> None:
        async with make_jobs().open(store_url, worker=True) as app:
            await app.task("job").send("a", {"set_state": 1})
            calls = {name: call for name, call in CALLS.items() if name != "metrics"}

            async def used(call: Callable[[Any], Any]) -> str:
                return str(await call(app))

            for call in calls.values():
                said = in_forked_process(lambda call=call: asyncio.run(used(call)))  # type: ignore[misc]
                assert said.startswith("InvalidStateError: this process was forked after"), said
            assert in_forked_process(lambda: asyncio.run(used(lambda app: app.close()))) == "None"
            await app.task("job").send("a", {"set_state": 2})
            assert await app.task("job").get_state("a") == 2

    asyncio.run(main())


def test_E3_it_may_open_one_of_its_own_beside_the_other(shared_url: str) -> None:
    # given
    jobs = make_jobs()

    def work() -> str:
        with jobs.open(shared_url, worker=True) as own:
            own.task("job").send("b", {"set_state": 7})
            return str(own.task("job").get_state("a"))

    with jobs.open(shared_url, worker=True) as app:
        app.task("job").send("a", {"set_state": 1})
        # when, then
        assert in_forked_process(work) == "1"
        assert app.task("job").get_state("b") == 7


def test_E3_a_store_in_memory_is_empty_in_a_forked_process() -> None:
    # given
    jobs, url = make_jobs(), "memory://forked"

    def look() -> str:
        with jobs.open(url) as own:
            return own.task("job").status("a").status

    with jobs.open(url) as app:
        app.task("job").send("a", {"set_state": 1})
        # then a copy, which would differ from then on, is not taken for it
        assert in_forked_process(look) == "not_found"


def test_E3_multiprocessing_that_forks_is_told_so(shared_url: str) -> None:
    # given
    with make_jobs().open(shared_url) as app, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        forking = multiprocessing.get_context("fork")
        answers = forking.SimpleQueue()

        def target() -> None:
            try:
                app.task("job").send("a", {})
            except Exception as error:
                answers.put(type(error).__name__)

        # when
        process = forking.Process(target=target)
        process.start()
        process.join(WAIT_S)
        # then
        assert (process.exitcode, answers.get()) == (0, "InvalidStateError")


def closed_simulation(sim: Simulation) -> str:
    sim.close()
    return "closed" if sim.is_closed else "still open"


def test_I4_a_step_in_a_process_that_a_handler_forked_is_refused(store_url: str) -> None:
    """Its result could not be recorded: the event loop that does it is in the other process."""
    # given handlers that fork, each with a step
    task, said = task_of(), {}
    forking: WorkerPool[int] = WorkerPool(event=int)

    @task.execute
    def in_a_run(ctx: Any) -> None:
        said["task"] = in_forked_process(lambda: str(ctx.step_blocking("step", lambda: 1)))

    @forking.execute
    def of_a_pool(ctx: Any, event: int) -> None:
        said["pool"] = in_forked_process(lambda: str(ctx.step_blocking("step", lambda: event)))
        said["here"] = str(ctx.step_blocking("step", lambda: event))

    with Jobs(job=task, pool=forking).open(store_url, worker=True) as app:
        # when they are called
        app.task("job").send("a", {})
        app.task("job").trigger("a", timeout=WAIT_S)
        item = app.worker_pool("pool").enqueue(7).event_id
        app.worker_pool("pool").wait(item, timeout=WAIT_S)
    # then the forked process is told so, and the other goes on
    for key in ("task", "pool"):
        assert said[key].startswith("InvalidStateError: this process was forked after"), said
    assert said["here"] == "7"


USES: dict[str, Callable[[Simulation], Any]] = {
    "advance": lambda sim: sim.advance("1h"),
    "advance_to": lambda sim: sim.advance_to(sim.now),
    "run_until_idle": lambda sim: sim.run_until_idle(),
    "fire": lambda sim: sim.fire("task:job:a"),
    "alarms": lambda sim: sim.alarms(),
    "events": lambda sim: sim.events("task:job:a"),
    "crash_next": lambda sim: sim.crash_next("before_write"),
    "restart": lambda sim: sim.restart(),
    "send": lambda sim: sim.task("job").send("a", {}),
    "metrics": lambda sim: sim.metrics(),
}


def test_E3_a_simulation_too_is_of_the_process_that_made_it(store_url: str) -> None:
    if store_url.startswith("postgres"):
        store_url += "&clock=given"
    # given a simulation with an alarm
    with Simulation(make_jobs(), url=store_url) as sim:
        sim.task("job").send("a", {"schedule": "1m"})
        # when it is used in a forked process
        for use in USES.values():
            said = in_forked_process(lambda use=use: str(use(sim)))  # type: ignore[misc]
            # then that is refused
            assert said.startswith("InvalidStateError: this process was forked after"), said
        # and there is nothing to close in it
        assert in_forked_process(lambda: closed_simulation(sim)) == "still open"
        # and the simulation goes on as if nothing had been
        assert sim.advance("1h") == 1
        assert sim.task("job").status("a").execute_count == 1


LEAVES = """
import gc, os, sys, warnings
from wakelog import Jobs, Task
warnings.simplefilter("ignore", DeprecationWarning)
task = Task(state=int, event=int)
task.on_event(lambda ctx, event: ctx.set_state(event))
with Jobs(task=task).open(sys.argv[1], worker=True) as app:
    app.task("task").send("a", 1)
    child = os.fork()
    if not child:
        gc.collect()
        sys.exit(7)
    print("ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    for event in range(2, 5):
        app.task("task").send("a", event)
    print(app.task("task").get_state("a"), sum(app.metrics().values()) - app.metrics()["appends"]
          - app.metrics()["units"])
"""


def test_E3_a_forked_process_that_leaves_the_context_harms_nothing(shared_url: str) -> None:
    """It ends as an interpreter does, with all that it has inherited: no session of the other
    process is ended, and no file of it is removed."""
    command = [sys.executable, "-W", "error", "-c", LEAVES, shared_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
    assert (done.returncode, done.stdout) == (0, "ended with 7\n4 0\n"), done.stderr
