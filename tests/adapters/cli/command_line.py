"""`wakelog` for tests: in this process, or as the process that a user starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from typer.testing import CliRunner, Result

from wakelog_adapters.cli.commands import app

__all__ = ["JOBS", "PATIENCE_S", "CommandLine", "Process", "process"]

JOBS = "tests.adapters.cli.parcel_jobs:jobs"
ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0
"""How long a process may run before the test kills it."""


class CommandLine:
    """`wakelog`, called in this process, with a store and jobs named by the environment."""

    def __init__(self, url: str, jobs: str = JOBS) -> None:
        self.env = {"WAKELOG_URL": url, "WAKELOG_JOBS": jobs}

    def __call__(self, *words: str, input: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(app, words, input=input, env=self.env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def answer(self, *words: str, input: str | None = None) -> dict[str, Any]:
        """The JSON document on stdout of a call that exits with 0."""
        result = self(*words, "--json", input=input)
        assert result.exit_code == 0, result.stderr
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer

    def last_event(self, job: str, id: str) -> dict[str, Any]:
        """The newest entry of an instance's history."""
        entry: dict[str, Any] = self.answer("history", job, id)["entries"][-1]
        return entry

    def refusal(self, code: int, *words: str) -> str:
        """What is on stderr of a call that exits with `code`; nothing is on stdout."""
        result = self(*words)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert "Traceback" not in result.stderr
        return result.stderr


class Process:
    """`wakelog` as a process of its own; a timer kills it if it hangs."""

    def __init__(
        self, *words: str, cwd: Path, env: dict[str, str] | None = None, stdin: Any = None
    ) -> None:
        python_path = os.pathsep.join([str(ROOT), *filter(None, [os.getenv("PYTHONPATH")])])
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "wakelog_adapters.cli", *words],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": python_path, **(env or {})},
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.logged: list[str] = []
        self._killer = threading.Timer(PATIENCE_S, self.popen.kill)
        self._killer.start()

    def line(self) -> str:
        """The next line on stdout."""
        return _pipe(self.popen.stdout).readline()

    def log_line(self, text: str) -> str:
        """The next line on stderr that holds `text`."""
        for line in _pipe(self.popen.stderr):
            self.logged.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was never logged: {''.join(self.logged)}")

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: the exit code, and the rest of stdout and stderr."""
        stdout, stderr = self.popen.communicate()
        return self.popen.returncode, stdout, stderr

    def close(self) -> None:
        """Leave nothing behind."""
        self._killer.cancel()
        self.popen.kill()
        self.popen.communicate()


@contextmanager
def process(
    *words: str, cwd: Path, env: dict[str, str] | None = None, stdin: Any = None
) -> Generator[Process]:
    """A process that does not outlive the test."""
    started = Process(*words, cwd=cwd, env=env, stdin=stdin)
    try:
        yield started
    finally:
        started.close()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
