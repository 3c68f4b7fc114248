"""Hears of what other processes append, for those who wait for the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wakelog.application import Application
from wakelog.runtime.stream_watch import EVERY_STREAM

__all__ = ["OtherProcesses"]


class OtherProcesses:
    """Notifications of one app, once somebody follows. Used on the app's event loop.

    They are hints: who waits for the log also looks several times a second.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._stop: Callable[[], None] | None = None

    def start(self) -> None:
        """Wake whoever waits, from now on. Raises `ThreadsExhaustedError`."""
        if self._stop is not None or self._app.handler_runner.inline:
            return
        loop, notify = asyncio.get_running_loop(), self._app.stream_watch.notify

        def wake(*_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(notify, EVERY_STREAM)

        self._stop = self._app.store.watch_alarms(wake, wake)

    async def close(self) -> None:
        """Listen no more."""
        stop, self._stop = self._stop, None
        if stop is not None:
            await self._app.threads.browse(stop)
