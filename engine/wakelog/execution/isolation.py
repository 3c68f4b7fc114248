"""Context variables: what a handler sets is seen by it and what it calls, and by nothing else.

A handler that its sender waits for sees the sender's variables; a run sees none, whichever request
or app has led to it.
"""

from __future__ import annotations

import contextvars
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

__all__ = ["in_context"]

R = TypeVar("R")


@types.coroutine
def in_context(
    coroutine: Coroutine[Any, Any, R], context: contextvars.Context
) -> Generator[Any, Any, R]:
    """Await it in the task of the caller, with the variables of `context`: a task of its own for
    each would cost more. Nothing else may be in that context meanwhile."""
    run, send = context.run, coroutine.send
    try:
        waits = run(send, None)
        while True:
            try:
                yield waits
            except BaseException as error:
                waits = run(coroutine.throw, error)
            else:
                waits = run(send, None)
    except StopIteration as end:
        result: R = end.value
        return result
