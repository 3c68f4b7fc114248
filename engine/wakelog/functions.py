"""What can be said of a user's function before it is called."""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["is_async", "is_generator", "place_of", "plain_result", "why_unfit"]


def is_async(fn: object) -> bool:
    """Whether calling `fn` makes a coroutine: an `async def`, or an object whose call is one."""
    return any(map(inspect.iscoroutinefunction, (fn, getattr(fn, "__call__", None))))  # noqa: B004


def place_of(fn: object) -> str:
    """Where a function is written, as in `/srv/orders.py:41 in charge`; empty if it has no code."""
    code = getattr(inspect.unwrap(getattr(fn, "func", fn)), "__code__", None)  # type: ignore[arg-type]
    return f"{code.co_filename}:{code.co_firstlineno} in {code.co_name}" if code else ""


def is_generator(fn: object) -> bool:
    """Whether `fn` yields, so that calling it executes nothing."""
    either = fn, getattr(fn, "__call__", None)  # noqa: B004
    return any(inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in either)


def why_unfit(fn: object, arguments: int) -> str | None:
    """Why `fn` cannot answer a question: it must be a `def` that can be called with so many
    arguments. None if it can, or if that cannot be known."""
    if not callable(fn):
        return "must be callable"
    if is_async(fn):
        return "must be a `def`, not an `async def`: it is called without `await`"
    if is_generator(fn):
        return "must return its answer, not yield it"
    try:
        inspect.signature(fn).bind(*[None] * arguments)
    except TypeError:
        count = "one argument" if arguments == 1 else f"{arguments} arguments"
        return f"must take {count}"
    except ValueError:  # a builtin without a signature
        pass
    return None


def plain_result(answer: Any) -> Any:
    """What a `def` has returned. Raises `TypeError` for something to be awaited, and for a
    generator: it is not awaited or read, and counts as true."""
    if inspect.isawaitable(answer):
        what = f"something to be awaited, a {type(answer).__name__}"
        if inspect.iscoroutine(answer):
            answer.close()
            what = "a coroutine"
        raise TypeError(f"the function returned {what}, which is not awaited: give a `def`")
    if inspect.isgenerator(answer) or inspect.isasyncgen(answer):
        raise TypeError("the function returned a generator, which is not read: return the answer")
    return answer
