"""A new user's first hour: the wheel, README's examples, the first pages, and the command line, as
processes in which a warning of Python's is an error, and with the mistakes of that hour."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from compileall import compile_dir
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from tests.acceptance.pages import ROOT, blocks, source_of

FIRST_PAGES = ["testing", "tasks", "continuous", "debounce", "worker_pool"]
PATIENCE_S = 60
SQLITE = "sqlite:///orders.db"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs. What it needs is in this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with ZipFile(wheel) as files:
        files.extractall(folder / "installed")
    compile_dir(folder / "installed", quiet=2)  # as pip does
    return folder / "installed"


@pytest.fixture
def start(installed: Path, tmp_path: Path) -> Start:
    """Starts Python on the wheel in a folder of its own, with the example as `orders.py`."""
    (tmp_path / "orders.py").write_text(blocks(ROOT / "README.md")[0].text, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WAKELOG_")}
    env = {**kept, "PYTHONPATH": str(installed), "PYTHONWARNINGS": "error"}

    def start(*words: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", *words],
            cwd=tmp_path,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return start


def ended(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """What it has printed on stdout and stderr; without a warning."""
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, (process.args, stdout, stderr)
    assert "Warning" not in stdout + stderr
    return stdout, stderr


def wakelog(start: Start, *words: str) -> subprocess.Popen[str]:
    return start("-m", "wakelog", *words)


def test_the_examples_of_the_first_pages_run_on_the_wheel(
    start: Start, installed: Path, tmp_path: Path
) -> None:
    paths = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in FIRST_PAGES)]
    for path in paths:
        (tmp_path / f"{path.stem}.py").write_text(source_of(path), encoding="utf-8")
    run = "import runpy, wakelog; print(wakelog.__file__)\n"
    run += "\n".join(f"runpy.run_path('{path.stem}.py', run_name='__main__')" for path in paths)
    printed = ended(start("-c", run))[0]
    assert printed.startswith(str(installed))
    assert "o-18 is still placed\nidle\n" in printed


def test_the_first_hour_on_the_command_line(start: Start) -> None:
    # given the example, run once, and a worker, started as the page says
    assert 'received event "placed"' in ended(start("orders.py"))[0]
    worker = wakelog(start, "worker", "orders:jobs", "--url", SQLITE, "--json")
    assert worker.stdout is not None
    assert json.loads(worker.stdout.readline())["jobs"] == ["task:order"]
    # when it is triggered, and looked at
    ended(wakelog(start, "trigger", "order", "o-17", "--jobs", "orders:jobs", "--url", SQLITE))
    shown = wakelog(start, "history", "order", "o-17", "--url", SQLITE)
    assert "run 1 ended well" in ended(shown)[0]
    # then the worker has run it, and stops when it is asked to
    worker.terminate()
    assert "o-17 is still placed" in "".join(ended(worker))


MISTAKES: dict[tuple[str, ...], str] = {
    ("worker", "order:jobs", "--url", SQLITE): "there is no module 'order' in ",
    ("ls", "--url", "sqlite:///nowhere.db"): "there is no file",
    ("send", "order", "o-1", "placed", "--url", SQLITE, "--jobs", "orders:jobs"): "a text is",
}


def test_the_mistakes_of_the_first_hour_get_one_line(start: Start) -> None:
    running = {words: wakelog(start, *words) for words in MISTAKES}
    for words, process in running.items():
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
        assert (stdout, stderr.count("\n")) == ("", 1), stderr
        assert stderr.startswith("Error: ")
        assert MISTAKES[words] in stderr


BY_HAND = """
from orders import jobs, order
app = jobs.open({url!r}, worker=True).__enter__()
print(app.task(order).send("o-1", "placed").created)
print(app.task(order).trigger("o-1", timeout=20).triggered)
app.close()
"""


def test_the_same_on_postgresql(start: Start, postgres_url: str) -> None:
    source = BY_HAND.format(url=postgres_url)
    assert ended(start("-c", source))[0] == "True\no-1 is still placed\nTrue\n"
