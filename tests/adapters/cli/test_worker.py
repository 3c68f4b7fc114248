"""`wakelog worker` as a process of its own: it works, and it stops as it is asked to."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.cli.command_line import PATIENCE_S, CommandLine, process
from tests.support_stores import writes_blocked
from wakelog_adapters.cli.context import without_secrets

DEPOT = """
from wakelog import Jobs, Task, TaskContext
import asyncio

gate = Task(state=int, event=str)
stuck = Task(state=int, event=str)

@gate.on_event
@stuck.on_event
def told(ctx: TaskContext[int], event: str) -> None:
    ctx.schedule("0s")

@gate.execute
def through(ctx: TaskContext[int]) -> None:
    print("at the gate", flush=True)
    ctx.log.info("waiting")
    with open("gate") as pipe:
        ctx.set_state(int(pipe.read()))

@stuck.execute
async def wait_for_ever(ctx: TaskContext[int]) -> None:
    print("stuck", flush=True)
    await asyncio.Event().wait()

jobs = Jobs(gate=gate, stuck=stuck)
"""


@pytest.fixture
def sender(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """In a folder with a module of jobs, whose runs pass a gate that the test opens."""
    (tmp_path / "depot.py").write_text(DEPOT)
    os.mkfifo(tmp_path / "gate")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return CommandLine(sqlite_url, jobs="depot:jobs")


def events(wakelog: CommandLine, instance: str) -> list[str]:
    return [entry["event"] for entry in wakelog.answer("history", instance)["entries"]]


def test_says_what_it_works_on_and_stops_with_0(sender: CommandLine, tmp_path: Path) -> None:
    options = ("--concurrency", "3", "--lease", "5s", "--only", "gate", "--json")
    with process("worker", "depot:jobs", *options, cwd=tmp_path, env=sender.env) as worker:
        said = json.loads(worker.line())
        line = worker.log_line("working on")
        worker.popen.terminate()
        code, stdout, stderr = worker.end()
    assert (code, stdout) == (0, "")
    assert said == {
        "pid": worker.popen.pid,
        "jobs": ["task:gate"],
        "url": sender.env["WAKELOG_URL"],
        "concurrency": 3,
        "lease": "5s",
        "grace": "30s",
    }
    assert (
        f"working on task:gate in {said['url']}: 3 at a time, lease 5s, pid {said['pid']}" in line
    )
    assert stderr.splitlines()[-1].endswith("stopped")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_lets_a_run_end_when_it_is_stopped(
    sender: CommandLine, tmp_path: Path, stop: signal.Signals
) -> None:
    sender("send", "gate", "g-1", '"open"', "--defer")
    with process("worker", "depot:jobs", cwd=tmp_path, env=sender.env) as worker:
        assert worker.line() == "at the gate\n"
        assert worker.log_line("waiting").endswith("[task:gate:g-1]\n")
        worker.popen.send_signal(stop)
        worker.log_line("stopping: nothing new is started, runs may end within 30s")
        (tmp_path / "gate").write_text("7")
        code, _, stderr = worker.end()
    assert code == 0
    assert "Traceback" not in stderr
    assert events(sender, "task:gate:g-1")[-3:] == ["RunStarted", "Executed", "StateSet"]
    assert sender.answer("state", "gate", "g-1")["state"] == 7


def test_gives_a_run_back_when_the_grace_is_over(sender: CommandLine, tmp_path: Path) -> None:
    sender("send", "stuck", "s-1", '"go"')
    options = ("--grace", "0s")
    with process("worker", "depot:jobs", *options, cwd=tmp_path, env=sender.env) as worker:
        assert worker.line() == "stuck\n"
        worker.popen.terminate()
        code, _, stderr = worker.end()
    assert code == 0, stderr
    assert events(sender, "task:stuck:s-1")[-2:] == ["RunStarted", "ExecutionLost"]
    last = sender.answer("history", "task:stuck:s-1")["entries"][-1]
    assert last["data"]["reason"] == "shutdown"


IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "wakelog_adapters.cli", "worker", "depot:jobs"])
"""


