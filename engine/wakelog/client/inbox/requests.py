"""What lies in a row of the inbox."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

__all__ = ["Action", "InboxRequest", "loaded"]

Action = Literal["send", "add", "start", "enqueue"]


class InboxRequest(Struct, frozen=True, omit_defaults=True):
    """A request that was checked when it was sent. Its fields may grow: rows outlive a deploy."""

    action: Action
    payload: str
    """The event or the input, as JSON; for a pool the line of its item."""
    key: str | None = None
    """The idempotency key, or the id of an event of a pool."""
    fingerprint: str = ""
    """A digest of what is requested, as of the same request without a transaction."""
    due_us: int | None = None
    """For a delayed event."""
    replace: bool = False
    """Of a start."""
    partition_key: str | None = None
    priority: int = 0
    fair: str | None = None
    actor: str | None = None
    correlation: str | None = None

    @property
    def body(self) -> str:
        """As JSON."""
        return msgspec.json.encode(self).decode()


_DECODER = msgspec.json.Decoder(InboxRequest)


def loaded(body: str) -> InboxRequest:
    """Raises `ValueError` for what this code does not know."""
    return _DECODER.decode(body)
