"""What is asked of wakelog and of each peer alike.

Only the standard library is imported: the programs run in two environments, wakelog's and the
peers'. A job has a number and does nothing; what its library does around it is what is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

__all__ = ["CONNECTIONS", "JOB", "QUEUE", "SLOTS", "Count", "Make", "Peer", "payload", "until"]

JOB = "job"
QUEUE = "bench"
SLOTS = 16
"""How many jobs a worker may run at a time, where the library wants a number."""
CONNECTIONS = 16
"""How many connections a process may have, where the library wants a number."""
POLL_S = 0.002
"""How often the end of the work is looked for, once every job has begun."""


def payload(number: int) -> bytes:
    """What a job is given, where the library takes bytes: the JSON of `tests.bench.sample.Mail`."""
    return b'{"to":"someone@example.org","n":%d}' % number


class Peer(Protocol):
    """A library that runs jobs, open on a database."""

    async def prepare(self) -> None:
        """Make its tables. The database is empty."""
        ...

    async def send(self, number: int) -> None:
        """Commit a job that is due now."""
        ...

    async def send_batch(self, numbers: Sequence[int]) -> None:
        """Commit so many with one call. Raises `NotImplementedError` if there is no such call."""
        ...

    def working(self) -> AbstractAsyncContextManager[None]:
        """Run the jobs that are there, and those that come."""
        ...

    async def drain(self, count: int) -> None:
        """Start to work; return when so many jobs are done, and what became of them is recorded."""
        ...

    async def unfinished(self) -> int:
        """How many jobs are recorded as not done."""
        ...


Make = Callable[[str, Callable[[], None]], AbstractAsyncContextManager[Peer]]
"""Open a database by its URL. The function is to be called when a job begins."""


class Count:
    """How many jobs have begun. One thread may count."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.number = 0
        self._then = then

    def one_more(self) -> None:
        """Count one, and say so."""
        self.number += 1
        self._then()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for it, and leave the event loop free in between."""
    while not is_so():  # noqa: ASYNC110  an event for each run would be measured with it
        await asyncio.sleep(POLL_S)
