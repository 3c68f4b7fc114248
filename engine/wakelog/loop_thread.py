"""An event loop on a thread of its own, on which blocking callers have coroutines run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from wakelog.threads import start_thread

__all__ = ["LoopStopped", "LoopThread"]

R = TypeVar("R")


class LoopStopped(Exception):
    """The event loop runs nothing any longer; the call was not made, or was cancelled."""


class LoopThread:
    """Runs from when it is made until `stop`. Any thread may use it, except its own.

    It holds nothing that has to be ended: in a forked process it may be dropped as it is.
    """

    def __init__(self) -> None:
        """Raises `ThreadsExhaustedError`, and what an event loop raises that cannot be made."""
        self._lock = threading.Lock()
        self._stop = asyncio.Event()
        self._is_stopped = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="wakelog-loop", daemon=True)
        try:
            start_thread(self._thread)
        except BaseException:
            self._loop.close()
            raise

    @property
    def is_stopped(self) -> bool:
        """Whether it runs nothing new."""
        return self._is_stopped

    def call(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine to its end; what it raises is raised here.

        If the caller is interrupted, the coroutine is cancelled. Raises `LoopStopped` if `stop` was
        called, before or meanwhile.
        """
        with self._lock:  # what was scheduled before the stop has begun, and is cancelled by it
            if self._is_stopped:
                coroutine.close()
                raise LoopStopped
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            if self._is_stopped:
                raise LoopStopped from None
            raise
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Cancel what is running, and wait for its end and that of the thread. Safe to call
        twice."""
        with self._lock:
            if not self._is_stopped:
                self._is_stopped = True
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        try:
            await self._stop.wait()
        finally:  # also if something has ended the loop
            with self._lock:
                self._is_stopped = True
