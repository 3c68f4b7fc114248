"""The sweep: finds what a bug or an operator has stranded, and re-arms it (A4)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence

from wakelog.application import Application
from wakelog.ids import job_of
from wakelog.worker.claims import rearm
from wakelog.worker.unread import Rereader

__all__ = ["Sweep"]

_LOG = logging.getLogger("wakelog.worker")

STRANDED_US = 10_000_000
"""How long work must have been without an alarm before a sweep calls it stranded."""
SWEEP_LIMIT = 100
"""Stranded instances that one sweep re-arms."""
PURGE_LIMIT = 1_000
"""Expired replies that are deleted at a time: other writers may wait meanwhile."""
PURGES = 5
"""How often in a row they are; if there are still more, the heartbeat's next look goes on."""
BREATH_S = 0.02
"""The pause between two of them, for other writers."""


class Sweep:
    """Sweeps for one worker, on its heartbeat's thread; re-arms on the event loop."""

    def __init__(
        self,
        app: Application,
        jobs: Sequence[str],
        loop: asyncio.AbstractEventLoop,
        pools: Callable[[], Awaitable[int]],
    ) -> None:
        """`pools`: see `Rereader`."""
        self._app = app
        self._jobs = jobs
        self._loop = loop
        self._rereader = Rereader(app, jobs, pools)
        self._rereading: concurrent.futures.Future[int] | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._may_purge_more = False

    def __call__(self) -> None:
        """Find what is stranded, purge expired replies, and try what waits for code. Blocks."""
        store, now_us = self._app.store, self._app.clock.now_us()
        self._purge()
        stranded = store.stranded(now_us - STRANDED_US, SWEEP_LIMIT)
        self.rearm([stream for stream in stranded if job_of(stream) in self._jobs])
        self.reread()

    def purge_more(self) -> None:
        """Go on to purge expired replies, if the last time left some. Blocks, for a moment."""
        if self._may_purge_more:
            self._purge()

    def _purge(self) -> None:
        purge, now_us = self._app.store.purge_kept_replies, self._app.clock.now_us()
        for _ in range(PURGES):
            self._may_purge_more = purge(now_us, PURGE_LIMIT) == PURGE_LIMIT
            if not self._may_purge_more or self._over.wait(BREATH_S):
                return

    def reread(self) -> None:
        """Begin to try what waits for code, unless that is going on. Any thread may call."""
        with self._lock:
            if self._over.is_set() or not (self._rereading is None or self._rereading.done()):
                return
            self._rereading = asyncio.run_coroutine_threadsafe(self._rereader(), self._loop)
            self._rereading.add_done_callback(_log_rereading)

    def stop_rereading(self) -> None:
        """Try nothing more that waits for code: the worker closes."""
        with self._lock:
            self._over.set()
        if self._rereading is not None:
            self._rereading.cancel()

    def rearm(self, streams: Sequence[str], *, only_runs: bool = False) -> None:
        """Re-arm these streams at the versions that they have now; with `only_runs` those that have
        an open run. Blocks."""
        for stream, row in zip(streams, self._app.store.status(streams), strict=True):
            if row is not None and (row.executing or not only_runs):
                self.rearm_at(stream, row.version)

    def rearm_at(self, stream: str, version: int) -> None:
        """Re-arm a stream, if it is at this version still. Any thread may call."""
        done = asyncio.run_coroutine_threadsafe(rearm(self._app, stream, version), self._loop)
        done.add_done_callback(functools.partial(_log_failure, stream))


def _log_rereading(done: concurrent.futures.Future[int]) -> None:
    """Log what became of a look at what waits for code."""
    error = None if done.cancelled() else done.exception()
    if error is not None:
        _LOG.error("what waits for code could not be tried: %s", error)
    elif not done.cancelled() and done.result():
        _LOG.info("%d instances and events that waited for code go on", done.result())


def _log_failure(stream: str, done: concurrent.futures.Future[None]) -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:
        _LOG.error("%s cannot be re-armed: %s", stream, error, extra={"instance": stream})
