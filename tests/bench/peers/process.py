"""The processes of a comparison, and the databases that they work on."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench.peers.child import OURS
from tests.support_postgres import bare_connection

__all__ = ["INSTALLED", "PYTHON", "Child", "child", "fresh_database"]

ROOT = Path(__file__).resolve().parents[3]
_PEERS = ROOT / ".venv-peers"
PYTHON = _PEERS / "bin" / "python"
"""Where `make peers` installs the peers: apart, so that no version of theirs is ours."""
INSTALLED = (_PEERS / ".stamp").exists()
"""Whether it has done so, to the end."""
PATIENCE_S = 300.0
"""How long an answer may take."""
LINE_BYTES = 1_000_000
_NUMBERS = itertools.count(1)


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """The URL of a new database of the server. It is dropped at the end."""
    parts = urlsplit(server)
    name = f"wakelog_peers_{os.getpid()}_{next(_NUMBERS)}"
    with bare_connection(server) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield f"{parts.scheme}://{parts.netloc}/{name}?{parts.query}"
        finally:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


class Child:
    """A process that carries out commands: see `tests.bench.peers.child`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to, self._from = process.stdin, process.stdout

    async def answer(self) -> Any:
        """Its next answer. Raises `TimeoutError`, and `EOFError` if it has ended."""
        async with asyncio.timeout(PATIENCE_S):
            line = await self._from.readline()
        if not line:
            raise EOFError("the process has ended; its error output says why")
        return json.loads(line)

    async def ask(self, *command: object) -> Any:
        """Send it a command, and return the answer."""
        self._to.write(json.dumps(command).encode() + b"\n")
        return await self.answer()

    def end(self) -> None:
        """There are no more commands: it closes the library, and ends."""
        self._to.close()


@asynccontextmanager
async def child(name: str, url: str) -> AsyncIterator[Child]:
    """A process with this library open. Raises `AssertionError` where it ends badly."""
    python = sys.executable if name in OURS else str(PYTHON)
    process = await asyncio.create_subprocess_exec(
        *(python, "-m", "tests.bench.peers.child", name, url),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=LINE_BYTES,
    )
    try:
        made = Child(process)
        assert await made.answer() == "open"
        yield made
        made.end()
        async with asyncio.timeout(PATIENCE_S):
            code = await process.wait()
        if code != 0:
            raise AssertionError(f"{name} ended with {code}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
