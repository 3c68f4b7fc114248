"""What a lease is worth between processes: who keeps it, who loses it, who takes it up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing

import pytest

from tests.acceptance.jobs_under_kill import Chore, chore, hog, jobs
from tests.acceptance.processes import PATIENCE_S, Child, Children, audited, is_quiet, wait_until
from tests.acceptance.recorded import check_waiting
from tests.support_stores import direct_access
from wakelog import BlockingApp
from wakelog.core.events import EventHandled, Executed, ExecutionLost, RetryExhausted, RunStarted
from wakelog.jobs import open_store
from wakelog.log.records import Recorded

HOUR_S = 3600
HOG = "task:hog:x"


def worker_of(event: RunStarted | ExecutionLost) -> int:
    """The pid of the worker that an event names."""
    return int(event.worker.split(":")[-2])


def starts(history: Sequence[Recorded]) -> list[tuple[int, int, int]]:
    """Run, attempt and worker of each start."""
    events = [recorded.event for recorded in history]
    return [(e.run, e.attempt, worker_of(e)) for e in events if isinstance(e, RunStarted)]


def runs_at(url: str, id: str) -> int:
    """The worker that has begun a run of a chore."""
    return starts(audited(url)[f"task:chore:{id}"])[-1][2]


def set_clock(worker: Child, seconds: float) -> None:
    """Set the clock of a worker on, or back."""
    worker.tell(str(seconds))
    while not worker.line().startswith("set "):
        pass


# -- who keeps it ----------------------------------------------------------------------------------


def test_U2_a_worker_whose_loop_is_blocked_keeps_its_lease(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given a run that holds up its worker's loop for several leases
    first = children.worker("2s", slots=1)
    app.task(hog).send("x", Chore(work_s=6))
    first.until("run", "x")
    # when another worker is there, which does what else there is to do
    second = children.worker("2s")
    app.task(chore).send("y", Chore(work_s=0.1))
    second.until("left", "y")
    # then nobody takes the run from the first
    first.until("left", "x")
    wait_until(lambda: is_quiet(app), first)
    history = audited(shared_url)["task:hog:x"]
    assert starts(history) == [(1, 1, first.pid)]
    assert [r.event.attempt for r in history if isinstance(r.event, Executed)] == [1]


def test_A1_a_worker_whose_loop_is_blocked_leaves_what_is_due_to_those_who_are_free(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given a worker with free slots, whose loop is held up by a run, and another one
    blocked = children.worker()
    app.task(hog).send("x", Chore(work_s=6))
    blocked.until("run", "x")
    free = children.worker(slots=1)
    # when alarms fall due meanwhile
    ids = {f"y-{number}" for number in range(10)}
    for id in ids:
        app.task(chore).send(id, Chore(work_s=0.01))
    # then the other one fires them all
    assert {free.until("left").id for _ in ids} == ids
    wait_until(lambda: {row.instance_id for row in app.list() if row.executing} == {HOG}, free)
    # when that one is gone, the first fires what is due as soon as its loop goes on
    free.kill()
    app.task(chore).send("late", Chore(work_s=0.01))
    assert [blocked.until("left", id).id for id in ("x", "late")] == ["x", "late"]
    wait_until(lambda: is_quiet(app), blocked)
    histories = audited(shared_url)
    assert {starts(histories[f"task:chore:{id}"])[0] for id in ids} == {(1, 1, free.pid)}
    assert starts(histories["task:chore:late"]) == [(1, 1, blocked.pid)]
    assert starts(histories[HOG]) == [(1, 1, blocked.pid)]


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
def test_U2_a_worker_whose_clock_is_set_keeps_its_runs(
    app: BlockingApp, shared_url: str, children: Children, seconds: float
) -> None:
    """On a file, by that clock, all its leases have ended."""
    # given runs that last several leases, and an alarm that is due soon
    worker = children.worker("2s")
    ids = [f"x-{number}" for number in range(3)]
    for id in ids:
        app.task(chore).send(id, Chore(work_s=5))
    for _ in ids:
        worker.until("run")
    # when the clock of their worker is set
    set_clock(worker, seconds)
    # then it begins none of them again
    for _ in ids:
        worker.until("left")
    wait_until(lambda: is_quiet(app), worker)
    histories = audited(shared_url)
    assert {id: starts(histories[f"task:chore:{id}"]) for id in ids} == {
        id: [(1, 1, worker.pid)] for id in ids
    }


def test_U2_a_worker_that_finds_its_leases_ended_keeps_its_runs(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    """As after a suspend, in which the store's clock went on."""
    worker = children.worker("6s")
    app.task(chore).send("x", Chore(work_s=3))
    worker.until("run", "x")
    # when its leases end before it has renewed them
    with direct_access(shared_url) as do:
        assert do("UPDATE {at}leases SET until_us = until_us - 60000000") == 1
    # and something else is due, so that it claims
    app.task(chore).send("y", Chore(work_s=0.01))
    worker.until("left", "y")
    worker.until("left", "x")
    wait_until(lambda: is_quiet(app), worker)
    assert starts(audited(shared_url)["task:chore:x"]) == [(1, 1, worker.pid)]


