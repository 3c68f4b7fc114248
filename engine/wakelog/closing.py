"""Closing: the end of an app, whatever fails in it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

from wakelog.threads import log_failure

__all__ = ["END_S", "all_ended", "ended_within", "release_all"]

_LOG = logging.getLogger("wakelog.app")
END_S = 6.0
"""How long after the grace an app may take to end: what was not recorded by then is not recorded.
"""


async def ended_within(
    grace_us: int, hurry: Callable[[], None], ending: Coroutine[Any, Any, None]
) -> None:
    """Await the end of an app; `hurry` is called when the grace is over, and `END_S` later what is
    still going on is abandoned. Cancelled, it does not wait any longer."""
    grace_s = grace_us / 1_000_000
    hurrying = asyncio.get_running_loop().call_later(grace_s, hurry)
    try:
        async with asyncio.timeout(grace_s + END_S):
            await ending
    except TimeoutError:
        _LOG.warning("closing took too long: what is still going on is abandoned")
    finally:
        hurrying.cancel()


async def all_ended(*parts: Coroutine[Any, Any, None]) -> None:
    """Let each part end. What fails is logged, and hinders nothing else."""
    for error in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(error, Exception):
            log_failure(_LOG, "closing: what was begun could not be ended", error=error)


def release_all(*releases: Callable[[], None]) -> None:
    """Call each, the last one first. What fails is logged, and hinders nothing else."""
    with ExitStack() as releasing:
        for release in releases:
            releasing.callback(_logged, release)


def _logged(release: Callable[[], None]) -> None:
    try:
        release()
    except Exception as error:
        log_failure(_LOG, "closing: something could not be released", error=error)
