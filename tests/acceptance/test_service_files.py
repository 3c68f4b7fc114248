"""The files for systemd, Docker and compose: what they start, and how they stop it (K2, E3).

Nothing here can run systemd or Docker. The commands in the files are run as they are, and stopped
by the signal that the file names.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.servers import ROOT, Server, eventually
from wakelog import Jobs
from wakelog.closing import END_S

FOLDER = ROOT / "examples/deploying"
JOBS = """
from wakelog import Jobs, Task
task = Task(state=int, event=int)
task.on_event(lambda ctx, event: ctx.set_state(event))
jobs = Jobs(task=task)
"""


def unit() -> Any:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FOLDER / "wakelog-worker.service", "utf-8")
    return parser["Service"]


def dockerfile() -> dict[str, str]:
    lines = (FOLDER / "Dockerfile").read_text("utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if re.match("[A-Z]+ ", line))


def compose() -> Any:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))["services"]


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


STARTS: dict[str, tuple[list[str], str]] = {
    "systemd": (shlex.split(unit()["ExecStart"]), unit()["KillSignal"]),
    "docker": (json.loads(dockerfile()["CMD"]), dockerfile()["STOPSIGNAL"]),
    "compose": (compose()["worker"]["command"], compose()["worker"]["stop_signal"]),
}


@pytest.mark.parametrize("by", STARTS)
def test_K2_what_a_file_starts_is_a_worker_that_its_signal_stops_gracefully(
    by: str, tmp_path: Path
) -> None:
    # given
    (tmp_path / "shop.py").write_text(JOBS, "utf-8")
    [program, *words], stop = STARTS[by]
    assert Path(program).name == "wakelog"
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    # when
    with Server("wakelog", *words, folder=tmp_path, env={"WAKELOG_URL": url}) as worker:
        eventually(lambda: "working on task:task" in worker.said or None)
        with Jobs().open(url) as app:
            assert [each.jobs for each in app.workers()] == [("task:task",)]
            # then
            assert worker.stopped(signal.Signals[stop]) == 0, worker.said
            assert app.workers() == []


def test_K2_each_gives_a_worker_the_time_that_its_grace_takes() -> None:
    words = {by: command for by, (command, _) in STARTS.items()}
    grace = {by: seconds(each[each.index("--grace") + 1]) for by, each in words.items()}
    assert seconds(unit()["TimeoutStopSec"]) > grace["systemd"] + END_S
    assert seconds(compose()["worker"]["stop_grace_period"]) > grace["compose"] + END_S
    assert unit()["KillMode"] == "mixed", "the signal goes to the worker alone"


def test_E3_compose_migrates_once_before_the_workers(tmp_path: Path) -> None:
    # given
    services = compose()
    after = services["worker"]["depends_on"]["migrate"]["condition"]
    assert after == "service_completed_successfully"
    # when, with the one file of settings that both have
    assert services["migrate"]["env_file"] == services["worker"]["env_file"]
    url = f"sqlite:///{tmp_path / 'jobs.db'}?migrate=off"
    command = [sys.executable, "-m", *services["migrate"]["command"]]
    subprocess.run(command, env={**os.environ, "WAKELOG_URL": url}, check=True, capture_output=True)
    # then a worker that may not migrate can open the store
    with Jobs().open(url) as app:
        assert app.workers() == []
