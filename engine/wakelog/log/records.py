"""Records: how an event is stored in the log, and read again.

A record is lines of UTF-8, readable with any tool: the first one, and two for each item of the
payload, if there is one:

    {"at_us":1795449240123456,"commit":"5f0c…","prev":"9a41…","digest":"1d7e…","schema_version":2}
    {"salt":"b3c1…"}
    {"status":"pending"}                              the user's JSON, byte for byte

The first line has what surrounds every event (time, the clock's reading where the time is later,
commit, cause, correlation, actor, trace, the hash of the event before it in its stream, and the
digest of the payload) and the event's own fields; defaults are left out. The hash of an event is
SHA-256 over its stream, version, topic and first line: a payload can be destroyed on request
without breaking the chain, and nothing else can be changed without breaking it. What an error said
is a payload too, or the first item of one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from msgspec import Struct, ValidationError, convert
from msgspec.json import Encoder

from wakelog.core.events import EVENTS, Event
from wakelog.core.pool.events import Batch
from wakelog.core.time import MAX_US, MIN_US
from wakelog.errors import UnreadableEventError
from wakelog.log.batches import check_root
from wakelog.log.payloads import Salts, check, opened, own_fields, payload_of, put_payload, sealed
from wakelog.ports.records import StoredEvent

__all__ = ["Meta", "Recorded", "decode", "encode", "hash_of", "whole"]


class Meta(Struct, frozen=True):
    """What surrounds every event of one unit of work."""

    at_us: int
    commit: str
    cause: str | None = None
    """`stream@version` of the event that led to this unit, if there is one."""
    correlation: str | None = None
    actor: str | None = None
    clock_us: int | None = None
    """What the clock of the deciding process showed, if `at_us` is later: the clock was ahead when
    the event before was recorded."""
    trace: str | None = None
    """The W3C `traceparent` of what led to this unit, if there is one."""


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
    trace: str | None = None
    """The W3C `traceparent` of what led to the event, if there is one."""
    erased: bool = False
    """Its payload, or an item of it, was destroyed: its field is None, or `ERASED` for the message
    of an error."""

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


def encode(
    stream: str,
    base_version: int,
    prev: str,
    events: Iterable[Event],
    meta: Meta,
    salts: Salts,
) -> tuple[list[StoredEvent], str]:
    """The records of one unit's events, which follow `base_version`; and the newest hash."""
    opening = _opening(meta)
    records: list[StoredEvent] = []
    version = base_version
    for event in events:
        version += 1
        own = _fields_json(own_fields(event))
        comma = b"," if own != b"{}" else b""
        payload = payload_of(event)
        if isinstance(event, Batch):
            line = b'%b"%b"%b%b' % (opening, prev.encode(), comma, own[1:])
            state = b"%b\n%b" % (line, event.lines)
        elif payload is None:
            state = line = b'%b"%b"%b%b' % (opening, prev.encode(), comma, own[1:])
        else:
            digest, body = sealed(payload, salts)
            line = b'%b"%b","digest":%b%b%b' % (opening, prev.encode(), digest, comma, own[1:])
            state = b"%b\n%b" % (line, body)
        prev = _hash(stream, version, event.TOPIC, line)
        records.append(StoredEvent(stream, version, event.TOPIC, state))
    return records, prev


def decode(stored: StoredEvent) -> Recorded:
    """Read one record.

    Raises `IntegrityError` if its payload is another one, and `UnreadableEventError`: what cannot
    be read is never skipped.
    """
    cls = EVENTS.get(stored.topic)
    if cls is None:
        raise UnreadableEventError(
            stored.stream, stored.version, stored.topic, "no event has this topic"
        )
    try:
        line, _, body = stored.state.partition(b"\n")
        fields: dict[str, Any] = json.loads(line)
        digest = fields.get("digest")
        if issubclass(cls, Batch):
            check_root(stored, fields.get("root"), body)
            fields["lines"], body = body, b""
        erased = put_payload(cls, fields, opened(stored, digest, body)) if digest or body else False
        if not isinstance(fields["at_us"], int) or not MIN_US <= fields["at_us"] <= MAX_US:
            raise ValueError("at_us is no moment")
        return Recorded(
            stream=stored.stream,
            version=stored.version,
            at_us=fields["at_us"],
            commit=fields["commit"],
            cause=fields.get("cause"),
            correlation=fields.get("corr"),
            actor=fields.get("actor"),
            prev=fields["prev"],
            hash=_hash(stored.stream, stored.version, stored.topic, line),
            event=convert(fields, cls),
            clock_us=fields.get("clock_us"),
            trace=fields.get("trace"),
            erased=erased,
        )
    except (
        ValueError,
        ValidationError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        detail = f"{type(error).__name__}: {error}"
        raise UnreadableEventError(stored.stream, stored.version, stored.topic, detail) from error


def whole(recorded: Recorded) -> Recorded:
    """For who needs its payload. Raises `UnreadableEventError` if that was destroyed."""
    if recorded.erased:
        topic, detail = recorded.event.TOPIC, "its payload was destroyed, and is needed to go on"
        raise UnreadableEventError(recorded.stream, recorded.version, topic, detail)
    return recorded


def hash_of(stored: StoredEvent) -> str:
    """The hash of a record, whatever its own fields say.

    Raises `IntegrityError` if its payload is another one, and `UnreadableEventError`.
    """
    try:
        line, _, body = stored.state.partition(b"\n")
        cls = EVENTS.get(stored.topic)
        if cls is not None and issubclass(cls, Batch):
            check_root(stored, json.loads(line).get("root"), body)
        else:
            check(stored, line, body)
        return _hash(stored.stream, stored.version, stored.topic, line)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise UnreadableEventError(stored.stream, stored.version, stored.topic, detail) from error


def _plain(value: object) -> object:
    """Libraries have classes of their own of texts and numbers."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    raise NotImplementedError(type(value))


_fields_json = Encoder(enc_hook=_plain).encode
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _opening(meta: Meta) -> bytes:
    """The first line up to the hash of the event before: the same for all events of a unit."""
    clock = "" if meta.clock_us is None else f',"clock_us":{meta.clock_us}'
    text = f'{{"at_us":{meta.at_us}{clock},"commit":"{meta.commit}"'
    if meta.cause is not None:
        text += f',"cause":{_json(meta.cause)}'
    if meta.correlation is not None:
        text += f',"corr":{_json(meta.correlation)}'
    if meta.actor is not None:
        text += f',"actor":{_json(meta.actor)}'
    if meta.trace is not None:
        text += f',"trace":{_json(meta.trace)}'
    return f'{text},"prev":'.encode()


def _hash(stream: str, version: int, topic: str, line: bytes) -> str:
    return hashlib.sha256(f"{stream}\n{version}\n{topic}\n".encode() + line).hexdigest()
