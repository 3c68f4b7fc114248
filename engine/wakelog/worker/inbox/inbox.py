"""The inbox of one worker: rows are found because they are there, and handed to the event loop.

A row commits whenever its caller does, so no position says what was seen. A worker looks when it
is notified, when it polls, and again as long as it finds as much as it looks for. While it delivers
it does not look: what it has found is still there.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

from wakelog.application import Application
from wakelog.errors import StoreUnavailableError
from wakelog.ports.inbox import InboxRow
from wakelog.threads import log_failure

__all__ = ["DueRows", "Inbox"]

_LOG = logging.getLogger("wakelog.worker")

MAX_ROWS = 256
"""Rows that one look finds, at most."""


class DueRows(list[InboxRow]):
    """Rows of the inbox, as the alarm clock presents them."""


class Inbox:
    """Looks on the alarm clock's thread, delivers on the event loop."""

    def __init__(
        self,
        app: Application,
        jobs: Sequence[str],
        wake: Callable[[], None],
    ) -> None:
        """`wake`: has the alarm clock look again."""
        self._app = app
        self._jobs = jobs
        self._wake = wake
        self._lock = threading.Lock()
        self._is_noticed = True
        self._is_delivering = False
        self._is_closed = False
        self._looked_us = 0
        self._task: asyncio.Task[None] | None = None

    # -- on any thread

    def notice(self) -> None:
        """Rows may have come: look at once."""
        with self._lock:
            self._is_noticed = True
        self._wake()

    def claim(self, now_us: int) -> list[DueRows]:
        """The rows that are there, if it is time to look. Blocks."""
        with self._lock:
            poll_us = self._app.store.poll_us
            is_time = poll_us is not None and abs(now_us - self._looked_us) >= poll_us
            if self._is_idle or not (self._is_noticed or is_time):
                return []
            self._is_noticed, self._looked_us = False, now_us
        rows = self._app.store.inbox_rows(self._jobs, now_us, MAX_ROWS)
        return [DueRows(rows)] if rows else []

    @property
    def _is_idle(self) -> bool:
        """Whether it does not look: it delivers, or is closed, or nothing can deliver."""
        return self._is_delivering or self._is_closed or self._app.deliver is None

    def next_look_us(self) -> int | None:
        """When to look again; None while it delivers, and if nothing can come."""
        with self._lock:
            poll_us = self._app.store.poll_us
            if poll_us is None or self._is_idle:
                return None
            return 0 if self._is_noticed else self._looked_us + poll_us

    # -- on the event loop

    def begin(self, rows: DueRows) -> None:
        """Deliver what one look has found, unless that of the look before is going on."""
        with self._lock:
            if self._is_idle:
                return
            self._is_delivering = True
        self._task = asyncio.get_running_loop().create_task(self._delivered(rows))

    async def _delivered(self, rows: DueRows) -> None:
        try:
            if self._app.deliver is not None:
                await self._app.deliver(rows)
        except StoreUnavailableError as error:
            _LOG.warning("the inbox could not be delivered, and will be: %s", error)
        except Exception as error:
            log_failure(_LOG, "the inbox could not be delivered, and will be", error=error)
        else:
            self._is_noticed |= len(rows) == MAX_ROWS
        finally:
            with self._lock:
                self._is_delivering = False
            self._wake()

    async def close(self, grace_s: float) -> None:
        """Let what is being delivered end within the grace; the rest stays in the inbox."""
        self._is_closed = True
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=grace_s)
            self._task.cancel()