def test_K2_it_stops_when_its_terminal_is_closed(sender: CommandLine, tmp_path: Path) -> None:
    # given a worker in the foreground of a terminal
    terminal, inside = pty.openpty()
    worker = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL],
        env={**os.environ, **sender.env, "PYTHONWARNINGS": "error"},
        cwd=tmp_path,
        stdin=inside,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    with open(terminal, "rb") as shown:
        assert b"working on" in shown.readline()
        # when that is closed
    # then it ends as it does if it is asked to
    assert worker.wait(PATIENCE_S) == 0
    assert sender.answer("workers")["workers"] == []


def test_K2_under_nohup_it_goes_on(sender: CommandLine, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which processes inherit
    try:
        with process("worker", "depot:jobs", cwd=tmp_path, env=sender.env) as worker:
            worker.log_line("working on")
            worker.popen.send_signal(signal.SIGHUP)
            sender("send", "gate", "g-1", '"open"')
            (tmp_path / "gate").write_text("7")
            assert worker.line() == "at the gate\n"
            worker.popen.terminate()
            assert worker.end()[0] == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("job", ["gate", "stuck"])
def test_a_second_signal_ends_it_at_once(sender: CommandLine, tmp_path: Path, job: str) -> None:
    sender("send", job, "x", '"go"')
    with process("worker", "depot:jobs", cwd=tmp_path, env=sender.env) as worker:
        assert worker.line() in ("at the gate\n", "stuck\n")
        worker.popen.terminate()
        worker.log_line("a second signal ends at once")
        worker.popen.send_signal(signal.SIGHUP)  # the terminal is closed: that is no haste
        worker.popen.send_signal(signal.SIGINT)
        code, _, stderr = worker.end()
    assert code == 130
    assert "other workers take over the open runs when their leases end" in stderr
    assert events(sender, f"task:{job}:x")[-1] == "RunStarted"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_K2_it_stops_with_0_though_the_store_takes_no_writes(
    sender: CommandLine, tmp_path: Path, stop: signal.Signals
) -> None:
    # given a file that is locked by another, so that no end can be recorded
    env = {**sender.env, "WAKELOG_URL": f"{sender.env['WAKELOG_URL']}?timeout=0.1"}
    with process("worker", "depot:jobs", "--grace", "0s", cwd=tmp_path, env=env) as worker:
        worker.log_line("working on")
        with writes_blocked(sender.env["WAKELOG_URL"]):
            worker.popen.send_signal(stop)
            code, _, stderr = worker.end()
    # then
    assert code == 0, stderr
    assert "could not record that it has ended" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_K2_it_stops_with_0_while_it_waits_for_a_store_to_open(
    sender: CommandLine, tmp_path: Path, stop: signal.Signals
) -> None:
    env = {**sender.env, "WAKELOG_URL": "postgresql://nobody@127.0.0.1:1/none?wait=60"}
    with process("worker", "depot:jobs", cwd=tmp_path, env=env) as worker:
        worker.log_line("waiting for 60 s at most")
        worker.popen.send_signal(stop)
        code, _, stderr = worker.end()
    assert code == 0, stderr
    assert stderr.splitlines()[-1].endswith("stopped before the store was open")


TWICE = """
import asyncio, signal
from wakelog_adapters.cli.worker_process import Signals

async def stopped():
    stop = asyncio.Event()
    with Signals(stop) as signals:
        signals.is_open = True
        for number in (signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(number)
        await stop.wait()
        print("stopping", flush=True)
        signal.raise_signal(signal.SIGINT)

asyncio.run(stopped())
"""


def test_K2_one_signal_that_arrives_twice_is_one() -> None:
    """`timeout` and its like send it to the process, and to the group that it is in."""
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "stopping\n"), done.stderr


def test_a_thread_that_never_ends_does_not_hold_it_up(sender: CommandLine, tmp_path: Path) -> None:
    sender("send", "gate", "g-1", '"go"')
    options = ("--grace", "0s")
    with process("worker", "depot:jobs", *options, cwd=tmp_path, env=sender.env) as worker:
        assert worker.line() == "at the gate\n"
        worker.popen.terminate()
        code, _, stderr = worker.end()
    assert code == 0
    assert "a handler of task:gate:g-1 does not end: it is abandoned" in stderr
    assert "Traceback" not in stderr
    assert events(sender, "task:gate:g-1")[-1] == "RunStarted"


