"""The calls of an app that are about followers of the log, blocking.

Made from wakelog.follow.calls by `make blocking`: change that one.
"""

from __future__ import annotations

from wakelog.blocking.portal import Portal
from wakelog.core.time import Duration
from wakelog.follow.calls import FollowerCalls
from wakelog.log.position import Position

__all__ = ["BlockingFollowerCalls"]


class BlockingFollowerCalls:
    """A part of `App`."""

    def __init__(self, client: FollowerCalls, portal: Portal) -> None:
        self._follower_calls = client
        self._portal = portal

    def position(self) -> Position:
        """How far the log has come by now: at least behind all that was acknowledged before."""
        return self._portal.call(lambda: self._follower_calls.position())

    def until(self, position: Position, follower: str, *, timeout: Duration | None = None) -> None:
        """Wait until a follower, by its name, has handled everything up to a position.

            position = app.position()    # after a send: read what it has led to
            app.until(position, "mailer", timeout="5s")

        Raises `WaitTimeoutError`.
        """
        return self._portal.call(
            lambda: self._follower_calls.until(position, follower, timeout=timeout)
        )

    def pending(self, follower: str) -> int:
        """How much a follower that workers call (`jobs.follower`, `jobs.track`, `jobs.follow`) has
        not handled yet, by its name. Reads it all. Raises `UnknownJobError`."""
        return self._portal.call(lambda: self._follower_calls.pending(follower))
