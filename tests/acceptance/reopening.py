"""A process of a storm: its app is closed when that is asked for, and opened again.

Lines of its stdin: `close`; `refuse N`, it can start N more threads, then none; `allow`, it can
again. All others are for the process itself, which ends with its stdin. It prints `ready PID` once
its app is open, `refused PID` when it could not be opened for want of a thread, `allowed PID N`
with how many starts of threads were refused, and `closed PID MICROSECONDS LEFT`: how long it took
until nothing was left of the app, or what was left of it then.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from types import TracebackType
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.support_threads import Refused, refusing_threads
from wakelog import App, InvalidStateError, StoreUnavailableError, ThreadsExhaustedError
from wakelog.jobs import Opening

__all__ = ["Reopening"]

PAUSE_S = 0.2
"""Between two tries to open."""
LOOK_S = 0.02
LEAVES_S = 10.0
"""How long something may be left of an app that was closed before it is told what."""


class Closing(Exception):
    """Raised where an app is used: nothing that closing it meets may replace it, or be added."""

    def __init__(self) -> None:
        super().__init__()
        self.began_s = time.monotonic()


class Reopening:
    """The app of a process, from its first opening to the end of stdin."""

    def __init__(self, opening: Callable[[], Opening], on_line: Callable[[str], object]) -> None:
        """`opening` is called for each opening, `on_line` with each line for the process."""
        self._opening = opening
        self._on_line = on_line
        self._app: App | None = None
        self._is_open = asyncio.Event()
        self._told_to_close = asyncio.Event()
        self._over = asyncio.Event()
        self._refusing = ExitStack()
        self._refused: Refused | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Reopening:
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._keep_open())]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._told_to_close.set()
        await self._tasks[1]

    async def app(self) -> App:
        """The app, once it is open. Raises `InvalidStateError` if it is not by the end of stdin."""
        while self._app is None:
            if self._over.is_set():
                raise InvalidStateError("the app is closed, and is not opened again")
            await self._is_open.wait()
        return self._app

    async def over(self, *working: asyncio.Future[Any]) -> None:
        """Wait for the end of stdin. Raises what closing the app has raised in place of `Closing`,
        what opening it has, but for a store or threads that are not to be had for now, and what
        the process is `working` on."""
        over = asyncio.create_task(self._over.wait())
        tasks = [over, *self._tasks, *working]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()

    async def _listen(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := (await reader.readline()).decode().rstrip("\n"):
            what, _, number = line.partition(" ")
            if what == "close":
                self._told_to_close.set()
            elif what == "refuse":
                self._refused = self._refusing.enter_context(refusing_threads(int(number)))
            elif what == "allow":
                assert self._refused is not None
                self._refusing.close()
                print("allowed", os.getpid(), self._refused.count, flush=True)
            else:
                self._on_line(line)
        self._over.set()
        self._is_open.set()

    async def _keep_open(self) -> None:
        before = _Held()
        while not self._over.is_set():
            try:
                async with AsyncExitStack() as stack:
                    if not await self._open(stack):
                        return
                    await self._told_to_close.wait()
                    self._told_to_close.clear()
                    self._app = None
                    self._is_open.clear()
                    raise Closing
            except Closing as closing:
                if hasattr(closing, "__notes__"):  # they tell what closing has met
                    raise
                if not self._over.is_set():
                    left = await _left(before)
                    took_us = round((time.monotonic() - closing.began_s) * 1_000_000)
                    print("closed", os.getpid(), took_us, left, flush=True)

    async def _open(self, stack: AsyncExitStack) -> bool:
        """As soon as that can be done; False if stdin ends before."""
        while not self._over.is_set():
            try:
                app = await stack.enter_async_context(self._opening())
            except ThreadsExhaustedError:
                print("refused", os.getpid(), flush=True)
            except StoreUnavailableError:
                pass
            else:
                self._app = app
                self._is_open.set()
                print("ready", os.getpid(), flush=True)
                return True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), PAUSE_S)
        return False


class _Held:
    """What a process holds: its threads, and how many file descriptors."""

    def __init__(self) -> None:
        self.threads = set(threading.enumerate())
        self.fds: int = psutil.Process().num_fds()


async def _left(before: _Held) -> str:
    """Wait until a process holds no more than before; if it does for long, what."""
    until_s = time.monotonic() + LEAVES_S
    while True:
        now = _Held()
        names = [thread.name for thread in now.threads - before.threads]
        if not names and now.fds <= before.fds:
            return "nothing"
        if time.monotonic() > until_s:
            return f"{now.fds - before.fds} descriptors and the threads {names}"
        await asyncio.sleep(LOOK_S)
