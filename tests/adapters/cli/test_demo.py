"""`wakelog demo` shows what it says, and checks it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console

from tests.adapters.cli.command_line import process
from wakelog_adapters.cli.demo import jobs as demo
from wakelog_adapters.cli.demo import story


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Two demos, told at the same time: one to people, one to a program."""
    folder, kept = tmp_path_factory.mktemp("people"), tmp_path_factory.mktemp("program")
    with (
        process("demo", cwd=folder, env={"TMPDIR": str(folder)}) as people,
        process("demo", "--json", "--keep", cwd=kept, env={"TMPDIR": str(kept)}) as program,
    ):
        yield Told(folder, people.end(), program.end())


class Told(NamedTuple):
    folder: Path
    people: tuple[int, str, str]
    program: tuple[int, str, str]


def test_the_demo_tells_its_story(told: Told) -> None:
    code, stdout, stderr = told.people
    assert (code, stderr) == (0, "")
    for said in (
        "the alarm of o-1 fires in the worker",
        "in the middle of the run",
        "it takes the run over",
        "(lease expired)",
        "started (recovery, attempt 2,",
        "virtual time: 60 days of two orders, 71 alarms, in ",
        "it works",
    ):
        assert said in stdout


def test_the_demo_leaves_nothing_behind(told: Told) -> None:
    assert list(told.folder.iterdir()) == []


def test_the_demo_sums_up_as_json(told: Told) -> None:
    code, stdout, stderr = told.program
    assert code == 0, stderr
    assert "it takes the run over" in stderr
    summary = json.loads(stdout)
    assert summary["ok"]
    assert summary["killed_pid"] != summary["recovered_by_pid"]
    events = [entry["event"] for entry in summary["history"]]
    lost = events.index("ExecutionLost")
    assert events[lost - 1 : lost + 3] == ["RunStarted", "ExecutionLost", "RunStarted", "Executed"]


def test_the_demo_can_keep_its_folder(told: Told) -> None:
    folder = Path(json.loads(told.program[1])["folder"])
    assert {"orders.db", "worker-1.log", "worker-2.log"} <= {file.name for file in folder.iterdir()}


def test_the_demo_fails_where_something_is_not_as_it_must_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(story, "DAYS", 61)
    stage = story.Stage(Console(file=io.StringIO()), Path("/nowhere"))
    alarms, _ = story.virtual_time(stage)
    assert alarms == 72
    monkeypatch.setattr(demo, "REMIND_EVERY", "2d")
    with pytest.raises(story.DemoFailedError, match="v-1 was reminded until it was paid"):
        story.virtual_time(stage)
