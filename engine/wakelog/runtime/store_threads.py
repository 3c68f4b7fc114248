"""Lanes: on which thread a blocking call to the store runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, ParamSpec, Protocol, TypeVar

from wakelog.errors import InvalidStateError

__all__ = ["InlineExecutor", "StoreExecutor", "ThreadExecutor"]

P = ParamSpec("P")
R = TypeVar("R")

HAND_OVER_S = 0.005
"""The longest that the loop waits for a call to begin: as long as it would keep the interpreter."""


class StoreExecutor(Protocol):
    """Runs blocking functions for the event loop."""

    def run(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        """The result of `fn(*args, **kwargs)`."""
        ...

    def close(self) -> None:
        """Wait for what is running, then end."""
        ...


class InlineExecutor:
    """Calls on the loop: for stores that do not block, and for simulations.

    With `yields` others have a turn first, or who asks again and again would starve them.
    """

    def __init__(self, *, yields: bool = False) -> None:
        self._yields = yields

    async def run(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._yields:
            await asyncio.sleep(0)
        return fn(*args, **kwargs)

    def close(self) -> None:
        """There is nothing to wait for."""


class ThreadExecutor:
    """Calls on a few threads of its own, so that the loop goes on meanwhile.

    A thread that wakes needs the interpreter, and a busy loop gives it away only after
    `sys.getswitchinterval()`. A loop that hands it over waits until the call has begun, where a
    thread is free for it, and has it back when the call waits for the store; or later, where still
    other threads compute.
    """

    def __init__(self, name: str, threads: int = 1, *, hands_over: bool = False) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"wakelog-{name}")
        self._free = threads
        self._hands_over = hands_over
        self._closed = False

    def run(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        if self._closed:
            return _refused()
        if not self._hands_over:
            return asyncio.wrap_future(self._threads.submit(fn, *args, **kwargs))
        begun = threading.Lock()
        begun.acquire()

        def call() -> R:
            begun.release()
            return fn(*args, **kwargs)

        ended = asyncio.wrap_future(self._threads.submit(call))
        ended.add_done_callback(self._ended)
        self._free -= 1
        if self._free >= 0:
            begun.acquire(timeout=HAND_OVER_S)
        return ended

    def _ended(self, _: object) -> None:
        """Also where the caller has gone and the call goes on: then one wait is in vain."""
        self._free += 1

    def close(self) -> None:
        """What is asked for from now on raises `InvalidStateError`."""
        self._closed = True
        self._threads.shutdown(wait=True)


async def _refused() -> NoReturn:
    raise InvalidStateError(
        "the app was closed meanwhile: open it again, and look at what was recorded"
    )
