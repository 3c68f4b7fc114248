"""Workers are killed with `kill -9` at every commit boundary of a run with three steps (I4, K1)."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.processes import Child, Children, audited, wait_until
from tests.acceptance.steps_under_kill import ACCEPTED, CLAIMED, STEPS, errand, jobs, world_of
from wakelog import HistoryEntry
from wakelog.core.events import ExecutionLost, StepCompleted

WRITES = 5
"""The run's beginning, its three steps, its outcome."""
WRITTEN = [f"{write}-{point}" for write in range(WRITES) for point in ("before", "after")]
BOUNDARIES = [CLAIMED, *WRITTEN]
LEASE = "300ms"


def test_I4_K1_killed_at_every_commit_no_recorded_step_is_done_again(
    shared_url: str, tmp_path: Path
) -> None:
    # given an instance for each boundary, whose worker dies there
    told: dict[str, tuple[list[str], list[str]]] = {}
    module = "tests.acceptance.steps_under_kill"
    with jobs(tmp_path).open(shared_url) as app, Children(shared_url, module) as children:
        task = app.task(errand)
        for id in BOUNDARIES:
            task.send(id, "go")
        # when there are workers until each has died
        while missing := set(BOUNDARIES) - set(told):
            worker = children.start("worker", LEASE, str(tmp_path))
            assert worker.killed(), "".join(worker.logged)
            [id] = [each for each in missing if (tmp_path / f"{each}.died").exists()]
            told[id] = steps_of(app.history(f"task:errand:{id}")), world(tmp_path, id)
        # and one more
        last: Child = children.start("worker", LEASE, str(tmp_path)).ready()
        wait_until(lambda: all(task.status(id).status == "idle"
                               and task.get_state(id) for id in BOUNDARIES), last)  # fmt: skip
        states = {id: task.get_state(id) for id in BOUNDARIES}
        last.kill()
    # then
    histories = audited(shared_url)
    for id in BOUNDARIES:
        check(id, *told[id], world(tmp_path, id))
        events = [recorded.event for recorded in histories[f"task:errand:{id}"]]
        assert [e.step for e in events if isinstance(e, StepCompleted)] == list(STEPS)
        lost = sum(isinstance(event, ExecutionLost) for event in events)
        assert lost == (id not in (CLAIMED, "0-before", "4-after")), f"{id}: {events}"
        assert states[id] == [f"{step} done" for step in STEPS]
    done = sum(len(world(tmp_path, id)) for id in BOUNDARIES)
    print(f"kills {len(told)}, runs {len(BOUNDARIES)}, steps recorded {3 * len(BOUNDARIES)}, "
          f"done {done}, of these again {done - 3 * len(BOUNDARIES)}")  # fmt: skip


def check(id: str, recorded: list[str], before: list[str], after: list[str]) -> None:
    """What was recorded when its worker died is not done again; what was cut is, with its key."""
    write, point = ("0", "before") if id == CLAIMED else id.split("-")
    boundary = int(write) + (point == "after")
    assert recorded == list(STEPS)[: max(0, boundary - 1)], f"{id}: recorded {recorded}"
    is_cut = point == "before" and 1 <= int(write) <= 3
    assert names(before) == list(STEPS)[: len(recorded) + is_cut], f"{id}: done {before}"
    assert after[: len(before)] == before
    again = names(after[len(before) :])
    assert recorded + again == list(STEPS), f"{id}: {recorded} were recorded, then {again} done"
    keys = {line.split(" ", 1)[1] for line in after}
    assert keys == {f"task:errand:{id}@{ACCEPTED + 1}:{step}" for step in STEPS}


def names(world: list[str]) -> list[str]:
    return [line.split(" ", 1)[0] for line in world]


def world(folder: Path, id: str) -> list[str]:
    """What was done for an instance, in order: `step key`."""
    file = world_of(folder, id)
    return file.read_text().splitlines() if file.exists() else []


def steps_of(history: list[HistoryEntry]) -> list[str]:
    """The names of the recorded steps."""
    return [entry.data["step"] for entry in history if entry.event == "StepCompleted"]
