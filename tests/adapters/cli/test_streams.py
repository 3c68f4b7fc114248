"""stdout and stderr that are full, closed, or without a reader: no traceback, the true code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.adapters.cli.command_line import JOBS, ROOT, CommandLine
from tests.adapters.cli.parcel_jobs import WEIGHED

MISTAKE = "no-such-command"
PRINTER = """
from wakelog import Jobs, Task, TaskContext

printer = Task(state=str, event=str)

@printer.on_event
def told(ctx: TaskContext[str], event: str) -> None:
    ctx.schedule("0s")

@printer.execute
def run(ctx: TaskContext[str]) -> None:
    print("to stdout", flush=True)
    ctx.log.error("to stderr")
    with open("gate", "w") as pipe:
        pipe.write("printed")

jobs = Jobs(printer=printer)
"""


@contextmanager
def sink(kind: str) -> Generator[int]:
    """A descriptor that takes nothing."""
    if kind == "full":
        fd = os.open("/dev/full", os.O_WRONLY)
    else:
        unread, fd = os.pipe()
        os.close(unread)
    try:
        yield fd
    finally:
        os.close(fd)


def env(url: str, jobs: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "WAKELOG_URL": url, "WAKELOG_JOBS": jobs}


def ended(url: str, *words: str, stdout: str = "", stderr: str = "") -> tuple[int, str]:
    """The exit code and stderr of a process whose streams are `full`, `unread` or `closed`."""
    command = [sys.executable, "-m", "wakelog_adapters.cli", *words]
    closed = "".join(f" {fd}>&-" for fd, kind in ((1, stdout), (2, stderr)) if kind == "closed")
    with sink(stdout) as out, sink(stderr) as err:
        done = subprocess.run(
            ["sh", "-c", f'exec "$@"{closed}', "sh", *command],
            env=env(url, JOBS),
            stdin=subprocess.DEVNULL,
            stdout=out if stdout else subprocess.DEVNULL,
            stderr=err if stderr else subprocess.PIPE,
            timeout=60,
            check=False,
            text=True,
        )
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize(
    ("stdout", "words"),
    [
        ("full", ["ls"]),
        ("full", ["--help"]),
        ("closed", ["status", "parcel", "p-1", "--json"]),
    ],
)
def test_a_result_that_cannot_be_written_is_an_error(
    two_parcels: CommandLine, sqlite_url: str, stdout: str, words: list[str]
) -> None:
    code, said = ended(sqlite_url, *words, stdout=stdout)
    assert code == 5
    assert said.startswith("Error: the result could not be written to stdout: ")
    assert said.count("\n") == 1


def test_a_reader_that_has_gone_gets_no_message(two_parcels: CommandLine, sqlite_url: str) -> None:
    words = ("history", "parcel", "p-1", "--json")
    assert ended(sqlite_url, *words, stdout="unread") == (5, "")


def test_what_was_asked_for_is_done(wakelog: CommandLine, sqlite_url: str) -> None:
    code, _ = ended(sqlite_url, "send", "parcel", "p-1", WEIGHED, stdout="full")
    assert code == 5
    assert wakelog.answer("status", "parcel", "p-1")["event_count"] == 1


@pytest.mark.parametrize("stderr", ["unread", "closed"])
def test_a_message_that_cannot_be_written_changes_no_exit_code(
    sqlite_url: str, stderr: str
) -> None:
    assert ended(sqlite_url, MISTAKE, stderr=stderr) == (2, "")


def test_a_worker_goes_on_without_its_streams(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "printing.py").write_text(PRINTER)
    os.mkfifo(tmp_path / "gate")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    sender = CommandLine(sqlite_url, jobs="printing:jobs")
    sender.answer("send", "printer", "a", '"x"')
    command = [sys.executable, "-m", "wakelog_adapters.cli", "worker", "--json"]
    with sink("unread") as fd:
        worker = subprocess.Popen(
            command, env=env(sqlite_url, "printing:jobs"), stdout=fd, stderr=fd, cwd=tmp_path
        )
        try:
            assert (tmp_path / "gate").read_text() == "printed"
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
        finally:
            worker.kill()
            worker.wait()
    assert sender.answer("status", "printer", "a")["status"] == "idle"
