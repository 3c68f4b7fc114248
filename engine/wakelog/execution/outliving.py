"""Requests that outlive their callers: a `def` cannot be stopped, and holds its instance's turn."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from wakelog.definitions.context import CURRENT

__all__ = ["in_a_task", "is_outliving", "outliving"]

R = TypeVar("R")

_CALLER: contextvars.ContextVar[asyncio.Task[Any] | None] = contextvars.ContextVar(
    "wakelog_outliving_caller", default=None
)
"""The task of the caller in which a request is."""
_TASK_WANTED = object()
"""What a request yields that is to be continued in a task of its own."""


def is_outliving() -> bool:
    """Whether this is called by a request that is in its caller's own task."""
    caller = _CALLER.get()
    return caller is not None and caller is asyncio.current_task()


@types.coroutine
def in_a_task() -> Generator[Any, Any, None]:
    """Continue the request in a task of its own. Only where `is_outliving` says so."""
    yield _TASK_WANTED


@types.coroutine
def outliving(
    request: Coroutine[Any, Any, R],
    hand_down: Callable[[object], bool],
    go_on: Callable[[Coroutine[Any, Any, R]], asyncio.Task[R]],
) -> Generator[Any, Any, R]:
    """Await `request` in its caller's own task, which costs less than a task for each.

    If the caller is cancelled, `hand_down` is asked whether what the request waits for is a `def`
    in a thread. Then the request goes on in the task that `go_on` makes of the rest of it; so it
    does from `in_a_task` on. Any other cancellation is raised in the request, as in any coroutine
    that is awaited. While it waits for a thread, nothing in it may be bound to the caller's task,
    such as an open `asyncio.timeout`.
    """
    current, caller = CURRENT.set(CURRENT.get()), _CALLER.set(asyncio.current_task())
    try:
        waits = request.send(None)
        while waits is not _TASK_WANTED:
            try:
                yield waits
            except asyncio.CancelledError as error:
                if hand_down(waits):
                    go_on(request)
                    raise
                waits = request.throw(error)
            except BaseException as error:  # the caller's coroutine is closed
                waits = request.throw(error)
            else:
                waits = request.send(None)
        rest = go_on(request)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        with contextlib.suppress(ValueError):  # the caller's coroutine is closed somewhere else
            CURRENT.reset(current)  # the new task has a copy of what a handler was called with
            _CALLER.reset(caller)
    return (yield from asyncio.shield(rest).__await__())
