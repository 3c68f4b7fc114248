"""The log: how an event becomes a stored record, and a record an event again.

A record is one to three lines of UTF-8, readable with any tool:

    {"at_us":1795449240123456,"commit":"5f0c…","prev":"9a41…","due_us":1795449540123456}
    b3c1d2…                      the salt, where there is a payload
    {"status":"pending"}         the user's JSON, byte for byte

The first line is what surrounds every event (when, in which commit, because of what, by whom, and
the hash of the event before it in its stream) together with the event's own fields; defaults are
left out. The hash of an event is SHA-256 over its stream, version, topic, first line and the
SHA-256 of salt and payload: a payload and its salt can be destroyed on request without breaking
the chain, and the rest cannot be changed without breaking it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import deque
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from wakelog.core.events import EVENTS, Event
from wakelog.errors import UnreadableEventError
from wakelog.ports.records import StoredEvent

__all__ = ["Meta", "Recorded", "Salts", "decode", "encode"]

SALTS_DRAWN = 256
"""How many salts are drawn at a time."""


class Meta(Struct, frozen=True):
    """What surrounds every event of one unit of work."""

    at_us: int
    commit: str
    salt: str
    cause: str | None = None
    """`stream@version` of the event that led to this unit, where one did."""
    correlation: str | None = None
    actor: str | None = None


class Recorded(Struct, frozen=True):
    """An event with all that surrounds it, as read from the log."""

    stream: str
    version: int
    at_us: int
    commit: str
    cause: str | None
    correlation: str | None
    actor: str | None
    prev: str
    hash: str
    event: Event

    @property
    def originator_id(self) -> str:
        """The stream id, under the name that the eventsourcing library knows."""
        return self.stream

    @property
    def originator_version(self) -> int:
        """The version, under the name that the eventsourcing library knows."""
        return self.version


class Salts:
    """Random salts, one for each unit of work. Any thread may ask.

    Each draw from the system's randomness lets another thread in. One for every unit would let
    a thread in so often, and each time for so short, that the one which writes never got its turn
    while the loop was busy.
    """

    def __init__(self, entropy: random.Random) -> None:
        self._entropy = entropy
        self._drawn: deque[str] = deque()

    def next(self) -> str:
        """32 hexadecimal digits that were never given out before."""
        while True:
            try:
                return self._drawn.pop()
            except IndexError:
                digits = f"{self._entropy.getrandbits(128 * SALTS_DRAWN):0{32 * SALTS_DRAWN}x}"
                self._drawn.extend(digits[at : at + 32] for at in range(0, len(digits), 32))


def encode(
    stream: str, base_version: int, prev: str, events: Iterable[Event], meta: Meta
) -> tuple[list[StoredEvent], str]:
    """The records of one unit's events, which follow `base_version`; and the newest hash."""
    opening = _opening(meta)
    records: list[StoredEvent] = []
    version = base_version
    for event in events:
        version += 1
        own: bytes = event.__pydantic_serializer__.to_json(event, exclude_defaults=True)
        line = b'%b"%b"%b%b' % (opening, prev.encode(), b"," if own != b"{}" else b"", own[1:])
        body = b""
        name = event.PAYLOAD
        payload: str | None = getattr(event, name) if name else None
        if payload is not None:
            body = f"{meta.salt}\n{payload}".encode()
        prev = _hash(stream, version, event.TOPIC, line, body)
        state = b"%b\n%b" % (line, body) if body else line
        records.append(StoredEvent(stream, version, event.TOPIC, state))
    return records, prev


def decode(stored: StoredEvent) -> Recorded:
    """Read one record back. Raises `UnreadableEventError`: nothing is skipped in silence."""
    line, _, body = stored.state.partition(b"\n")
    cls = EVENTS.get(stored.topic)
    if cls is None:
        raise UnreadableEventError(
            stored.stream, stored.version, stored.topic, "no event is known under this topic"
        )
    try:
        fields: dict[str, Any] = json.loads(line)
        if body and cls.PAYLOAD:
            fields[cls.PAYLOAD] = body.partition(b"\n")[2].decode()
        return Recorded(
            stream=stored.stream,
            version=stored.version,
            at_us=fields["at_us"],
            commit=fields["commit"],
            cause=fields.get("cause"),
            correlation=fields.get("corr"),
            actor=fields.get("actor"),
            prev=fields["prev"],
            hash=_hash(stored.stream, stored.version, stored.topic, line, body),
            event=cls.model_validate(fields),
        )
    except (ValueError, KeyError, TypeError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise UnreadableEventError(stored.stream, stored.version, stored.topic, detail) from error


_quoted = json.JSONEncoder(ensure_ascii=False).encode


def _opening(meta: Meta) -> bytes:
    """The first line up to the hash before, which is all that differs inside a unit."""
    text = f'{{"at_us":{meta.at_us},"commit":"{meta.commit}"'
    for name, value in (("cause", meta.cause), ("corr", meta.correlation), ("actor", meta.actor)):
        if value is not None:
            text += f',"{name}":{_quoted(value)}'
    return (text + ',"prev":').encode()


def _hash(stream: str, version: int, topic: str, line: bytes, body: bytes) -> str:
    digest = hashlib.sha256(body).hexdigest() if body else ""
    said = b"%b\n%d\n%b\n%b\n%b" % (stream.encode(), version, topic.encode(), line, digest.encode())
    return hashlib.sha256(said).hexdigest()
