"""Batched reads: keys that are asked for while a query runs go together in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from wakelog.runtime.store_threads import StoreExecutor, closed_meanwhile

__all__ = ["BatchReader"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_KEYS = 256


class BatchReader(Generic[K, V]):
    """Answers single keys by queries for many. Used from the event loop's thread only.

    A query that began before a key was asked for never answers it, so an answer shows whatever was
    recorded before the call.
    """

    def __init__(
        self,
        executor: StoreExecutor,
        query: Callable[[Sequence[K]], Sequence[V | Exception]],
        *,
        at_once: bool = False,
    ) -> None:
        """`query` answers a value for each key, or what is to be raised in its place.

        `at_once`: in a simulation, in which nothing else can ask meanwhile and nothing waits.
        """
        self._executor = executor
        self._at_once = at_once
        self._query = query
        self._waiting: dict[K, list[asyncio.Future[V]]] = {}
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
        self._waiting.setdefault(key, []).append(future)
        if not self._running:
            self._running = True
            loop.call_soon(self._start)
        return await future

    def _start(self) -> None:
        if not self._waiting:
            self._running = False
            return
        keys = list(self._waiting)[:MAX_KEYS]
        waiting = [self._waiting.pop(key) for key in keys]
        try:
            self._reading = asyncio.ensure_future(self._executor.run(self._query, keys))
        except Exception as error:  # not even begun: these fail, the next ones have their turn
            self._reading = asyncio.get_running_loop().create_future()
            self._reading.set_exception(error)
        self._reading.add_done_callback(lambda done: self._ended(waiting, done))

    def _ended(
        self,
        waiting: Sequence[Sequence[asyncio.Future[V]]],
        done: asyncio.Future[Sequence[V | Exception]],
    ) -> None:
        if done.cancelled():
            error: BaseException | None = closed_meanwhile()
        else:
            error = done.exception()
        values = [error] * len(waiting) if error else done.result()
        for value, futures in zip(values, waiting, strict=True):
            for future in futures:
                if future.done():  # its caller was cancelled
                    continue
                if isinstance(value, BaseException):
                    future.set_exception(value)
                else:
                    future.set_result(value)
        self._start()