def test_what_handlers_print_is_no_part_of_the_document(
    sender: CommandLine, tmp_path: Path
) -> None:
    sender("send", "stuck", "s-1", '"go"')
    options = ("--grace", "0s", "--json")
    with process("worker", "depot:jobs", *options, cwd=tmp_path, env=sender.env) as worker:
        json.loads(worker.line())
        worker.log_line("stuck")
        worker.popen.terminate()
        code, stdout, _ = worker.end()
    assert (code, stdout) == (0, "")


def test_what_a_killed_one_left_is_taken_up(sender: CommandLine, tmp_path: Path) -> None:
    sender("send", "gate", "g-1", '"go"')
    lease = ("--lease", "1s")
    with process("worker", "depot:jobs", *lease, cwd=tmp_path, env=sender.env) as first:
        assert first.line() == "at the gate\n"
        first.popen.kill()
        first.end()
    with process("worker", "depot:jobs", *lease, cwd=tmp_path, env=sender.env) as second:
        assert second.line() == "at the gate\n"
        second.popen.terminate()
        second.log_line("stopping")
        (tmp_path / "gate").write_text("8")
        assert second.end()[0] == 0
    assert events(sender, "task:gate:g-1")[-5:] == [
        "RunStarted",
        "ExecutionLost",
        "RunStarted",
        "Executed",
        "StateSet",
    ]


def test_the_level_of_its_log_can_be_set(sender: CommandLine, tmp_path: Path) -> None:
    options = ("--log-level", "error", "--json")
    with process("worker", "depot:jobs", *options, cwd=tmp_path, env=sender.env) as worker:
        worker.line()
        worker.popen.terminate()
        assert worker.end()[2] == ""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:secret@host:5432/jobs", "postgresql://ann:***@host:5432/jobs"),
        (
            "postgresql://host/jobs?user=a&password=secret&x=1",
            "postgresql://host/jobs?user=a&password=***&x=1",
        ),
        ("postgresql://host/jobs?PASSWORD=secret", "postgresql://host/jobs?PASSWORD=***"),
        ("postgresql://host/jobs?pass%77ord=secret", "postgresql://host/jobs?pass%77ord=***"),
        ("postgresql://ann:se/c@ret@host/jobs", "postgresql://ann:***@host/jobs"),
        ("sqlite:////var/lib/jobs.db?timeout=5", "sqlite:////var/lib/jobs.db?timeout=5"),
    ],
)
def test_a_password_in_a_url_is_never_shown(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_logging_that_the_jobs_set_up_is_left_alone(sender: CommandLine, tmp_path: Path) -> None:
    module = tmp_path / "depot.py"
    module.write_text("import logging\nlogging.basicConfig(format='own: %(message)s')\n" + DEPOT)
    with process("worker", cwd=tmp_path, env=sender.env) as worker:
        assert worker.log_line("working on").startswith("own: working on task:gate")
        worker.popen.terminate()
        assert worker.end()[0] == 0


def test_logs_a_failing_run_with_its_frames(sender: CommandLine, tmp_path: Path) -> None:
    sender("send", "gate", "g-1", '"open"')
    with process("worker", "depot:jobs", cwd=tmp_path, env=sender.env) as worker:
        assert worker.line() == "at the gate\n"
        (tmp_path / "gate").write_text("no \x1b[31mnumber")
        line = worker.log_line("execute of task:gate:g-1 failed in run 1, attempt 1: ValueError: ")
        frame = worker.log_line("File ")
        worker.popen.terminate()
        code, _, stderr = worker.end()
    assert code == 0
    assert " ERROR " in line
    assert f"({tmp_path}/depot.py:" in line
    assert "\x1b" not in "".join([*worker.logged, stderr])
    assert frame.startswith(f'  File "{tmp_path}/depot.py", line ')
    assert "Traceback" not in "".join([*worker.logged, stderr])
    status = sender("status", "gate", "g-1").stdout
    assert f"({tmp_path}/depot.py:" in status
