"""`wakelog demo` is what everyone runs first; and `wakelog --help` comes at once."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.adapters.commandline import process
from wakelog_adapters.cli import demo, story

HEAVY = ("wakelog", "pydantic", "eventsourcing", "sqlite3", "rich", "asyncio")


def test_the_demo_tells_its_story(tmp_path: Path) -> None:
    with process("demo", cwd=tmp_path, env={"TMPDIR": str(tmp_path)}) as told:
        code, stdout, stderr = told.end()
    assert (code, stderr) == (0, "")
    for said in (
        "the alarm of o-1 fires in the worker",
        "in the middle of the run",
        "it takes the run up",
        "(lease expired)",
        "started (recovery, attempt 2,",
        "virtual time: 60 days of two orders, 71 alarms, in ",
        "it works",
    ):
        assert said in stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_sums_up_as_json_and_can_keep_its_folder(tmp_path: Path) -> None:
    with process("demo", "--json", "--keep", cwd=tmp_path) as told:
        code, stdout, stderr = told.end()
    assert code == 0, stderr
    summary = json.loads(stdout)
    assert summary["ok"]
    assert summary["seconds"] < 15
    assert summary["killed_pid"] != summary["recovered_by_pid"]
    events = [entry["event"] for entry in summary["history"]]
    lost = events.index("ExecutionLost")
    assert events[lost - 1 : lost + 3] == ["RunStarted", "ExecutionLost", "RunStarted", "Executed"]
    folder = Path(summary["folder"])
    assert {"orders.db", "worker-1.log", "worker-2.log"} <= {file.name for file in folder.iterdir()}
    shutil.rmtree(folder)


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


def test_help_does_not_wait_for_heavy_imports() -> None:
    program = (
        "import sys\n"
        "from wakelog_adapters.cli import main\n"
        "sys.argv = ['wakelog', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    print('ended', end.code, *sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    ended, code, *modules = done.stderr.split()
    assert (ended, code) == ("ended", "0"), done.stderr
    assert not set(HEAVY) & set(modules)
