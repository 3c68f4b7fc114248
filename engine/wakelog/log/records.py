"""Records: how an event is stored in the log, and read again.

A record is one to three lines of UTF-8, readable with any tool:

    {"at_us":1795449240123456,"commit":"5f0c…","prev":"9a41…","due_us":1795449540123456}
    b3c1d2…                      the salt, if there is a payload
    {"status":"pending"}         the user's JSON, byte for byte

The first line has what surrounds every event (time, the clock's reading where the time is later,
commit, cause, correlation, actor, and the hash
of the event before it in its stream) and the event's own fields; defaults are left out. The hash of
an event is SHA-256 over its stream, version, topic, first line and the SHA-256 of salt and payload:
a payload and its salt can be destroyed on request without breaking the chain, and nothing else can
be changed without breaking it.
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

__all__ = ["Meta", "Recorded", "Salts", "decode", "encode", "hash_of"]

SALTS_DRAWN = 256
"""How many salts are drawn at a time."""


class Meta(Struct, frozen=True):
    """What surrounds every event of one unit of work."""

    at_us: int
    commit: str
    salt: str
    cause: str | None = None
    """`stream@version` of the event that led to this unit, if there is one."""
    correlation: str | None = None
    actor: str | None = None
    clock_us: int | None = None
    """What the clock of the deciding process showed, if `at_us` is later: the clock was ahead when
    the event before was recorded."""


class Recorded(Struct, frozen=True):
    """An event with everything that surrounds it, as read from the log."""

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
    clock_us: int | None = None
    """What the clock showed, if `at_us` is later: due times in the event count from it."""

    @property
    def decided_us(self) -> int:
        """What the clock of the deciding process showed: the time to fold the event at."""
        return self.at_us if self.clock_us is None else self.clock_us

    @property
    def originator_id(self) -> str:
        """The stream id, under the eventsourcing library's name."""
        return self.stream

    @property
    def originator_version(self) -> int:
        """The version, under the eventsourcing library's name."""
        return self.version


class Salts:
    """Random salts, one for each unit of work. Thread-safe.

    Each draw from the system's randomness releases the GIL. One draw per unit released it so often,
    and each time so briefly, that the writing thread made no progress while the event loop was
    busy.
    """

    def __init__(self, entropy: random.Random) -> None:
        self._entropy = entropy
        self._drawn: deque[str] = deque()

    def next(self) -> str:
        """32 hexadecimal digits, never returned before."""
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
    """Read one record. Raises `UnreadableEventError`: an unreadable one is never skipped."""
    cls = EVENTS.get(stored.topic)
    if cls is None:
        raise UnreadableEventError(
            stored.stream, stored.version, stored.topic, "no event has this topic"
        )
    try:
        line, body = _parts(stored)
        fields: dict[str, Any] = json.loads(line)
        if body and cls.PAYLOAD:
            fields[cls.PAYLOAD] = body.partition(b"\n")[2].decode()
        if not isinstance(fields["at_us"], int):
            raise TypeError("at_us is no whole number")
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
            clock_us=fields.get("clock_us"),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise UnreadableEventError(stored.stream, stored.version, stored.topic, detail) from error


def hash_of(stored: StoredEvent) -> str:
    """The hash of a record, whatever its first line says. Raises `UnreadableEventError`."""
    try:
        line, body = _parts(stored)
        return _hash(stored.stream, stored.version, stored.topic, line, body)
    except (TypeError, AttributeError, UnicodeEncodeError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise UnreadableEventError(stored.stream, stored.version, stored.topic, detail) from error


def _parts(stored: StoredEvent) -> tuple[bytes, bytes]:
    """The first line, and what is behind it: salt and payload."""
    line, _, body = stored.state.partition(b"\n")
    return line, body


_quoted = json.JSONEncoder(ensure_ascii=False).encode


def _opening(meta: Meta) -> bytes:
    """The first line up to the hash of the event before: the same for all events of a unit."""
    clock = "" if meta.clock_us is None else f',"clock_us":{meta.clock_us}'
    text = f'{{"at_us":{meta.at_us}{clock},"commit":"{meta.commit}"'
    for name, value in (("cause", meta.cause), ("corr", meta.correlation), ("actor", meta.actor)):
        if value is not None:
            text += f',"{name}":{_quoted(value)}'
    return (text + ',"prev":').encode()


def _hash(stream: str, version: int, topic: str, line: bytes, body: bytes) -> str:
    digest = hashlib.sha256(body).hexdigest() if body else ""
    parts = (stream.encode(), version, topic.encode(), line, digest.encode())
    return hashlib.sha256(b"%b\n%d\n%b\n%b\n%b" % parts).hexdigest()
