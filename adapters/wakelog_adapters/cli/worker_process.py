"""The process of `wakelog worker`: it runs what is due, and handles signals and logs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

from wakelog.core.time import Duration
from wakelog.jobs import Jobs
from wakelog_adapters.cli.app import print_document
from wakelog_adapters.cli.context import Echoes, Where, opened, without_secrets
from wakelog_adapters.cli.exit_codes import UsageError, printable
from wakelog_adapters.cli.streams import may_lose_stdout

__all__ = ["Signals", "work"]

_LOG = logging.getLogger("wakelog.cli")
LEVELS = ("debug", "info", "warning", "error")


def work(
    where: Where,
    *,
    concurrency: int,
    only: Sequence[str],
    lease: Duration | None,
    grace: Duration | None,
    log_level: str,
    json: bool,
) -> None:
    """Run what is due until a signal arrives, then stop gracefully and return; also if the signal
    arrives while the store is being opened, or the store is away.

    Raises `UsageError`, `UnknownJobError` and `StoreUnavailableError` before the first run.
    """
    if log_level.lower() not in LEVELS:
        raise UsageError(f"--log-level {log_level!r} is none of {', '.join(LEVELS)}")
    url = where.store_url()
    jobs = where.needed_jobs()
    names = tuple(only) or jobs.names()
    if not names:
        raise UsageError(f"{where.reference()} has no jobs: there is nothing to work on")
    may_lose_stdout()
    log_on_stderr(log_level.upper())
    about = {
        "pid": os.getpid(),
        "jobs": [jobs.registry.job_of(name) for name in names],
        "url": without_secrets(url),
        "concurrency": concurrency,
        "lease": lease,
        "grace": grace,
    }
    options = {"concurrency": concurrency, "only": names, "lease": lease, "grace": grace}
    try:
        asyncio.run(_until_stopped(jobs, url, options, about, json))
    except OpeningStopped:
        _LOG.info("stopped before the store was open")


async def _until_stopped(
    jobs: Jobs, url: str, options: dict[str, Any], about: dict[str, Any], json: bool
) -> None:
    stop = asyncio.Event()
    with Signals(stop) as signals:
        async with opened(jobs, url, create=True, worker=True, **options) as app:
            signals.is_open = True
            _announce(about, json)
            await stop.wait()
            runs = "" if app.is_idle else f", runs may end within {about['grace']}"
            _LOG.info("stopping: nothing new is started%s; a second signal ends at once", runs)
        _LOG.info("stopped")


def _announce(about: dict[str, Any], json: bool) -> None:
    """Log what it works on; with `json` also print it, as the sign that the worker is ready."""
    _LOG.info(
        "working on %s in %s: %d at a time, lease %s, pid %d; Ctrl-C stops",
        ", ".join(about["jobs"]),
        about["url"],
        about["concurrency"],
        about["lease"],
        about["pid"],
    )
    if json:
        print_document(about)
        sys.stdout = sys.stderr  # what handlers print is not part of the document


ENDED_AT_ONCE = b"ended at once: other workers take over the open runs when their leases end\n"


class OpeningStopped(BaseException):
    """A signal has arrived while the store was being opened, which may wait for it for long."""


HANGUP = getattr(signal, "SIGHUP", None)
"""The terminal was closed. Windows has no such signal, and under `nohup` it is ignored."""


class Signals:
    """SIGINT and SIGTERM: the first requests a stop, the second ends the process at once. A hangup
    requests a stop, too.

    Until `is_open` is set the first raises `OpeningStopped` on the main thread.

    Python's own handlers are used since a job's handler may block the event loop; and the loop's
    own as well, since otherwise a signal that arrives just before the loop waits would not wake it.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self.is_open = False
        """Whether there is a worker that can be stopped gracefully."""
        self._stopping = False
        self._echoes = Echoes()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        handled = [signal.SIGINT, signal.SIGTERM]
        if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:
            handled.append(HANGUP)
        for each in handled:
            self._before[each] = signal.getsignal(each)
            with contextlib.suppress(
                NotImplementedError
            ):  # Windows: a signal always wakes its loop
                self._loop.add_signal_handler(each, self._stop.set)
            signal.signal(each, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._stopping:  # else a second signal must still end the process at once
            for each, before in self._before.items():
                signal.signal(each, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._echoes.is_one(number) or (self._stopping and number == HANGUP):
            return
        if self._stopping:
            with contextlib.suppress(OSError):
                os.write(2, ENDED_AT_ONCE)
            os._exit(128 + number)
        self._stopping = True
        if not self.is_open:
            raise OpeningStopped
        self._loop.call_soon_threadsafe(self._stop.set)


# -- logs ------------------------------------------------------------------------------------------


def log_on_stderr(level: str) -> None:
    """Log on stderr from `level` upwards, unless the jobs' module has set up its own logging."""
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Lines())
        root.addHandler(handler)
    root.setLevel(level)


HEADLINE = "Traceback (most recent call last):"


class _Lines(logging.Formatter):
    """One line for each record: time (UTC), level, message, instance; and below an error its
    frames, without Python's own headline, which would read as if the worker had failed."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record)).replace(f"{HEADLINE}\n", "")

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        instance = getattr(record, "instance", None)
        if instance is None or str(instance) in line:
            return line
        return f"{line}  [{instance}]"
