"""The `timeout=` of a handler: it ends the call, whatever the handler does (U10)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from wakelog.execution.pool_task import Returned

__all__ = ["CLEANUP_S", "InTime", "in_time"]

CLEANUP_S = 1.0
"""How long a handler whose time is over may take to end, in its `finally` for example."""


class InTime(NamedTuple):
    """How a call with a time limit has ended."""

    returned: Returned
    """The result or the exception; neither if it was cancelled because of its limit."""
    is_over: bool = False
    """Whether it took longer than its limit; then its result does not count."""
    is_stuck: bool = False
    """Whether it goes on: it has caught its cancellation."""


async def in_time(
    call: Callable[[Callable[[], None]], Coroutine[Any, Any, Returned]], timeout_s: float
) -> InTime:
    """Await `call(begin)` for `timeout_s` from when it calls `begin`; then cancel it.

    It is in a task of its own, so that one which catches its cancellation does not hold its caller.
    A cancellation of the caller is passed on to it, and raised here if it ends with it. Raises what
    the call raises.
    """
    loop = asyncio.get_running_loop()
    scope, stuck = asyncio.timeout(None), asyncio.Event()
    timers: list[asyncio.TimerHandle] = []

    def begin() -> None:
        scope.reschedule(loop.time() + timeout_s)
        timers.append(loop.call_later(timeout_s + CLEANUP_S, stuck.set))

    async def limited() -> Returned:
        async with scope:
            return await call(begin)

    task, watch = loop.create_task(limited()), loop.create_task(stuck.wait())
    try:
        cancelled = await _first(task, watch)
    finally:
        watch.cancel()
        for timer in timers:
            timer.cancel()
    if not task.done():
        _ABANDONED.add(task)
        task.add_done_callback(_forget)
        return InTime((None, None), is_over=True, is_stuck=True)
    if task.cancelled():
        if cancelled is not None:
            raise cancelled
        return InTime((None, asyncio.CancelledError()))  # it has cancelled its own task
    if isinstance(task.exception(), TimeoutError):  # the scope's: those of a handler are values
        return InTime((None, None), is_over=True)
    return InTime(task.result(), is_over=scope.expired())


async def _first(
    task: asyncio.Task[Any], watch: asyncio.Task[Any]
) -> asyncio.CancelledError | None:
    """Wait until one of them has ended; the cancellation that was passed on to `task` meanwhile."""
    cancelled = None
    while not (task.done() or watch.done()):
        try:
            await asyncio.wait([task, watch], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as error:
            cancelled = error
            task.cancel()
    return cancelled


_ABANDONED: set[asyncio.Task[Any]] = set()
"""Calls that go on although nothing waits for them: the loop itself keeps no reference."""


def _forget(task: asyncio.Task[Any]) -> None:
    _ABANDONED.discard(task)
    if not task.cancelled():
        task.exception()  # it is read, so that asyncio does not log it
