"""A process that can start no thread for a moment: it is at a limit of its user or container."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Refused", "refusing_threads"]


class Refused:
    """How many threads could not be started."""

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def refusing_threads(after: int = 0) -> Iterator[Refused]:
    """Python refuses to start any thread, as it does then, once it has started so many more."""
    left, refused, start = after, Refused(), threading.Thread.start

    def start_or_refuse(thread: threading.Thread) -> None:
        nonlocal left
        if left <= 0:
            refused.count += 1
            raise RuntimeError("can't start new thread")
        left -= 1
        start(thread)

    threading.Thread.start = start_or_refuse  # type: ignore[method-assign, assignment]
    try:
        yield refused
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
