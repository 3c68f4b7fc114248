"""The port to messages: those that were sent and not delivered, and what each target has taken.

A message is an event in its sender's stream (`MessageSent`); the outbox says that it is still to
be delivered. Its row comes with the append that records it, and goes with the append, or after the
call, that delivers it. A target remembers of each sender how far it has taken its messages: a
second delivery is nothing (I2). Neither is a view: no rebuild may touch them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from wakelog.core.events import Event, MessageSent
from wakelog.ports.records import StoredEvent

__all__ = ["LEFT_US", "Message", "Messages", "Received", "Sent", "sent_in"]

LEFT_US = 2_000_000
"""How long a message is left to the process that has sent it, before any other delivers it."""


class Sent(NamedTuple):
    """A message to another job, among the events of a unit."""

    version: int
    """Of its event, in the stream of the unit: the sender."""
    target: str
    """A stream, as in `task:order:o-17`, or a pool, as in `workerPool:emails`."""


def sent_in(events: Sequence[Event], base: int) -> Sequence[Sent]:
    """The messages to other jobs among events that follow the version `base` of a stream."""
    found = [
        Sent(version, event.to)
        for version, event in enumerate(events, base + 1)
        if type(event) is MessageSent and event.to is not None
    ]
    return found or ()


class Received(NamedTuple):
    """A message that a unit delivers."""

    sender: str
    version: int


class Message(Struct, frozen=True):
    """A message that is to be delivered."""

    sender: str
    version: int
    target: str
    sent_us: int
    due_us: int
    """Until then it is left to the process that has sent it, or that holds it back."""
    held: str | None
    """Why it is held back; None: it is not, or waits behind another one to the same target."""
    event: StoredEvent
    """Its `MessageSent`."""


class Messages(Protocol):
    """The outbox. Messages of one sender to one target are a pair's, and delivered in the order of
    their versions. Rows are written by `append` and `pool_call`; those of a pair that a unit
    delivers (`Unit.received`) go with it, up to that one."""

    def messages_due(self, jobs: Sequence[str], now_us: int, limit: int) -> Sequence[str]:
        """Senders of messages to these jobs, of which the first of its pair is due: up to `limit`,
        the one that is due longest first."""
        ...

    def messages_of(self, senders: Sequence[str], limit: int) -> Sequence[Message]:
        """What these have sent that is to be delivered, by sender, in the order of versions. Up to
        `limit`: the first ones of all pairs, before the second ones of any."""
        ...

    def hold_message(self, message: Message, held: str, due_us: int) -> None:
        """Say why it is held back, and when to try again."""
        ...

    def forget_messages(self, messages: Sequence[Message]) -> None:
        """They were delivered, or never will be."""
        ...
