"""Keeps schedules true to the clock: a wall clock that jumps is noticed, what it left is set anew.

A schedule counts from the wall clock, and so lies too far away if that was ahead for a moment (U9).
The sweep would find it; a clock that goes back while the worker looks on is noticed sooner, because
it moves against the monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from wakelog.application import Application
from wakelog.worker.startup import retime, retime_ahead

__all__ = ["ScheduleKeeper"]

_LOG = logging.getLogger("wakelog.worker")

LOOK_S = 0.5
"""How often the two clocks are compared."""
JUMP_US = 200_000
"""By how much the wall clock must have moved against the monotonic one to have jumped."""


class ScheduleKeeper:
    """One task of a worker's event loop, from `start` to `stop`."""

    def __init__(
        self,
        app: Application,
        jobs: Sequence[str],
        sweep_us: int,
        on_jump: Callable[[], None],
    ) -> None:
        """`on_jump` is called on the loop when the wall clock has jumped, either way."""
        self._app = app
        self._jobs = jobs
        self._sweep_s = sweep_us / 1_000_000
        self._on_jump = on_jump
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Set anew what another rule or a clock that was ahead has left, then look on."""
        self._task = asyncio.get_running_loop().create_task(self._keep(self._offset_us()))

    async def stop(self) -> None:
        """End the task. Safe to call twice, and before `start`."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _offset_us(self) -> int:
        """How far the wall clock is from the monotonic one."""
        return self._app.clock.now_us() - round(asyncio.get_running_loop().time() * 1_000_000)

    async def _keep(self, offset_us: int) -> None:
        loop = asyncio.get_running_loop()
        await self._set_anew(everything=True)
        swept_s = loop.time()
        while True:
            await asyncio.sleep(LOOK_S)
            before_us, offset_us = offset_us, self._offset_us()
            has_jumped = abs(offset_us - before_us) > JUMP_US
            if has_jumped:
                _LOG.warning("the clock has jumped by %.1f s", (offset_us - before_us) / 1_000_000)
                self._on_jump()
            if has_jumped or loop.time() - swept_s >= self._sweep_s:
                await self._set_anew()
                swept_s = loop.time()

    async def _set_anew(self, *, everything: bool = False) -> None:
        """An error is logged, and the next look tries again."""
        try:
            count = await retime_ahead(self._app, self._jobs)
            if everything:
                count += await retime(self._app, self._jobs)
        except Exception as error:
            _LOG.error("schedules could not be compared with the present rules: %s", error)
        else:
            if count:
                _LOG.info("%d schedules were set anew", count)
