"""Following, blocking: an iterator over the messages for the outside."""

from __future__ import annotations

from collections.abc import Iterator

from wakelog.blocking.portal import Portal
from wakelog.follow.following import Following
from wakelog.log.cloud_event import CloudEvent

__all__ = ["BlockingFollowing"]


class BlockingFollowing(Iterator[CloudEvent]):
    """The messages that a named follower has not handled yet; see `Following`.

    with app.follow("mailer", topics=["paid"]) as events:
        for event in events:
            mail(event.data)
    """

    def __init__(self, following: Following, portal: Portal) -> None:
        self._following = following
        self._portal = portal

    def __iter__(self) -> BlockingFollowing:
        return self

    def __enter__(self) -> BlockingFollowing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> CloudEvent:
        """The next message; waits for one. With `wait=False` it ends where there is none. Raises
        what `Following` raises."""
        event = self._portal.call(lambda: self._following.next_if_any())
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Record how far it is. The iterator may be used again."""
        self._portal.call(lambda: self._following.aclose())
