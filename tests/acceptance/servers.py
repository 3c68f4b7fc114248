"""Web servers for tests: child processes on a free port of loopback, asked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

__all__ = ["ROOT", "Server", "eventually", "free_port"]

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
"""How long something is awaited that takes a second, before the test fails."""
LOOK_S = 0.05


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def eventually(look: Callable[[], T | None]) -> T:
    """What `look` finds, as soon as it finds something."""
    until_s, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not (found := look()):
        assert time.monotonic() < until_s, "it does not come"
        pause.wait(LOOK_S)
    return found


class Server:
    """A command in a session of its own; leaving the context kills what is left of it."""

    def __init__(
        self, *command: str, port: int = 0, folder: Path = ROOT, env: Mapping[str, str]
    ) -> None:
        self.port = port
        self._popen = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
        self._reader.join(PATIENCE_S)
        assert self._popen.stdout is not None
        self._popen.stdout.close()

    @property
    def said(self) -> str:
        """All that it has printed so far."""
        return "".join(self._lines)

    def stopped(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal of a stop; its exit code."""
        self._popen.send_signal(number)
        return self._popen.wait(PATIENCE_S)

    def ended(self) -> int:
        """Wait until it has ended by itself; its exit code."""
        return self._popen.wait(PATIENCE_S)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and body of an answer; 0 where there is none."""
        assert self._popen.poll() is None, self.said
        data = None if body is None else json.dumps(body).encode()
        url, headers = f"http://127.0.0.1:{self.port}{path}", {"Content-Type": "application/json"}
        try:
            with urlopen(Request(url, data, headers, method=method), timeout=PATIENCE_S) as answer:
                return answer.status, json.loads(answer.read())
        except HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
        except (URLError, ConnectionError):
            return 0, None

    def get(self, path: str) -> Any:
        """The body of an answer that is good, None where it is none."""
        status, body = self.ask("GET", path)
        return body if status == 200 else None

    def _read(self) -> None:
        assert self._popen.stdout is not None
        self._lines.extend(self._popen.stdout)
