"""Several processes on one store: each event counts once, each run has one place (U2, K1)."""

from __future__ import annotations

import signal
from collections import Counter
from itertools import groupby, pairwise

from tests.acceptance.jobs_under_kill import AT_A_TIME, Chore, chore, counter, jobs, narrow
from tests.acceptance.processes import LOOK_S, Child, Children, Said, audited, is_quiet, wait_until
from tests.auditing import runs_of
from tests.support_postgres import with_options
from wakelog import BlockingApp, StoreUnavailableError
from wakelog.core.events import (
    EventReceived,
    Executed,
    ExecutionLost,
    RunStarted,
    Scheduled,
    StateSet,
)
from wakelog.log.records import Recorded

BOUND_US = 2_000_000
"""How late a worker may notice what another process has appended."""


# -- senders ---------------------------------------------------------------------------------------


def test_K1_what_a_killed_sender_was_acknowledged_is_recorded(
    shared_url: str, children: Children
) -> None:
    # given senders in a tight loop, each killed after so many acknowledged sends
    acknowledged: list[int] = []
    for kill, lines in enumerate([1, 23, 58, 104]):
        sender = children.start("sender", str(1_000_000 * kill)).ready()
        mine = [int(sender.line()) for _ in range(lines)]
        mine += [int(line) for line in sender.kill()]
        acknowledged += mine
        # then all of those is recorded, and of the rest at most the one that was under way
        recorded = _numbers(audited(shared_url))
        assert len(recorded) == len(set(recorded)), "a send is recorded twice"
        assert set(acknowledged) <= set(recorded)
        unacknowledged = {number for number in recorded if number // 1_000_000 == kill} - set(mine)
        assert unacknowledged <= {mine[-1] + 1}
        acknowledged += unacknowledged
    # and each is there with its state and its alarm, in one commit
    for history in audited(shared_url).values():
        for _, unit in groupby(history, key=lambda recorded: recorded.commit):
            names = [type(recorded.event) for recorded in unit]
            assert names[-3:] == [EventReceived, StateSet, Scheduled]


def _numbers(histories: dict[str, list[Recorded]]) -> list[int]:
    events = [recorded.event for history in histories.values() for recorded in history]
    payloads = [e.payload or "" for e in events if isinstance(e, EventReceived)]
    return [Chore.model_validate_json(payload).number for payload in payloads]


def test_U2_200_increments_from_four_processes_end_at_200(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given a worker, and four processes that are ready to send
    worker = children.worker()
    adders = [children.start("adder", "n", "50") for _ in range(4)]
    for adder in adders:
        adder.ready()
    # when each sends 50 events at once
    for adder in adders:
        adder.tell("go")
    deferred = sum(int(adder.line().split()[1]) for adder in adders)
    # then each counts once, also those that lost so often that they were deferred
    task = app.task(counter)
    wait_until(lambda: task.status("n").deferred_count == 0, worker)
    assert (task.get_state("n"), task.status("n").event_count) == (200, 200)
    [history] = audited(shared_url).values()
    received = [r.event for r in history if isinstance(r.event, EventReceived)]
    assert sum(event.deferred for event in received) == deferred
    print(f"{deferred} of 200 were deferred")


# -- workers ---------------------------------------------------------------------------------------


def test_U2_two_workers_share_the_runs_and_none_overlaps(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given two workers, when more is due than one of them can take, until both take some
    workers = [children.worker("10s", slots=2), children.worker("10s", slots=2)]
    task = app.task(chore)
    lines: list[str] = []
    working: set[int] = set()
    for number in range(10_000):
        if number >= 60 and len(working) == 2:
            break
        event = Chore(number=number, after_s=(0, 0.05)[number % 2], work_s=0.05)
        task.send(f"w-{number % 6}", event)
        for worker in workers:
            if line := worker.line_if_any(0):
                lines.append(line)
                working.add(worker.pid)
    for worker in workers:
        lines += wait_until(lambda: is_quiet(app), worker)
    for worker in workers:
        lines += worker.kill()
    # then each run is begun once, by one of them, and the next one after its end
    said = sorted((Said.of(line) for line in lines), key=lambda said: said.at_us)
    begun = Counter((line.id, line.run, line.attempt) for line in said if line.what == "run")
    assert set(begun.values()) == {1}
    assert {attempt for _, _, attempt in begun} == {1}
    assert {line.pid for line in said} == {worker.pid for worker in workers}
    for id in {line.id for line in said}:
        edges = [line for line in said if line.id == id and line.what in ("run", "left")]
        assert len(edges) % 2 == 0
        for first, second in zip(edges[::2], edges[1::2], strict=True):
            assert (first.what, second.what, first.run) == ("run", "left", second.run)
        runs = [line.run for line in edges if line.what == "run"]
        assert all(after == before + 1 for before, after in pairwise(runs))
    # and the history has the same runs
    recorded = {
        (stream.split(":")[2], run, attempt)
        for stream, history in audited(shared_url).items()
        for _, run, attempt in runs_of(history)
    }
    assert recorded == set(begun)


def test_A6_a_limit_on_runs_holds_over_processes_and_kills(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given two workers, and always more due than may run at a time, until the first takes some
    first, second = children.worker(), children.worker()
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            app.task(narrow).send(f"n-{sent}", Chore(work_s=0.05))
            sent += 1

    send(10)
    lines: list[str] = []
    for _ in range(1000):
        lines += filter(None, [begun := first.line_if_any(0), done := second.line_if_any(LOOK_S)])
        if begun:
            break
        send(done is not None and done.startswith("left"))
    # when one of them is killed in the middle of a run
    lines += first.kill()
    lines += wait_until(lambda: is_quiet(app), second)
    lines += second.kill()
    # then all got their turn
    runs = [run for history in audited(shared_url).values() for run in runs_of(history).values()]
    assert sum(isinstance(end.event, Executed) for [end] in runs) == sent
    # and there never were more at a time; those of the killed one count until they are taken up
    inside: set[str] = set()
    most = 0
    for edge in sorted((Said.of(line) for line in lines), key=lambda said: said.at_us):
        if edge.what == "run":
            inside.add(edge.id)
        elif edge.what == "left":
            inside.remove(edge.id)
        most = max(most, len(inside))
    assert most == AT_A_TIME


def test_U2_a_worker_that_stalls_loses_its_run_and_records_nothing_of_it(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given a worker that is stopped in the middle of a run
    first = children.worker()
    task = app.task(chore)
    task.send("x", Chore(work_s=1))
    first.until("run", "x")
    _stop(first, shared_url)
    # when its lease has ended, another one takes the run up
    second = children.worker()
    assert second.until("run", "x").attempt == 2
    second.until("left", "x")
    wait_until(lambda: is_quiet(app), second)
    second.kill()
    # then the first, which wakes up, records nothing of it, and goes on working
    before = task.status("x").version
    first.signal(signal.SIGCONT)
    assert first.until("left", "x").attempt == 1
    task.send("y", Chore(work_s=0.1))
    first.until("left", "y")
    wait_until(lambda: is_quiet(app), first)
    first.kill()
    assert task.status("x").version == before
    histories = audited(shared_url)
    events = [recorded.event for recorded in histories["task:chore:x"]]
    [lost] = [event for event in events if isinstance(event, ExecutionLost)]
    [executed] = [event for event in events if isinstance(event, Executed)]
    workers = [int(e.worker.split(":")[-2]) for e in events if isinstance(e, RunStarted)]
    assert (lost.run, lost.attempt) == (1, 1)
    assert (executed.run, executed.attempt) == (1, 2)
    assert workers == [first.pid, second.pid]
    [of_y] = [r.event for r in histories["task:chore:y"] if isinstance(r.event, RunStarted)]
    assert int(of_y.worker.split(":")[-2]) == first.pid


def _stop(worker: Child, shared_url: str) -> None:
    """Stop a worker, but not in the middle of a write: it would hold up others while it lasts."""
    with jobs.open(with_options(shared_url, timeout=0.3)) as impatient:
        while True:
            worker.signal(signal.SIGSTOP)
            try:
                impatient.task(counter).send("is-the-way-free", 1)
                return
            except StoreUnavailableError:
                worker.signal(signal.SIGCONT)
                impatient.task(counter).send("is-the-way-free", 1)


def test_A1_an_alarm_of_another_process_wakes_a_sleeping_worker(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given a worker that sleeps, for its only alarm is an hour away
    task = app.task(chore)
    task.send("far", Chore(after_s=3600))
    worker = children.worker("30s")
    task.send("near", Chore(after_s=0, work_s=0.01))
    worker.until("left", "near")
    # when this process sets alarms, one after the other, each once the worker sleeps again
    for number in range(4):
        wait_until(lambda: task.status("near").status == "idle", worker)
        task.send("near", Chore(after_s=(0, 0.1)[number % 2], work_s=0.01))
        worker.until("left", "near")
    # then each fires in the worker, never early, and soon
    wait_until(lambda: task.status("near").status == "idle", worker)
    worker.kill()
    history = audited(shared_url)["task:chore:near"]
    started = [r for r in history if isinstance(r.event, RunStarted)]
    late_us = [r.at_us - r.event.due_us for r in started if isinstance(r.event, RunStarted)]
    assert len(late_us) == 5
    assert all(0 <= late < BOUND_US for late in late_us), late_us
    print(f"late by {max(late_us) / 1000:.0f} ms at most")