def test_U2_a_worker_that_has_just_started_takes_no_run_of_one_that_lives(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    """It starts when the store is back after an outage: the other one is about to renew."""
    first = children.worker("24s", slots=1)
    app.task(chore).send("x", Chore(work_s=6))
    first.until("run", "x")
    second = children.worker("24s")
    # when the leases have ended, and the second one claims
    with direct_access(shared_url) as do:
        assert do("UPDATE {at}leases SET until_us = until_us - 60000000") == 1
    app.task(chore).send("y", Chore(work_s=0.01))
    second.until("left", "y")
    # then the first goes on
    first.until("left", "x")
    wait_until(lambda: is_quiet(app), first)
    assert starts(audited(shared_url)["task:chore:x"]) == [(1, 1, first.pid)]


def test_U2_a_lease_lasts_as_long_whatever_its_workers_clock_says(
    postgres_url: str,
) -> None:
    """The server's clock judges it (a file has only those of the processes)."""
    with Children(postgres_url) as children:
        first = children.worker("2s")
        with jobs.open(postgres_url) as app:
            # given a run that lasts several leases
            app.task(chore).send("x", Chore(work_s=6))
            first.until("run", "x")
            second = children.worker("2s")
            # when the clocks of both workers jump meanwhile
            set_clock(first, -HOUR_S)
            set_clock(second, HOUR_S)
            # then nobody takes it from the first
            first.until("left", "x")
            wait_until(lambda: is_quiet(app), first)
    assert starts(audited(postgres_url)["task:chore:x"]) == [(1, 1, first.pid)]


# -- who takes it up -------------------------------------------------------------------------------


def test_A4_K1_a_run_of_a_killed_worker_is_taken_up_by_one_that_lives(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given three workers, one of which has begun
    workers = {worker.pid: worker for worker in [children.worker() for _ in range(3)]}
    app.task(chore).send("x", Chore(work_s=0.5))
    wait_until(lambda: app.task(chore).status("x").executing, next(iter(workers.values())))
    begun = runs_at(shared_url, "x")
    # when it is killed
    workers.pop(begun).kill()
    # then one of the others does it
    wait_until(lambda: is_quiet(app), next(iter(workers.values())))
    history = audited(shared_url)["task:chore:x"]
    (first, (run, attempt, second)) = starts(history)
    assert first == (1, 1, begun)
    assert (run, attempt, second in workers) == (1, 2, True)
    [lost] = [r.event for r in history if isinstance(r.event, ExecutionLost)]
    assert (worker_of(lost), lost.reason) == (begun, "lease_expired")


def test_U9_K1_a_run_is_taken_up_though_the_clock_of_its_worker_was_ahead(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    first = children.worker("2s")
    set_clock(first, HOUR_S)
    app.task(chore).send("x", Chore(work_s=5))
    first.until("run", "x")
    first.kill()
    # when another worker has the right clock, the lease lasts no longer than a lease
    second = children.worker("2s")
    assert second.until("run", "x").attempt == 2
    assert [run for *run, _ in starts(audited(shared_url)["task:chore:x"])] == [[1, 1], [1, 2]]


def test_R6_a_run_that_costs_worker_after_worker_is_given_up(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given a run whose worker dies each time
    app.task(chore).send("x", Chore(work_s=20))
    for attempt in (1, 2):
        worker = children.worker("300ms", max_lost=2)
        assert worker.until("run", "x").attempt == attempt
        worker.kill()
    # when the next one looks at it
    last = children.worker("300ms", max_lost=2)
    wait_until(lambda: app.task(chore).status("x").status == "failed", last)
    # then it is not begun again
    events = [recorded.event for recorded in audited(shared_url)["task:chore:x"]]
    [exhausted] = [event for event in events if isinstance(event, RetryExhausted)]
    assert (exhausted.run, exhausted.reason) == (1, "lost")
    assert len([event for event in events if isinstance(event, RunStarted)]) == 2


def test_K2_a_worker_that_ends_gives_back_and_another_takes_up_at_once(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given a run under a lease that would last for an hour, and another worker
    first = children.worker("1h", grace="0s")
    app.task(chore).send("x", Chore(work_s=20))
    first.until("run", "x")
    second = children.worker("1h")
    # when the first ends
    first.finish()
    assert first.ended() == 0
    # then the second goes on with it
    assert second.until("run", "x").attempt == 2
    history = audited(shared_url)["task:chore:x"]
    [lost] = [r.event for r in history if isinstance(r.event, ExecutionLost)]
    assert (worker_of(lost), lost.reason) == (first.pid, "shutdown")
    with closing(open_store(shared_url)) as factory:
        living = factory.application_recorder().workers(time.time_ns() // 1000)
    assert [worker.pid for worker in living] == [second.pid]


# -- what waits meanwhile --------------------------------------------------------------------------


def test_T15_what_meets_a_run_elsewhere_is_handled_after_it_though_its_worker_dies(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given a run in another process, and events that meet it
    first = children.worker("500ms")
    task = app.task(chore)
    task.send("x", Chore(work_s=1))
    first.until("run", "x")
    sent = [task.send("x", Chore(number=n, after_s=None)) for n in range(1, 6)]
    assert all(each.deferred for each in sent)
    assert [each.event_count for each in sent] == [2, 3, 4, 5, 6]
    # when its worker dies, and another one comes
    first.kill()
    second = children.worker("500ms")
    # then who waits hears of the last one, which is handled after the others and after the run
    task.send("x", Chore(number=6, after_s=None), wait=True, timeout=PATIENCE_S)
    state = task.get_state("x")
    assert state is not None
    assert (state.told, state.runs) == (7, 1)
    wait_until(lambda: is_quiet(app), second)
    history = audited(shared_url)["task:chore:x"]
    check_waiting(history)
    assert starts(history) == [(1, 1, first.pid), (1, 2, second.pid)]
    names = [type(recorded.event) for recorded in history]
    assert names.count(EventHandled) == 6
    assert names.index(Executed) < names.index(EventHandled)


# -- in which order --------------------------------------------------------------------------------


def test_A3_what_is_due_longest_is_first(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given alarms that fell due one after the other, in no order of their names
    ids = ["m", "c", "x", "a", "t", "b", "z", "k"]
    for id in ids:
        app.task(chore).send(id, Chore(work_s=0.02))
    # when a worker comes that has one hand
    worker = children.worker(slots=1)
    # then it takes them in that order
    assert [worker.until("run").id for _ in ids] == ids


# -- whose clock -----------------------------------------------------------------------------------


def test_A1_an_alarm_fires_by_the_clock_of_the_worker_that_fires_it(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    """Never before it by that clock, whatever other clocks say, and however it jumps."""
    # given an alarm in half an hour, one in an hour, and a worker
    worker = children.worker()
    for id, after_s in (("half", HOUR_S / 2), ("whole", HOUR_S)):
        app.task(chore).send(id, Chore(after_s=after_s, work_s=0.01))
    # when its clock is set on by forty minutes, the first fires; set back, neither would
    set_clock(worker, HOUR_S * 2 / 3)
    worker.until("left", "half")
    set_clock(worker, -HOUR_S * 2 / 3)
    app.task(chore).send("back", Chore(after_s=HOUR_S / 2, work_s=0.01))
    set_clock(worker, HOUR_S)
    # then each fired at or after its time, as the log has it
    worker.until("left", "back")
    worker.until("left", "whole")
    wait_until(lambda: is_quiet(app), worker)
    for history in audited(shared_url).values():
        [started] = [r for r in history if isinstance(r.event, RunStarted)]
        assert isinstance(started.event, RunStarted)
        assert started.at_us >= started.event.due_us
        assert started.at_us < started.event.due_us + HOUR_S * 1_000_000


def test_A1_a_worker_whose_clock_is_behind_leaves_alarms_to_others_until_they_are_due_for_it(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given a worker whose clock is an hour behind, which sees an alarm that is due
    late = children.worker()
    set_clock(late, -HOUR_S)
    app.task(chore).send("x", Chore(after_s=0, work_s=0.01))
    # when another one comes, whose clock is right
    right = children.worker()
    # then that one fires it
    assert right.until("run", "x").pid == right.pid
    wait_until(lambda: is_quiet(app), right)
    assert starts(audited(shared_url)["task:chore:x"]) == [(1, 1, right.pid)]
