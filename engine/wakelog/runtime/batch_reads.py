"""Group reads: keys asked for while a query is running go together in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from wakelog.runtime.store_threads import StoreExecutor

__all__ = ["BatchReader"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_KEYS = 256


class BatchReader(Generic[K, V]):
    """Answers single keys by querying for many at once. Used from the loop's thread only.

    A key is never answered by a query that began before it was asked for, so an answer shows
    whatever was recorded before the call.
    """

    def __init__(
        self,
        lane: StoreExecutor,
        query: Callable[[Sequence[K]], Sequence[V | Exception]],
        *,
        at_once: bool = False,
    ) -> None:
        """`query` answers a value for each key, or what is to be raised in its place.

        `at_once`: in a simulation, where nobody else can ask meanwhile and nothing waits.
        """
        self._lane = lane
        self._at_once = at_once
        self._query = query
        self._asked: dict[K, list[asyncio.Future[V]]] = {}
        self._running = False
        self._reading: asyncio.Future[Sequence[V | Exception]] | None = None

    async def read(self, key: K) -> V:
        """The value of `key`; raises what the query raises."""
        if self._at_once:
            [value] = self._query([key])
            if isinstance(value, Exception):
                raise value
            return value
        loop = asyncio.get_running_loop()
        future: asyncio.Future[V] = loop.create_future()
        self._asked.setdefault(key, []).append(future)
        if not self._running:
            self._running = True
            loop.call_soon(self._start)
        return await future

    def _start(self) -> None:
        if not self._asked:
            self._running = False
            return
        keys = list(self._asked)[:MAX_KEYS]
        waiting = [self._asked.pop(key) for key in keys]
        self._reading = asyncio.ensure_future(self._lane.run(self._query, keys))
        self._reading.add_done_callback(lambda done: self._ended(waiting, done))

    def _ended(
        self,
        waiting: Sequence[Sequence[asyncio.Future[V]]],
        done: asyncio.Future[Sequence[V | Exception]],
    ) -> None:
        if done.cancelled():
            error: BaseException | None = RuntimeError("the read was cut")
        else:
            error = done.exception()
        values = [error] * len(waiting) if error else done.result()
        for value, futures in zip(values, waiting, strict=True):
            for future in futures:
                if future.done():  # its caller has gone away
                    continue
                if isinstance(value, BaseException):
                    future.set_exception(value)
                else:
                    future.set_result(value)
        self._start()
