"""What one process may rely on while another one works on the same instance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tests.acceptance.jobs_under_kill import IN_TIME_S, Chore, chore, jobs, narrow, slow
from tests.acceptance.processes import PATIENCE_S, Children, audited, is_quiet, wait_until
from tests.acceptance.recorded import check_waiting
from wakelog import BlockingApp, WorkerStatus
from wakelog.core.events import (
    Cleared,
    EventHandled,
    EventReceived,
    Executed,
    ExecutionFailed,
    Paused,
    Resumed,
    RunStarted,
)
from wakelog.log.records import Recorded


def names(history: Sequence[Recorded]) -> list[type]:
    return [type(recorded.event) for recorded in history]


def test_U3_the_outcome_of_a_run_goes_on_top_of_what_others_append_meanwhile(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given a run in another process
    worker = children.worker("30s")
    task = app.task(chore)
    task.send("x", Chore(work_s=2))
    worker.until("run", "x")
    # when it is paused and resumed here, and events are sent
    assert task.pause("x").paused
    assert task.send("x", Chore(number=1, after_s=None)).deferred
    assert task.resume("x").resumed
    assert task.send("x", Chore(number=2, after_s=None)).deferred
    assert task.status("x").executing
    # then the run ends well, once, and they are handled after it
    said = wait_until(lambda: is_quiet(app), worker) + worker.kill()
    assert [line.split()[0] for line in said if not line.startswith("part")] == ["end", "left"]
    state = task.get_state("x")
    assert state is not None
    assert (state.told, state.runs) == (3, 1)
    [history] = audited(shared_url).values()
    check_waiting(history)
    of_interest = (RunStarted, Paused, EventReceived, Resumed, Executed, EventHandled)
    assert [name for name in names(history)[1:] if name in of_interest] == [
        *(EventReceived, RunStarted),
        *(Paused, EventReceived, Resumed, EventReceived),
        *(Executed, EventHandled, EventHandled),
    ]


def test_T9_a_run_elsewhere_that_was_cleared_records_nothing_in_the_next_life(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given a run in another process, whose lease is long
    worker = children.worker("1h")
    task = app.task(chore)
    task.send("x", Chore(work_s=1))
    worker.until("run", "x")
    # when its life is ended here, and the next one begins
    assert task.clear("x").cleared
    assert task.status("x").status == "not_found"
    assert task.send("x", Chore(after_s=None)).created
    # then it is cancelled, or its late outcome is dropped
    worker.until("left", "x")
    task.send("after", Chore(work_s=0.01))
    worker.until("left", "after")
    wait_until(lambda: is_quiet(app), worker)
    state = task.get_state("x")
    assert state is not None
    assert (state.told, state.runs) == (1, 0)
    history = audited(shared_url)["task:chore:x"]
    after = names(history)[names(history).index(Cleared) :]
    assert not {RunStarted, Executed, ExecutionFailed} & set(after)
    assert EventReceived in after
    worker.kill()
    logged = "".join(worker.logged)
    assert "its outcome is dropped" in logged or "is lost: stopping" in logged


def test_U10_a_def_that_takes_too_long_elsewhere_can_record_nothing_any_more(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given a run in a thread of another process, that does not keep to its time
    first = children.worker("1h")
    task = app.task(slow)
    task.send("x", Chore(work_s=8 * IN_TIME_S))
    first.until("run", "x")
    wait_until(lambda: task.status("x").status == "failed", first)
    assert any("is stuck in its thread" in line for line in first.logged)
    # when it is run again in time, here or there: nobody waits for the first one's lease
    second = children.worker("1h")
    task.send("x", Chore(work_s=0.01))
    wait_until(lambda: is_quiet(app), second)
    version = task.status("x").version
    # then the first one, when its thread has ended, records nothing
    while first.until("left", "x").run != 1:
        pass
    task.send("y", Chore(work_s=0.01))
    wait_until(lambda: is_quiet(app), second)
    assert task.status("x").version == version
    histories = audited(shared_url)
    events = [recorded.event for recorded in histories["task:slow:x"]]
    [failed] = [event for event in events if isinstance(event, ExecutionFailed)]
    [executed] = [event for event in events if isinstance(event, Executed)]
    assert (failed.run, failed.error_type, executed.run) == (1, "HandlerTimeoutError", 2)


def test_U12_a_read_shows_what_another_process_was_acknowledged(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    # given instances that this process knows, and one that goes on sending to them
    task = app.task(chore)
    sender = children.start("sender", "0").ready()
    # when it says that a send was acknowledged
    for sent in range(100):
        assert int(sender.line()) == sent
        # then each way to ask shows it
        id, count = f"s-{sent % 5}", sent // 5 + 1
        state = task.get_state(id)
        assert state is not None
        assert state.told >= count
        assert task.status(id).event_count >= count
        assert app.count(name="chore") >= min(5, sent + 1)
        assert len(app.list(name="chore")) >= min(5, sent + 1)
        assert len(app.history(f"task:chore:{id}")) >= 3 * count


def test_A7_a_client_that_has_no_handlers_leaves_all_of_them_to_workers(
    shared_url: str, children: Children
) -> None:
    # given a client that only accepts
    with jobs.open(shared_url, handlers=False) as app:
        task = app.task(chore)
        sent = [task.send("x", Chore(number=number, work_s=0.01)) for number in range(3)]
        assert [(each.deferred, each.created) for each in sent] == [
            (True, True),
            (True, False),
            (True, False),
        ]
        # while nobody works nothing is called
        assert task.get_state("x") is None
        assert task.status("x").deferred_count == 3
        # when a worker comes
        worker = children.worker()
        task.send("x", Chore(number=3, work_s=0.01), wait=True, timeout=PATIENCE_S)
        wait_until(lambda: is_quiet(app), worker)
        # then it handles them, in order, and runs what they asked for
        state = task.get_state("x")
        assert state is not None
        assert state.told == 4
        assert state.runs >= 1
    [history] = audited(shared_url).values()
    check_waiting(history)
    workers = {e.worker.split(":")[-2] for e in map(event_of, history) if isinstance(e, RunStarted)}
    assert workers == {str(worker.pid)}


def event_of(recorded: Recorded) -> object:
    return recorded.event


def test_A2_alarms_are_what_the_log_says_at_every_instant(
    app: BlockingApp, shared_url: str, children: Children
) -> None:
    """The audit holds the due list against the log; here it does after each of many kills."""
    task = app.task(chore)
    versions: list[int] = []
    for number in range(4):
        worker = children.worker("300ms")
        task.send("x", Chore(number=number, work_s=0.2))
        worker.until(("run", "part", "end", "left")[number], "x")
        worker.kill()
        versions.append(len(audited(shared_url)["task:chore:x"]))
    assert all(before < after for before, after in pairwise(versions))
    last = children.worker("300ms")
    wait_until(lambda: is_quiet(app), last)
    state = task.get_state("x")
    assert state is not None
    assert state.told == 4


def test_A6_workers_take_the_jobs_that_are_theirs_and_it_is_seen_what_runs_where(
    app: BlockingApp, children: Children
) -> None:
    # given a worker for each of two jobs
    of_chore = children.worker("2s", slots=3, only="chore")
    of_narrow = children.worker("2s", slots=4, only="narrow")
    # when both have work
    app.task(chore).send("c", Chore(work_s=30))
    app.task(narrow).send("n", Chore(work_s=30))
    of_chore.until("run", "c")
    of_narrow.until("run", "n")
    # then it is seen who has what
    seen = {
        worker.pid: (worker.alive, worker.jobs, worker.concurrency, held(worker))
        for worker in app.workers()
    }
    assert seen == {
        of_chore.pid: (True, ("task:chore",), 3, ["task:chore:c"]),
        of_narrow.pid: (True, ("task:narrow",), 4, ["task:narrow:n"]),
    }
    assert app.count(status="unhandled") == 0
    # when one is killed
    of_narrow.kill()
    wait_until(lambda: not by_pid(app, of_narrow.pid).alive, of_chore)
    # then it is seen too, with what it has left behind, which is not for the other
    assert held(by_pid(app, of_narrow.pid)) == ["task:narrow:n"]
    app.task(narrow).send("later", Chore())
    wait_until(lambda: app.task(narrow).status("later").status == "unhandled", of_chore)
    [unhandled] = app.list(status="unhandled", name="narrow", id_prefix="later")
    assert unhandled.instance_id == "task:narrow:later"
    # until one comes that knows it
    successor = children.worker("2s", only="narrow")
    assert {successor.until("run").id, successor.until("run").id} == {"n", "later"}
    assert held(by_pid(app, of_chore.pid)) == ["task:chore:c"]


def held(worker: WorkerStatus) -> list[str]:
    return [work.instance_id for work in worker.work]


def by_pid(app: BlockingApp, pid: int) -> WorkerStatus:
    [worker] = [worker for worker in app.workers() if worker.pid == pid]
    return worker
