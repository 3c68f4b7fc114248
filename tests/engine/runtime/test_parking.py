"""An instance whose history is damaged is set aside; the others go on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from pydantic import BaseModel

from wakelog import IntegrityError, Jobs, Task, TaskContext, UnreadableEventError
from wakelog.testing import Simulation


class Seen(BaseModel):
    runs: int = 0


class Go(BaseModel):
    pass


def jobs() -> Jobs:
    job = Task(state=Seen, event=Go)

    @job.on_event
    def received(ctx: TaskContext[Seen], event: Go) -> None:
        ctx.set_state(Seen())
        ctx.schedule("1m")

    @job.execute
    def run(ctx: TaskContext[Seen]) -> None:
        ctx.update_state(lambda seen: Seen(runs=seen.runs + 1))

    return Jobs(job=job)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def damage(path: Path, sql: str, stream: str) -> None:
    connection = sqlite3.connect(path)
    [(table,)] = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%stored_events'"
    )
    connection.execute(f"UPDATE {table} SET {sql} WHERE originator_id = ?", (stream,))
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("sql", "error"),
    [("topic = 'nobody.Knows'", UnreadableEventError), ("state = '{}'", UnreadableEventError)],
)
def test_K4_a_damaged_instance_is_parked_and_the_others_go_on(
    path: Path, sql: str, error: type[Exception]
) -> None:
    with Simulation(jobs(), url=f"sqlite:///{path}") as sim:
        for id in ("broken", "sound"):
            sim.task("job").send(id, Go())
        damage(path, sql, "task:job:broken")
        sim.restart()

        sim.advance("2m")

        assert sim.task("job").get_state("sound") == Seen(runs=1)
        status = sim.task("job").status("broken")
        assert status.status == "failed"
        assert status.last_error is not None
        assert status.last_error.type == error.__name__
        assert sim.alarms() == []
        with pytest.raises(error):
            sim.history("task:job:broken")


def test_H1_history_tells_of_a_link_that_was_changed(path: Path) -> None:
    with Simulation(jobs(), url=f"sqlite:///{path}") as sim:
        sim.task("job").send("x", Go())
        damage(path, 'state = replace(state, \'"commit":"\', \'"commit":"0\')', "task:job:x")
        with pytest.raises(IntegrityError, match="hash of the event before it"):
            sim.history("task:job:x")
