"""The calls of an app that are about followers of the log (I3)."""

from __future__ import annotations

from collections.abc import Sequence

from wakelog.application import Application
from wakelog.arguments import timeout_us
from wakelog.client.gateway import RequestGateway
from wakelog.core.time import Duration
from wakelog.follow.feed import newest
from wakelog.follow.following import Following, pending, until
from wakelog.follow.others import OtherProcesses
from wakelog.log.position import Position

__all__ = ["FollowerCalls"]


class FollowerCalls:
    """A part of `App`."""

    application: Application
    others: OtherProcesses
    """Hears of what other processes append; not part of the stable interface."""
    _gateway: RequestGateway

    def follow(self, name: str, *, topics: Sequence[str] = (), wait: bool = True) -> Following:
        """The messages that handlers have emitted on these topics (`ctx.emit`), and that the
        follower of this name has not handled yet: in the order of the log, each at least once.

        A topic is a name, or a beginning with a `*` behind it; without any, all topics. The first
        time it begins with the first message of the log. `wait=False`: it ends once there is no
        more. See `Following`. Raises `ValidationError`.
        """
        return Following(
            self.application, self._gateway, name, topics, wait=wait, on_wait=self.others.start
        )

    async def position(self) -> Position:
        """How far the log has come by now: at least behind all that was acknowledged before."""
        self._gateway.check()
        app = self.application
        return Position(await app.threads.browse(newest, app))

    async def until(
        self, position: Position, follower: str, *, timeout: Duration | None = None
    ) -> None:
        """Wait until a follower, by its name, has handled everything up to a position.

            position = await app.position()    # after a send: read what it has led to
            await app.until(position, "mailer", timeout="5s")

        Raises `WaitTimeoutError`.
        """
        self._gateway.check()
        self.others.start()
        await until(self.application, position, follower, timeout_us(timeout))

    async def pending(self, follower: str) -> int:
        """How much a follower that workers call (`jobs.follower`, `jobs.track`, `jobs.follow`) has
        not handled yet, by its name. Reads it all. Raises `UnknownJobError`."""
        self._gateway.check()
        app = self.application
        return await app.threads.browse(pending, app, follower)
