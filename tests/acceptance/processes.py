"""Processes for tests, mostly of `jobs_under_kill`: started, listened to, ended by their pids."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from tests.auditing import audit_all
from wakelog import BlockingApp
from wakelog.jobs import open_store
from wakelog.log.records import Recorded

__all__ = [
    "LOOK_S",
    "PATIENCE_S",
    "Child",
    "Children",
    "Said",
    "audited",
    "is_quiet",
    "wait_until",
]

ROOT = Path(__file__).parents[2]
JOBS = "tests.acceptance.jobs_under_kill"
PATIENCE_S = 30.0
"""How long a test waits for something that takes a second before it fails."""
LOOK_S = 0.1
"""How long a line may be awaited before a condition is looked at again."""


class Said(NamedTuple):
    """A line that a run of a chore has printed."""

    what: str
    id: str
    run: int
    attempt: int
    at_us: int
    pid: int

    @classmethod
    def of(cls, line: str) -> Said:
        what, id, run, attempt, at_us, pid = line.split()
        return cls(what, id, int(run), int(attempt), int(at_us), int(pid))


class Child:
    """A process of a module of jobs; what it prints is read by a thread, as it comes."""

    def __init__(self, *words: str, module: str = JOBS) -> None:
        python_path = os.pathsep.join([str(ROOT), *filter(None, [os.getenv("PYTHONPATH")])])
        self._popen = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": python_path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._popen.pid
        self.logged: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._ears = [
            threading.Thread(target=self._hear, args=(self._popen.stdout,), daemon=True),
            threading.Thread(target=self._note, args=(self._popen.stderr,), daemon=True),
        ]
        for ear in self._ears:
            ear.start()

    def line(self, within_s: float = PATIENCE_S) -> str:
        """The next line. Fails where none comes in time, or the process has ended."""
        line = self.line_if_any(within_s)
        assert line is not None, f"process {self.pid} is silent: {''.join(self.logged)}"
        return line

    def line_if_any(self, within_s: float) -> str | None:
        """The next line; None where none comes in time."""
        try:
            line = self._lines.get(timeout=within_s)
        except queue.Empty:
            return None
        assert line is not None, f"process {self.pid} has ended: {''.join(self.logged)}"
        return line

    def lines_so_far(self) -> list[str]:
        """What it printed that nobody has read yet."""
        lines: list[str] = []
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                lines.append(line)
        return lines

    def ready(self) -> Child:
        """Wait until it has opened the store."""
        assert self.line() == f"ready {self.pid}"
        return self

    def until(self, what: str, id: str | None = None) -> Said:
        """Wait for a run to say this."""
        while True:
            said = Said.of(self.line())
            if said.what == what and id in (None, said.id):
                return said

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(line + "\n")
        self._popen.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def killed(self, within_s: float = PATIENCE_S) -> bool:
        """Wait for its end; whether it was that of a `kill -9`."""
        return self._popen.wait(within_s) == -signal.SIGKILL

    def finish(self) -> None:
        """Tell it to end by itself: its stdin is closed."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()

    def ended(self, within_s: float = PATIENCE_S) -> int:
        """Wait until it has ended by itself; its exit code."""
        return self._popen.wait(within_s)

    @property
    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    def kill(self) -> list[str]:
        """`kill -9`, and wait for its end; what it printed that nobody has read yet."""
        self._popen.kill()
        self._popen.wait()
        for ear in self._ears:
            ear.join()
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):  # it has ended before it read all
                    pipe.close()
        return self.lines_so_far()

    def _hear(self, pipe: IO[str]) -> None:
        for line in pipe:
            if line.endswith("\n"):  # not one that was cut off by a kill
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _note(self, pipe: IO[str]) -> None:
        self.logged.extend(pipe)


class Children:
    """Starts processes on one store, and leaves none behind."""

    def __init__(self, url: str, module: str = JOBS) -> None:
        self._url = url
        self._module = module
        self._started: list[Child] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self._started:
            child.kill()

    def start(self, role: str, *words: str, url: str | None = None) -> Child:
        """A process that may not be ready yet; `url` where it opens the store in another way."""
        child = Child(role, url or self._url, *words, module=self._module)
        self._started.append(child)
        return child

    def worker(self, lease: str = "1s", slots: int = 100, **options: object) -> Child:
        """A worker that is ready. `options` are more of those of `Jobs.open`."""
        words = [f"{name}={value}" for name, value in options.items()]
        return self.start("worker", lease, str(slots), *words).ready()


def wait_until(is_so: Callable[[], bool], child: Child, within_s: float = PATIENCE_S) -> list[str]:
    """Listen to `child` until something is so; what it said meanwhile."""
    said: list[str] = []
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {within_s} s: {''.join(child.logged)}"
        line = child.line_if_any(LOOK_S)
        if line is not None:
            said.append(line)
    return said


def is_quiet(app: BlockingApp) -> bool:
    """Whether nothing runs, waits or is scheduled."""
    return all(row.status == "idle" and not row.executing for row in app.list())


def audited(url: str) -> dict[str, list[Recorded]]:
    """All living streams of a store, after everything about them was found to add up."""
    with closing(open_store(url)) as factory:
        return audit_all(factory.application_recorder())
